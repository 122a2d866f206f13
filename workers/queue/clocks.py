"""This machine's clock and the Redis server's: how far they are apart, and what time it is by the server's."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from config.times import utc_now
from workers.queue.script import AsyncRedis, server_seconds

MOST_APART_SECONDS = 60.0


async def seconds_apart(redis: AsyncRedis) -> float:
    """How far the two clocks differ at least, whatever time the question took; 0 if they need not differ at all.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    before = utc_now().timestamp()
    server = await server_seconds(redis)
    after = utc_now().timestamp()
    return before - server if server < before else max(0.0, server - after)


class ServerClock:
    """The Redis server's time in one process: looked at now and then, and counted on by a clock that nobody sets.

    Before the first look it is this machine's own.
    """

    def __init__(self) -> None:
        self._seen: tuple[float, float] | None = None  # the server's time, and the count then

    async def look(self, redis: AsyncRedis) -> float:
        """Look at the server's clock; returns its time, in seconds since the epoch.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        server = await server_seconds(redis)
        self._seen = server, _counted_seconds()
        return server

    def now(self) -> datetime:
        """The time by the server's clock, UTC."""
        if (seen := self._seen) is None:
            return utc_now()
        return datetime.fromtimestamp(seen[0] + _counted_seconds() - seen[1], UTC)

    def machine_if_ahead(self) -> datetime | None:
        """The time by this machine's own clock, where that is ahead of the server's by more than a minute."""
        own = utc_now()
        return own if (own - self.now()).total_seconds() > MOST_APART_SECONDS else None

    def latest(self) -> datetime:
        """The time by the clock that is ahead: for what must not end too early, whichever of the two is wrong."""
        return max(self.now(), utc_now())


def _counted_seconds() -> float:
    """Seconds since some moment, those of a machine that slept too where the system counts them (Linux)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
