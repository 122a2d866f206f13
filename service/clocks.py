"""A webhook that is signed rightly and whose time is wrong: somebody repeats an old one, or this machine's clock is wrong.

Telnyx tries a 503 again, and another receiver may take it; a 401 it never does. So where this clock and the Redis server's
differ, nothing is refused for its time. Redis is asked only then.
"""

from __future__ import annotations

import math
import time
from typing import Any

from config.logs import get_logger
from config.settings import Settings
from config.times import format_duration
from workers.queue.clocks import MOST_APART_SECONDS, seconds_apart

_TOLD_EVERY_SECONDS = 60

log = get_logger()


class Clocks:
    """This machine's clock against the Redis server's; one per process."""

    def __init__(self, settings: Settings, redis: Any) -> None:
        self._settings, self._redis = settings, redis
        self._told_at = -math.inf

    async def are_apart(self) -> bool:
        """Whether the two differ by more than a minute; if they do, an alert says so.

        Raises:
            redis.exceptions.RedisError, OSError: Redis is away.
        """
        apart = await seconds_apart(self._redis)
        if apart <= MOST_APART_SECONDS:
            return False
        if time.monotonic() - self._told_at > _TOLD_EVERY_SECONDS:
            self._told_at = time.monotonic()
            await self._tell(format_duration(apart))
        return True

    async def _tell(self, apart: str) -> None:
        from workers.runtime import open_alerts  # most receivers never need it

        await open_alerts(self._settings, self._redis).send(
            "clocks-differ",
            "receiver",
            f"A receiver's clock and the Redis server's differ by {apart}: it answers webhooks 503 whose time it cannot judge.",
            "Set both by NTP; it goes on by itself.",
        )
