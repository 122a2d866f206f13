"""Enqueue one job from inside the workers: once, or once a period."""

from __future__ import annotations

import time
from datetime import timedelta

from workers.keys import ARQ_JOB
from workers.queue.jobs import JOB_TTL_MS, Job, encode_job
from workers.queue.script import AsyncRedis, Script

_ENQUEUE = Script(__package__, "enqueue.lua")
_ENQUEUE_EVERY = Script(__package__, "enqueue_every.lua")


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


async def enqueue_every(redis: AsyncRedis, mark: str, every: timedelta, job: Job) -> bool:
    """Enqueue a periodic job, unless its period still runs. The period begins together with the job.

    Args:
        redis: Redis.
        mark: the key that exists during the period.
        every: the period.
        job: the job.

    Returns:
        Whether the period was over.

    Raises:
        redis.exceptions.RedisError: Redis did not take it.
    """
    keys = (mark, ARQ_JOB + job.id, job.queue)
    data = encode_job(job, time.time_ns() // 1_000_000)
    return bool(await _ENQUEUE_EVERY(redis, keys, (int(every.total_seconds() * 1000), data, JOB_TTL_MS, job.id)))
