"""Compare two clocks before anything that cannot be undone: this machine's and the Redis server's."""

from __future__ import annotations

from process.logs import get_logger
from text.times import format_duration
from workers.engine.server_clock import MOST_APART_SECONDS, seconds_apart
from workers.runtime import Runtime

log = get_logger()


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
