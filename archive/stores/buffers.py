"""The memory of the uploads of one store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from archive.source import Source
from archive.stores.store import StoreOptions


class Buffers:
    """The memory of all uploads of a store. An upload waits for the memory of its first part, and never for more.

    So uploads cannot block each other, and a large one overlaps download and upload whenever memory is free.

    Attributes:
        threads: download the next parts; one thread for each part in memory, so a slow download delays no other.
    """

    def __init__(self, options: StoreOptions) -> None:
        parts = max(1, options.buffer_bytes // options.part_bytes)
        self._parts = threading.BoundedSemaphore(parts)
        self.threads = ThreadPoolExecutor(parts, thread_name_prefix="callvault-part")

    @contextmanager
    def of(self, source: Source) -> Iterator[None]:
        """Wait for the memory of an upload's first part. A source that is in memory already does not wait."""
        if source.is_in_memory:
            yield
            return
        with self._parts:
            yield

    def take_another(self) -> bool:
        """Take the memory of one more part if it is free now."""
        return self._parts.acquire(blocking=False)

    def give(self) -> None:
        """Return the memory of a part."""
        self._parts.release()
