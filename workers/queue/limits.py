"""The shared rate limiter: when Telnyx answers 429 to one worker of an account, all workers wait."""

from __future__ import annotations

import asyncio
import random
import time

from redis.exceptions import RedisError

from workers.keys import TELNYX_PAUSE
from workers.queue.script import AsyncRedis, write_when_full

_LONGEST_PAUSE_SECONDS = 60.0
_POLL_SECONDS = 0.1  # a round trip to Redis for every request would cost too much
_SPREAD = 0.25  # so that workers do not resume at the same instant


class SharedLimiter:
    """A pause of all requests to Telnyx, kept in Redis. While Redis is away, each worker backs off alone."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis
        self._look_at = 0.0
        self._paused_until = 0.0

    async def wait(self) -> None:
        """Wait until requests may be sent, at most 75 seconds. Another worker's pause takes effect within 0.1 s."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _POLL_SECONDS
            try:
                left_ms = await self._redis.pttl(TELNYX_PAUSE)
            except (RedisError, OSError):
                return
            self._paused_until = time.monotonic() + left_ms / 1000
        left = min(self._paused_until - time.monotonic(), _LONGEST_PAUSE_SECONDS)
        if left > 0:
            await asyncio.sleep(left * (1 + random.uniform(0, _SPREAD)))  # noqa: S311

    async def pause(self, seconds: float) -> None:
        """Pause all workers; a pause that lasts longer stays."""
        milliseconds = max(1, int(min(seconds, _LONGEST_PAUSE_SECONDS) * 1000))
        self._look_at = 0.0
        try:
            begin = ("SET", TELNYX_PAUSE, "1", "NX", "PX", milliseconds)
            await write_when_full(self._redis, begin, ("PEXPIRE", TELNYX_PAUSE, milliseconds, "GT"))
        except (RedisError, OSError):
            pass
