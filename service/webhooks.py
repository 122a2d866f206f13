"""`POST /webhooks/telnyx`: read, verify, parse, accept, answer.

In this order, so that nothing is parsed before it is verified: 413 too large, 401 not signed by Telnyx, 415 neither
JSON nor form, 400 not parseable, 503 when Redis cannot take it now, else 200. Telnyx retries 408, 429 and 5xx only, and
may be done within a minute: what is signed and cannot be kept is 503, never 4xx; a signed event of an unknown type or
shape is 200, counted, and kept for inspection. Never a redirect.
"""

from __future__ import annotations

import asyncio
import hashlib
import time

from redis.exceptions import RedisError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from config.logs import get_logger
from service import metrics
from service.events import Unparseable, parse_form, parse_json
from service.signature import SIGNATURE_HEADER, TIMESTAMP_HEADER, SignatureRefused, Signatures
from workers.jobs.routing import Event, jobs_of, look_jobs
from workers.queue.accept import Acceptor, Overloaded

LARGEST_BODY_BYTES = 1024 * 1024

_BODY_SECONDS = 10  # a body that trickles holds a connection; Telnyx itself gives up after 2 s
_RETRY_AFTER_SECONDS = "5"

log = get_logger()

_Answer = tuple[int, str, str]  # status, outcome for the metrics, text


async def receive(request: Request) -> Response:
    """The endpoint."""
    started = time.perf_counter()
    status, outcome, text = await _receive(request)
    metrics.WEBHOOKS.labels(outcome).inc()
    metrics.ACCEPT_SECONDS.observe(time.perf_counter() - started)
    headers = {"Retry-After": _RETRY_AFTER_SECONDS} if status == 503 else None
    return Response(text + "\n", status, headers, "text/plain")


async def _receive(request: Request) -> _Answer:
    body = await _read(request)
    if body is None:
        return 413, "too-large", "the body is larger than 1 MiB"
    headers = request.headers
    signatures: Signatures = request.app.state.signatures
    try:
        signatures.verify(headers.get(TIMESTAMP_HEADER), headers.get(SIGNATURE_HEADER), body, time.time())
    except SignatureRefused as error:
        log.warning("webhook refused", reason=str(error), client=request.client.host if request.client else None)
        return 401, "unverified", str(error)
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if content_type == "application/x-www-form-urlencoded":
            event = parse_form(body)
        elif content_type == "application/json" or content_type.endswith("+json"):
            event = parse_json(body)
        else:
            return 415, "unsupported-type", "neither JSON nor a form"
    except Unparseable as error:
        return 400, "unparseable", str(error)
    return await _accept(request.app.state.acceptor, event, body)


async def _read(request: Request) -> bytes | None:
    """The body, at most 1 MiB; None if it is larger, of which no more is read.

    Raises:
        ClientDisconnect: it did not come within 10 seconds, or whoever sent it went away.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced[:12]) > LARGEST_BODY_BYTES:
        return None
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > LARGEST_BODY_BYTES:
                    return None
                chunks.append(chunk)
    except TimeoutError:
        raise ClientDisconnect from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _accept(acceptor: Acceptor, event: Event | None, body: bytes) -> _Answer:
    jobs = None if event is None else jobs_of(event)
    if event is None:
        event = Event("body:" + hashlib.sha256(body).hexdigest(), "", {})
    try:
        every_job = (*(jobs or ()), *look_jobs(event))
        is_new = await acceptor.accept(event.id, every_job, keep=body if jobs is None else b"")
    except (RedisError, OSError, Overloaded) as error:
        log.error("webhook not accepted", error=f"{type(error).__name__}: {error}", event_id=event.id)
        return 503, "unavailable", "cannot be kept now, please retry"
    if not is_new:
        return 200, "duplicate", "accepted before"
    metrics.EVENTS.labels("other" if jobs is None else event.type).inc()
    return (200, "kept", "kept for inspection") if jobs is None else (200, "accepted", "accepted")
