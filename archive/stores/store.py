"""The interface of every store, and which URL opens which store.

A store holds objects that are written once. Several threads use it, and its methods block. The service deletes and
overwrites nothing, so it needs no permission for either. Credentials come from the SDK's own chain.

To add a store: a module with a class that implements `Store`, a row in `_STORES`, its scheme in `config/values.py`, and a
server of it in `tests/contract/`.

A key is relative to the archive's prefix, or the key of a `layout.Outside`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec

from archive.source import Source
from archive.stores.lifecycle import LifecycleRule
from text.errors import UserError
from text.times import utc_now

T = TypeVar("T")

Asked = Callable[[], T]  # an answer that has been asked for; a call waits for it

MIB = 1024 * 1024
LEGAL_HOLD = datetime.max.replace(tzinfo=UTC)  # the end of a lock that a person must lift


class StoreError(Exception):
    """A passing failure: the store is away or throttles, or the connection broke. A retry may succeed."""


class StoreRefused(StoreError, UserError):
    """A lasting refusal: a person must change a permission, a bucket or a key first. The text has the advice."""


class StoreMissing(StoreError):
    """The archive's folder does not exist, or is the empty mount point of an unmounted disk."""


class StoreCold(StoreError):
    """The object is there, in a storage class whose bytes cannot be read before a restore. It is neither missing nor damaged.

    Attributes:
        key: its key.
        storage_class: as the store names it; empty if it does not say.
        is_restoring: whether a restore has been asked for and is not ready.
    """

    def __init__(self, key: str, storage_class: str = "", *, is_restoring: bool = False) -> None:
        where = storage_class or "cold storage"
        what = "is being restored and cannot be read yet" if is_restoring else "must be restored before it can be read"
        super().__init__(f"{key}: it is in {where} and {what}")
        self.key = key
        self.storage_class = storage_class
        self.is_restoring = is_restoring


class KeyExists(Exception):
    """The key is already in use; nothing was written."""


State = Literal["readable", "cold", "restoring"]
Speed = Literal["bulk", "standard", "expedited"]
SPEEDS: tuple[Speed, ...] = ("bulk", "standard", "expedited")  # the cheapest first


@dataclass(frozen=True)
class RestoreWish:
    """How a cold object is restored.

    Attributes:
        days: how long the restored copy stays. Azure has no copies: there the object itself becomes readable and stays so.
        speed: `bulk` is the cheapest and takes longest, `expedited` the dearest; Azure takes `bulk` for `standard`.
    """

    days: int = 7
    speed: Speed = "standard"


class StoredObject(msgspec.Struct, frozen=True):
    """An object as the store describes it: a struct, since a listing makes millions of them.

    Attributes:
        key: its key.
        size: its size in bytes.
        version: the store's mark of this object (version id, generation, ETag); None if the store has none.
        checksums: checksums of all bytes that the store computed or checked, by algorithm; empty if the store is not
            known to check.
        etag: the ETag if it may be an MD5 (of the body, or of the parts' MD5s with their count), else None.
        locked_until: the end of its lock, UTC; None: it has none, or the listing or the credentials do not show it.
        storage_class: as the store names it; None if it has none or does not say.
        state: whether its bytes can be read now; a listing does not know it and says `readable`.
        readable_until: when a restored copy ends; None if nothing ends.
    """

    key: str
    size: int
    version: str | None = None
    checksums: Mapping[str, str] = {}
    etag: str | None = None
    locked_until: datetime | None = None
    storage_class: str | None = None
    state: State = "readable"
    readable_until: datetime | None = None


@dataclass(frozen=True)
class Written:
    """An object that was just written.

    Attributes:
        stored: the object as the store describes it afterwards.
        checksums: the checksums computed while sending, by algorithm, to compare with the store's.
        etags: the ETags that the store may show, as far as they were computed.
    """

    stored: StoredObject
    checksums: Mapping[str, str] = field(default_factory=dict)
    etags: tuple[str, ...] = ()


