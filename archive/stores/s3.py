"""`s3://bucket/prefix`: AWS S3 and compatible stores, by boto3.

Which of AWS's promises a compatible store keeps is tested, never assumed: whether it checks checksums (`s3_checks.py`),
which headers it takes (`s3_fallbacks.py`), whether an ETag is an MD5 (`s3_md5s.py`). Every write asks for create-only; if
the endpoint is not known to honour that (`s3_conditions.py`), the store first looks whether the key exists.

Sources: docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html and conditional-writes.html;
docs/stores.md has what botocore really sends over TLS and plain HTTP, and what other stores refuse.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from archive.layout import Outside
from archive.source import Source
from archive.stores import s3_cold
from archive.stores.asking import AsksInThreads
from archive.stores.buffers import Buffers
from archive.stores.lifecycle import LifecycleRule
from archive.stores.ranges import length_of
from archive.stores.s3_bucket import Bucket
from archive.stores.s3_checks import Checks
from archive.stores.s3_cold import STANDARD, class_and_state
from archive.stores.s3_conditions import Conditions
from archive.stores.s3_errors import Cold, Missing, OutOfRange, WriteUnderWay, says_unknown, store_errors
from archive.stores.s3_fallbacks import ChosenFallback, Fallback
from archive.stores.s3_parts import Parts, probe_key
from archive.stores.store import (
    LEGAL_HOLD,
    Asked,
    KeyExists,
    RestoreWish,
    StoreCold,
    StoredObject,
    StoreError,
    StoreOptions,
    Written,
    latest_of,
    read_one_by_one,
    split_object_url,
)
from process.http1 import BrokenAnswer
from text.counts import many
from text.times import first_instant

_READ_BYTES = 256 * 1024
_CONFLICT_TRIES = 5
_PROBE_BODY = b"Callvault asks whether this store understands these headers.\n"


class S3Store(AsksInThreads):
    """An archive in a bucket of S3 or a compatible store."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        super().__init__()
        self.url = url
        self._bucket = Bucket(url, options)
        self._buffers = Buffers(options)
        self._fallback = ChosenFallback(url, is_fixed=self._bucket.is_aws)
        self._checks = Checks(self._bucket)
        self._conditions = Conditions(self._bucket, self._fallback)
        self._parts = Parts(self._bucket, self._fallback, self._buffers, self.stat)

    def create_place(self) -> None:
        """See `Store.create_place`. The owner creates the bucket."""

    def probe(self) -> None:
        """See `Store.probe`. A worker does so at its start: the first objects would all wait for it."""
        self._checks.probe()
        self._conditions.are_kept()

    def put(self, key: str, source: Source, content_type: str, attributes: Mapping[str, str]) -> Written:
        """See `Store.put`."""
        bucket = self._bucket
        self._checks.probe()
        is_kept = self._conditions.are_kept()
        is_free = source.is_free or self.ask_free(key)
        with self._buffers.of(source):
            first = source.part(bucket.options.part_bytes)  # a download, which need not wait for that answer
            if is_free is not None and is_free() is not None:
                raise KeyExists(key)
            wishes = bucket.wishes(content_type, attributes, source)
            stored = None
            if len(first) < bucket.options.part_bytes:
                checksums, etags, answer = self._put_whole(key, first, source.sha256, wishes)
                if is_kept and self._checks.known and content_type == "application/json":
                    stored = self._as_answered(key, source.size, answer)
            else:
                if is_kept and not bucket.is_aws:  # tested for a single put, not for multipart uploads
                    self._assert_free(key)
                checksums, etags = self._parts.put(key, first, source, wishes)
        stored = stored or self.described(key, source)
        if stored is None:
            raise StoreError(f"{bucket.name(key)}: the store took the object and does not show it")
        if len(first) == bucket.options.part_bytes:
            self._parts.learn(stored)
        return Written(stored, checksums, etags)

    def _assert_free(self, key: str) -> None:
        """Raise KeyExists if the key is in use: the store may ignore the condition."""
        if self.stat(key) is not None:
            raise KeyExists(key)

    def _as_answered(self, key: str, size: int, answer: Mapping[str, str]) -> StoredObject | None:
        """A record as the answer to its put describes it; None if the answer has no checksum, so that a HEAD must.

        Only for a store that refuses wrong checksums and keeps conditions: then this is what a HEAD would say. Audio is always
        proven by a request of its own. The answer has no size; the checksum covers it.
        """
        if "x-amz-checksum-sha256" not in answer or "etag" not in answer:
            return None
        return self._described(key, {**answer, "content-length": str(size)})

    def stat(self, key: str) -> StoredObject | None:
        """See `Store.stat`."""
        self._checks.look()
        try:
            return self._described(key, self._bucket.head(key))
        except Missing:
            return None

    def ask_stat(self, key: str) -> Asked[StoredObject | None]:
        """See `Store.ask_stat`. A thread is needed only where no open connection is free."""
        self._checks.look()
        asked = self._bucket.ask_head(key)
        if asked is None:
            return super().ask_stat(key)

        def answer() -> StoredObject | None:
            try:
                return self._described(key, asked())
            except Missing:
                return None

        return answer

    def ask_free(self, key: str) -> Asked[StoredObject | None] | None:
        """See `Store.ask_free`."""
        return None if self._conditions.are_kept() else self.ask_stat(key)

    def _described(self, key: str, headers: Mapping[str, str]) -> StoredObject:
        """Make a StoredObject from the headers of an answer."""
        if "content-length" not in headers or "etag" not in headers:
            raise StoreError(f"{self._bucket.name(key)}: the store's answer has no size or no ETag")
        checksums = {}
        if self._checks.are_believed:
            sha256 = headers.get("x-amz-checksum-sha256", "-")
            if "-" not in sha256:
                checksums["sha256"] = base64.b64decode(sha256).hex()
            if headers.get("x-amz-checksum-type") == "FULL_OBJECT" and "x-amz-checksum-crc64nvme" in headers:
                checksums["crc64nvme"] = headers["x-amz-checksum-crc64nvme"]
        etag = headers["etag"].strip('"')
        own_encryption = (
            headers.get("x-amz-server-side-encryption") in ("aws:kms", "aws:kms:dsse")
            or "x-amz-server-side-encryption-customer-algorithm" in headers
        )
        version = headers.get("x-amz-version-id")
        mark = version if version not in (None, "null") else etag
        return StoredObject(
            key,
            int(headers["content-length"]),
            mark,
            checksums,
            None if own_encryption else etag,
            first_instant(headers.get("x-amz-object-lock-retain-until-date")),
            *class_and_state(headers),
        )

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See `Store.read`."""
        if end is not None and end <= start:
            return
        span = None if start == 0 and end is None else f"bytes={start}-{'' if end is None else end - 1}"
        try:
            answer = self._bucket.get(key, span)
        except Missing:
            raise KeyError(key) from None
        except OutOfRange:
            return
        except Cold:
            raise self._cold(key) from None
        try:
            with store_errors(self._bucket.name(key)):
                _assert_readable(answer.headers)
                chunks, given = answer.body.iter_chunks(_READ_BYTES), answer.headers.get("content-range")
                if span is not None and given is None:  # some stores ignore the range and send the whole object
                    chunks = _cut(chunks, start, end)
                elif given is not None:
                    chunks = _counted(chunks, length_of(span or "bytes=0-", given))
                yield from chunks
        finally:
            answer.body.close()

    def _cold(self, key: str) -> StoreCold:
        """The error about an object that the store would not give before a restore."""
        stored = self.stat(key)
        if stored is None:
            return StoreCold(key)
        return StoreCold(key, stored.storage_class or "", is_restoring=stored.state == "restoring")

    read_small = read_one_by_one

    def restore(self, key: str, wish: RestoreWish) -> None:
        """See `Store.restore`."""
        stored = self.stat(key)
        if stored is None:
            raise KeyError(key)
        if stored.state == "cold":
            s3_cold.restore(self._bucket, key, stored, wish)

    def lifecycle(self) -> tuple[LifecycleRule, ...] | None:
        """See `Store.lifecycle`."""
        return s3_cold.lifecycle(self._bucket)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See `Store.list`."""
        bucket = self._bucket
        pages = bucket.client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket.bucket, Prefix=bucket.prefix + prefix
        )
        with store_errors(bucket.name(prefix)):
            for page in pages:
                for found in page.get("Contents", ()):
                    key, storage_class = found["Key"].removeprefix(bucket.prefix), found.get("StorageClass", STANDARD)
                    yield StoredObject(key, found["Size"], storage_class=storage_class)
                bucket.assert_goes_on(page, "NextContinuationToken", prefix)

    def presign(self, key: str, seconds: int) -> str | None:
        """See `Store.presign`."""
        return self._bucket.presign(key, seconds)

    def key_of(self, url: str) -> str | None:
        """See `Store.key_of`."""
        bucket, name = split_object_url(url)
        return Outside(name).key if url.startswith("s3://") and bucket == self._bucket.bucket else None

    def locked_until(self, key: str) -> datetime | None:
        """See `Store.locked_until`: of every version. It needs `s3:GetObjectRetention` and `s3:GetObjectLegalHold`."""
        client, place, name = self._bucket.client, self._bucket.at(key), self._bucket.name(key)
        ends: list[datetime | None] = []
        for version in self._versions_of(key, markers=False) or (None,):
            named = {} if version is None else {"VersionId": version}
            try:
                with store_errors(name):
                    head = client.head_object(**place, **named)
            except Missing:
                continue
            is_held = head.get("ObjectLockLegalHoldStatus") == "ON"
            ends.append(LEGAL_HOLD if is_held else head.get("ObjectLockRetainUntilDate"))
        return latest_of(ends)

    def erase(self, key: str) -> None:
        """See `Store.erase`. Deletes every version and delete marker; without versions, the object."""
        client, place, name = self._bucket.client, self._bucket.at(key), self._bucket.name(key)
        versions = self._versions_of(key)
        for version in versions:
            with store_errors(name):
                client.delete_object(**place, VersionId=version)
        if not versions or self.stat(key) is not None:  # else this would only add a delete marker
            with store_errors(name):
                client.delete_object(**place)
        if versions and (left := self._versions_of(key)):
            raise StoreError(f"{name}: {many(len(left), 'version')} still there after their deletion")

    def _versions_of(self, key: str, *, markers: bool = True) -> tuple[str, ...]:
        """The versions of an object, and its delete markers if wanted; empty if the store does not know versions.

        The current one comes last: whoever deletes them in this order and is stopped leaves the object as it was.
        """
        bucket, name = self._bucket, self._bucket.at(key)["Key"]
        found: list[tuple[bool, str]] = []
        try:
            with store_errors(bucket.name(key)):
                pages = bucket.client.get_paginator("list_object_versions").paginate(Bucket=bucket.bucket, Prefix=name)
                for page in pages:
                    both = (*page.get("Versions", ()), *(page.get("DeleteMarkers", ()) if markers else ()))
                    found += [(bool(one.get("IsLatest")), one["VersionId"]) for one in both if one["Key"] == name]
                    bucket.assert_goes_on(page, "NextKeyMarker", key)
        except StoreError as error:
            if bucket.is_aws or not says_unknown(error):
                raise
        return tuple(version for _, version in sorted(found, key=lambda one: one[0]))

    def remains(self, prefix: str) -> Sequence[str]:
        """See `Store.remains`. The current version goes last."""
        return ()

    def remove_orphans(self) -> int:
        """See `Store.remove_orphans`."""
        return self._parts.remove_orphans()

    def _put_whole(
        self, key: str, body: bytes, sha256: str, wishes: dict[str, Any]
    ) -> tuple[dict[str, str], tuple[str, ...], Mapping[str, str]]:
        """Put an object in one request; returns the checksums and ETags that it may show, and the headers of the answer."""
        answer: Mapping[str, str] = {}

        def send(fallback: Fallback) -> None:
            nonlocal answer
            if not fallback.conditions:
                self._assert_free(key)
            answer = self._put_patiently(key, body, sha256, fallback, wishes)

        def ask(fallback: Fallback) -> None:
            digest = hashlib.sha256(_PROBE_BODY).hexdigest()
            self._put_patiently(probe_key(), _PROBE_BODY, digest, fallback, wishes)

        self._fallback.send(send, ask)
        etags = () if self._checks.known else (hashlib.md5(body, usedforsecurity=False).hexdigest(),)
        return {"sha256": sha256}, etags, answer

    def _put_patiently(
        self, key: str, body: bytes, sha256: str, fallback: Fallback, wishes: dict[str, Any]
    ) -> Mapping[str, str]:
        """Put, and retry while another write of the same key is in progress (409); returns the headers of the answer."""
        conflicts = 0
        while True:
            try:
                return self._bucket.put(key, body, sha256, fallback, wishes)
            except WriteUnderWay:
                conflicts += 1
                if conflicts == _CONFLICT_TRIES:
                    raise
            time.sleep(0.1 * 2**conflicts)


def _cut(chunks: Iterator[bytes], start: int, end: int | None) -> Iterator[bytes]:
    """The bytes from `start` to before `end` of all of them."""
    passed = 0
    for chunk in chunks:
        if piece := chunk[max(0, start - passed) : None if end is None else max(0, end - passed)]:
            yield piece
        passed += len(chunk)
        if end is not None and passed >= end:
            return


def _assert_readable(headers: Mapping[str, str]) -> None:
    """Raise BrokenAnswer if the end of an answer cannot be seen, or its bytes are not those of the object."""
    if "content-length" not in headers and "chunked" not in headers.get("transfer-encoding", "").lower():
        raise BrokenAnswer("the store's answer has no length, so nothing shows whether it is complete")
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity", "aws-chunked"):  # the last is of an upload; some stores keep it
        raise BrokenAnswer(f"the store sent a compressed answer ({coding[:20]!r}); the request asked for none")


def _counted(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Pass on so many bytes; raise BrokenAnswer if fewer or more come."""
    left = size
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left:
        raise BrokenAnswer(f"the store sent {'more' if left < 0 else 'less'} than its Content-Range says")
