"""This machine's clock and the Redis server's: how far they differ, and the time by the server's."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from process.logs import get_logger
from text.times import format_duration, utc_now
from workers.queue.script import AsyncRedis, server_seconds

if TYPE_CHECKING:
    from workers.runtime import Runtime

log = get_logger()

MOST_APART_SECONDS = 60.0


async def seconds_apart(redis: AsyncRedis) -> float:
    """By how much the two clocks differ at least, whatever the round trip took; 0 if they may agree.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    before = utc_now().timestamp()
    server = await server_seconds(redis)
    after = utc_now().timestamp()
    return before - server if server < before else max(0.0, server - after)


class ServerClock:
    """The Redis server's time in one process: read now and then, and counted on by a monotonic clock.

    Before the first read it is this machine's own.
    """

    def __init__(self) -> None:
        self._seen: tuple[float, float] | None = None  # the server's time, and the count then

    async def look(self, redis: AsyncRedis) -> float:
        """Read the server's clock; returns its time, in seconds since the epoch.

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
        """The time by this machine's clock if it is more than a minute ahead of the server's; else None."""
        own = utc_now()
        return own if (own - self.now()).total_seconds() > MOST_APART_SECONDS else None

    def latest(self) -> datetime:
        """The time by the clock that is ahead: for what must not end early, whichever clock is wrong."""
        return max(self.now(), utc_now())


def _counted_seconds() -> float:
    """Monotonic seconds, including those of a sleeping machine where the system counts them (Linux)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


async def clocks_agree(runtime: Runtime) -> bool:
    """Whether this machine's clock and the Redis server's agree within a minute; if they do not, an alert says so.

    While they differ nobody knows which of them is right, so nothing is deleted and nothing is sealed.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    apart = await seconds_apart(runtime.redis)
    if apart <= MOST_APART_SECONDS:
        return True
    text = f"This machine's clock and the Redis server's differ by {format_duration(apart)}"
    log.error("clocks differ", seconds=round(apart, 1))
    await runtime.alerts.send(
        "clocks-differ",
        "redis",
        f"{text}. Nothing is deleted or sealed until they agree.",
        "Synchronize both with NTP. Deletion and sealing then continue.",
    )
    return False
