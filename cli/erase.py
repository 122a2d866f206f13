"""`callvault erase`: erase a recording at Telnyx and in the archive, and record the erasure."""

from __future__ import annotations

import asyncio
import json as json_module
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from archive import layout
from cli.options import By, DataFolder, Json, RecordingId, service_of, settings_of
from text.counts import many
from text.errors import UsedWrongly, UserError

if TYPE_CHECKING:
    from archive.archive import Archive
    from archive.erase import Erased
    from config.settings import Settings
    from workers.catalogue.rows import Row
    from workers.runtime import Runtime

_WAIT_SECONDS = 30  # for a job that is archiving the recording


def command(
    recording_id: RecordingId,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Reason; the archive records it. Required unless --sign.")
    ] = None,
    by: By = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    sign: Annotated[bool, typer.Option("--sign", help="Erase nothing; sign the record of an earlier erasure.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Erase a recording for good.

    It erases the recording at Telnyx and in the archive; hashes and a record of the erasure stay. The
    credentials must allow deletion. See docs/erasure.md.

    Example: callvault erase ID --reason "request of 2026-11-20, GDPR article 17"
    """
    if sign and (reason is not None or by is not None or yes):
        raise UsedWrongly("--sign erases nothing and keeps the recorded reason; leave out --reason, --by and --yes")
    if sign:
        return _sign(settings_of(data), recording_id, json)
    if reason is None:
        raise UsedWrongly("--reason: missing; give the reason, the archive records it")
    if not reason.strip():
        raise UserError("--reason: is empty; give the reason, the archive records it")
    with service_of(data) as (settings, url):
        return _run(settings, url, recording_id, reason, by, yes=yes, as_json=json)


def _run(settings: Settings, url: str, recording_id: str, why: str, by: str | None, *, yes: bool, as_json: bool) -> int:
    from archive.erase import is_signed
    from cli.catalogue import look_up, opened, up_to_date
    from workers.catalogue.forget import assert_can_forget, forget

    with opened(settings) as (catalogue, archive):
        row = look_up(settings, catalogue, archive, recording_id).row
        folder = layout.recording_folder(row.date, recording_id)
        _refuse_if_held(settings, archive, folder, row)
        assert_can_forget(archive, row.date)
        question = f"Erase recording {recording_id} from the archive and at Telnyx?"
        if not yes and not typer.confirm(question, err=as_json):
            return 1
        done = asyncio.run(_erase(settings, url, archive, folder, row, why, by))
        files = forget(archive, row.date, recording_id)
        up_to_date(settings, catalogue, archive, says_how=False)
        signed = is_signed(archive, folder)
    record = done.record
    if as_json:
        report: dict[str, object] = {"recording_id": recording_id, "objects": [o.key for o in record.objects]}
        report |= {"erased": done.keys, "parquet_files": files, "erased_at": record.erased_at, "signed": signed}
        sys.stdout.write(json_module.dumps(report) + "\n")
        return 0
    erased = f"{many(len(done.keys), 'object')} erased, {many(files, 'Parquet file')} rewritten"
    if done.is_first:
        sys.stdout.write(f"{erased}\n")
    else:
        what = "nothing was left to erase" if not done.keys and not files else f"now {erased}"
        sys.stdout.write(f"already erased at {record.erased_at} by {record.by}; {what}\n")
        sys.stdout.write(f"the first reason stays on record: {record.why}\n")
    sys.stdout.write(f"record: {done.key}, {many(len(record.objects), 'object')}\n")
    if not signed:
        sys.stdout.write(
            "not signed: CALLVAULT_SEAL_KEY is not set. `callvault verify` reports the missing signature where the "
            f"key is set; run `callvault erase {recording_id} --sign` there\n"
        )
    return 0


def _sign(settings: Settings, recording_id: str, as_json: bool) -> int:
    from archive.erase import sign_erasure
    from cli.catalogue import look_up, opened
    from workers.seals.signing import open_seal_keys

    keys = open_seal_keys(settings)
    with opened(settings) as (catalogue, archive):
        row = look_up(settings, catalogue, archive, recording_id).row
        folder = layout.recording_folder(row.date, recording_id)
        record = sign_erasure(archive, folder, keys)
    if as_json:
        report = {"recording_id": recording_id, "why": record.why, "by": record.by, "erased_at": record.erased_at}
        sys.stdout.write(json_module.dumps(report | {"signed": True}) + "\n")
    else:
        sys.stdout.write(f"signed: {layout.erasure_key(folder)}: {record.why} (by {record.by}, {record.erased_at})\n")
    return 0


def _refuse_if_held(settings: Settings, archive: Archive, folder: str, row: Row) -> None:
    """Refuse to erase what is on hold. An unreadable decision may be a hold."""
    from archive.decisions import decisions_about, decisions_on, held_connections, why_held
    from workers.deletion.duties import own_duties, stated_duties

    decisions = decisions_on(archive, folder)
    if unreadable := [name for name, decision in decisions.items() if decision is None]:
        line = f"cannot read a decision about recording {row.recording_id} ({unreadable[0]})"
        raise UserError(f"{line}, which may be a hold; restore it from a copy")
    if (why := why_held(decisions)) is not None:
        raise UserError(f"recording {row.recording_id} is on hold ({why}); release it first")
    if row.connection_id is None:
        if row.key is None and (held := held_connections(archive)):
            line = f"the commit record of recording {row.recording_id} is missing, so its connection is unknown"
            raise UserError(
                f"{line}, and connection {', '.join(held)} is on hold; restore the record, or release the hold"
            )
        return
    if (why := why_held(decisions_about(archive, "connection", row.connection_id))) is not None:
        raise UserError(
            f"recording {row.recording_id} belongs to connection {row.connection_id}, which is on hold ({why}); "
            "release it first"
        )
    stated = [own_duties(settings), *stated_duties(archive).values()]
    if any(row.connection_id in duties.hold_connections for duties in stated if not duties.retired):
        line = f"recording {row.recording_id} belongs to connection {row.connection_id}, which"
        raise UserError(
            f"{line} CALLVAULT_HOLD_CONNECTIONS here or of a worker holds; find which with `callvault deletions holds`, "
            "and remove it there first"
        )


async def _erase(
    settings: Settings, url: str, archive: Archive, folder: str, row: Row, why: str, by: str | None
) -> Erased:
    """Erase under the recording's lease: the original first, so no job archives it again."""
    from archive.erase import erase
    from telnyx_api.client import asking
    from workers.engine.lease import HeldElsewhere
    from workers.recordings.writing import sole_writer
    from workers.runtime import runtime_at
    from workers.seals.signing import open_seal_keys

    async with runtime_at(settings, url) as runtime:
        keys = None if settings.seal_key is None else open_seal_keys(settings)

        async def ask_anew() -> None:
            """Check before each deletion that the archive is the same and nothing holds the recording."""
            await runtime.in_thread(archive.assert_identity)
            await runtime.assert_bound()
            await runtime.in_thread(_refuse_if_held, settings, archive, folder, row)

        try:
            async with sole_writer(runtime.redis, row.recording_id, _WAIT_SECONDS):
                with asking(ask_anew):
                    await _delete_original(runtime, row.recording_id)
                await ask_anew()

                def ask_once_more() -> None:
                    """Check again after hashing, which can take minutes."""
                    _refuse_if_held(settings, archive, folder, row)

                done = await runtime.in_thread(erase, archive, folder, row.recording_id, why, by, keys, ask_once_more)
        except HeldElsewhere:
            line = f"recording {row.recording_id} is being archived or repaired by another process; nothing was erased"
            raise UserError(f"{line}; try again in a moment") from None
        await runtime.schedule.done(folder)
        await runtime.announce(done.key, done.record)
        return done


async def _delete_original(runtime: Runtime, recording_id: str) -> None:
    from telnyx_api.errors import NotFound
    from telnyx_api.pages import LARGEST_PAGE

    listed = runtime.telnyx.recording_transcriptions.list(filter={"recording_id": recording_id}, page_size=LARGEST_PAGE)
    for transcription in [one async for one in listed if one.recording_id == recording_id]:
        with suppress(NotFound):
            await runtime.telnyx.recording_transcriptions.delete(str(transcription.id))
    with suppress(NotFound):
        await runtime.telnyx.recordings.delete(recording_id)
