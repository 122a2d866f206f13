"""Send the bytes of an object from a store, whole or a range of them (RFC 9110, section 14)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress

NOTHING = b""
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


async def chunks_of(first: bytes, source: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The first chunk and the rest of a source, which is read in threads and closed at the end."""
    try:
        chunk = first
        while chunk:
            yield chunk
            chunk = await asyncio.to_thread(next, source, NOTHING)
    finally:  # close the store's connection at once if the listener has gone
        with suppress(ValueError):  # a thread is still reading the last chunk
            await asyncio.to_thread(getattr(source, "close", lambda: None))


def asked_range(headers: Mapping[str, str], etag: str) -> str | None:
    """The range of a request; None without one, or if it is of another version, so that nobody joins two (RFC 9110, 13.1.5)."""
    return headers.get("range") if headers.get("if-range") in (None, etag) else None


def span_of(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the end of the requested range; None if it cannot be satisfied."""
    match = _RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return 0, size  # RFC 9110 allows the whole in answer to several ranges and to invalid ones
    first, last = match.groups()
    start = max(0, size - int(last)) if not first else int(first)
    end = size if not last or not first else min(size, int(last) + 1)
    return (start, end) if start < end else None
