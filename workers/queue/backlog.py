"""The backlog: whether jobs wait too long or Redis is nearly full.

A backlog of jobs raises an alert and makes bulk jobs wait; receivers still accept events. They refuse events only when the
memory of Redis is nearly full (`room.py`), and stay in the load balancer.
"""

from __future__ import annotations

from workers.keys import LEASES, MAIN_QUEUE
from workers.queue.room import EVENTS_SHARE, used_share
from workers.queue.script import AsyncRedis, server_seconds

_HEAD = 200
_MEMORY_SHARE = 0.8


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
