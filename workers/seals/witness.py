"""The head of the chain of seals leaves the building: with every alert that is delivered, and once a day to the witnesses.

Whoever can write into the bucket can cut off the chain's end with its days, or make all of it anew. A head that lies elsewhere
shows it: `callvault verify --seals --head HASH` holds the chain against it. The line is made from what Redis remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workers.alerts.alerts import Alerts
from workers.alerts.delivery import NotDelivered, deliver
from workers.alerts.head import head_line
from workers.keys import WITNESSED
from workers.queue.script import write_when_full

_EVERY_SECONDS = 24 * 3600
_AGAIN_SECONDS = 3600


async def send_head(redis: Any, urls: Sequence[str], alerts: Alerts) -> None:
    """Send the head of the chain to the witnesses, once a day; one that does not take it is an alert, and is tried hourly.

    One worker at a time may call it.

    Args:
        redis: where the chain is remembered.
        urls: Apprise URLs; may be empty.
        alerts: of this process.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    if not urls or (line := await head_line(redis)) is None:
        return
    if await redis.exists(WITNESSED):
        return
    is_taken = True
    try:
        await deliver(urls, "Callvault: head of the seals", line, "info")
    except NotDelivered:
        is_taken = False
    # Not before: what dies with its worker is sent by another. Also while Redis is full: else it would be sent every minute.
    rest_seconds = _EVERY_SECONDS if is_taken else _AGAIN_SECONDS
    await write_when_full(redis, ("SET", WITNESSED, "1", "EX", rest_seconds))
    if not is_taken:
        advice = "Check CALLVAULT_WITNESS_URLS. Callvault sends the head again in an hour."
        await alerts.send("witness", "head", f"A witness did not accept the head of the seals: {line}.", advice)
