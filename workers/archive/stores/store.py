"""The interface of every store, its promises, and which URL opens which.

A store holds objects that are written once. It is used from several threads at once, blocks, and never deletes: the
service needs no permission to delete or overwrite. To add one: a module with a class that keeps these promises, a row
in `_STORES`, a fixture in `tests/contract/`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from config.errors import UserError
from workers.archive.source import Source


class StoreError(Exception):
    """The store could not do it this time: away, throttled, a cut connection. Trying again later makes sense."""


class StoreRefused(StoreError, UserError):
    """The store will not do it until a person changes something: a permission, a bucket, a key. The text says what."""


class KeyExists(Exception):
    """There is an object under this key already; nothing was written."""


@dataclass(frozen=True)
class StoredObject:
    """An object as the store describes it.

    Attributes:
        key: relative to the archive's prefix.
        size: bytes.
        version: the store's own mark of this very object (version id, generation, ETag); None if it has none.
        checksums: checksums of all its bytes that the store itself made or checked, by algorithm.
    """

    key: str
    size: int
    version: str | None = None
    checksums: dict[str, str] = field(default_factory=dict)


class Store(Protocol):
    """Where the archive is kept. Every method raises `StoreError` when the store does not answer as it should."""

    url: str

    def put(self, key: str, source: Source, content_type: str) -> StoredObject:
        """Write an object, create-only, drawing the source to its end with bounded memory.

        The object is there whole and durable when this returns, and not there at all, nor any part of it, when this
        raises, whatever the source raised.

        Raises:
            KeyExists: there is one already. The source may or may not have been drawn.
        """

    def stat(self, key: str) -> StoredObject | None:
        """Describe an object; None if there is none."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` to before `end`, from the store itself and not from a cache.

        Raises:
            KeyError: there is no such object.
        """

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose key begins with a prefix, ordered by key, page by page."""

    def presign(self, key: str, seconds: int) -> str | None:
        """An address from which anyone may get the object for a while; None where the store has none."""


_STORES = {
    "file": "workers.archive.stores.file:FileStore",
}


def open_store(url: str) -> Store:
    """Open the store of an archive URL; a cloud's SDK is imported only here, when its store is chosen.

    Raises:
        StoreRefused: no such kind of store, or its SDK is not installed.
    """
    scheme = urlsplit(url).scheme
    if scheme not in _STORES:
        raise StoreRefused(f"{url}: no store for {scheme}://; known: {', '.join(sorted(_STORES))}")
    module, _, name = _STORES[scheme].partition(":")
    store: Store = getattr(importlib.import_module(module), name)(url)
    return store
