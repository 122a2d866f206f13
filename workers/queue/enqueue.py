"""Enqueue one job from inside the workers."""

from __future__ import annotations

import time

from workers.keys import ARQ_JOB
from workers.queue.jobs import JOB_TTL_MS, Job, encode_job
from workers.queue.script import AsyncRedis, Script

_ENQUEUE = Script(__package__, "enqueue.lua")


async def enqueue(redis: AsyncRedis, job: Job) -> bool:
    """Enqueue one job.

    Returns:
        True if it is new; False if a job with its id waits or runs already.

    Raises:
        redis.exceptions.RedisError: Redis did not take it.
    """
    data = encode_job(job, time.time_ns() // 1_000_000)
    keys = (ARQ_JOB + job.id, job.queue)
    return bool(await _ENQUEUE(redis, keys, (data, JOB_TTL_MS + job.delay_ms, job.delay_ms, job.id)))
