"""`callvault erase`: erase a recording at Telnyx and in the archive, and record the erasure."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from archive import layout
from cli.console import confirmed, print_json
from cli.interrupt import stands
from cli.options import By, DataFolder, Json, Yes, service_of, settings_of
from text.counts import many
from text.errors import UsedWrongly
from text.times import format_moment

if TYPE_CHECKING:
    from archive.erase import Erased
    from config.settings import Settings
    from workers.deletion.erase import Target


def command(
    recording_id: Annotated[str, typer.Argument(metavar="ID", help="Whole ID of the recording.", show_default=False)],
    reason: Annotated[
        str | None,
        typer.Option(
            "--reason", "--why", metavar="TEXT", help="Reason; the archive records it. Required unless --sign."
        ),
    ] = None,
    by: By = None,
    yes: Yes = False,
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
        raise UsedWrongly("--reason: missing; give a reason, which the archive records")
    with service_of(data) as (settings, url):
        return _run(settings, url, recording_id, reason, by, yes=yes, as_json=json)


def _run(settings: Settings, url: str, recording_id: str, why: str, by: str | None, *, yes: bool, as_json: bool) -> int:
    from archive.erase import is_signed
    from cli.catalogue import look_up, opened, up_to_date
    from cli.ids import refuse_beginning
    from workers.catalogue.forget import assert_can_forget, forget
    from workers.deletion.erase import Target, refuse_if_held

    with opened(settings) as (catalogue, archive):
        refuse_beginning(settings, catalogue, archive, recording_id)
        row = look_up(settings, catalogue, archive, recording_id).row
        folder = layout.recording_folder(row.date, recording_id)
        target = Target(archive, folder, row)
        refuse_if_held(settings, target)
        assert_can_forget(archive, row.date)
        question = f"Erase recording {recording_id} from the archive and at Telnyx?"
        if not yes and not confirmed(question, err=as_json):
            sys.stderr.write("callvault: nothing was erased\n")
            return 1
        with stands("the erasure may have begun; run the same command again, and it continues where it stopped"):
            done = asyncio.run(_erase(settings, url, target, why, by))
            files = forget(archive, row.date, recording_id)
            up_to_date(settings, catalogue, archive, says_how=False)
            signed = is_signed(archive, folder)
    record = done.record
    if as_json:
        report: dict[str, object] = {"recording_id": recording_id, "objects": [o.key for o in record.objects]}
        report |= {"erased": done.keys, "parquet_files": files, "erased_at": record.erased_at, "signed": signed}
        print_json(report)
        return 0
    erased = f"{many(len(done.keys), 'object')} erased, {many(files, 'Parquet file')} rewritten"
    if done.is_first:
        sys.stdout.write(f"{erased}\n")
    else:
        what = "nothing was left to erase" if not done.keys and not files else f"now {erased}"
        sys.stdout.write(f"already erased at {format_moment(record.erased_at, None)} by {record.by}; {what}\n")
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
    from cli.accessed import log_reading
    from cli.catalogue import look_up, opened
    from cli.ids import refuse_beginning
    from workers.seals.signing import open_seal_keys

    keys = open_seal_keys(settings)
    with opened(settings) as (catalogue, archive):
        refuse_beginning(settings, catalogue, archive, recording_id)
        row = look_up(settings, catalogue, archive, recording_id).row
        folder = layout.recording_folder(row.date, recording_id)
        log_reading(settings, archive, "sign", [recording_id], about="its erasure")
        record = sign_erasure(archive, folder, keys)
    if as_json:
        report = {"recording_id": recording_id, "why": record.why, "by": record.by, "erased_at": record.erased_at}
        print_json(report | {"signed": True})
    else:
        sys.stdout.write(
            f"signed: {layout.erasure_key(folder)}: {record.why} (by {record.by}, {format_moment(record.erased_at, None)})\n"
        )
    return 0


async def _erase(settings: Settings, url: str, target: Target, why: str, by: str | None) -> Erased:
    from cli.accessed import logged_change
    from workers.deletion.erase import erase_recording
    from workers.runtime import runtime_at

    about = {"why": why, "by": by}
    async with (
        runtime_at(settings, url) as runtime,
        logged_change(runtime, "erase", [target.row.recording_id], **about),
    ):
        return await erase_recording(runtime, target, why, by)
