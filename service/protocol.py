"""How connections are held to a pace, closed in the middle of an answer, and answered in one write.

uvicorn bounds neither the time of a request's head nor the time of a silent connection. What ends an answer before its length
it takes for a fault of the application, and logs a stack trace.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import cast

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_SECONDS = 10  # as for a body; Telnyx itself gives up after 2 s

_CYCLE = "callvault.cycle"  # uvicorn's word for a request and its answer


async def close_early(scope: Scope, receive: Receive) -> None:
    """Close the connection of a request whose answer cannot be finished; returns once it is closed."""
    if (cycle := _cycle(scope)) is not None:
        cycle.transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass


def is_body_here(scope: Scope) -> bool:
    """Whether all of a request's body has come, so that nobody need wait for it; False also where this cannot be seen."""
    cycle = _cycle(scope)
    return cycle is not None and not cycle.more_body


def answer_at_once(scope: Scope, head: bytes, body: bytes) -> bool:
    """Answer a request in one write; uvicorn takes two, and takes each header apart.

    Args:
        scope: of the request, of which nothing has been answered.
        head: the status line and the headers, without an empty line; the length of the body is among them.
        body: all of it.

    Returns:
        False where it has to be sent by ASGI's messages.
    """
    cycle = _cycle(scope)
    if cycle is None or cycle.flow.write_paused or not cycle.keep_alive or scope["method"] == "HEAD":
        return False
    if cycle.disconnected:
        return True
    cycle.response_started = True
    cycle.waiting_for_100_continue = False
    dates = [b"%b: %b\r\n" % header for header in cycle.default_headers]
    cycle.transport.write(b"".join((head, *dates, b"\r\n", body)))
    cycle.response_complete = True
    cycle.message_event.set()
    cycle.on_response()
    return True


def _cycle(scope: Scope) -> RequestResponseCycle | None:
    known: weakref.ref[RequestResponseCycle] | None = scope.get("extensions", {}).get(_CYCLE)
    return None if known is None else known()


class PacedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, but a connection without a request, a head that trickles, or a body behind its answer is ended."""

    _is_in_head = True
    _closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a first request."""
        super().connection_made(cast(asyncio.Transport, transport))  # uvicorn's is narrower than asyncio's own
        self._closing = self.loop.call_later(HEAD_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        """Take what came; a head that came in one piece costs nothing but this look.

        What comes behind the answer is the rest of a body that nobody wants. It ends uvicorn's wait for a further request, so
        it has its time too.
        """
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever uvicorn declares
        is_over = cycle is not None and cycle.response_complete
        if (self._is_in_head or is_over) and self._closing is None and not self.transport.is_closing():
            self._closing = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """It is there."""
        self._is_in_head = False
        self._stop_waiting()
        super().on_headers_complete()
        if self.cycle is not None:  # ASGI's place for what only one server has; weak, since the cycle holds the scope
            self.scope["extensions"] = cast(dict[str, dict[object, object]], {_CYCLE: weakref.ref(self.cycle)})

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
