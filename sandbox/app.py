"""The Starlette application of the sandbox: API, downloads and control endpoint, with faults and a rate limit."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sandbox import accounts, connections, recordings, tickets
from sandbox.api import ROUTES, Call, Endpoint, Raw, dumps, unfold
from sandbox.audio import Audio, make_mp3
from sandbox.control import control
from sandbox.errors import ApiError, invalid, not_found, too_many, unauthorized
from sandbox.faults import Faults
from sandbox.webhooks import Deliverer
from sandbox.world import World

_FAMILIES = (accounts, connections, recordings, tickets)  # importing them registers their routes
_MOST_REQUESTS_KEPT = 5_000
_ERROR_PAGE = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>InternalError</Code>'
    b"<Message>We encountered an internal error. Please try again.</Message></Error>"
)


class _CutConnection(Response):
    """Cuts the connection in the middle of the answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Announce more bytes than are sent, so that the server closes the connection."""
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        raise ConnectionAbortedError("cut on purpose")


class _RateLimit:
    def __init__(self) -> None:
        self._second = 0
        self._used = 0

    def take(self, faults: Faults) -> tuple[bool, dict[str, str]]:
        """Whether a request is within the limit, and the rate limit headers."""
        second = int(time.time())
        if second != self._second:
            self._second, self._used = second, 0
        self._used += 1
        limit = int(faults.requests_per_second) or 1000
        left = max(0, limit - self._used)
        headers = {
            "x-ratelimit-limit": str(limit),
            "x-ratelimit-remaining": str(left),
            "x-ratelimit-reset": "1",
        }
        return not faults.requests_per_second or self._used <= limit, headers


def _endpoint(world: World, limit: _RateLimit, endpoint: Endpoint) -> Any:
    async def answer(request: Request) -> Response:
        request_id = world.new_uuid()
        headers = {"x-request-id": request_id}
        try:
            return await _answer(world, limit, endpoint, request, headers)
        except ApiError as error:
            body = b"" if error.status in (401, 403) and not error.body else dumps(error.body)
            return Response(body, error.status, headers, "application/json")

    return answer


async def _answer(
    world: World, limit: _RateLimit, endpoint: Endpoint, request: Request, headers: dict[str, str]
) -> Response:
    raw = await request.body()
    _remember(world, request, raw)
    if request.headers.get("authorization") != f"Bearer {world.api_key}":
        raise unauthorized()
    faults = world.faults
    if faults.strikes("api_401"):
        raise unauthorized()
    within, limit_headers = limit.take(faults)
    headers |= limit_headers
    if not within or faults.strikes("api_429"):
        headers["retry-after"] = f"{faults.retry_after_seconds:g}"
        headers["x-ratelimit-remaining"] = "0"
        raise too_many()
    if (status := faults.answer(request.method, request.url.path, request.url.query)) is not None:
        raise ApiError(status, "10007", "Unexpected error", "A fault of the sandbox answers this request.")
    if faults.strikes("api_500"):
        raise ApiError(500, "10007", "Unexpected error", "An unexpected error occurred.")
    if faults.strikes("api_503"):
        return Response(b"", 503, headers)
    call = Call(dict(request.path_params), unfold(request.query_params.multi_items()), _body(raw))
    found = endpoint(world.another_account if faults.strikes("other_account") else world, call)
    found = await found if inspect.isawaitable(found) else found
    if faults.strikes("api_cut"):
        return _CutConnection()
    raw_answer = found if isinstance(found, Raw) else Raw(200, found)
    content = raw_answer.body if isinstance(raw_answer.body, bytes) else dumps(raw_answer.body)
    if raw_answer.status == 204:
        return Response(None, 204, headers)
    return Response(content, raw_answer.status, headers, raw_answer.content_type)


def _body(raw: bytes) -> dict[str, Any]:
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError:
        raise ApiError(400, "10015", "Bad Request", "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise invalid("/", "The body must be an object.")
    return body


def _remember(world: World, request: Request, raw: bytes) -> None:
    world.requests.append(
        {
            "method": request.method,
            "path": request.url.path,
            "query": request.url.query,
            "body": raw.decode("utf-8", "replace")[:2000],
            "at": time.time(),
        }
    )
    if len(world.requests) > _MOST_REQUESTS_KEPT:
        del world.requests[: _MOST_REQUESTS_KEPT // 2]


def _download(world: World) -> Any:
    async def download(request: Request) -> Response:
        if "authorization" in request.headers:
            world.misuse.append("an Authorization header went to a download address")
            return Response(_ERROR_PAGE, 400, media_type="application/xml")
        try:
            name = request.path_params["name"]
            recording, audio_format = recordings.find_download(world, name, dict(request.query_params))
        except ApiError as error:
            return Response(_ERROR_PAGE, error.status, media_type="application/xml")
        faults = world.faults
        if (status := faults.answer(request.method, request.url.path, request.url.query)) is not None:
            return Response(b"" if status == 200 else _ERROR_PAGE, status, media_type="application/xml")
        if faults.strikes("download_500"):
            return Response(_ERROR_PAGE, 500, media_type="application/xml")
        if faults.strikes("download_page"):
            return Response(_ERROR_PAGE, 200, media_type="application/xml")
        audio = recording.audio[audio_format]
        start, end, status = _range(request, audio)
        cut = start + max(1, (end - start) // 2) if faults.strikes("download_cut") else None
        stall = start + max(1, (end - start) // 2) if faults.strikes("download_stall") else None

        async def stream() -> AsyncIterator[bytes]:
            sent = start
            for chunk in audio.read(start, end):
                if stall is not None and sent >= stall:
                    await asyncio.sleep(faults.stall_seconds)
                if cut is not None and sent + len(chunk) > cut:
                    yield chunk[: cut - sent]
                    raise ConnectionAbortedError("cut on purpose")
                async for piece in _at_rate(chunk, faults):
                    sent += len(piece)
                    if sent == audio.size:  # before the last piece: the client may disconnect right after it
                        recording.served[audio_format] = recording.served.get(audio_format, 0) + 1
                    yield piece

        headers = {
            "Content-Length": str(end - start),
            "Accept-Ranges": "bytes",
        }
        if not faults.strikes("download_untagged"):
            headers["ETag"] = f'"{audio.sha256[:32]}"'
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{audio.size}"
        media_type = "audio/mpeg" if audio_format == "mp3" else "audio/wav"
        return StreamingResponse(stream(), status, headers, media_type)

    return download


async def _at_rate(chunk: bytes, faults: Faults) -> AsyncIterator[bytes]:
    """Send a chunk at the configured speed, in ten pieces a second, so that a slow download never stalls."""
    while chunk and (rate := faults.download_bytes_per_second):
        size = max(1, int(rate / 10))
        yield chunk[:size]
        await asyncio.sleep(min(len(chunk), size) / rate)
        chunk = chunk[size:]
    if chunk:
        yield chunk


def _range(request: Request, audio: Audio) -> tuple[int, int, int]:
    """The first byte, the end and the status; accepts a single range, `bytes=N-` or `bytes=N-M`."""
    condition = request.headers.get("if-range")
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if found is None or (condition and audio.sha256[:32] not in condition) or int(found[1]) >= audio.size:
        return 0, audio.size, 200
    return int(found[1]), min(int(found[2]) + 1, audio.size) if found[2] else audio.size, 206


def _control(world: World) -> Any:
    async def answer(request: Request) -> Response:
        try:
            body = json.loads(await request.body() or b"{}")
            return JSONResponse(await control(world, request.app.state.deliverer, request.path_params["what"], body))
        except KeyError as error:
            return JSONResponse({"error": f"unknown command, id or missing field: {error}"}, 404)
        except (ValueError, TypeError) as error:
            return JSONResponse({"error": str(error)}, 422)

    return answer


async def _sample(request: Request) -> Response:
    audio = make_mp3("sample", 3)
    return Response(b"".join(audio.read(0, audio.size)), media_type="audio/mpeg")


def create_app(world: World) -> Starlette:
    """The application of a world; `world.base_url` must be its own URL without a path."""
    limit = _RateLimit()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.deliverer = Deliverer(world)
        yield
        await app.state.deliverer.close()

    def missing(world: World, call: Call) -> Any:
        raise not_found()

    api = [Route("/v2" + path, _endpoint(world, limit, e), methods=[method]) for method, path, e in ROUTES]
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return Starlette(
        routes=[
            *api,
            Route("/v2/{rest:path}", _endpoint(world, limit, missing), methods=methods),
            Route("/_downloads/{name}", _download(world)),
            Route("/_sandbox/sample.mp3", _sample),
            Route("/_sandbox/{what}", _control(world), methods=["GET", "POST"]),
        ],
        lifespan=lifespan,
    )
