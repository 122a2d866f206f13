"""Receipts of originals that are gone at Telnyx: deleted by us, or gone before we asked."""

from __future__ import annotations

from collections.abc import Sequence

from archive import layout
from archive.records import ArchivedObject, DeletionReceipt, Gone
from process.logs import get_logger
from text.times import format_instant, utc_now
from workers.deletion.originals import GoneBefore
from workers.deletion.put_off import ask_later, letter_id
from workers.keys import KNOWN_GONE
from workers.runtime import Runtime

log = get_logger()


async def write_receipt(
    runtime: Runtime,
    folder: str,
    recording_id: str,
    objects: list[ArchivedObject],
    transcription_ids: list[str],
    seen_at: str,
    asked_at: str,
) -> None:
    """Write the receipt of an original that we deleted, and remove it from every list.

    Args:
        runtime: the worker's parts.
        folder: of its recording in the archive.
        recording_id: Telnyx's id of it.
        objects: the audio objects, as they were proven just before.
        transcription_ids: the transcriptions that were deleted with it.
        seen_at: when Telnyx still showed it, ISO 8601.
        asked_at: when Telnyx was asked to delete it, ISO 8601.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away; the next turn writes it.
    """
    receipt = DeletionReceipt(
        recording_id=recording_id,
        objects=objects,
        transcription_ids=transcription_ids,
        seen_at=seen_at,
        asked_at=asked_at,
        confirmed_gone_at=format_instant(utc_now()),
    )
    await runtime.in_thread(runtime.archive.put_receipt, folder, receipt)
    await runtime.announce(layout.receipt_key(folder), receipt)
    await runtime.schedule.done(folder)
    await runtime.leaving.has_left(recording_id, folder)
    await runtime.attempts.done(letter_id(recording_id))
    runtime.history.add("deleted")
    runtime.history.add("deleted_bytes", sum(o.size for o in objects))
    log.info("original deleted", recording_id=recording_id)


async def settle_gone(runtime: Runtime, settled: Sequence[GoneBefore], gone: Sequence[GoneBefore]) -> None:
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
