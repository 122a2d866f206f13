"""Send the bytes of an object from a store, whole or a range of them (RFC 9110, section 14)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from archive.proof import Damaged
from archive.stores.store import StoreError
from process.logs import get_logger
from service.protocol import close_early

_NOTHING = b""
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")

log = get_logger()


class Part(NamedTuple):
    """What is sent of an object: the bytes from `start` up to `end`, with a status and headers."""

    start: int
    end: int
    status: int
    headers: dict[str, str]


def asked_part(request: Request, size: int, sha256: str, name: str = "") -> Part | Response:
    """What a request asks for; the whole answer if that is outside the object.

    Args:
        request: with a range, or without one.
        size: of the object, in bytes.
        sha256: of the object.
        name: of the file that a browser saves; empty: it shows or plays it.
    """
    etag = f'"{sha256}"'
    headers = {"Accept-Ranges": "bytes", "ETag": etag}
    if name:
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    is_of_this = request.headers.get("if-range") in (None, etag)  # nobody joins two versions (RFC 9110, 13.1.5)
    span = _span_of(request.headers.get("range", "") if is_of_this else "", size)
    if span is None:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{size}"})
    start, end = span
    headers["Content-Length"] = str(end - start)
    if span == (0, size):
        return Part(start, end, 200, headers)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Part(start, end, 206, headers)


def _span_of(header: str, size: int) -> tuple[int, int] | None:
    """The first byte and the end of the requested range; None if it cannot be satisfied."""
    match = _RANGE.fullmatch(header)
    if match is None or match.groups() == ("", ""):
        return 0, size  # RFC 9110 allows the whole in answer to several ranges and to invalid ones
    first, last = match.groups()
    start = max(0, size - int(last)) if not first else int(first)
    end = size if not last or not first else min(size, int(last) + 1)
    return (start, end) if start < end else None


async def begun(source: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks of a source, which is read in threads. The first is read now, so its errors come before the answer starts."""
    return _chunks_of(await asyncio.to_thread(next, source, _NOTHING), source)


async def _chunks_of(first: bytes, source: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The first chunk and the rest of a source, which is closed at the end."""
    try:
        chunk = first
        while chunk:
            yield chunk
            chunk = await asyncio.to_thread(next, source, _NOTHING)
    finally:  # close the store's connection at once if the listener has gone
        with suppress(ValueError):  # a thread is still reading the last chunk
            await asyncio.to_thread(getattr(source, "close", lambda: None))


class Bytes(StreamingResponse):
    """Closes the connection early if damage or a failure of the store shows up while bytes are sent.

    The client then receives less than the announced length, so it cannot take the rest for the whole.

    Args:
        chunks: the bytes.
        part: what they are of the object.
        media_type: of the object.
        failed: what the log says if it fails.
        about: and of what.
    """

    def __init__(self, chunks: AsyncIterator[bytes], part: Part, media_type: str, failed: str, **about: Any) -> None:
        super().__init__(chunks, part.status, part.headers, media_type)
        self._failed, self._about = failed, about

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the bytes."""
        try:
            await super().__call__(scope, receive, send)
        except (Damaged, StoreError, KeyError) as error:
            log.error(self._failed, error=str(error), **self._about)
            await close_early(scope, receive)
