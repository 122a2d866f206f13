"""The ops pages as an application of their own. It loads once the receiver runs, or with the first request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.datastructures import State
from starlette.types import ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from service.ops.parts import Ops


class OpsApp:
    """Answers every request that the receiver itself does not. It uses the receiver's settings and Redis client."""

    def __init__(self) -> None:
        self._app: ASGIApp | None = None
        self._ops: Ops | None = None
        self._loading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        app = self._app or await self.load(scope["app"].state)
        await app(scope, receive, send)

    async def load(self, receiver: State) -> ASGIApp:
        """Import the pages, unless they are there.

        Args:
            receiver: its settings, how people sign in, and its Redis client.
        """
        async with self._loading:
            if self._app is None:
                self._app = await asyncio.to_thread(self._load, receiver)
        return self._app

    def _load(self, receiver: State) -> ASGIApp:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException

        from service.ops.parts import Ops
        from service.ops.site import no_route, routes

        self._ops = Ops(receiver.settings, receiver.redis, receiver.replicas, receiver.sign_in)
        if receiver.sign_in.openid is not None:
            _ = self._ops.access  # here in the thread: its modules take a tenth of a second
        app = Starlette(routes=routes(), exception_handlers={HTTPException: no_route})
        app.state.ops = self._ops
        app.router.redirect_slashes = False
        return app

    async def close(self) -> None:
        """Close what the pages have opened."""
        if self._ops is not None:
            await self._ops.close()