@dataclass(frozen=True)
class StoreOptions:
    """The user's options for every object, and the memory of uploads.

    Attributes:
        part_bytes: an object up to this size is sent in one request, a larger one in parts of this size.
        buffer_bytes: the memory of all uploads of this process together.
        encryption_key: the user's key: a KMS key id (S3), the resource name of a key (GCS), an encryption scope (Azure).
        storage_class: the store's name of the class for audio, such as `STANDARD_IA`, `NEARLINE`, `Cool`. Everything else
            is small, is read daily, and stays in the bucket's own class.
        retention: how long each object is locked from `now` on; None to use the bucket's default.
        retention_mode: `governance` or `compliance`.
        label: whether a recording's attributes (connection, channels, day) become metadata, tags or nothing.
        file_mode: the permissions of new files, in a folder.
        now: the time, UTC; a lock must not end too early because the clock of this machine is wrong.
    """

    part_bytes: int = 5 * MIB
    buffer_bytes: int = 64 * MIB
    encryption_key: str | None = None
    storage_class: str | None = None
    retention: timedelta | None = None
    retention_mode: Literal["governance", "compliance"] = "governance"
    label: Literal["none", "metadata", "tags"] = "none"
    file_mode: int = 0o640
    now: Callable[[], datetime] = utc_now

    def lock_end(self, source: Source) -> datetime | None:
        """The end of the lock of an object that is written now: the later of `retention` and its own; None: no lock."""
        now = self.now()
        ends = [] if self.retention is None else [now + self.retention]
        if source.locked_until is not None and source.locked_until > now:
            ends.append(source.locked_until)
        return max(ends, default=None)

    def class_of(self, content_type: str) -> str | None:
        """The storage class for an object of a media type; None: the bucket's own."""
        return self.storage_class if content_type.startswith("audio/") else None


