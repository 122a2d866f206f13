"""Erase a recording on request, at Telnyx and in the archive: nothing may hold it, and the original goes first."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from archive import layout
from archive.archive import Archive
from archive.cases import open_cases, why_held_by_cases, why_held_without_record
from archive.decisions import decisions_about, decisions_on, held_connections, why_held
from archive.erase import Erased, erase
from archive.records import UnreadableRecord
from config.settings import Settings
from telnyx_api.client import asking
from telnyx_api.errors import NotFound
from telnyx_api.pages import LARGEST_PAGE
from text.errors import UserError
from workers.catalogue.rows import Row
from workers.deletion.duties import own_duties, stated_duties
from workers.engine.lease import HeldElsewhere
from workers.recordings.writing import sole_writer
from workers.runtime import Runtime
from workers.seals.signing import open_seal_keys

_WAIT_SECONDS = 30  # for a job that is archiving the recording


@dataclass(frozen=True)
class Target:
    """The recording that a person wants erased.

    Attributes:
        archive: as the command opened it, before it asked the person.
        folder: of the recording.
        row: the recording, as the catalogue knows it.
    """

    archive: Archive
    folder: str
    row: Row


def refuse_if_held(settings: Settings, target: Target) -> None:
    """Refuse to erase what is on hold; blocks. An unreadable decision may be a hold.

    Raises:
        UserError: a decision or a setting holds it, or may hold it; the text says what to do.
        StoreError: the archive cannot be asked now.
    """
    archive, folder, row = target.archive, target.folder, target.row
    decisions = decisions_on(archive, folder)
    if unreadable := [name for name, decision in decisions.items() if decision is None]:
        line = f"cannot read a decision about recording {row.recording_id} ({unreadable[0]})"
        raise UserError(f"{line}, which may be a hold; restore it from a copy")
    if (why := why_held(decisions)) is not None:
        raise UserError(f"recording {row.recording_id} is on hold ({why}); release it first")
    if (why := _why_in_cases(archive, folder)) is not None:
        line = f"recording {row.recording_id} is held by {why}"
        raise UserError(f"{line}. Close each case that no longer needs it first (`callvault cases close`)")
    if row.connection_id is None:
        if row.key is None and (held := {*held_connections(archive), *_held_by_settings(settings, archive)}):
            line = f"the commit record of recording {row.recording_id} is missing, so its connection is unknown"
            raise UserError(
                f"{line}, and connection {', '.join(sorted(held))} is on hold; restore the record, or release the hold"
            )
        return
    if (why := why_held(decisions_about(archive, "connection", row.connection_id))) is not None:
        raise UserError(
            f"recording {row.recording_id} belongs to connection {row.connection_id}, which is on hold ({why}); "
            "release it first"
        )
    if row.connection_id in _held_by_settings(settings, archive):
        line = f"recording {row.recording_id} belongs to connection {row.connection_id}, which"
        raise UserError(
            f"{line} CALLVAULT_HOLD_CONNECTIONS here or of a worker holds; find which with `callvault deletions holds`, "
            "and remove it there first"
        )


def _why_in_cases(archive: Archive, folder: str) -> str | None:
    """The open cases that hold a recording, by its commit record as it is now; blocks.

    An erasure removes the commit record last, so a recording with a record of its erasure alone has nothing left to hold.
    """
    cases = open_cases(archive)
    try:
        record = archive.commit_record(folder) if cases else None
    except UnreadableRecord:
        record = None
    else:
        if cases and record is None and archive.store.stat(layout.erasure_key(folder)) is not None:
            return None
    return why_held_without_record(cases, folder) if record is None else why_held_by_cases(cases, record)


def _held_by_settings(settings: Settings, archive: Archive) -> set[str]:
    """The connections that CALLVAULT_HOLD_CONNECTIONS holds, here or of a worker of any unit; blocks."""
    stated = [own_duties(settings), *stated_duties(archive).values()]
    return {held for duties in stated if not duties.retired for held in duties.hold_connections}


async def erase_recording(runtime: Runtime, target: Target, why: str, by: str | None) -> Erased:
    """Erase a recording under its lease: the original first, so no job archives it again.

    Args:
        runtime: the worker's parts.
        target: the recording.
        why: the reason, for the record.
        by: the person; None for the user of this machine.

    Raises:
        UserError: it is on hold, or another process writes it.
        TelnyxError, StoreError, redis.exceptions.RedisError: one of them is away. A second run continues.
    """
    settings, archive = runtime.settings, target.archive
    keys = None if settings.seal_key is None else open_seal_keys(settings)

    async def ask_anew() -> None:
        """Check before each deletion that the archive is the same and nothing holds the recording."""
        await runtime.in_thread(archive.assert_identity)
        await runtime.assert_bound()
        await runtime.in_thread(refuse_if_held, settings, target)

    try:
        async with sole_writer(runtime.redis, target.row.recording_id, _WAIT_SECONDS):
            with asking(ask_anew):
                await _delete_original(runtime, target.row.recording_id)
            await ask_anew()
            ask_once_more = partial(refuse_if_held, settings, target)  # after hashing, which can take minutes
            done = await runtime.in_thread(erase, archive, target.folder, why, by, keys, ask_once_more)
    except HeldElsewhere:
        line = (
            f"recording {target.row.recording_id} is being archived or repaired by another process; nothing was erased"
        )
        raise UserError(f"{line}; try again in a moment") from None
    await runtime.schedule.done(target.folder)
    await runtime.announce(done.key, done.record)
    return done


async def _delete_original(runtime: Runtime, recording_id: str) -> None:
    listed = runtime.telnyx.recording_transcriptions.list(filter={"recording_id": recording_id}, page_size=LARGEST_PAGE)
    for transcription in [one async for one in listed if one.recording_id == recording_id]:
        with suppress(NotFound):
            await runtime.telnyx.recording_transcriptions.delete(str(transcription.id))
    with suppress(NotFound):
        await runtime.telnyx.recordings.delete(recording_id)
