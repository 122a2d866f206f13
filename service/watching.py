"""Alert that no worker runs: only a receiver can notice it."""

from __future__ import annotations

import asyncio
import time

from redis.exceptions import RedisError

from config.settings import Settings
from workers.conditions import condition
from workers.keys import NO_WORKER
from workers.queue.script import AsyncRedis, server_seconds, write_when_full
from workers.running import living_workers

_CHECK_SECONDS = 5.0
_GRACE_SECONDS = 12.0  # workers may start after receivers; a dead worker's heartbeat expires after 15 s
_ALERT_EVERY_SECONDS = 60.0


async def watch_workers(settings: Settings, redis: AsyncRedis) -> None:
    """Record in Redis since when no worker is alive, and alert; until cancelled."""
    seen, alerted = time.monotonic(), -_ALERT_EVERY_SECONDS
    while True:
        try:
            now = time.monotonic()
            if await living_workers(redis):
                seen = now
                await redis.delete(NO_WORKER)
            elif now - seen >= _GRACE_SECONDS:
                since = await server_seconds(redis) - (now - seen)
                await write_when_full(redis, ("SET", NO_WORKER, since, "NX"))
                if now - alerted >= _ALERT_EVERY_SECONDS:
                    alerted = now
                    await _alert(settings, redis)
        except (RedisError, OSError):
            seen = time.monotonic()  # without Redis, nothing is known about workers
        await asyncio.sleep(_CHECK_SECONDS)


async def _alert(settings: Settings, redis: AsyncRedis) -> None:
    from workers.runtime import open_alerts  # most receivers never need it

    found = condition("no-worker")
    await open_alerts(settings, redis).send("no-worker", "all", f"{found.sentence}.", found.advice)