class Store(Protocol):
    """A place for an archive. Every method raises `StoreError` if the store does not answer as expected.

    Attributes:
        url: of the archive.
        small_at_once: how many threads should call `read_small` at once.
    """

    url: str
    small_at_once: int

    def create_place(self) -> None:
        """Create the folder of a new archive. The owner creates a bucket.

        No other method creates it, so an unmounted disk is never taken for an empty archive.

        Raises:
            StoreRefused: the folder cannot be created.
        """

    def probe(self) -> None:
        """Test by a write under `probe/` what the store checks, if that is unknown. A process that only reads skips it."""

    def put(self, key: str, source: Source, content_type: str, attributes: Mapping[str, str]) -> Written:
        """Write an object, create-only and with bounded memory; the source is read to its end.

        When this returns, the whole object is durable. When it raises, no part of the object exists, whatever the source
        raised.

        Args:
            key: the key of the object.
            source: its bytes; a store that asks what it holds afterwards runs its `meanwhile` while it waits for the answer.
            content_type: its media type.
            attributes: attributes of its recording, for metadata or tags.

        Raises:
            KeyExists: the key is already in use. The source may or may not have been read.
        """

    def stat(self, key: str) -> StoredObject | None:
        """Describe an object; None if the key is not in use."""

    def ask_stat(self, key: str) -> Asked[StoredObject | None]:
        """Ask for the description of an object without waiting; calling the result waits for it, and raises what `stat` raises.

        The description is of a moment between the two.
        """

    def ask_free(self, key: str) -> Asked[StoredObject | None] | None:
        """The same, if `put` has to know whether the key is in use, since the store may ignore the condition; else None."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` to before `end`, from the store itself and not from a cache.

        Raises:
            KeyError: the key is not in use.
            StoreCold: the object must be restored first.
        """

    def read_small(self, keys: Sequence[str], limit: int) -> list[bytes | None]:
        """The first `limit` bytes of each of some small objects, from the store itself; None for a key that is not in use.

        Raises:
            StoreCold: one of them must be restored first.
        """

    def restore(self, key: str, wish: RestoreWish) -> None:
        """Ask the store to make a cold object readable; it takes hours. `stat` tells when it is ready.

        Nothing happens to an object that is readable, or whose restore has been asked for.

        Raises:
            KeyError: the key is not in use.
            StoreRefused: the credentials lack the permission, or the class has no such speed.
        """

    def lifecycle(self) -> tuple[LifecycleRule, ...] | None:
        """The rules of the bucket that move or delete objects by age; None if the store has no way to ask for them.

        Raises:
            StoreRefused: the credentials may not see them.
        """

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose key begins with a prefix, ordered by key, page by page."""

    def presign(self, key: str, seconds: int) -> str | None:
        """An address from which anyone can get the object for a while; None if the store has no such addresses."""

    def key_of(self, url: str) -> str | None:
        """The key of an object from its URL (`s3://…`, `gs://…`, an Azure address); None if it is in another bucket."""

    def locked_until(self, key: str) -> datetime | None:
        """Until when a lock forbids to delete an object or one of its versions, UTC; None without a lock.

        A legal hold has no end: it ends with `LEGAL_HOLD`.

        Raises:
            StoreRefused: the credentials may not read locks.
        """

    def erase(self, key: str) -> None:
        """Delete an object and all its versions for good. Only erasures and disposals call it, with the owner's credentials.

        Raises:
            StoreRefused: the credentials lack the permission, or a lock forbids it.
        """

    def remains(self, prefix: str) -> Sequence[str]:
        """The keys under a prefix whose objects are gone, and of which a version is left: a killed `erase` leaves that on Azure.

        `erase` deletes what is left. A store whose last version is its object has none.
        """

    def remove_orphans(self) -> int:
        """Remove unfinished uploads of killed workers that are older than a day; returns how many."""


def read_one_by_one(store: Store, keys: Sequence[str], limit: int) -> list[bytes | None]:
    """`Store.read_small` by a request for each object."""
    found: list[bytes | None] = []
    for key in keys:
        try:
            found.append(b"".join(store.read(key, 0, limit)))
        except KeyError:
            found.append(None)
    return found


@contextmanager
def errors_as(translate: Callable[[Exception], Exception | None]) -> Iterator[None]:
    """Translate the exceptions of an SDK into store errors; those for which `translate` returns None pass unchanged."""
    try:
        yield
    except Exception as error:
        translated = translate(error)
        if translated is None:
            raise
        raise translated from error


def latest_of(ends: Iterable[datetime | None]) -> datetime | None:
    """The latest of the ends of some locks; None if none of them locks."""
    return max((end for end in ends if end is not None), default=None)


_STORES = {
    "file": "archive.stores.file:FileStore",
    "s3": "archive.stores.s3:S3Store",
    "gs": "archive.stores.gcs:GcsStore",
    "az": "archive.stores.azure:AzureStore",
}
_EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure"}


def open_store(url: str, options: StoreOptions | None = None) -> Store:
    """Open the store of an archive URL. It imports the SDK of that store alone.

    Raises:
        StoreRefused: the scheme is unknown, the SDK is not installed, or the store cannot be opened.
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
    """Whether an address from custom storage needs the user's credentials to be read.

    Such addresses are `s3://…`, `gs://…`, and Azure addresses without a signature; presigned ones need no credentials.
    """
    if url.startswith(("s3://", "gs://")):
        return True
    if "?" in url or not url.startswith("https://") or _AZURE_HOST not in url.lower():
        return False  # most addresses of webhooks, without the cost of parsing
    try:
        return (urlsplit(url).hostname or "").endswith(_AZURE_HOST)
    except ValueError:
        return False


def open_bucket_of(url: str) -> tuple[Store, str]:
    """Open another bucket to read one object by its URL; returns the store and the object's key.

    Raises:
        StoreRefused: the kind of bucket is unknown, or the bucket cannot be opened.
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


def split_object_url(url: str) -> tuple[str, str]:
    """The bucket and name of an object from its address (`s3://…`, `gs://…`), in which nothing is percent-encoded."""
    bucket, _, name = url.partition("://")[2].partition("/")
    return bucket, name


def split_url(url: str) -> tuple[str, str]:
    """The bucket and prefix of an archive URL; the prefix ends in a slash unless it is empty."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    return parts.netloc, f"{prefix}/" if prefix else ""
