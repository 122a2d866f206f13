"""`callvault get`: copy a recording or its transcript to a file, after checking its hash."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from archive import layout
from archive.archive import Archive
from archive.problems import Problem, advice_for, wrong
from archive.proof import Damaged, Missing
from archive.records import ArchivedObject, UnreadableRecord
from cli.console import open_console
from cli.options import DataFolder, RecordingId, settings_of
from text.counts import many
from text.errors import UsedWrongly, UserError
from workers.catalogue.query import Query
from workers.catalogue.rows import transcript_of

if TYPE_CHECKING:
    from config.settings import Settings


def command(
    recording_id: RecordingId,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File to write, - for standard output. [default: ID.wav or ID.mp3]"),
    ] = None,
    audio_format: Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="wav or mp3, if the recording has both.")
    ] = None,
    transcript: Annotated[
        bool, typer.Option("--transcript", help="Write the transcript instead of the audio.")
    ] = False,
    data: DataFolder = None,
) -> int:
    """Copy a recording or its transcript to a file.

    The audio must match the SHA-256 in its commit record; otherwise nothing is written.

    Example: callvault get ID --out call.wav
    """
    from cli.accessed import log_reading
    from cli.catalogue import look_up, opened, searched

    if audio_format not in (None, "wav", "mp3"):
        raise UsedWrongly(f"--format: cannot use {audio_format!r}; expected wav or mp3")
    if transcript and audio_format is not None:
        raise UsedWrongly("--transcript and --format exclude each other")
    settings = settings_of(data)
    with opened(settings) as (catalogue, archive):
        hits = searched(settings, catalogue, archive, Query(id=recording_id))
        hit = hits[0] if hits else look_up(settings, catalogue, archive, recording_id)
        folder = layout.recording_folder(hit.row.date, recording_id)
        if hit.state == "erased":
            _refuse_if_erased(archive, folder, recording_id)
        if transcript:
            return _write_transcript(archive, folder, recording_id, out, partial(log_reading, settings, archive))
        try:
            record = archive.commit_record(folder)
        except UnreadableRecord as error:
            raise _damaged(settings, archive, wrong(error)) from None
        if record is None:
            _refuse_if_erased(archive, folder, recording_id)  # the catalogue may not know of it yet
            raise _damaged(settings, archive, Problem("missing", layout.commit_key(folder), "gone from the archive"))
        chosen = _choose(record.objects, audio_format, recording_id)
        try:
            return _write_audio(archive, chosen, recording_id, out, partial(log_reading, settings, archive))
        except Damaged as damage:
            kind = "missing" if isinstance(damage, Missing) else "damaged"
            raise _damaged(settings, archive, Problem(kind, damage.key, damage.what)) from None


def _damaged(settings: Settings, archive: Archive, problem: Problem) -> UserError:
    """Register a problem; returns the error for the user."""
    from cli.register import register_problems

    register_problems(settings, archive.identity.id, [problem], "get")
    advice = advice_for(problem.key, problem.kind, archive.store.url)
    return UserError(f"{problem.key}: {problem.what}; nothing was written; {advice}")


def _refuse_if_erased(archive: Archive, folder: str, recording_id: str) -> None:
    if archive.is_erased(folder):
        raise UserError(f"recording {recording_id} was erased; its record is {layout.erasure_key(folder)}")


def _choose(objects: list[ArchivedObject], audio_format: str | None, recording_id: str) -> ArchivedObject:
    fitting = [o for o in objects if audio_format is None or o.key.endswith(f".{audio_format}")]
    if not fitting:
        kinds = ", ".join(o.key.rpartition(".")[2] for o in objects)
        raise UserError(f"recording {recording_id} has no {audio_format}; it has {kinds}")
    return fitting[0]


def _write_audio(
    archive: Archive, wanted: ArchivedObject, recording_id: str, out: Path | None, log: Callable[..., None]
) -> int:
    """Write through a temporary file, so that no unchecked bytes ever appear under the name."""
    suffix = "mp3" if wanted.content_type == "audio/mpeg" else "wav"
    path = out or Path(f"{layout.encode_name(recording_id)}.{suffix}")
    to_stdout = str(path) == "-"
    if not to_stdout and path.exists():
        raise UserError(f"{path} already exists; choose another file with --out")
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
        log("get", [recording_id])
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
            f"{path}: {many(wanted.size, 'byte')}, SHA-256 {wanted.sha256}, matches the commit record"
        )
    return 0


def _write_transcript(
    archive: Archive, folder: str, recording_id: str, out: Path | None, log: Callable[..., None]
) -> int:
    keys = [stored.key for stored in archive.store.list(f"{folder}transcriptions/")]
    if not keys:
        _refuse_if_erased(archive, folder, recording_id)
        raise UserError(f"recording {recording_id} has no transcription in the archive")
    text = "\n\n".join(_text(archive, key) for key in keys) + "\n"
    log("transcript", [recording_id])
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
