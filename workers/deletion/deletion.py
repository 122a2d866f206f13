"""`delete_originals`: claim what is due, prove it again, ask the rule, delete in bulk, confirm, write receipts.

A turn deletes an original only if it has found the commit record and the objects whole in the store, and if Telnyx shows it
as archived. `may_delete.py` is the rule, asked just before each request.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Sequence

from archive import layout
from archive.proof import Damaged, Missing
from archive.records import DeletionReceipt, Gone, UnreadableRecord
from archive.stores.store import StoreCold
from process.logs import get_logger
from telnyx_api.downloads import AddressAway, DownloadFailed
from text.counts import many
from text.times import format_instant, utc_now
from workers.damage.damage import report_wrong
from workers.deletion.decisions import show_pause, stop
from workers.deletion.delete_at_telnyx import delete_at_telnyx
from workers.deletion.duties import other_units
from workers.deletion.may_delete import Rules, Stopped, pause_of, read_rules
from workers.deletion.originals import GoneBefore, Proven, look_at_original
from workers.deletion.outcomes import Away, all_later, ask_later, back_off, not_deleted, postpone_for, write_receipt
from workers.engine.clocks import clocks_agree
from workers.engine.worker import again_in
from workers.keys import KNOWN_GONE
from workers.queue.jobs import enqueue
from workers.queue.script import write_when_full
from workers.recordings.requests import DeletionTurn, deletion_job, repair_job
from workers.runtime import Runtime

log = get_logger()

_MOST_TURNS = 4  # of all workers together
_TURN_SECONDS = 10
_LONGEST_LEFT_SECONDS = 5
_LEAST_FAILURES = 3
_RECEIPT_SECONDS = 30.0  # from a unit's deletion to its receipt: it asks for each original of a batch once more
_RECEIPT_LOOK_SECONDS = 1.0


class _Failed:
    """A recording whose archived copy is not whole."""


async def start_deletions(runtime: Runtime) -> None:
    """Enqueue a job for each batch that is due, four at most at once."""
    if runtime.settings.delete_originals != "verified":
        return
    if not await runtime.schedule.may_go_on():
        return
    batches = math.ceil(await runtime.schedule.count_due() / runtime.settings.delete_batch)
    for turn in range(min(batches, _MOST_TURNS)):
        await enqueue(runtime.redis, deletion_job(turn))


async def refresh_pause(runtime: Runtime) -> None:
    """Copy the pause from the archive to Redis, which status and pages read. Redis may be lost, or the pause made elsewhere."""
    if runtime.settings.delete_originals == "verified":
        pause = await runtime.in_thread(pause_of, runtime.archive)
        await show_pause(runtime, pause)
        if (now := await runtime.in_thread(pause_of, runtime.archive)) != pause:  # someone decided meanwhile
            await show_pause(runtime, now)


async def delete_originals(runtime: Runtime, _: DeletionTurn) -> None:
    """The job: delete the originals that are due, batch by batch, until none is left, deletion is paused, or its turn ends.

    A worker with a wrong clock leaves its turn to another worker.

    Raises:
        Retry: the clocks differ here.
    """
    if runtime.settings.delete_originals != "verified":
        return
    if not await clocks_agree(runtime):  # at random: else it might be this worker that looks first, every time
        raise await again_in(runtime.redis, random.uniform(0.5, _LONGEST_LEFT_SECONDS))  # noqa: S311
    ends_at = time.monotonic() + _TURN_SECONDS
    async with runtime.leaving.turn() as token:
        while time.monotonic() < ends_at and await runtime.schedule.may_go_on():
            folders = await runtime.schedule.claim(runtime.settings.delete_batch)
            if not folders:
                return
            async with runtime.schedule.kept(folders):
                await _delete_batch(runtime, token, folders)


async def _delete_batch(runtime: Runtime, token: str, folders: Sequence[str]) -> None:
    try:
        rules = await read_rules(runtime)
    except Stopped as stopped:
        await all_later(runtime, folders, stopped)
        return
    except Exception as error:  # the rule cannot be read: everything stays
        await back_off(runtime, [await postpone_for(runtime, folder, error) for folder in folders])
        return
    checked = await asyncio.gather(*(_check(runtime, rules, folder) for folder in folders))
    await back_off(runtime, checked)
    proven = [one for one in checked if isinstance(one, Proven)]
    gone = [one for one in checked if isinstance(one, GoneBefore)]
    gone = await _not_settled_by_others(runtime, gone)
    if proven:  # they are at Telnyx again
        await runtime.redis.hdel(KNOWN_GONE, *(one.recording_id for one in proven))
    known_gone = await runtime.redis.hmget(KNOWN_GONE, [one.recording_id for one in gone]) if gone else []
    unknown = [one for one, known in zip(gone, known_gone, strict=True) if known is None]
    failures = sum(isinstance(one, _Failed) for one in checked)
    if _are_many(runtime, failures, folders):
        advice = "Run `callvault verify`, repair the archive, then run `callvault deletions resume`."
        await _stop(
            runtime, folders, f"{failures} of {many(len(folders), 'recording')} of a batch failed the proof", advice
        )
    elif _are_many(runtime, len(unknown), folders):
        await write_when_full(runtime.redis, *(("HSET", KNOWN_GONE, one.recording_id, "1") for one in unknown))
        advice = (
            "Check that TELNYX_API_KEY belongs to the account that made the recordings. If somebody else deleted them "
            "there, run `callvault deletions resume`: it records that, and deletion continues."
        )
        which = f"{len(unknown)} of {many(len(folders), 'original')} of a batch"
        why = f"{which} are gone from Telnyx, and Callvault did not delete them"
        await _stop(runtime, folders, why, advice)
    else:
        await _settle_gone(runtime, [one for one in gone if one not in unknown or proven], gone)
        await delete_at_telnyx(runtime, token, proven)


def _are_many(runtime: Runtime, count: int, folders: Sequence[str]) -> bool:
    return count >= _LEAST_FAILURES and count * 100 > runtime.settings.delete_stop_percent * len(folders)


async def _stop(runtime: Runtime, folders: Sequence[str], why: str, advice: str) -> None:
    """The safety stop: so many failures at once mean that the bucket was changed, or that the key is another account's."""
    await stop(runtime, f"{why}. {advice}", "callvault")  # status and pages show the advice too
    for folder in folders:
        await runtime.schedule.postpone(folder, 0)
    await runtime.alerts.send("deletion-stopped", "all", f"Deletion has paused itself: {why}.", advice)


