"""`gs://bucket/prefix`: Google Cloud Storage, by google-cloud-storage.

GCS keeps a CRC32C of every object and refuses a body that does not match the CRC32C it was sent (one request: in the
metadata; resumable: `x-goog-hash` on the last chunk). Create-only is `ifGenerationMatch=0` on the first request.
Sources: cloud.google.com/storage/docs/data-validation and /docs/request-preconditions; the requests of the client were
recorded at a socket (docs/stores.md).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import datetime, timedelta
from http.client import HTTPException
from io import RawIOBase
from typing import Any

import google.auth
import google_crc32c
import requests
import stamina
from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, PreconditionFailed, Unauthorized
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from requests.exceptions import ChunkedEncodingError
from urllib3.exceptions import HTTPError

from archive import layout
from archive.source import Source
from archive.stores import lines
from archive.stores.adapter import InPiecesAdapter
from archive.stores.asking import AsksInThreads
from archive.stores.buffers import Buffers
from archive.stores.lifecycle import LifecycleRule
from archive.stores.next_part import parts_ahead
from archive.stores.ranges import OtherRange
from archive.stores.store import (
    LEGAL_HOLD,
    KeyExists,
    RestoreWish,
    StoredObject,
    StoreError,
    StoreOptions,
    StoreRefused,
    Written,
    errors_as,
    latest_of,
    read_one_by_one,
    split_object_url,
    split_url,
)
from process.logs import get_logger
from text.counts import many

log = get_logger()

_TRIES = 5
# Errors of the SDK, and of the libraries under it; those of `requests` are OSErrors.
_ERRORS = (GoogleAPIError, GoogleAuthError, InvalidResponse, DataCorruption, HTTPError, HTTPException, OSError)
_PASSING = (408, 429, 500, 502, 503, 504)
_READ_BYTES = 1024 * 1024
_CHUNK_UNIT = 256 * 1024  # a resumable chunk is a multiple of this
_CREATE, _GET, _LIST, _DELETE = (f"storage.objects.{what}" for what in ("create", "get", "list", "delete"))
_BUCKET = "storage.buckets.get"


class GcsStore(AsksInThreads):
    """An archive in a bucket of Google Cloud Storage, with the application default credentials."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        super().__init__()
        self.url = url
        bucket, self._prefix = split_url(url)
        self._options = options
        self._buffers = Buffers(options)
        self._timeout = (lines.CONNECT_SECONDS, lines.SILENCE_SECONDS)
        # Limited by number: a limit in time, such as the client's own, would give a slow block one attempt only.
        self._retry: Any = stamina.retry(on=_is_passing, attempts=_TRIES, timeout=None, wait_initial=0.5, wait_max=8)
        with _store_errors(url):
            self._client = storage.Client()
            session = self._client._http
            if not session.is_mtls:  # mTLS has its own adapter
                for scheme in ("http://", "https://"):
                    session.mount(scheme, InPiecesAdapter())
        self._bucket = self._client.bucket(bucket)

    def create_place(self) -> None:
        """See `Store.create_place`. The owner creates the bucket."""

    def probe(self) -> None:
        """See `Store.probe`. Google makes a checksum of every object."""

    def put(self, key: str, source: Source, content_type: str, attributes: Mapping[str, str]) -> Written:
        """See `Store.put`. Up to a part in one request, more in one resumable upload."""
        part_bytes = max(_CHUNK_UNIT, self._options.part_bytes // _CHUNK_UNIT * _CHUNK_UNIT)
        blob = self._bucket.blob(self._name(key), part_bytes, kms_key_name=self._options.encryption_key)
        blob.delete = _leave_it  # the SDK would delete the object if the answer has another checksum than ours
        if (storage_class := self._options.class_of(content_type)) is not None:
            blob.storage_class = storage_class
        if (until := self._options.lock_end(source)) is not None:
            locked = self._options.retention_mode == "compliance"
            blob.retention.mode = "Locked" if locked else "Unlocked"
            blob.retention.retain_until_time = until
        if self._options.label != "none" and attributes:
            blob.metadata = dict(attributes)
        with self._buffers.of(source):
            first = source.part(part_bytes)
            crc = google_crc32c.Checksum()
            if len(first) < part_bytes:
                crc.update(first)
                self._put_whole(blob, key, first, content_type)
            else:
                with closing(parts_ahead(first, source, part_bytes, self._buffers)) as parts:
                    self._put_stream(blob, key, _Stream(parts, crc), content_type)
        expected = base64.b64encode(crc.digest()).decode()
        stored = self.described(key, source)  # the object itself; the answer of the upload may differ
        if stored is None:
            raise StoreError(f"{self._shown(key)}: the store took the object and does not show it")
        return Written(stored, {"crc32c": expected})

    def _put_whole(self, blob: Any, key: str, body: bytes, content_type: str) -> None:
        with _store_errors(self._shown(key), _CREATE):
            blob.upload_from_string(
                body, content_type, if_generation_match=0, checksum="crc32c", timeout=self._timeout, retry=self._retry
            )

    def _put_stream(self, blob: Any, key: str, stream: _Stream, content_type: str) -> None:
        if self.stat(key) is not None:  # GCS itself would refuse only at the end of the upload
            raise KeyExists(key)
        try:
            with _store_errors(self._shown(key), _CREATE), _leaving_damage_to_the_proof(self._shown(key)):
                blob.upload_from_file(
                    stream,
                    content_type=content_type,
                    if_generation_match=0,
                    checksum="crc32c",
                    timeout=self._timeout,
                    retry=self._retry,
                )
        except BaseException as error:
            if stream.failure is not None:  # an error of the source passes unchanged
                raise stream.failure from None
            if isinstance(error, ValueError):  # the SDK raises it if the answer has another position than the stream
                raise StoreError(f"{self._shown(key)}: the store kept only part of a block; {error}") from error
            raise

    def stat(self, key: str) -> StoredObject | None:
        """See `Store.stat`."""
        with _store_errors(self._shown(key), _GET):
            blob = self._bucket.get_blob(self._name(key), timeout=self._timeout, retry=self._retry)
        if blob is None:
            return None
        checksums = {"crc32c": blob.crc32c} if blob.crc32c else {}
        about: dict[str, Any] = {"locked_until": _retained_until(blob), "storage_class": blob.storage_class}
        return StoredObject(key, blob.size, str(blob.generation), checksums, **about)

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See `Store.read`. Ranged reads of a part each, all of one generation."""
        stored = self.stat(key)
        if stored is None:
            raise KeyError(key)
        end = stored.size if end is None else min(end, stored.size)
        blob = self._bucket.blob(self._name(key))
        while start < end:
            stop = min(start + _READ_BYTES, end)
            with _store_errors(self._shown(key), _GET):
                chunk = blob.download_as_bytes(
                    start=start,
                    end=stop - 1,
                    if_generation_match=int(stored.version or 0),
                    raw_download=True,
                    checksum=None,
                    timeout=self._timeout,
                    retry=self._retry,
                )
            if len(chunk) != stop - start:
                raise StoreError(f"{self._shown(key)}: the store sent {many(len(chunk), 'byte')} of {stop - start}")
            yield chunk
            start = stop

    read_small = read_one_by_one

    def restore(self, key: str, wish: RestoreWish) -> None:
        """See `Store.restore`. Google gives an object of every class at once, also of ARCHIVE."""
        if self.stat(key) is None:
            raise KeyError(key)

    def lifecycle(self) -> tuple[LifecycleRule, ...] | None:
        """See `Store.lifecycle`."""
        with _store_errors(f"gs://{self._bucket.name}", _BUCKET):
            bucket = self._client.get_bucket(self._bucket.name, timeout=self._timeout, retry=self._retry)
        return tuple(rule for row in bucket.lifecycle_rules if (rule := _lifecycle_rule(row)) is not None)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See `Store.list`."""
        with _store_errors(self._shown(prefix), _LIST):
            found = self._client.list_blobs(
                self._bucket, prefix=self._prefix + prefix, timeout=self._timeout, retry=self._retry
            )
            for blob in found:
                key = blob.name.removeprefix(self._prefix)
                yield StoredObject(key, blob.size, storage_class=blob.storage_class)

    def presign(self, key: str, seconds: int) -> str | None:
        """See `Store.presign`. None if the credentials cannot sign, as of a workload identity without that permission."""
        try:
            credentials, _ = google.auth.default()
            url = self._bucket.blob(self._name(key)).generate_signed_url(
                version="v4",
                expiration=timedelta(seconds=seconds),
                credentials=credentials,
                api_access_endpoint=self._client.api_endpoint,
            )
        except (AttributeError, GoogleAuthError):
            return None
        return str(url)

    def key_of(self, url: str) -> str | None:
        """See `Store.key_of`."""
        bucket, name = split_object_url(url)
        return layout.Outside(name).key if url.startswith("gs://") and bucket == self._bucket.name else None

    def locked_until(self, key: str) -> datetime | None:
        """See `Store.locked_until`: of every generation."""
        with _store_errors(self._shown(key)):
            return latest_of(_lock_of(blob) for blob in self._generations(key))

    def _generations(self, key: str) -> tuple[Any, ...]:
        """Every generation of an object, the live one last: whoever deletes them in this order and is stopped leaves it whole."""
        name = self._name(key)
        listed = self._client.list_blobs(
            self._bucket, prefix=name, versions=True, timeout=self._timeout, retry=self._retry
        )
        return tuple(sorted((blob for blob in listed if blob.name == name), key=lambda blob: int(blob.generation)))

    def erase(self, key: str) -> None:
        """See `Store.erase`. Deletes every generation; a bucket with soft delete keeps them for its own period."""
        with _store_errors(self._shown(key), _DELETE):
            for blob in self._generations(key):
                self._bucket.delete_blob(
                    blob.name, generation=blob.generation, timeout=self._timeout, retry=self._retry
                )
            left = len(self._generations(key))
        if left:
            raise StoreError(f"{self._shown(key)}: {many(left, 'version')} still there after their deletion")

    def remains(self, prefix: str) -> Sequence[str]:
        """See `Store.remains`. The live generation goes last."""
        return ()

    def remove_orphans(self) -> int:
        """See `Store.remove_orphans`. GCS removes an unfinished resumable upload after a week."""
        return 0

    def _name(self, key: str) -> str:
        return layout.name_in_bucket(key, self._prefix)

    def _shown(self, key: str) -> str:
        return f"gs://{self._bucket.name}/{self._name(key)}"


def _lock_of(blob: Any) -> datetime | None:
    """The end of the lock of one generation: by a hold, by its own retention, or by the bucket's policy."""
    return LEGAL_HOLD if blob.temporary_hold or blob.event_based_hold else _retained_until(blob)


def _retained_until(blob: Any) -> datetime | None:
    return latest_of((blob.retention.retain_until_time, blob.retention_expiration_time))


# Conditions of older generations, and of a time that Callvault sets on no object.
_NOT_OURS = {
    "numNewerVersions",
    "daysSinceNoncurrentTime",
    "noncurrentTimeBefore",
    "daysSinceCustomTime",
    "customTimeBefore",
}


def _lifecycle_rule(row: Mapping[str, Any]) -> LifecycleRule | None:
    """A rule as `LifecycleRule`; None if it concerns no current object (cloud.google.com/storage/docs/lifecycle)."""
    action, wanted = row.get("action", {}), row.get("condition", {})
    if action.get("type") not in ("Delete", "SetStorageClass") or wanted.get("isLive") is False:
        return None
    if _NOT_OURS & wanted.keys():
        return None
    return LifecycleRule(
        "",
        "delete" if action["type"] == "Delete" else "move",
        action.get("storageClass", ""),
        wanted.get("age"),
        tuple(wanted.get("matchesPrefix", ())),
        tuple(wanted.get("matchesSuffix", ())),
    )


def _is_passing(error: Exception) -> bool:
    """Whether a retry may help: after a broken connection, or an answer that asks to retry
    (cloud.google.com/storage/docs/retry-strategy)."""
    if isinstance(error, (ConnectionError, requests.ConnectionError, requests.Timeout, ChunkedEncodingError)):
        return True
    if isinstance(error, (HTTPError, HTTPException)):  # while a body is read
        return True
    if isinstance(error, TransportError):  # of the credentials
        return bool(error.retryable)
    return _status_of(error) in _PASSING


def _status_of(error: Exception) -> int | None:
    """The HTTP status behind an error."""
    status = getattr(getattr(error, "response", None), "status_code", None) or getattr(error, "code", None)
    return None if status is None else int(status)


def _leave_it(*_: Any, **__: Any) -> None:
    """Keep a damaged object: the proof reports it, and a person decides."""


class _Stream(RawIOBase):
    """The parts of a source as the file that the SDK reads; its length is not known, so the SDK reads to the end."""

    def __init__(self, parts: Iterator[bytes], crc: Any) -> None:
        self._rest = b""
        self._parts = parts
        self._crc = crc
        self._position = 0
        self.failure: BaseException | None = None

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> bytes:
        try:
            while len(self._rest) < size and (part := next(self._parts, None)) is not None:
                self._crc.update(part)
                self._rest = self._rest + part if self._rest else part
        except BaseException as error:
            self.failure = error
            raise
        data, self._rest = self._rest[:size], self._rest[size:]
        self._position += len(data)
        return data


@contextmanager
def _leaving_damage_to_the_proof(name: str) -> Iterator[None]:
    """Continue if the store's answer has another checksum than ours: the object or only the answer may be damaged.

    The proof that follows reads the object.
    """
    try:
        yield
    except DataCorruption as error:
        log.warning("the store's answer names another checksum", object=name, error=" ".join(str(error).split())[:300])


def _store_errors(name: str, permission: str = "") -> AbstractContextManager[None]:
    """Translate the exceptions of the SDK into store errors about an object; `permission` is what the request needs."""
    return errors_as(lambda error: _error_of(name, permission, error))


def _error_of(name: str, permission: str, error: Exception) -> Exception | None:
    status = _status_of(error)
    text = " ".join(str(error).split())[:300]
    if isinstance(error, PreconditionFailed) or status == 412:
        return KeyExists(name) if permission == _CREATE else StoreError(f"{name}: the object changed while it was read")
    if isinstance(error, DefaultCredentialsError):
        line = f"{name}: no credentials; set GOOGLE_APPLICATION_CREDENTIALS, or run with a workload identity"
        return StoreRefused(line)
    if isinstance(error, (Forbidden, Unauthorized)) or status in (401, 403):
        return StoreRefused(f"{name}: {text}; the credentials need {permission}")
    if "upload_id=" in str(getattr(getattr(error, "response", None), "url", "")) and status in (404, 410):
        return StoreError(f"{name}: the store dropped the upload; the upload starts again")
    if isinstance(error, NotFound) or status == 404:
        is_of_bucket = permission in (_CREATE, _LIST, _BUCKET)  # requests that need no existing object
        return (
            StoreRefused(f"{name}: the bucket does not exist; create it or correct the address")
            if is_of_bucket
            else StoreError(f"{name}: not found")
        )
    if isinstance(error, OtherRange):
        return StoreError(f"{name}: {error}")
    if isinstance(error, _ERRORS):
        return StoreError(f"{name}: {type(error).__name__} {text}")
    return None
