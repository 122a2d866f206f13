"""The interface of every store, its promises, and which URL opens which.

A store holds objects that are written once. It is used from several threads at once, blocks, and the service
deletes nothing: it needs no permission to delete or overwrite. Credentials come from the SDK's own chain. To add one: a module
with a class that keeps these promises, a row in `_STORES`, its scheme in `config/values.py`, a server of it in
`tests/contract/`.

A key is relative to the archive's prefix; one that begins with a slash is relative to the bucket, which only happens
for objects that were there before us (adopted from custom storage).
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol
from urllib.parse import urlsplit

from config.errors import UserError
from config.times import utc_now
from workers.archive.source import Source

MIB = 1024 * 1024


class StoreError(Exception):
    """The store could not do it this time: away, throttled, a cut connection. Trying again later makes sense."""


class StoreRefused(StoreError, UserError):
    """The store will not do it until a person changes something: a permission, a bucket, a key. The text says what."""


class StoreMissing(StoreError):
    """The place where the archive lies is not there: no folder, or the empty mount point of a disk that is not mounted."""


class KeyExists(Exception):
    """There is an object under this key already; nothing was written."""


@dataclass(frozen=True)
class StoredObject:
    """An object as the store describes it.

    Attributes:
        key: see above.
        size: bytes.
        version: the store's own mark of this very object (version id, generation, ETag); None if it has none.
        checksums: checksums of all its bytes that the store itself made or checked, by algorithm; empty if this store
            is not known to check.
        etag: the ETag where it may be an MD5 (of the body, or of the parts' MD5s with their count), else None.
    """

    key: str
    size: int
    version: str | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    etag: str | None = None


@dataclass(frozen=True)
class Written:
    """An object that a store has just taken.

    Attributes:
        stored: as the store describes it afterwards.
        checksums: what we computed while sending, by algorithm, to compare with the store's.
        etags: what the ETag is if it is an MD5 of the body, or of the parts' MD5s with their count; those that we computed.
    """

    stored: StoredObject
    checksums: Mapping[str, str] = field(default_factory=dict)
    etags: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoreOptions:
    """What the user wants of every object, and how much memory uploads may take.

    Attributes:
        part_bytes: an object up to this size goes in one request, a larger one in parts of it.
        buffer_bytes: of all uploads of this process together.
        encryption_key: the user's key: a KMS key id (S3), a key's resource name (GCS), an encryption scope (Azure).
        storage_class: the store's own word, such as `STANDARD_IA`, `NEARLINE`, `Cool`.
        retention: how long each object is locked, from `now` on; None: as the bucket says.
        retention_mode: `governance` or `compliance`.
        label: what a recording's attributes (connection, channels, day) become: nothing, metadata, or tags.
        now: the time, UTC; a lock must not end too early because this machine's clock is wrong.
    """

    part_bytes: int = 5 * MIB
    buffer_bytes: int = 64 * MIB
    encryption_key: str | None = None
    storage_class: str | None = None
    retention: timedelta | None = None
    retention_mode: Literal["governance", "compliance"] = "governance"
    label: Literal["none", "metadata", "tags"] = "none"
    now: Callable[[], datetime] = utc_now


class Store(Protocol):
    """Where the archive is kept. Every method raises `StoreError` when the store does not answer as it should."""

    url: str

    def make_place(self) -> None:
        """Make the place of a new archive, where that is the store's to make: a folder. A bucket is made by its owner.

        Nothing else makes one, so that a disk that is not mounted is never taken for an empty archive.

        Raises:
            StoreRefused: it cannot be made.
        """

    def find_out(self) -> None:
        """Find out by a write under `probe/`, where that is needed, what the store checks; whoever only reads does not ask."""

    def put(self, key: str, source: Source, content_type: str, attributes: Mapping[str, str]) -> Written:
        """Write an object, create-only, drawing the source to its end with bounded memory.

        The object is there whole and durable when this returns, and not there at all, nor any part of it, when this
        raises, whatever the source raised.

        Args:
            key: see above.
            source: its bytes.
            content_type: its media type.
            attributes: of the recording it belongs to, for metadata or tags.

        Raises:
            KeyExists: there is one already. The source may or may not have been drawn.
        """

    def stat(self, key: str) -> StoredObject | None:
        """Describe an object; None if nothing lies there."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` to before `end`, from the store itself and not from a cache.

        Raises:
            KeyError: there is no such object.
        """

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose key begins with a prefix, ordered by key, page by page."""

    def presign(self, key: str, seconds: int) -> str | None:
        """An address from which anyone may get the object for a while; None where the store has none."""

    def key_of(self, url: str) -> str | None:
        """The key of an object by its own URL (`s3://…`, `gs://…`, an Azure address); None if it lies elsewhere."""

    def erase(self, key: str) -> None:
        """Delete an object for good, all its versions too. Only `callvault erase` does, with its owner's credentials.

        Raises:
            StoreRefused: the credentials may not, or a lock forbids it.
        """

    def remove_orphans(self) -> int:
        """Remove the unfinished uploads of killed workers, older than a day; returns how many."""


@contextmanager
def told_by(tell: Callable[[Exception], Exception | None]) -> Iterator[None]:
    """Raise what an SDK raises as an error of the store; what `tell` gives None for passes as it is."""
    try:
        yield
    except Exception as error:
        told = tell(error)
        if told is None:
            raise
        raise told from error


class Buffers:
    """The memory of all uploads of a store: an upload waits for its first part's, and takes more only if there is some.

    So uploads never wait for each other in a circle, and a large one still overlaps download and upload when it can.

    Attributes:
        threads: in which parts are drawn: as many as there is memory for, so that a slow download holds up no other.
    """

    def __init__(self, options: StoreOptions) -> None:
        parts = max(1, options.buffer_bytes // options.part_bytes)
        self._parts = threading.BoundedSemaphore(parts)
        self.threads = ThreadPoolExecutor(parts, thread_name_prefix="callvault-part")  # begun as they are needed

    @contextmanager
    def of(self, source: Source) -> Iterator[None]:
        """The memory of an upload's first part, waited for; what is in memory already, as a record, waits for nobody."""
        if source.is_in_memory:
            yield
            return
        with self._parts:
            yield

    def take_another(self) -> bool:
        """The memory of one part more, if there is some now."""
        return self._parts.acquire(blocking=False)

    def give(self) -> None:
        """Give the memory of a part back."""
        self._parts.release()


_STORES = {
    "file": "workers.archive.stores.file:FileStore",
    "s3": "workers.archive.stores.s3:S3Store",
    "gs": "workers.archive.stores.gcs:GcsStore",
    "az": "workers.archive.stores.azure:AzureStore",
}
_EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure"}


def open_store(url: str, options: StoreOptions | None = None) -> Store:
    """Open the store of an archive URL; a cloud's SDK is imported only here, when its store is chosen.

    Raises:
        StoreRefused: no such kind of store, its SDK is not installed, or it cannot be opened.
    """
    scheme = urlsplit(url).scheme
    if scheme not in _STORES:
        raise StoreRefused(f"{url}: unknown store {scheme}://; use {', '.join(f'{one}://' for one in sorted(_STORES))}")
    module, _, name = _STORES[scheme].partition(":")
    try:
        kind = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise StoreRefused(
            f"{url}: this store needs the package {error.name}; run `pip install 'callvault[{_EXTRAS[scheme]}]'`"
        ) from None
    store: Store = kind(url, options or StoreOptions())
    return store


_AZURE_HOST = ".blob.core.windows.net"


def lies_in_a_bucket(url: str) -> bool:
    """Whether an address is an object's own, which custom storage gives and which is read with the user's credentials.

    `s3://…`, `gs://…`, or an Azure address without a signature; presigned ones carry their own authority.
    """
    if url.startswith(("s3://", "gs://")):
        return True
    if "?" in url or not url.startswith("https://") or _AZURE_HOST not in url.lower():
        return False  # nearly all that a webhook brings: taking it apart costs more
    try:
        return (urlsplit(url).hostname or "").endswith(_AZURE_HOST)
    except ValueError:
        return False


def open_bucket_of(url: str) -> tuple[Store, str]:
    """The store of another bucket, to read one object from it by its own URL; and the object's key there.

    Raises:
        StoreRefused: no such kind of bucket, or it cannot be opened.
    """
    parts = urlsplit(url)
    if parts.scheme in ("s3", "gs"):
        store = open_store(f"{parts.scheme}://{parts.netloc}")
    else:  # an Azure address: https://account.blob.core.windows.net/container/name
        store = open_store(f"az://{parts.path.lstrip('/').partition('/')[0]}")
    key = store.key_of(url)
    if key is None:
        raise StoreRefused(f"{url}: the object is in another storage account; set that account's connection string")
    return store, key


def name_in_bucket(url: str) -> tuple[str, str]:
    """The bucket and the name of an object, from its own address (`s3://…`, `gs://…`), in which nothing is encoded."""
    bucket, _, name = url.partition("://")[2].partition("/")
    return bucket, name


def split_url(url: str) -> tuple[str, str]:
    """Bucket and prefix of an archive URL; the prefix ends in a slash unless it is empty."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""
