"""The changing parts of the overview, sent anew to everybody who watches it (`/ops/live`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from archive.stores.store import StoreError
from service.ops import activity, overview
from service.ops.may import EVERYONE, admits
from service.ops.parts import Ops
from service.ops.person import Person, Refused
from service.ops.rendering import render

_SECONDS = 2
_ADMITTED_SECONDS = 30  # how long an open answer lasts before the person is asked for again
_MOST_WATCHERS = 32

# Each is sent when it has changed, with the least time in seconds between two of it.
_PARTS = {"now": 0.0, "charts": 15.0, "latest": 0.0}  # a chart that a person is reading stays for a moment


async def live(ops: Ops, request: Request) -> Response:
    """Server-sent events, until the browser disconnects.

    Raises:
        Refused: too many people watch at this receiver.
        BadQuery: the request names no known span.
    """
    if ops.watchers >= _MOST_WATCHERS:
        raise Refused(503, "too many live overviews are open; reload the page by hand")
    activity.read_span(request.query_params.get("span"))

    async def events() -> AsyncIterator[str]:
        person: Person = request.state.person
        ops.watchers += 1
        sent: dict[str, tuple[float, str]] = {}
        asked = time.monotonic()
        try:
            while not await request.is_disconnected():
                if time.monotonic() - asked > _ADMITTED_SECONDS:
                    if (admitted := await _still_admitted(ops, request, person)) is None:
                        return  # the browser connects again, and then reads why it may not
                    person, asked = admitted, time.monotonic()
                looked = overview.shown_to(person, await overview.look(ops))
                for part, seconds in _PARTS.items():
                    at, before = sent.get(part, (float("-inf"), ""))
                    if time.monotonic() - at < seconds:
                        continue
                    text = render(f"_{part}.html", request, person, "", it=looked)
                    if text != before:
                        sent[part] = time.monotonic(), text
                        lines = "\n".join(f"data: {line}" for line in text.splitlines())
                        yield f"event: {part}\n{lines}\n\n"
                yield ": still there\n\n"
                await asyncio.sleep(_SECONDS)
        finally:
            ops.watchers -= 1

    return StreamingResponse(events(), media_type="text/event-stream")


async def _still_admitted(ops: Ops, request: Request, before: Person) -> Person | None:
    """A person who has been let in, with the roles of now; None after a token was revoked or a role was limited."""
    try:
        person = await ops.access.person(request) if ops.access.needs_token else before
        return person if person is not None and admits(person, EVERYONE, "whole") else None
    except (Refused, StoreError, RedisError, OSError):
        return None
