"""`callvault get`: copy a recording or its transcript to a file, after checking its hash."""

from __future__ import annotations

import hashlib
import json as json_module
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, NamedTuple, TypeVar

import typer

from archive import layout
from archive.archive import Archive
from archive.erasures import disposed_keys
from archive.problems import Problem, advice_for, wrong
from archive.proof import Damaged, Missing
from archive.readers import TRANSCRIPTION
from archive.records import ArchivedObject, UnreadableRecord
from archive.removal_records import Disposal
from archive.stores.store import StoreCold
from cli.console import open_console, print_json
from cli.new_file import new_file, refuse_folder
from cli.options import DataFolder, Json, RecordingId, WhyRead, settings_of
from cli.restore import RestoredDays, RestoreTier, ToRestore, cold, is_readable, read_restore
from text.counts import many
from text.errors import UsedWrongly, UserError
from text.printable import printable
from text.times import format_moment
from workers.catalogue.query import Query
from workers.catalogue.rows import transcript_of

if TYPE_CHECKING:
    from config.settings import Settings

T = TypeVar("T")


class _Output(NamedTuple):
    """What to write to.

    Attributes:
        path: of the file; None: the default of what is written.
        force: replace a file that exists.
        as_json: print a report.
    """

    path: Path | None
    force: bool
    as_json: bool

    @property
    def is_standard(self) -> bool:
        """Whether it is standard output, by the name `-`."""
        return str(self.path) == "-"


_OF_AUDIO = ("wav", "mp3")
_OF_A_TRANSCRIPT = ("txt", "vtt", "json")  # an error explains why there is no WebVTT