async def _check(runtime: Runtime, rules: Rules, folder: str) -> Proven | GoneBefore | _Failed | Away | None:
    """Check an original and prove its recording again; None if it stays for now."""
    async with runtime.deletion_gate:
        try:
            one = await look_at_original(runtime, rules, folder)
            return await _not_deleted_by_us(runtime, one) if isinstance(one, GoneBefore) else one
        except (Damaged, UnreadableRecord) as error:
            log.error("deletion blocked: the archive is damaged", folder=folder, error=str(error))
            await report_wrong(runtime.redis, error, "deletion")
            advice = f"Run `callvault verify`; the original of {folder} is kept."
            await runtime.alerts.send("archive-damaged", "recordings", str(error), advice)
            await runtime.schedule.done(folder)
            if isinstance(error, Missing):  # other bytes under its key are for a person to check
                await enqueue(runtime.redis, repair_job(folder))
            return _Failed()
        except AddressAway as error:
            return await postpone_for(runtime, folder, error)
        except DownloadFailed as error:
            await not_deleted(runtime, folder, layout.recording_id_of(folder), f"its audio cannot be checked: {error}")
            return None
        except (
            StoreCold
        ) as error:  # whole as far as the store shows it, but only its bytes prove it: the original stays
            await ask_later(runtime, folder, layout.recording_id_of(folder), "cold", str(error))
            return None
        except Exception as error:  # Telnyx or the store is down: the original stays and is tried again
            return await postpone_for(runtime, folder, error)


async def _not_settled_by_others(runtime: Runtime, gone: list[GoneBefore]) -> list[GoneBefore]:
    """Those for which no other unit writes a receipt soon.

    A unit that deletes an original confirms it and then writes the receipt. Another unit on the same archive may see the 404
    in between, and would take a batch of these for a wrong key, or record that the original was gone before.
    """
    if not gone:
        return gone
    ends_at = time.monotonic() + (_RECEIPT_SECONDS if await other_units(runtime) else 0.0)
    while True:
        is_settled = {one.folder: await _is_settled(runtime, one.folder) for one in gone}
        for one in gone:
            if is_settled[one.folder]:
                await runtime.schedule.done(one.folder)
        gone = [one for one in gone if not is_settled[one.folder]]
        if not gone or time.monotonic() >= ends_at:
            return gone
        await asyncio.sleep(_RECEIPT_LOOK_SECONDS)


async def _is_settled(runtime: Runtime, folder: str) -> bool:
    """Whether the archive records that an original was deleted or gone."""
    keys = (layout.receipt_key(folder), layout.gone_key(folder))
    return any([await runtime.in_thread(runtime.archive.store.stat, key) is not None for key in keys])


async def _not_deleted_by_us(runtime: Runtime, gone: GoneBefore) -> GoneBefore | None:
    """None if an earlier turn of ours deleted the original without a receipt, which is written here.

    Under another API key than the one that showed it, a 404 may only mean another account, so it proves no deletion.
    """
    left = await runtime.leaving.of(gone.recording_id)
    if left is None or left.asked_at is None or left.key not in ("", runtime.account.key_fingerprint):
        return gone
    receipt = DeletionReceipt(
        recording_id=gone.recording_id,
        objects=gone.objects,
        transcription_ids=[],
        seen_at=left.seen_at,
        asked_at=left.asked_at,
        confirmed_gone_at=format_instant(utc_now()),
    )
    await write_receipt(runtime, gone.folder, receipt)
    return None


async def _settle_gone(runtime: Runtime, settled: Sequence[GoneBefore], gone: Sequence[GoneBefore]) -> None:
    """Record originals that were gone before we asked, if this key sees other originals or a person resumed; the rest waits."""
    for one in gone:
        if one not in settled:
            log.warning("original not at Telnyx; asked again later", recording_id=one.recording_id)
            await ask_later(runtime, one.folder, one.recording_id, "gone", "Telnyx answers 404")
            continue
        record = Gone(recording_id=one.recording_id, objects=one.objects, found_gone_at=format_instant(utc_now()))
        await runtime.in_thread(runtime.archive.put_gone, one.folder, record)
        await runtime.announce(layout.gone_key(one.folder), record)
        await runtime.redis.hdel(KNOWN_GONE, one.recording_id)
        await runtime.leaving.take_away([one.recording_id])
        await runtime.schedule.done(one.folder)
        log.warning("original was gone before we asked", recording_id=one.recording_id)
