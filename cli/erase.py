"""`callvault erase`: a recording erased at its owner's wish, at Telnyx and in the archive, on record."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import suppress

from cli.catalogue import look_up, opened, up_to_date
from config.counts import many
from config.errors import UserError
from config.settings import Settings
from workers.archive import layout
from workers.archive.archive import Archive
from workers.archive.decisions import decisions_about, decisions_on, held_connections, why_held
from workers.archive.erase import Erased, erase, is_signed, sign_erasure
from workers.catalogue.forget import forget
from workers.catalogue.parquet import has_parquet
from workers.catalogue.rows import Row
from workers.jobs.duties import own_duties, stated_duties
from workers.jobs.signing import open_seal_keys
from workers.queue.lease import HeldElsewhere
from workers.queue.recording_lease import sole_writer
from workers.runtime import Runtime, runtime_at
from workers.telnyx.client import LARGEST_PAGE, asking
from workers.telnyx.errors import NotFound

_WAIT_SECONDS = 30  # for a job that archives the recording just now


def run(
    settings: Settings,
    url: str,
    recording_id: str,
    *,
    why: str,
    by: str | None,
    as_json: bool,
    is_meant: Callable[[], bool],
) -> int:
    """Erase it; returns the exit status.

    Args:
        settings: of the process.
        url: the address of its Redis.
        recording_id: the recording's id.
        why: the reason, for the record.
        by: who; None: the user of this machine.
        as_json: print one JSON document.
        is_meant: asks the person once it is known that the recording is there and may be erased.

    Raises:
        UserError: it is not there, is on hold, or the credentials may not delete.
    """
    if not why.strip():
        raise UserError("--reason: say why; it is all that is left to tell")
    if not has_parquet():
        raise UserError("pyarrow is missing, so its rows could not be erased; pip install 'callvault[parquet]'")
    with opened(settings) as (catalogue, archive):
        row = look_up(settings, catalogue, archive, recording_id).row
        folder = layout.recording_folder(row.date, recording_id)
        _refuse_if_held(settings, archive, folder, row)
        if not is_meant():
            return 1
        done = asyncio.run(_erase(settings, url, archive, folder, row, why, by))
        files = forget(archive, row.date, recording_id)
        up_to_date(settings, catalogue, archive, says_how=False)
        signed = is_signed(archive, folder)
    record = done.record
    if as_json:
        report: dict[str, object] = {"recording_id": recording_id, "objects": [o.key for o in record.objects]}
        report |= {"erased": done.keys, "parquet_files": files, "erased_at": record.erased_at, "signed": signed}
        sys.stdout.write(json.dumps(report) + "\n")
        return 0
    now = f"{many(len(done.keys), 'object')} erased, {many(files, 'Parquet file')} written anew"
    if done.is_first:
        sys.stdout.write(f"{now}\n")
    else:
        what = "nothing was left of it to erase" if not done.keys and not files else f"erased now: {now}"
        sys.stdout.write(f"It was erased before, at {record.erased_at} by {record.by}; {what}\n")
        sys.stdout.write(f"the reason on record is the first: {record.why}\n")
    sys.stdout.write(f"on record: {done.key}, {many(len(record.objects), 'object')}\n")
    if not signed:
        sys.stdout.write(
            "not signed: CALLVAULT_SEAL_KEY is not set here; `callvault verify` asks for a signature where it is set. "
            f"Run `callvault erase {recording_id} --sign` there\n"
        )
    return 0


def run_sign(settings: Settings, recording_id: str, *, as_json: bool) -> int:
    """Sign the record of an erasure that stands already; returns the exit status.

    Raises:
        UserError: there is no such record, it is not to be believed, or the key is not set.
    """
    keys = open_seal_keys(settings)
    with opened(settings) as (catalogue, archive):
        row = look_up(settings, catalogue, archive, recording_id).row
        folder = layout.recording_folder(row.date, recording_id)
        record = sign_erasure(archive, folder, keys)
    if as_json:
        report = {"recording_id": recording_id, "why": record.why, "by": record.by, "erased_at": record.erased_at}
        sys.stdout.write(json.dumps(report | {"signed": True}) + "\n")
    else:
        sys.stdout.write(f"signed: {layout.erasure_key(folder)}: {record.why} (by {record.by}, {record.erased_at})\n")
    return 0


def _refuse_if_held(settings: Settings, archive: Archive, folder: str, row: Row) -> None:
    """Refuse what is on hold; a decision that cannot be read may be a hold."""
    decisions = decisions_on(archive, folder)
    if unreadable := [name for name, decision in decisions.items() if decision is None]:
        line = f"a decision about recording {row.recording_id} cannot be read ({unreadable[0]})"
        raise UserError(f"{line}, so nobody can say whether the recording is on hold; restore it from a copy")
    if (why := why_held(decisions)) is not None:
        raise UserError(f"recording {row.recording_id} is on hold ({why}); release it first")
    if row.connection_id is None:
        if row.key is None and (held := held_connections(archive)):
            line = f"the commit record of recording {row.recording_id} is not there, so nobody knows of which connection it is"
            raise UserError(f"{line}, and {', '.join(held)} is on hold; restore the record, or release that first")
        return
    if (why := why_held(decisions_about(archive, "connection", row.connection_id))) is not None:
        raise UserError(
            f"recording {row.recording_id} is of connection {row.connection_id}, which is on hold ({why}); release that first"
        )
    stated = [own_duties(settings), *stated_duties(archive).values()]
    if any(row.connection_id in duties.hold_connections for duties in stated if not duties.retired):
        line = f"recording {row.recording_id} is of connection {row.connection_id}, which CALLVAULT_HOLD_CONNECTIONS "
        raise UserError(
            f"{line}here or of a worker names; `callvault deletions holds` says whose it is. Release it there first"
        )


async def _erase(
    settings: Settings, url: str, archive: Archive, folder: str, row: Row, why: str, by: str | None
) -> Erased:
    """Under the recording's lease, so that no job writes meanwhile. The original first, so that no sweep brings it back."""
    async with runtime_at(settings, url) as runtime:
        keys = None if settings.seal_key is None else open_seal_keys(settings)

        async def ask_anew() -> None:
            """Before each deletion: the archive is still the one that was opened, and nothing holds the recording."""
            await runtime.in_thread(archive.assert_identity)
            await runtime.assert_bound()
            await runtime.in_thread(_refuse_if_held, settings, archive, folder, row)

        try:
            async with sole_writer(runtime.redis, row.recording_id, _WAIT_SECONDS):
                with asking(ask_anew):
                    await _delete_original(runtime, row.recording_id)
                await ask_anew()

                def ask_once_more() -> None:
                    """Behind the hashing, which takes as long as the recording is large."""
                    _refuse_if_held(settings, archive, folder, row)

                done = await runtime.in_thread(erase, archive, folder, row.recording_id, why, by, keys, ask_once_more)
        except HeldElsewhere:
            line = f"recording {row.recording_id} is being archived or repaired right now, and nothing was erased"
            raise UserError(f"{line}; run the command again once that is done") from None
        await runtime.due.done(folder)
        await runtime.announce(done.key, done.record)
        return done


async def _delete_original(runtime: Runtime, recording_id: str) -> None:
    listed = runtime.telnyx.recording_transcriptions.list(filter={"recording_id": recording_id}, page_size=LARGEST_PAGE)
    for transcription in [one async for one in listed if one.recording_id == recording_id]:
        with suppress(NotFound):
            await runtime.telnyx.recording_transcriptions.delete(str(transcription.id))
    with suppress(NotFound):
        await runtime.telnyx.recordings.delete(recording_id)
