"""The backlog: whether jobs wait too long or Redis is nearly full.

A backlog of jobs raises an alert and makes bulk jobs wait; receivers still accept events. At 90% of the memory of Redis they
refuse events, stay in the load balancer, and leave the rest to workers. Telnyx retries an event that gets a 503; if the retries
fail too, the next reconcile finds the recording. A Redis that is completely full would also refuse the workers that make room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from workers.keys import LEASES, MAIN_QUEUE
from workers.queue.script import AsyncRedis, server_seconds

EVENTS_SHARE = 0.9  # of its memory
_LOOK_SECONDS = 0.25  # eight thousand events a second are 2 MB until the next look
_FAR_SHARE, _FAR_LOOK_SECONDS = 0.5, 1.0  # below this share, fewer polls are enough
_HEAD = 200
_MEMORY_SHARE = 0.8


def used_share(memory: Mapping[str, Any]) -> float:
    """The share of its memory limit that a server uses, from the section `memory` of INFO; 0 without a limit."""
    most = memory.get("maxmemory") or 0
    used = memory.get("used_memory", 0) - memory.get("mem_not_counted_for_evict", 0)
    return used / most if most else 0.0


class Room:
    """What a receiver knows about the memory of its Redis.

    Attributes:
        is_left: whether there is room for more events, as last seen.
    """

    def __init__(self, redis: AsyncRedis) -> None:
        self.is_left = True
        self._redis = redis

    async def watch(self) -> None:
        """Poll four times a second until cancelled; once a second while more than half of the memory is free."""
        while True:
            seconds = _LOOK_SECONDS
            try:
                share = used_share(await self._redis.info("memory"))
            except (RedisError, OSError):
                pass  # accepting events fails too, with the reason
            else:
                self.is_left = share <= EVENTS_SHARE
                seconds = _FAR_LOOK_SECONDS if share < _FAR_SHARE else _LOOK_SECONDS
            await asyncio.sleep(seconds)


async def oldest_waiting_seconds(redis: AsyncRedis, queue: str) -> float:
    """How many seconds the oldest due job that nobody runs has waited; 0 if none waits."""
    now_ms = await server_seconds(redis) * 1000
    due = await redis.zrangebyscore(queue, "-inf", now_ms, start=0, num=_HEAD, withscores=True)
    if not due:
        return 0.0
    held = await redis.hmget(LEASES, [job_id for job_id, _ in due])
    waiting = [score for (_, score), lease in zip(due, held, strict=True) if lease is None]
    return max(0.0, now_ms - waiting[0]) / 1000 if waiting else 0.0


async def backlog(redis: AsyncRedis, age_limit_seconds: float) -> dict[str, str]:
    """What is over its limit: `jobs`, `memory` or both, each with a sentence."""
    found = {}
    age = await oldest_waiting_seconds(redis, MAIN_QUEUE)  # bulk jobs may wait
    if age > age_limit_seconds:
        found["jobs"] = f"the oldest job has waited {age:.0f}s"
    share = used_share(await redis.info("memory"))
    if share > _MEMORY_SHARE:
        refused = ", so receivers answer 503" if share > EVENTS_SHARE else ""
        found["memory"] = f"Redis uses {share:.0%} of its memory{refused}"
    return found
