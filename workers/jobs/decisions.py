"""What a person decides about an original: to hold it, or to let it go. It lies in the archive, where Redis cannot lose it."""

from __future__ import annotations

from typing import Literal

from config.errors import UserError
from config.times import format_instant, parse_instant, utc_now
from workers.archive import layout
from workers.archive.records import EarlierDecision
from workers.runtime import Runtime
from workers.telnyx.errors import NotFound


async def decide(runtime: Runtime, recording_id: str, decision: Literal["hold", "release"], why: str) -> None:
    """Hold an original, or release one that is held or in whose audio something was found.

    Raises:
        UserError: it is not at Telnyx any more.
        TelnyxError, StoreError, redis.exceptions.RedisError: one of them is away.
    """
    try:
        recording = await runtime.telnyx.recordings.retrieve(recording_id)
    except NotFound:
        raise UserError(f"recording {recording_id} is not at Telnyx: there is no original to keep") from None
    folder = layout.recording_folder(recording.dated, recording_id)
    record = EarlierDecision(decision=decision, why=why, at=format_instant(utc_now()))
    await runtime.in_thread(runtime.archive.put_decision, folder, record)
    await runtime.announce(layout.decision_key(folder, parse_instant(record.at)), record)
    if decision == "hold":
        await runtime.due.done(folder)
    elif runtime.settings.delete_originals == "verified":
        await runtime.due.schedule(folder, runtime.settings.delete_after.total_seconds())
