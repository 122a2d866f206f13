"""`/healthz`: the process is alive. `/readyz`: Redis accepts writes. `/metrics`: Prometheus metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service import metrics
from text.times import end_of_day
from workers.conditions import CONDITIONS, Condition, known_conditions
from workers.engine.attempts import Attempts
from workers.engine.failure_classes import FAILURE_CLASSES
from workers.keys import DEAD_LETTERS, DELETIONS_DUE, QUEUES, READINESS
from workers.queue.backlog import oldest_waiting_seconds
from workers.queue.script import server_seconds
from workers.seals.waiting import UnsealedDays

_READY_TTL_SECONDS = 60
_MOST_CONDITIONS = 50


async def healthz(request: Request) -> Response:
    """200 while the process answers. It asks nothing else, so that an outage of Redis restarts no receiver."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """200 if Redis accepts events, else 503 with the reason. The body lists what else is wrong."""
    try:
        await request.app.state.redis.set(READINESS, "1", ex=_READY_TTL_SECONDS)
    except (RedisError, OSError) as error:
        return JSONResponse({"status": "unavailable", "redis": type(error).__name__}, 503)
    answer: dict[str, Any] = {"status": "ok"}
    status = 200
    if not request.app.state.room.is_left:
        answer, status = {"status": "unavailable", "redis": "nearly full"}, 503
    try:
        found = await known_conditions(request.app.state.redis, request.app.state.settings)
    except (RedisError, OSError):
        return JSONResponse(answer, status)  # the conditions do not change the status
    if found:
        answer["conditions"] = [{"kind": c.kind, "about": c.about, "what": c.what} for c in found[:_MOST_CONDITIONS]]
    if backlog := [c.what for c in found if c.kind == "pressure"]:
        answer["pressure"] = backlog
    return JSONResponse(answer, status)


async def metrics_page(request: Request) -> Response:
    """The metrics of this process, and those of the queues as Redis has them now."""
    try:
        await _read_queues(request.app.state.redis)
        _set_conditions(await known_conditions(request.app.state.redis, request.app.state.settings))
        metrics.REDIS_UP.set(1)
    except (RedisError, OSError):
        metrics.REDIS_UP.set(0)
        metrics.CONDITIONS.clear()  # the others are unknown
        metrics.CONDITIONS.labels("redis-away", CONDITIONS["redis-away"].severity).set(1)
    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)


def _set_conditions(found: Sequence[Condition]) -> None:
    counts = Counter(one.kind for one in found)
    for kind, row in CONDITIONS.items():
        if kind != "archive-away":  # a receiver does not read the archive
            metrics.CONDITIONS.labels(kind, row.severity).set(counts[kind])


async def _read_queues(redis: Any) -> None:
    for name, key in QUEUES.items():
        metrics.QUEUED.labels(name).set(await redis.zcard(key))
        metrics.OLDEST_JOB_SECONDS.labels(name).set(await oldest_waiting_seconds(redis, key))
    metrics.DELETIONS_DUE.set(await redis.zcard(DELETIONS_DUE))
    now = await server_seconds(redis)
    overdue = await UnsealedDays(redis).overdue(now)
    metrics.UNSEALED_DAYS.set(len(overdue))
    metrics.OLDEST_UNSEALED_SECONDS.set(now - end_of_day(min(overdue)).timestamp() if overdue else 0)
    failing = await Attempts(redis).failing(FAILURE_CLASSES)
    for cause in FAILURE_CLASSES:
        metrics.JOBS_FAILING.labels(cause).set(cause in failing)
    metrics.DEAD_LETTERS.set(await redis.hlen(DEAD_LETTERS))
