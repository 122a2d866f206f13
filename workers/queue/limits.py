"""The shared limiter: when Telnyx says 429 to one worker of an account, all of them wait."""

from __future__ import annotations

import asyncio
import random

from redis.exceptions import RedisError

from workers.keys import TELNYX_PAUSE
from workers.queue.script import AsyncRedis

_LONGEST_PAUSE_SECONDS = 60.0
_SPREAD = 0.25  # those who waited together do not come back in the same instant


class SharedLimiter:
    """A pause of all requests to Telnyx, kept in Redis. With Redis away it limits nothing: each backs off alone."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    async def wait(self) -> None:
        """Return once requests may be sent; waits a minute at most."""
        try:
            left_ms = await self._redis.pttl(TELNYX_PAUSE)
        except (RedisError, OSError):
            return
        if left_ms > 0:
            seconds = min(left_ms / 1000, _LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(seconds * (1 + random.uniform(0, _SPREAD)))  # noqa: S311

    async def pause(self, seconds: float) -> None:
        """Have everyone wait; a pause that lasts longer already stays."""
        milliseconds = max(1, int(min(seconds, _LONGEST_PAUSE_SECONDS) * 1000))
        try:
            if not await self._redis.set(TELNYX_PAUSE, "1", px=milliseconds, nx=True):
                await self._redis.pexpire(TELNYX_PAUSE, milliseconds, gt=True)
        except (RedisError, OSError):
            pass