def command(
    recording_id: RecordingId,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File to write, - for standard output. [default: ID.wav or ID.mp3]"),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="wav or mp3, if the recording has both; of a transcript: txt or json.",
        ),
    ] = None,
    transcript: Annotated[
        bool,
        typer.Option("--transcript", help="Write the transcript instead of the audio. [default: to standard output]"),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE if it exists.")] = False,
    restore: ToRestore = False,
    days: RestoredDays = None,
    tier: RestoreTier = None,
    why: WhyRead = None,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Copy a recording or its transcript to a file.

    The audio must match the SHA-256 in its commit record; otherwise nothing is written. --json prints a report.
    Audio in cold storage, such as DEEP_ARCHIVE, must be restored first, which takes hours: --restore asks for it.
    Run the same command again later; exit status 1: nothing was written yet.

    Examples:
    callvault get ID --out call.wav
    callvault get ID --restore --tier bulk --days 3
    """
    from cli.accessed import assert_reason, log_reading
    from cli.catalogue import look_up, opened, searched
    from cli.ids import whole_id

    _refuse_format(format_, transcript=transcript)
    if transcript and restore:
        raise UsedWrongly("--transcript and --restore exclude each other; a transcript is never in cold storage")
    wanted = read_restore(is_asked=restore, days=days, tier=tier, as_json=json)
    output = _Output(out, force, json)
    if json and output.is_standard:
        raise UsedWrongly("--json and --out - exclude each other; both print on standard output")
    refuse_folder(out)
    settings = settings_of(data)
    assert_reason(settings, "transcript" if transcript else "get", why)
    with opened(settings) as (catalogue, archive):
        recording_id = whole_id(settings, catalogue, archive, recording_id)
        hits = searched(settings, catalogue, archive, Query(id=recording_id))
        hit = hits[0] if hits else look_up(settings, catalogue, archive, recording_id)
        folder = layout.recording_folder(hit.row.date, recording_id)
        if hit.state == "erased":
            _refuse_if_erased(archive, folder, recording_id)
        if transcript:
            log = partial(log_reading, settings, archive, "transcript", [recording_id], why=why)
            return _write_transcript(archive, folder, recording_id, format_ or "txt", output, log)
        try:
            record = archive.commit_record(folder)
        except UnreadableRecord as error:
            raise _damaged(settings, archive, wrong(error)) from None
        if record is None:
            _refuse_if_erased(archive, folder, recording_id)  # the catalogue may not know of it yet
            raise _damaged(settings, archive, Problem("missing", layout.commit_key(folder), "gone from the archive"))
        chosen = _choose(record.objects, format_, recording_id)
        try:
            log = partial(log_reading, settings, archive, "restore", [recording_id], why=why)
            if not is_readable(archive, chosen.key, wanted, recording_id, log):
                return 1
            log = partial(log_reading, settings, archive, "get", [recording_id], why=why)
            return _write_audio(archive, chosen, recording_id, output, log)
        except StoreCold as error:
            raise cold(error) from None
        except Damaged as damage:
            _refuse_if_disposed(archive, folder, recording_id, damage.key)
            kind = "missing" if isinstance(damage, Missing) else "damaged"
            raise _damaged(settings, archive, Problem(kind, damage.key, damage.what)) from None


def _refuse_format(format_: str | None, *, transcript: bool) -> None:
    fitting, others = (_OF_A_TRANSCRIPT, _OF_AUDIO) if transcript else (_OF_AUDIO, _OF_A_TRANSCRIPT)
    if format_ is None or format_ in fitting:
        return
    if format_ in others:
        more = "leave out --transcript" if transcript else "add --transcript"
        raise UsedWrongly(f"--format: {format_} is a format of {'audio' if transcript else 'a transcript'}; {more}")
    raise UsedWrongly(f"--format: cannot use {format_!r}; expected {', '.join(fitting[:-1])} or {fitting[-1]}")


def _damaged(settings: Settings, archive: Archive, problem: Problem) -> UserError:
    """Register a problem; returns the error for the user."""
    from cli.register import register_problems

    register_problems(settings, archive.identity.id, [problem], "get")
    advice = advice_for(problem.key, problem.kind, archive.store.url)
    return UserError(f"{problem.key}: {problem.what}; nothing was written; {advice}")


def _refuse_if_erased(archive: Archive, folder: str, recording_id: str) -> None:
    if not archive.is_erased(folder):
        return
    from workers.deletion.whereabouts import erasure_of

    try:
        removed = erasure_of(archive, folder)
    except UnreadableRecord:
        removed = "erased"
    if removed is not None:  # a hold may have come after the record of a disposal, before the deletion
        raise UserError(
            f"recording {recording_id} was {printable(removed)}; its record is {layout.erasure_key(folder)}"
        )


def _refuse_if_disposed(archive: Archive, folder: str, recording_id: str, key: str) -> None:
    if archive.store.stat(key) is None and (record := disposed_keys(archive, folder).get(key)) is not None:
        raise _disposed("audio", recording_id, record)


def _refuse_if_words_disposed(archive: Archive, folder: str, recording_id: str) -> None:
    for record in disposed_keys(archive, folder).values():
        if "transcripts" in record.goes:
            raise _disposed("transcript", recording_id, record)


def _disposed(what: str, recording_id: str, record: Disposal) -> UserError:
    rule = f"retention rule {record.rule} of applied rules {record.rules_number}"
    under = f"under {rule} at {format_moment(record.disposed_at, None)}"
    return UserError(f"the {what} of recording {recording_id} was disposed of {under}")


def _choose(objects: list[ArchivedObject], audio_format: str | None, recording_id: str) -> ArchivedObject:
    fitting = [o for o in objects if audio_format is None or o.key.endswith(f".{audio_format}")]
    if not fitting:
        kinds = ", ".join(o.key.rpartition(".")[2] for o in objects)
        raise UserError(f"recording {recording_id} has no {audio_format}; it has {kinds}")
    return fitting[0]


def _write_audio(
    archive: Archive, wanted: ArchivedObject, recording_id: str, output: _Output, log: Callable[[], None]
) -> int:
    """Write through a temporary file, so that no unchecked bytes ever appear under the name."""
    if output.is_standard:
        with tempfile.TemporaryFile() as checked:
            try:
                _copy(archive, wanted, checked)
                checked.seek(0)
            except OSError as error:
                raise UserError(f"cannot write a file in {tempfile.gettempdir()}: {error.strerror}") from None
            log()
            while chunk := checked.read(1024 * 1024):
                sys.stdout.buffer.write(chunk)
        return 0
    suffix = "mp3" if wanted.content_type == "audio/mpeg" else "wav"
    path = output.path or Path(f"{layout.encode_name(recording_id)}.{suffix}")
    with new_file(path, force=output.force) as file:
        _copy(archive, wanted, file)
        log()
    if output.as_json:
        report = {"recording_id": recording_id, "path": str(path), "key": wanted.key, "bytes": wanted.size}
        print_json(report | {"sha256": wanted.sha256, "content_type": wanted.content_type})
    else:
        open_console(stderr=True).print(
            f"{path}: {many(wanted.size, 'byte')}, SHA-256 {wanted.sha256}, matches the commit record"
        )
    return 0


def _copy(archive: Archive, wanted: ArchivedObject, file: IO[bytes]) -> None:
    """Copy an object.

    Raises:
        Damaged: it is missing, or differs from its commit record.
        OSError: the file cannot be written.
    """
    digest = hashlib.sha256()
    try:
        for chunk in archive.store.read(wanted.key):
            digest.update(chunk)
            file.write(chunk)
    except KeyError:
        raise Missing(wanted.key, "gone from the archive") from None
    if digest.hexdigest() != wanted.sha256:
        raise Damaged(wanted.key, f"SHA-256 is {digest.hexdigest()}, its commit record says {wanted.sha256}")


def _write_transcript(
    archive: Archive, folder: str, recording_id: str, format_: str, output: _Output, log: Callable[[], None]
) -> int:
    keys = [stored.key for stored in archive.store.list(f"{folder}transcriptions/")]
    if not keys:
        _refuse_if_erased(archive, folder, recording_id)
        _refuse_if_words_disposed(archive, folder, recording_id)
        raise UserError(f"recording {recording_id} has no transcription in the archive")
    if format_ == "vtt":
        raise UserError(
            f"recording {recording_id} has no WebVTT: Telnyx gives the text of a transcription without times; use "
            "--format txt or json"
        )
    if format_ == "txt":
        text = "\n\n".join(_read(archive, key, transcript_of) for key in keys) + "\n"
    else:
        rows = [_read(archive, key, lambda data, key: TRANSCRIPTION.read(data, key).transcription) for key in keys]
        text = json_module.dumps({"recording_id": recording_id, "transcriptions": rows}, ensure_ascii=False) + "\n"
    report = {"recording_id": recording_id, "format": format_, "transcriptions": len(keys)}
    if output.path is None or output.is_standard:
        log()
        if output.as_json:
            print_json(report | {"path": None, "text": text})
        else:
            sys.stdout.write(text)
        return 0
    with new_file(output.path, force=output.force) as file:
        file.write(text.encode())
        log()
    if output.as_json:
        print_json(report | {"path": str(output.path), "bytes": len(text.encode())})
    return 0


def _read(archive: Archive, key: str, read: Callable[[bytes | None, str], T]) -> T:
    try:
        return read(archive.read_small(key), key)
    except UnreadableRecord as error:
        raise UserError(f"{error}; run `callvault verify --seals`") from None
