"""The Starlette application of a receiver: its routes, and what starts and ends with it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from config.settings import Settings
from config.sign_in import read_sign_in
from process.alive import show_alive
from process.logs import get_logger
from process.tasks import end_tasks
from service import metrics
from service.clocks import Clocks
from service.counting import Counting
from service.health import healthz, metrics_page, readyz
from service.ops.app import OpsApp
from service.refusals import Refusals
from service.shared_counts import SharedCounts, folder_of_environment
from service.signature import Signatures
from service.starting import assert_verifiable
from service.watching import watch_workers
from service.webhooks import Webhooks
from workers.queue.accept import Acceptor
from workers.queue.backlog import Room
from workers.queue.connect import connect_receiver, has_replicas
from workers.queue.history import History
from workers.queue.replicas import Replicas
from workers.running import keep_published, new_id, running_here

log = get_logger()

WEBHOOK_PATH = "/webhooks/telnyx"
_GC_THRESHOLD = 50_000  # new objects


def create_app(settings: Settings, redis_url: str) -> Starlette:
    """The application of one receiver process.

    Raises:
        SettingsError: TELNYX_PUBLIC_KEY is not set. Without it, nothing could be verified. Or how people sign in cannot
            be used.
    """
    assert_verifiable(settings)
    sign_in = read_sign_in(settings)
    pages = OpsApp()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.settings = settings
        app.state.sign_in = sign_in
        app.state.redis = connect_receiver(redis_url)
        replicas = app.state.replicas = Replicas(app.state.redis) if has_replicas(app.state.redis) else None
        room = app.state.room = Room(app.state.redis)
        app.state.acceptor = Acceptor(app.state.redis, replicas, room)
        app.state.clocks = Clocks(settings, app.state.redis)
        app.state.signatures = Signatures(settings.telnyx_public_keys)
        app.state.refusals = Refusals(app.state.signatures, app.state.redis)
        # What exists now lives until the process ends, so the garbage collector need not visit it during requests.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD, 20, 100)
        shared = app.state.shared_counts = SharedCounts(folder_of_environment(), metrics.REGISTRY)
        app.state.started_at = shared.started_at()
        counting = asyncio.create_task(Counting(History(app.state.redis), shared).run())
        try:
            await app.state.redis.ping()
        except (RedisError, OSError) as error:
            log.warning("Redis does not answer; webhooks get 503 until it does", error=type(error).__name__)
        running = [counting, asyncio.create_task(show_alive("serve", settings.data_folder))]
        running.append(asyncio.create_task(watch_workers(settings, app.state.redis)))
        running.append(asyncio.create_task(room.watch()))
        running.append(asyncio.create_task(_publish_running(settings, app.state.redis)))
        if replicas is not None:
            running.append(asyncio.create_task(replicas.watch(partial(_alert_no_replica, settings, app.state.redis))))
        yield
        await end_tasks(running)
        await pages.close()
        with suppress(Exception):
            await app.state.redis.aclose()

    app = _Application(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics_page),
            Mount("", pages),
        ],
        lifespan=lifespan,
    )
    app.state.pages = pages
    app.router.default = pages  # a path with a line break, which the routes above do not match
    app.router.redirect_slashes = False  # Telnyx does not follow redirects reliably
    return app


class _Application(Starlette):
    """Answers webhooks before Starlette's own middleware, which would take a tenth of their time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._webhooks = Webhooks(super().__call__, WEBHOOK_PATH)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["app"] = self
        await self._webhooks(scope, receive, send)


async def _publish_running(settings: Settings, redis: Any) -> None:
    own = await running_here(settings, "receiver", new_id())
    await keep_published(redis, settings, lambda: own)


async def _alert_no_replica(settings: Settings, redis: Any) -> None:
    from workers.runtime import open_alerts  # most receivers never need it

    text = "Redis has no replica. Callvault accepts events, but they exist on one server only and are lost with it."
    await open_alerts(settings, redis).send(
        "no-replica", "redis", text, "Check the replicas of Redis and the log of Sentinel."
    )
