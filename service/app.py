"""The Starlette application: its routes and its life."""

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

from config.alive import show_alive
from config.logs import get_logger
from config.settings import Settings, SettingsError
from config.tasks import end_tasks
from service.clocks import Clocks
from service.counting import Counting
from service.health import healthz, metrics_page, readyz
from service.ops.app import OpsApp
from service.signature import Signatures
from service.watching import watch_workers
from service.webhooks import Webhooks
from workers.queue.accept import Acceptor
from workers.queue.connect import connect_receiver, has_replicas
from workers.queue.history import History
from workers.queue.replicas import Replicas
from workers.queue.room import Room

log = get_logger()

WEBHOOK_PATH = "/webhooks/telnyx"
_COLLECT_AFTER = 50_000  # new objects


def create_app(settings: Settings, redis_url: str) -> Starlette:
    """The application of one receiver process.

    Raises:
        SettingsError: TELNYX_PUBLIC_KEY is not set; an endpoint that cannot verify accepts anything from anyone.
    """
    if not settings.telnyx_public_keys:
        raise SettingsError(
            "TELNYX_PUBLIC_KEY is not set; set it to the webhook public key from the Telnyx portal (API keys, Public key)"
        )

    pages = OpsApp(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.settings = settings
        app.state.redis = connect_receiver(redis_url)
        replicas = Replicas(app.state.redis) if has_replicas(app.state.redis) else None
        room = app.state.room = Room(app.state.redis)
        app.state.acceptor = Acceptor(app.state.redis, replicas, room)
        app.state.clocks = Clocks(settings, app.state.redis)
        pages.redis = app.state.redis
        app.state.signatures = Signatures(settings.telnyx_public_keys)
        # What is there now stays for good: the collector need not look at it again and again while requests wait.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER, 20, 100)
        counting = asyncio.create_task(Counting(History(app.state.redis)).run())
        try:
            await app.state.redis.ping()
        except (RedisError, OSError) as error:
            log.warning("Redis does not answer yet; webhooks are refused until it does", error=type(error).__name__)
        running = [counting, asyncio.create_task(show_alive("serve", settings.data_folder))]
        running.append(asyncio.create_task(watch_workers(settings, app.state.redis)))
        running.append(asyncio.create_task(room.watch()))
        if replicas is not None:
            running.append(asyncio.create_task(replicas.watch(partial(_tell_no_replica, settings, app.state.redis))))
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
    app.router.redirect_slashes = False  # Telnyx does not follow redirects reliably
    return app


class _Application(Starlette):
    """Starlette's, with webhooks answered before all that is its own: it would take a tenth of their time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._webhooks = Webhooks(super().__call__, WEBHOOK_PATH)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope["app"] = self
        await self._webhooks(scope, receive, send)


async def _tell_no_replica(settings: Settings, redis: Any) -> None:
    from workers.runtime import open_alerts  # most receivers never need it

    text = "Redis has no replica: events are accepted, and would be lost with the one server that has them."
    await open_alerts(settings, redis).send(
        "no-replica", "redis", text, "See the replicas of Redis, and Sentinel's log."
    )
