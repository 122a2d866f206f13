"""`POST /webhooks/telnyx`: read, verify, parse, accept, answer.

The steps run in this order, so that nothing is parsed before it is verified. The answers:

- 405 not a POST, 408 too slow, 413 too large, 415 neither JSON nor a form, 400 not parseable;
- 401 not signed by Telnyx, or signed too long ago;
- 503 a signed event that Redis cannot take now, or whose timestamp cannot be checked because clocks differ;
- 200 otherwise. An event of an unknown type or shape goes to quarantine.

Telnyx retries only 408, 429 and 5xx, and may give up within a minute. So a signed event that Callvault cannot store gets
503, never a 4xx, and nothing gets a redirect.
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

from process.logs import get_logger
from process.tracing import span
from service import metrics
from service.clocks import Clocks
from service.events import Unparseable, parse_form, parse_json
from service.protocol import answer_at_once, is_body_here
from service.refusals import Refusals, client_of
from service.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, OutsideWindow, SignatureRefused, Signatures
from workers.queue.accept import Acceptor, Overloaded
from workers.queue.quarantine import note_on
from workers.recordings.routing import Event, jobs_of, mirror_jobs, why_no_job

LARGEST_BODY_BYTES = 4 * 1024 * 1024  # an event holds its whole transcription: 1.4 MB for some hours of speech

# Bodies are read before they are verified. A flood of large ones must neither fill the memory nor keep out small ones.
_SMALL_BYTES = 64 * 1024
_LARGE_BODIES_BYTES = 128 * 1024 * 1024  # of one process, for the part of all bodies above `_SMALL_BYTES`

_BODY_SECONDS = 10  # Telnyx itself gives up after 2 s
_TOO_SLOW = "the body did not arrive in time"
_RETRY = "the event cannot be stored now; send it again"
_RETRY_AFTER_SECONDS = b"5"
_TIMESTAMP, _SIGNATURE = TIMESTAMP_HEADER.encode(), SIGNATURE_HEADER.encode()
_HEADERS = {b"content-length", b"content-type", _TIMESTAMP, _SIGNATURE}

log = get_logger()


class _Incomplete(Exception):
    """The rest of a body does not arrive."""


class _TooManyLargeBodies(Exception):
    """The memory for large bodies is used up."""


class _Memory:
    """The memory for large bodies of one process."""

    def __init__(self, size_bytes: int) -> None:
        self.free_bytes = size_bytes


class _Reservation:
    """The memory that one request reserves until it is answered."""

    def __init__(self, memory: _Memory) -> None:
        self._memory = memory
        self._reserved_bytes = 0

    def extend(self, size_bytes: int) -> None:
        """Reserve memory for a body of this size.

        Raises:
            _TooManyLargeBodies: there is not enough now.
        """
        more = size_bytes - _SMALL_BYTES - self._reserved_bytes
        if more <= 0:
            return
        if more > self._memory.free_bytes:
            raise _TooManyLargeBodies
        self._reserved_bytes += more
        self._memory.free_bytes -= more

    def release(self) -> None:
        """Give the memory back."""
        self._memory.free_bytes += self._reserved_bytes


_Answer = tuple[int, str, str]  # status, outcome for the metrics, text


class Webhooks:
    """The endpoint, as a middleware before all routes: routing and a request object would cost a third of the time.

    Args:
        app: answers every other request.
        path: of the endpoint.
    """

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path
        self._memory = _Memory(_LARGE_BODIES_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        reservation = _Reservation(self._memory)
        try:
            status, outcome, text = await _receive(scope, receive, reservation)
        finally:
            reservation.release()
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
    """The start of the answer as bytes, for `answer_at_once`."""
    start, _ = _messages(status, text)
    lines = [b"%b: %b\r\n" % header for header in start["headers"]]
    return b"HTTP/1.1 %d %b\r\n%b" % (status, HTTPStatus(status).phrase.encode(), b"".join(lines))


async def _receive(scope: Scope, receive: Receive, reservation: _Reservation) -> _Answer:
    if scope["method"] != "POST":
        return 405, "not-post", "send webhooks by POST"
    headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _HEADERS}
    try:
        body = await _read(headers, receive, reservation, is_here=is_body_here(scope))
    except _Incomplete:
        return 408, "too-slow", _TOO_SLOW
    except _TooManyLargeBodies:
        log.warning("webhook not accepted", error="too many large bodies at once")
        return 503, "unavailable", _RETRY
    if body is None:
        return 413, "too-large", "the body is larger than 4 MiB"
    state = scope["app"].state
    signatures: Signatures = state.signatures
    try:
        signatures.verify(headers.get(_TIMESTAMP), headers.get(_SIGNATURE), body, time.time())
    except SignatureRefused as error:
        if isinstance(error, OutsideWindow) and not await _is_surely_old(state.clocks):
            client = client_of(scope)
            log.error("webhook not accepted", error="its timestamp cannot be checked: clocks may differ", client=client)
            return 503, "unavailable", "the timestamp cannot be checked now; send it again"
        refusals: Refusals = state.refusals
        await refusals.record(error, scope, body)
        return 401, "unverified", str(error)
    content_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
    try:
        if content_type == "application/x-www-form-urlencoded":
            event = parse_form(body)
        elif content_type == "application/json" or content_type.endswith("+json"):
            event = parse_json(body)
        else:
            return 415, "unsupported-type", "the content type is neither JSON nor a form"
    except Unparseable as error:
        return 400, "unparseable", str(error)
    return await _accept(state.acceptor, event, body)


async def _is_surely_old(clocks: Clocks) -> bool:
    """Whether two clocks agree that a timestamp is outside the replay window; False while Redis does not answer."""
    try:
        return not await clocks.are_apart()
    except (RedisError, OSError):
        return False


async def _read(
    headers: dict[bytes, str], receive: Receive, reservation: _Reservation, *, is_here: bool
) -> bytes | None:
    """Read the body; None, without reading on, if it is larger than 4 MiB.

    Args:
        headers: of the request.
        receive: its messages.
        reservation: its part of the memory for large bodies.
        is_here: whether the whole body has arrived, so that no timer is needed.

    Raises:
        _TooManyLargeBodies: the body is large, and the memory for such bodies is used up.
        _Incomplete: the body did not arrive within 10 seconds, or the sender closed the connection.
    """
    announced = headers.get(b"content-length", "0")
    if announced.isdigit() and int(announced[:12]) > LARGEST_BODY_BYTES:
        return None
    chunks: list[bytes] = []
    size, more = 0, True
    timer = None if is_here else _start_timer()
    try:
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Incomplete
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > LARGEST_BODY_BYTES:
                return None
            reservation.extend(size)
            more = message.get("more_body", False)
    except asyncio.CancelledError as error:
        if error.args != (_TOO_SLOW,) or (task := asyncio.current_task()) is None:
            raise
        task.uncancel()
        raise _Incomplete from None
    finally:
        if timer is not None:
            timer.cancel()
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _start_timer() -> asyncio.TimerHandle:
    """Cancel this task when time is up. `asyncio.timeout` would take as long as parsing the event."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101
    return asyncio.get_running_loop().call_later(_BODY_SECONDS, task.cancel, _TOO_SLOW)


async def _accept(acceptor: Acceptor, event: Event | None, body: bytes) -> _Answer:
    has_shape = event is not None
    if event is None:
        event = Event("body:" + hashlib.sha256(body).hexdigest(), "", {})
    try:
        with span("webhook", event_id=event.id, event_type=event.type) as trace:
            jobs = jobs_of(msgspec.structs.replace(event, trace=trace) if trace else event)
            every_job = (*(jobs or ()), *mirror_jobs(event))
            if jobs is None:
                why = why_no_job(event) if has_shape else "it has none of the shapes of a Telnyx event"
                note = note_on(body, event.id if has_shape else "", event.type, why)
                is_new = await acceptor.accept(event.id, every_job, keep=body, note=note)
            else:
                is_new = await acceptor.accept(event.id, every_job)
    except (RedisError, OSError, Overloaded) as error:
        log.error("webhook not accepted", error=f"{type(error).__name__}: {error}", event_id=event.id)
        return 503, "unavailable", _RETRY
    if not is_new:
        return 200, "duplicate", "already accepted"
    _count_event("other" if jobs is None else event.type).inc()
    return (200, "kept", "accepted into quarantine") if jobs is None else (200, "accepted", "accepted")
