"""Receipts of originals that are gone at Telnyx: deleted by us, or gone before we asked."""

from __future__ import annotations

from archive import layout
from archive.records import DeletionReceipt
from process.logs import get_logger
from workers.deletion.put_off import letter_id
from workers.runtime import Runtime

log = get_logger()


async def write_receipt(runtime: Runtime, folder: str, receipt: DeletionReceipt) -> None:
    """Write the receipt of an original that we deleted, and remove it from every list.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away; the next turn writes it.
    """
    await runtime.in_thread(runtime.archive.put_receipt, folder, receipt)
    await runtime.announce(layout.receipt_key(folder), receipt)
    await runtime.schedule.done(folder)
    await runtime.leaving.has_left(receipt.recording_id, folder)
    await runtime.attempts.done(letter_id(receipt.recording_id))
    runtime.history.add("deleted")
    runtime.history.add("deleted_bytes", sum(o.size for o in receipt.objects))
    log.info("original deleted", recording_id=receipt.recording_id)
