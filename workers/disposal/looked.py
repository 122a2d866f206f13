"""When the process that disposes last looked, and what it waits for: so that nobody takes it for running once it is not."""

from __future__ import annotations

import msgspec

from workers.keys import DISPOSAL_LOOKED
from workers.queue.script import AsyncRedis, read_json, server_seconds, write_when_full

_KEPT_SECONDS = 30 * 86_400  # whoever stops disposal on purpose hears of it for so long


class Looked(msgspec.Struct, frozen=True):
    """What is known of the process. All instants are by Redis' clock, in seconds since the epoch.

    Attributes:
        at: when it last looked, or was still at it.
        waits: what keeps it from disposing of anything; None: nothing but its hours.
        since: since when it waits for one thing or another; None: it does not.
    """

    at: float
    waits: str | None = None
    since: float | None = None


async def read_looked(redis: AsyncRedis) -> Looked | None:
    """What is known; None: no such process was seen.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    return await read_json(redis, DISPOSAL_LOOKED, Looked)


async def note_looked(redis: AsyncRedis, waits: str | None) -> None:
    """Note that the process has looked, or is still at it.

    Args:
        redis: Redis.
        waits: as in `Looked`.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    now, since = await server_seconds(redis), None
    if waits is not None:
        before = await read_looked(redis)
        since = now if before is None or before.since is None else before.since
    data = msgspec.json.encode(Looked(now, waits, since))
    await write_when_full(redis, ("SET", DISPOSAL_LOOKED, data, "EX", str(_KEPT_SECONDS)))
