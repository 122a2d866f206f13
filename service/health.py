"""`/healthz`: the process is alive. `/readyz`: Redis accepts writes. `/metrics`: Prometheus metrics."""

from __future__ import annotations

from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from process.version import own_version
from service.unit_metrics import Collected, collect_unit
from workers.conditions import CONDITIONS, Condition
from workers.keys import READINESS
from workers.looks import known_conditions

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
        answer["conditions"] = [_shown(one) for one in found[:_MOST_CONDITIONS]]
    if backlog := [c.what for c in found if c.kind == "pressure"]:
        answer["pressure"] = backlog
    return JSONResponse(answer, status)


def _shown(one: Condition) -> dict[str, str]:
    seen = {"seen": one.seen} if one.seen else {}
    return {"kind": one.kind, "about": one.about, "what": one.what} | seen


async def metrics_page(request: Request) -> Response:
    """The metrics of this receiver's processes, and those of the unit as Redis has them now."""
    state = request.app.state
    found = _of_this_receiver(state.started_at, redis_up=True)
    try:
        await collect_unit(state.redis, state.settings, found)
    except (RedisError, OSError):
        found = _of_this_receiver(state.started_at, redis_up=False)  # a part of the others would look like all
        found.set("callvault_conditions", 1, "redis-away", CONDITIONS["redis-away"].severity)
    text = generate_latest(state.shared_counts) + generate_latest(found)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _of_this_receiver(started_at: float, *, redis_up: bool) -> Collected:
    found = Collected()
    found.set("callvault_redis_up", redis_up)
    found.set("callvault_build_info", 1, own_version())
    found.set("callvault_start_time_seconds", started_at)
    return found
