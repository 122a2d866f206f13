"""The parts of a source, the next one being fetched while a store sends the one before."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import wait
from contextvars import copy_context

from workers.archive.source import Source
from workers.archive.stores.store import Buffers


def parts_ahead(first: bytes, source: Source, size_bytes: int, buffers: Buffers) -> Generator[bytes, None, None]:
    """The parts of a source; each but the first is drawn in a thread while the one before is being used.

    Where there is no memory for a second part, it is drawn when it is asked for. To be closed (`contextlib.closing`): no
    part is being drawn any more then.

    Args:
        first: the part that was drawn already, for which there is memory.
        source: the rest.
        size_bytes: of each part but the last.
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
