"""`callvault get`: a recording's audio or text out of the archive, its hash checked first."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from cli.catalogue import look_up, opened, searched
from cli.console import open_console
from cli.telling import tell_register
from config.counts import many
from config.errors import UserError
from config.settings import Settings
from workers.archive import layout
from workers.archive.archive import Archive
from workers.archive.problems import Problem, how_to_mend, wrong
from workers.archive.proof import Damaged, Missing
from workers.archive.records import ArchivedObject, UnreadableRecord
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.query import Query
from workers.catalogue.rows import transcript_of


def run(settings: Settings, recording_id: str, *, out: Path | None, audio_format: str | None, transcript: bool) -> int:
    """Write it; returns the exit status.

    Raises:
        UserError: it is not in the archive, was erased, or is not what its commit record says.
    """
    with opened(settings) as (catalogue, archive):
        folder = _folder(settings, catalogue, archive, recording_id)
        if transcript:
            return _write_transcript(archive, folder, recording_id, out)
        try:
            record = archive.commit_record(folder)
        except UnreadableRecord as error:
            raise _told(settings, archive, wrong(error)) from None
        if record is None:
            _refuse_if_erased(archive, folder, recording_id)  # the catalogue may not know of it yet
            raise _told(settings, archive, Problem("missing", layout.commit_key(folder), "gone from the archive"))
        chosen = _choose(record.objects, audio_format, recording_id)
        try:
            return _write_audio(archive, chosen, recording_id, out)
        except Damaged as damage:
            kind = "missing" if isinstance(damage, Missing) else "damaged"
            raise _told(settings, archive, Problem(kind, damage.key, damage.what)) from None


def _told(settings: Settings, archive: Archive, problem: Problem) -> UserError:
    """Tell the register of damage of a problem, and give the error for a person."""
    tell_register(settings, archive.identity.id, [problem], "get")
    advice = how_to_mend(problem.key, problem.kind, archive.store.url)
    return UserError(f"{problem.key}: {problem.what}; nothing was written; {advice}")


def _folder(settings: Settings, catalogue: Catalogue, archive: Archive, recording_id: str) -> str:
    hits = searched(settings, catalogue, archive, Query(id=recording_id))
    hit = hits[0] if hits else look_up(settings, catalogue, archive, recording_id)
    folder = layout.recording_folder(hit.row.date, recording_id)
    if hit.state == "erased":
        _refuse_if_erased(archive, folder, recording_id)
    return folder


def _refuse_if_erased(archive: Archive, folder: str, recording_id: str) -> None:
    if archive.is_erased(folder):
        raise UserError(f"recording {recording_id} was erased; its record is {layout.erasure_key(folder)}")


def _choose(objects: list[ArchivedObject], audio_format: str | None, recording_id: str) -> ArchivedObject:
    fitting = [o for o in objects if audio_format is None or o.key.endswith(f".{audio_format}")]
    if not fitting:
        kinds = ", ".join(o.key.rpartition(".")[2] for o in objects)
        raise UserError(f"recording {recording_id} has no {audio_format}; it has {kinds}")
    return fitting[0]


def _write_audio(archive: Archive, wanted: ArchivedObject, recording_id: str, out: Path | None) -> int:
    """Through a temporary file, so that nobody ever takes unchecked bytes for the recording."""
    suffix = "mp3" if wanted.content_type == "audio/mpeg" else "wav"
    path = out or Path(f"{layout.encode_name(recording_id)}.{suffix}")
    to_stdout = str(path) == "-"
    if not to_stdout and path.exists():
        raise UserError(f"{path}: there is such a file already; choose another with --out")
    temporary = (
        Path(f".{os.getpid()}.{layout.encode_name(recording_id)[:100]}.part")
        if to_stdout
        else path.with_name(f".{path.name}.part")
    )
    digest = hashlib.sha256()
    try:
        with temporary.open("xb") as file:
            try:
                for chunk in archive.store.read(wanted.key):
                    digest.update(chunk)
                    file.write(chunk)
            except KeyError:
                raise Missing(wanted.key, "gone from the archive") from None
        if digest.hexdigest() != wanted.sha256:
            raise Damaged(wanted.key, f"SHA-256 is {digest.hexdigest()}, its commit record says {wanted.sha256}")
        if to_stdout:
            with temporary.open("rb") as file:
                while chunk := file.read(1024 * 1024):
                    sys.stdout.buffer.write(chunk)
        else:
            temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
    if not to_stdout:
        open_console(stderr=True).print(
            f"{path}: {many(wanted.size, 'byte')}, SHA-256 {wanted.sha256}, as in its commit record"
        )
    return 0


def _write_transcript(archive: Archive, folder: str, recording_id: str, out: Path | None) -> int:
    keys = [stored.key for stored in archive.store.list(f"{folder}transcriptions/")]
    if not keys:
        _refuse_if_erased(archive, folder, recording_id)
        raise UserError(f"recording {recording_id} has no transcription in the archive")
    text = "\n\n".join(_text(archive, key) for key in keys) + "\n"
    if out is None or str(out) == "-":
        sys.stdout.write(text)
        return 0
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}") from None
    return 0


def _text(archive: Archive, key: str) -> str:
    try:
        return transcript_of(archive.read_small(key), key)
    except UnreadableRecord as error:
        raise UserError(f"{error}; run `callvault verify --seals`") from None
