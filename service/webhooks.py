"""`POST /webhooks/telnyx`: read, verify, parse, accept, answer.

In this order, so that nothing is parsed before it is verified: 405 not a POST, 408 too slow, 413 too large, 401 not
signed by Telnyx or an old one, 415 neither JSON nor form, 400 not parseable, 503 when Redis cannot take it now, else 200.
Telnyx retries 408, 429 and 5xx only, and may be done within a minute: what is signed and cannot be kept, or looks old to a
clock that may be wrong, is 503, never 4xx; a signed event of an unknown type or shape is 200, counted, and kept for
inspection. Never a redirect.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import time
from http import HTTPStatus

import msgspec
from redis.exceptions import RedisError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config.logs import get_logger
from config.tracing import span
from service import metrics
from service.clocks import Clocks
from service.events import Unparseable, parse_form, parse_json
from service.protocol import answer_at_once, is_body_here
from service.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, OutsideWindow, SignatureRefused, Signatures
from workers.jobs.routing import Event, jobs_of, look_jobs
from workers.queue.accept import Acceptor, Overloaded

LARGEST_BODY_BYTES = 4 * 1024 * 1024  # a transcription comes whole in its event: 1.4 MB for some hours of speech

# Whoever is not Telnyx must not fill the memory with large bodies, nor with them keep out the small ones, which nearly all are.
_SMALL_BYTES = 64 * 1024
_ROOM_BYTES = 128 * 1024 * 1024  # of one process, for what all bodies are larger than that

_BODY_SECONDS = 10  # a body that trickles holds a connection; Telnyx itself gives up after 2 s
_TOO_SLOW = "the body did not come in time"
_RETRY_AFTER_SECONDS = b"5"
_TIMESTAMP, _SIGNATURE = TIMESTAMP_HEADER.encode(), SIGNATURE_HEADER.encode()
_HEADERS = {b"content-length", b"content-type", _TIMESTAMP, _SIGNATURE}

log = get_logger()


class _Gone(Exception):
    """There is no more of a body to come."""


class _NoRoom(Exception):
    """Too many large bodies are held already."""


class _Room:
    """What one request holds of the room for large bodies, until it is answered."""

    _held_by_all = 0

    def __init__(self) -> None:
        self._held = 0

    def hold(self, size: int) -> None:
        """Hold a body of this size.

        Raises:
            _NoRoom: there is no room for it now.
        """
        more = size - _SMALL_BYTES - self._held
        if more <= 0:
            return
        if _Room._held_by_all + more > _ROOM_BYTES:
            raise _NoRoom
        self._held += more
        _Room._held_by_all += more

    def leave(self) -> None:
        """Give back what is held."""
        _Room._held_by_all -= self._held


_Answer = tuple[int, str, str]  # status, outcome for the metrics, text


class Webhooks:
    """The endpoint, as a middleware before all routes: routing and a request object would cost a third of the time.

    Args:
        app: what answers everything else.
        path: the endpoint's.
    """

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        room = _Room()
        try:
            status, outcome, text = await _receive(scope, receive, room)
        finally:
            room.leave()
        _count_webhook(outcome).inc()
        metrics.ACCEPT_SECONDS.observe(time.perf_counter() - started)
        start, answer = _messages(status, text)
        if not answer_at_once(scope, _head(status, text), answer["body"]):
            await send(start)
            await send(answer)


_count_webhook = functools.cache(metrics.WEBHOOKS.labels)
_count_event = functools.cache(metrics.EVENTS.labels)


@functools.lru_cache(64)
def _messages(status: int, text: str) -> tuple[Message, Message]:
    body = text.encode() + b"\n"
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if status == 405:
        headers.append((b"allow", b"POST"))
    if status == 503:
        headers.append((b"retry-after", _RETRY_AFTER_SECONDS))
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    return start, {"type": "http.response.body", "body": body}


@functools.lru_cache(64)
def _head(status: int, text: str) -> bytes:
    """The same as the bytes of a head."""
    start, _ = _messages(status, text)
    lines = [b"%b: %b\r\n" % header for header in start["headers"]]
    return b"HTTP/1.1 %d %b\r\n%b" % (status, HTTPStatus(status).phrase.encode(), b"".join(lines))


async def _receive(scope: Scope, receive: Receive, room: _Room) -> _Answer:
    if scope["method"] != "POST":
        return 405, "not-post", "webhooks are sent by POST"
    headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _HEADERS}
    try:
        body = await _read(headers, receive, room, is_here=is_body_here(scope))
    except _Gone:
        return 408, "too-slow", _TOO_SLOW
    except _NoRoom:
        log.warning("webhook not accepted", error="too many large bodies at once")
        return 503, "unavailable", "cannot be kept now, please retry"
    if body is None:
        return 413, "too-large", "the body is larger than 4 MiB"
    state = scope["app"].state
    signatures: Signatures = state.signatures
    try:
        signatures.verify(headers.get(_TIMESTAMP), headers.get(_SIGNATURE), body, time.time())
    except SignatureRefused as error:
        client = scope["client"][0] if scope.get("client") else None
        if isinstance(error, OutsideWindow) and not await _is_surely_old(state.clocks):
            log.error("webhook not judged: its time is wrong by this clock, which may be wrong itself", client=client)
            return 503, "unavailable", "its time cannot be judged now, please retry"
        log.warning("webhook refused", reason=str(error), client=client)
        return 401, "unverified", str(error)
    content_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
    try:
        if content_type == "application/x-www-form-urlencoded":
            event = parse_form(body)
        elif content_type == "application/json" or content_type.endswith("+json"):
            event = parse_json(body)
        else:
            return 415, "unsupported-type", "neither JSON nor a form"
    except Unparseable as error:
        return 400, "unparseable", str(error)
    return await _accept(state.acceptor, event, body)


async def _is_surely_old(clocks: Clocks) -> bool:
    """Whether what is outside the replay window is so by two clocks; not where Redis cannot say."""
    try:
        return not await clocks.are_apart()
    except (RedisError, OSError):
        return False


async def _read(headers: dict[bytes, str], receive: Receive, room: _Room, *, is_here: bool) -> bytes | None:
    """The body, at most 4 MiB; None if it is larger, of which no more is read.

    Args:
        headers: of the request.
        receive: gives the messages of it.
        room: what this request holds of the room for large bodies.
        is_here: whether all of it has come, so that there is nothing to wait for.

    Raises:
        _NoRoom: it is large, and so are too many others just now.
        _Gone: it did not come within 10 seconds, or whoever sent it went away.
    """
    announced = headers.get(b"content-length", "0")
    if announced.isdigit() and int(announced[:12]) > LARGEST_BODY_BYTES:
        return None
    chunks: list[bytes] = []
    size, more = 0, True
    timer = None if is_here else _begin_to_wait()
    try:
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > LARGEST_BODY_BYTES:
                return None
            room.hold(size)
            more = message.get("more_body", False)
    except asyncio.CancelledError as error:
        if error.args != (_TOO_SLOW,) or (task := asyncio.current_task()) is None:
            raise
        task.uncancel()
        raise _Gone from None
    finally:
        if timer is not None:
            timer.cancel()
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _begin_to_wait() -> asyncio.TimerHandle:
    """Have this task cancelled if the body does not come. `asyncio.timeout` takes as long as parsing the event."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101
    return asyncio.get_running_loop().call_later(_BODY_SECONDS, task.cancel, _TOO_SLOW)


async def _accept(acceptor: Acceptor, event: Event | None, body: bytes) -> _Answer:
    if event is None:
        event = Event("body:" + hashlib.sha256(body).hexdigest(), "", {})
    try:
        with span("webhook", event_id=event.id, event_type=event.type) as trace:
            jobs = jobs_of(msgspec.structs.replace(event, trace=trace) if trace else event)
            every_job = (*(jobs or ()), *look_jobs(event))
            is_new = await acceptor.accept(event.id, every_job, keep=body if jobs is None else b"")
    except (RedisError, OSError, Overloaded) as error:
        log.error("webhook not accepted", error=f"{type(error).__name__}: {error}", event_id=event.id)
        return 503, "unavailable", "cannot be kept now, please retry"
    if not is_new:
        return 200, "duplicate", "accepted before"
    _count_event("other" if jobs is None else event.type).inc()
    return (200, "kept", "kept for inspection") if jobs is None else (200, "accepted", "accepted")
