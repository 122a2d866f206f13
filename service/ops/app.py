"""The ops pages as an application of their own, loaded when one is first asked for: a start of the receiver pays nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Receive, Scope, Send

from config.settings import Settings

if TYPE_CHECKING:
    from service.ops.parts import Ops


class OpsApp:
    """Answers all that the receiver itself does not.

    Attributes:
        redis: the receiver's client; set when the receiver starts.
    """

    def __init__(self, settings: Settings) -> None:
        self.redis: Any = None
        self._settings = settings
        self._app: ASGIApp | None = None
        self._ops: Ops | None = None
        self._loading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._app is None:
            async with self._loading:
                if self._app is None:
                    self._app = await asyncio.to_thread(self._load)
        await self._app(scope, receive, send)

    def _load(self) -> ASGIApp:
        from starlette.applications import Starlette

        from service.ops.parts import Ops
        from service.ops.site import routes

        self._ops = Ops(self._settings, self.redis)
        app = Starlette(routes=routes())
        app.state.ops = self._ops
        app.router.redirect_slashes = False
        return app

    async def close(self) -> None:
        """Close what pages have opened."""
        if self._ops is not None:
            await self._ops.close()
