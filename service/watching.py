"""A receiver notices that no worker runs, which no worker can report."""

from __future__ import annotations

import asyncio
import time

from redis.exceptions import RedisError

from config.settings import Settings
from workers.conditions import condition, living_workers
from workers.keys import NO_WORKER
from workers.queue.script import AsyncRedis, server_seconds, write_when_full

_LOOK_SECONDS = 5.0
_PATIENCE_SECONDS = 12.0  # workers start beside receivers, and a heart that has stopped is seen after 15 s
_AGAIN_SECONDS = 60.0


async def watch_workers(settings: Settings, redis: AsyncRedis) -> None:
    """Remember in Redis since when no worker is alive, and alert; until cancelled."""
    seen, told = time.monotonic(), -_AGAIN_SECONDS
    while True:
        try:
            now = time.monotonic()
            if await living_workers(redis):
                seen = now
                await redis.delete(NO_WORKER)
            elif now - seen >= _PATIENCE_SECONDS:
                since = await server_seconds(redis) - (now - seen)
                await write_when_full(redis, ("SET", NO_WORKER, since, "NX"))
                if now - told >= _AGAIN_SECONDS:
                    told = now
                    await _alert(settings, redis)
        except (RedisError, OSError):
            seen = time.monotonic()  # nobody is seen then, and nobody can be
        await asyncio.sleep(_LOOK_SECONDS)


async def _alert(settings: Settings, redis: AsyncRedis) -> None:
    from workers.runtime import open_alerts  # most receivers never need it

    found = condition("no-worker")
    await open_alerts(settings, redis).send("no-worker", "all", f"{found.sentence}.", found.advice)
