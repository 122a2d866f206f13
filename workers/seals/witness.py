"""Send the head of the chain of seals outside: with every delivered alert, and once a day to the witnesses.

Somebody with write access to the bucket can cut off the end of the chain with its days, or rebuild all of it. A head that
is kept elsewhere reveals that: `callvault verify --seals --head HASH` checks the chain against it. The line comes from Redis.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from workers.alerts.alerts import Alerts
from workers.alerts.delivery import NotDelivered, deliver
from workers.alerts.head import line_of, read_head
from workers.keys import WITNESSED, WITNESSED_HEAD
from workers.queue.script import read_json, server_seconds, write_when_full

_EVERY_SECONDS = 24 * 3600
_AGAIN_SECONDS = 3600


class Witnessed(msgspec.Struct, frozen=True):
    """The head that the witnesses took last.

    Attributes:
        sequence: number of its seal; a head covers that seal and all before it.
        sha256: of that seal, hexadecimal.
        at: when, in seconds by the server's clock.
    """

    sequence: int
    sha256: str
    at: float


async def send_head(redis: Any, urls: Sequence[str], alerts: Alerts) -> None:
    """Send the head of the chain to the witnesses once a day. On failure, raise an alert and retry hourly.

    One worker at a time may call it.

    Args:
        redis: holds a copy of the chain.
        urls: Apprise URLs; may be empty.
        alerts: the alerts of this process.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    if not urls or (head := await read_head(redis)) is None or await redis.exists(WITNESSED):
        return
    line = await line_of(redis, head)
    is_taken = True
    try:
        await deliver(urls, "Callvault: head of the seals", line, "info")
    except NotDelivered:
        is_taken = False
    # Written last: if this worker dies, another sends it. Also while Redis is full: otherwise it would be sent every minute.
    rest_seconds = _EVERY_SECONDS if is_taken else _AGAIN_SECONDS
    await write_when_full(redis, ("SET", WITNESSED, "1", "EX", rest_seconds))
    if is_taken:
        witnessed = Witnessed(head.seal.sequence, head.sha256, await server_seconds(redis))
        await write_when_full(redis, ("SET", WITNESSED_HEAD, msgspec.json.encode(witnessed)))
    else:
        advice = "Check CALLVAULT_WITNESS_URLS. Callvault sends the head again in an hour."
        await alerts.send("witness", "head", f"A witness did not accept the head of the seals: {line}.", advice)


async def last_witnessed(redis: Any) -> Witnessed | None:
    """The head that the witnesses took last; None if none is known.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    return await read_json(redis, WITNESSED_HEAD, Witnessed)
