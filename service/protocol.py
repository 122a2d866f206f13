"""Extend uvicorn's protocol: time limits, answers in one write, and answers that are cut off.

uvicorn limits neither how long the head of a request takes nor how long a connection stays silent. It takes an answer
that ends before its length for a fault of the application and logs a stack trace.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import cast

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_SECONDS = 10  # as for a body; Telnyx itself gives up after 2 s

_CYCLE = "callvault.cycle"  # uvicorn calls a request and its answer a cycle


async def close_early(scope: Scope, receive: Receive) -> None:
    """Close the connection of a request whose answer cannot be finished. Returns once it is closed."""
    if (cycle := _cycle(scope)) is not None:
        cycle.transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass


def peer_of(scope: Scope) -> str | None:
    """The address of the other end of a request's connection, whatever `X-Forwarded-For` says; None if it has none."""
    if (cycle := _cycle(scope)) is None:
        return None
    peer = cycle.transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple | list) and peer else None


def is_body_here(scope: Scope) -> bool:
    """Whether the whole body of a request has arrived; False also if the server does not show it."""
    cycle = _cycle(scope)
    return cycle is not None and not cycle.more_body


def answer_at_once(scope: Scope, head: bytes, body: bytes) -> bool:
    """Answer a request in one write; uvicorn needs two, and parses each header.

    Args:
        scope: of the request, which has no answer yet.
        head: the status line and the headers, with the length of the body, without an empty line.
        body: the whole body.

    Returns:
        False if the answer must be sent as ASGI messages.
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
    """uvicorn's protocol with time limits.

    It closes a connection that sends no request, whose head does not arrive in time, or that still sends a body after
    the answer.
    """

    _is_in_head = True
    _closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timer for the first request."""
        super().connection_made(cast(asyncio.Transport, transport))  # uvicorn's is narrower than asyncio's own
        self._closing = self.loop.call_later(HEAD_SECONDS, transport.close)

    def data_received(self, data: bytes) -> None:
        """Parse data, and start the timer if it leaves a head unfinished.

        Data after the answer is the rest of a body that nobody reads. It ends uvicorn's own wait for the next request, so
        it gets a timer too.
        """
        super().data_received(data)
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever uvicorn declares
        is_over = cycle is not None and cycle.response_complete
        if (self._is_in_head or is_over) and self._closing is None and not self.transport.is_closing():
            self._closing = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def on_message_begin(self) -> None:
        """Note that a head begins."""
        self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop the timer of the head."""
        self._is_in_head = False
        self._stop_timer()
        super().on_headers_complete()
        if self.cycle is not None:  # ASGI's place for features of one server; weak, because the cycle holds the scope
            self.scope["extensions"] = cast(dict[str, dict[object, object]], {_CYCLE: weakref.ref(self.cycle)})

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
