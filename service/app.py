"""The Starlette application: its routes and its life."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from config.settings import Settings, SettingsError
from service.health import healthz, metrics_page, readyz
from service.signature import Signatures
from service.webhooks import receive
from workers.queue.accept import Acceptor
from workers.queue.connect import connect_receiver

WEBHOOK_PATH = "/webhooks/telnyx"


async def _gone(request: Request, error: Exception) -> Response:
    return Response("the body did not come in time\n", 408, media_type="text/plain")


def create_app(settings: Settings, redis_url: str) -> Starlette:
    """The application of one receiver process.

    Raises:
        SettingsError: TELNYX_PUBLIC_KEY is not set; an endpoint that cannot verify accepts anything from anyone.
    """
    if not settings.telnyx_public_keys:
        raise SettingsError(
            "TELNYX_PUBLIC_KEY: not set; expected the webhook public key from the Telnyx portal (API keys, Public key)"
        )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.settings = settings
        app.state.redis = connect_receiver(redis_url)
        app.state.acceptor = Acceptor(app.state.redis)
        app.state.signatures = Signatures(settings.telnyx_public_keys)
        yield
        with suppress(Exception):
            await app.state.redis.aclose()

    app = Starlette(
        routes=[
            Route(WEBHOOK_PATH, receive, methods=["POST"]),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics_page),
        ],
        exception_handlers={ClientDisconnect: _gone},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # Telnyx does not follow redirects reliably
    return app
