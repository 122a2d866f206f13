"""`/healthz`: the process lives. `/readyz`: Redis is reachable and takes writes. `/metrics`: Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from config.times import end_of_day
from service import metrics
from workers.jobs.causes import NEVER_GIVEN_UP
from workers.keys import DEAD_LETTERS, DELETIONS_DUE, QUEUES, READINESS
from workers.queue.attempts import Attempts
from workers.queue.pressure import oldest_waiting_seconds, pressure
from workers.queue.script import server_seconds
from workers.queue.written import UnsealedDays

_READY_TTL_SECONDS = 60


async def healthz(request: Request) -> Response:
    """200 while the process answers; asks nothing else, so that an outage of Redis does not restart receivers."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """200 if Redis takes writes, else 503 with the reason; pressure is told in the body and changes nothing else."""
    try:
        await request.app.state.redis.set(READINESS, "1", ex=_READY_TTL_SECONDS)
    except (RedisError, OSError) as error:
        return JSONResponse({"status": "unavailable", "redis": type(error).__name__}, 503)
    limit = request.app.state.settings.queue_age_limit.total_seconds()
    try:
        found = list((await pressure(request.app.state.redis, limit)).values())
    except (RedisError, OSError):
        found = []  # an answer about pressure is a courtesy; readiness was settled above
    return JSONResponse({"status": "ok", "pressure": found} if found else {"status": "ok"})


async def metrics_page(request: Request) -> Response:
    """The metrics of this process, and of the queues as Redis has them now."""
    try:
        await _read_queues(request.app.state.redis)
        metrics.REDIS_UP.set(1)
    except (RedisError, OSError):
        metrics.REDIS_UP.set(0)
    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)


async def _read_queues(redis: Any) -> None:
    for name, key in QUEUES.items():
        metrics.QUEUED.labels(name).set(await redis.zcard(key))
        metrics.OLDEST_JOB_SECONDS.labels(name).set(await oldest_waiting_seconds(redis, key))
    metrics.DELETIONS_DUE.set(await redis.zcard(DELETIONS_DUE))
    now = await server_seconds(redis)
    overdue = await UnsealedDays(redis).overdue(now)
    metrics.UNSEALED_DAYS.set(len(overdue))
    metrics.OLDEST_UNSEALED_SECONDS.set(now - end_of_day(min(overdue)).timestamp() if overdue else 0)
    failing = await Attempts(redis).failing(NEVER_GIVEN_UP)
    for cause in NEVER_GIVEN_UP:
        metrics.JOBS_FAILING.labels(cause).set(cause in failing)
    metrics.DEAD_LETTERS.set(await redis.hlen(DEAD_LETTERS))
