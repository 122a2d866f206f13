"""The receiver from the moment it listens: it imports the rest in a thread, and meanwhile a request waits.

Only `/healthz` is answered at once. Nothing is accepted before the whole receiver runs. If a module of the receiver or of
the ops pages cannot be imported, the process ends, and requests that wait get 503.
"""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from config.settings import Settings, SettingsError
from process.logs import get_logger

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.types import Receive, Scope, Send

log = get_logger()

_UNAVAILABLE = 503, b"text/plain; charset=utf-8", b"the receiver cannot start; send it again\n"
_ALIVE = 200, b"application/json", b'{"status":"ok"}'  # as `service/health.py` answers


def assert_verifiable(settings: Settings) -> None:
    """Check that webhooks can be verified.

    Raises:
        SettingsError: TELNYX_PUBLIC_KEY is not set.
    """
    if not settings.telnyx_public_keys:
        raise SettingsError(
            "TELNYX_PUBLIC_KEY is not set; set it to the webhook public key from the Telnyx portal (API keys, Public key)"
        )


class Starting:
    """The ASGI application of one receiver process.

    Attributes:
        error: why the receiver could not start; None while it starts or runs.
    """

    def __init__(self, settings: Settings, redis_url: str) -> None:
        self.error: Exception | None = None
        self._settings, self._redis_url = settings, redis_url
        self._app: Starlette | None = None
        self._is_decided = asyncio.Event()  # set once the receiver runs, or cannot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, once the receiver runs."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if self._app is None:
            if scope["path"] == "/healthz" and scope["method"] in ("GET", "HEAD"):
                await _answer(send, *_ALIVE)
                return
            await self._is_decided.wait()
        if self._app is None:
            await _answer(send, *_UNAVAILABLE)
            return
        await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Run the receiver between the start and the end of the server."""
        await receive()
        is_over = asyncio.Event()
        running = asyncio.create_task(self._run(is_over))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        is_over.set()
        await running
        await send({"type": "lifespan.shutdown.complete"})

    async def _run(self, is_over: asyncio.Event) -> None:
        try:
            app = await asyncio.to_thread(self.load)
            async with app.router.lifespan_context(app):
                self._app = app
                self._is_decided.set()
                await app.state.pages.load(app.state)  # else the first person would wait for them
                await is_over.wait()
        except Exception as error:
            self.error = error
            self._app = None
            self._is_decided.set()
            log.error("the receiver ends, because it cannot start", exc_info=True)
            signal.raise_signal(signal.SIGTERM)  # uvicorn finishes what is open

    def load(self) -> Starlette:
        """Import the receiver and make its application; blocks."""
        from service.app import create_app

        return create_app(self._settings, self._redis_url)


async def _answer(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    if status == 503:
        headers.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
