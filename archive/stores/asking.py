"""Asks a store for several things at once, so that a distant one is waited for once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from archive.ahead import AT_ONCE
from archive.source import Source
from archive.stores.store import Asked, StoredObject

A = TypeVar("A")
T = TypeVar("T")

_THREADS = 32


class AsksInThreads(ABC):
    """A store that keeps conditions, and whose SDK waits for each answer: a thread of its own waits instead."""

    small_at_once = AT_ONCE

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="callvault-ask")

    @abstractmethod
    def stat(self, key: str) -> StoredObject | None:
        """See `Store.stat`."""

    def ask_stat(self, key: str) -> Asked[StoredObject | None]:
        """See `Store.ask_stat`."""
        return self.ask(self.stat, key)

    def ask(self, function: Callable[[A], T], argument: A) -> Asked[T]:
        """Call a function in a thread; calling the result waits for it."""
        return self._threads.submit(copy_context().run, function, argument).result

    def ask_free(self, key: str) -> Asked[StoredObject | None] | None:
        """See `Store.ask_free`. The store itself refuses to overwrite."""
        return None

    def described(self, key: str, source: Source) -> StoredObject | None:
        """Describe an object that was just written; what its source wants done meanwhile is done before the answer is there."""
        if source.meanwhile is None:
            return self.stat(key)
        asked = self.ask_stat(key)
        source.meanwhile()
        return asked()
