"""Cuts a source into parts, and fetches the next one while a store sends the previous one."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import wait
from contextvars import copy_context

from archive.source import Source
from archive.stores.buffers import Buffers


def parts_ahead(first: bytes, source: Source, size_bytes: int, buffers: Buffers) -> Generator[bytes, None, None]:
    """The parts of a source; a thread reads the next one while the caller uses the current one.

    Without memory for a second part, it is read when the caller needs it. Close the generator (`contextlib.closing`) to
    wait for a read in progress.

    Args:
        first: the first part, read already, with its memory taken.
        source: the rest.
        size_bytes: the size of each part but the last.
        buffers: the memory of all uploads, and the threads that fill it.
    """
    part, coming, overlapping = first, None, False
    try:
        while part:
            overlapping = overlapping or buffers.take_another()
            if overlapping and len(part) == size_bytes:
                coming = buffers.threads.submit(copy_context().run, source.part, size_bytes)
            yield part
            if coming is None:
                part = source.part(size_bytes)
            else:
                part, coming = coming.result(), None
    finally:
        if coming is not None:
            wait([coming])
        if overlapping:
            buffers.give()
