"""`s3://bucket/prefix`: AWS S3 and all that speaks it, by boto3.

What a store that speaks S3 keeps of AWS's promises is found out, never assumed: whether it checks a checksum (a put with
a wrong SHA-256 when a worker starts), whether it takes our headers at all (a refused dialect is given up for the next,
once, and said), whether an ETag is an MD5. Create-only is asked for always; an endpoint that is not AWS's is asked first
whether the key is there, since it may ignore the condition.

Sources: docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html and conditional-writes.html; what
botocore really sends over TLS and plain HTTP, and what other stores refuse, is in docs/stores.md.
"""

from __future__ import annotations

import base64
import hashlib
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any
from urllib.parse import urlencode, urlsplit

import boto3
from awscrt.checksums import crc64nvme
from botocore.awsrequest import AWSHTTPConnectionPool, AWSHTTPSConnectionPool
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from config.logs import get_logger
from workers.archive import layout
from workers.archive.source import Source
from workers.archive.stores import lines
from workers.archive.stores.s3_dialects import Dialect, SpokenDialect
from workers.archive.stores.s3_errors import (
    BadDigest,
    Missing,
    NotUnderstood,
    NoUpload,
    OutOfRange,
    WriteUnderWay,
    says_unknown,
    told,
)
from workers.archive.stores.store import (
    Buffers,
    KeyExists,
    StoredObject,
    StoreError,
    StoreOptions,
    StoreRefused,
    Written,
    name_in_bucket,
    split_url,
)

log = get_logger()

_POOLS = {"http": lines.in_pieces(AWSHTTPConnectionPool), "https": lines.in_pieces(AWSHTTPSConnectionPool)}
_READ_BYTES = 256 * 1024
_CONFLICT_TRIES = 5
_COMPLETE_TRIES = 3
_ASK_AGAIN_SECONDS = 3600.0
_ORPHAN_AGE = timedelta(days=1)
_PROBE = "probe/checksum"
_PROBE_BODY = b"Callvault asks whether this store checks checksums.\n"


@dataclass
class _Upload:
    """An upload in parts: its key, the store's id of it, and what is to be said of each part at its end."""

    key: str
    id: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)


class S3Store:
    """An archive in a bucket that speaks S3; settings of boto3 (`AWS_*`) keep their meaning."""

    def __init__(self, url: str, options: StoreOptions) -> None:
        self.url = url
        self._bucket, self._prefix = split_url(url)
        self._options = options
        self._buffers = Buffers(options)
        self._uploads = ThreadPoolExecutor(16, thread_name_prefix="callvault-s3")
        common = Config(
            # The SDK's own default, a trailing checksum over TLS, is what R2 and others refuse; ours are headers.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "adaptive", "max_attempts": 5},
            connect_timeout=lines.CONNECT_SECONDS,
            read_timeout=lines.SILENCE_SECONDS,
            max_pool_connections=lines.CONNECTIONS,
        )
        session = boto3.session.Session()
        self._s3 = _in_pieces(session.client("s3", config=common))
        # With no checksum header, botocore would send UNSIGNED-PAYLOAD over TLS: no integrity at all.
        signing = common.merge(Config(s3={"payload_signing_enabled": True}))
        self._signing = _in_pieces(session.client("s3", config=signing))
        self._presigning = session.client("s3", config=common.merge(Config(signature_version="s3v4")))
        host = urlsplit(self._s3.meta.endpoint_url).hostname or ""
        self._is_aws = host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
        self._dialect = SpokenDialect(url, is_fixed=self._is_aws)
        self._lock = Lock()
        self._checks: bool | None = True if self._is_aws else None
        self._checks_until = math.inf
        self._is_marked: bool | None = None  # an earlier process found that it checks none; for those that only read
        self._finds_out = False

    def make_place(self) -> None:
        """See `Store.make_place`. The bucket is there already, or its owner makes it."""

    def find_out(self) -> None:
        """See `Store.find_out`. An outage now only means that it is asked before the next object is described."""
        self._finds_out = True
        self._find_out()

    def put(self, key: str, source: Source, content_type: str, attributes: Mapping[str, str]) -> Written:
        """See `Store.put`."""
        self.find_out()
        if not self._is_aws and self.stat(key) is not None:
            raise KeyExists(key)
        with self._buffers.of(source):
            first = source.part(self._options.part_bytes)
            extra = self._extra(content_type, attributes)
            etag: str | None
            if len(first) < self._options.part_bytes:
                checksums, etag = self._put_whole(key, first, source.sha256, extra)
            else:
                checksums, etag = self._put_parts(key, first, source, extra)
        stored = self.stat(key)
        if stored is None:
            raise StoreError(f"{self._name(key)}: written, but not there")
        return Written(stored, checksums, etag)

    def stat(self, key: str) -> StoredObject | None:
        """See `Store.stat`."""
        if self._finds_out:
            self._find_out()
        elif self._checks is None and self._is_marked is None:
            self._is_marked = self._has_mark()
        try:
            with told(self._name(key)):
                head = self._s3.head_object(**self._at(key), ChecksumMode="ENABLED")
        except Missing:
            return None
        return self._described(key, head)

    def _described(self, key: str, head: Mapping[str, Any]) -> StoredObject:
        checksums = {}
        if self._checks or (self._checks is None and self._is_marked is False):
            if "ChecksumSHA256" in head and "-" not in head["ChecksumSHA256"]:
                checksums["sha256"] = base64.b64decode(head["ChecksumSHA256"]).hex()
            if "ChecksumCRC64NVME" in head and head.get("ChecksumType") == "FULL_OBJECT":
                checksums["crc64nvme"] = head["ChecksumCRC64NVME"]
        etag = head["ETag"].strip('"')
        own_encryption = (
            head.get("ServerSideEncryption") in ("aws:kms", "aws:kms:dsse") or "SSECustomerAlgorithm" in head
        )
        version = head.get("VersionId")
        mark = version if version not in (None, "null") else etag
        return StoredObject(key, head["ContentLength"], mark, checksums, None if own_encryption else etag)

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See `Store.read`."""
        if end is not None and end <= start:
            return
        span = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        try:
            with told(self._name(key)):
                answer = self._s3.get_object(**self._at(key), **span)
                body = answer["Body"]
        except Missing:
            raise KeyError(key) from None
        except OutOfRange:
            return
        try:
            with told(self._name(key)):
                chunks = body.iter_chunks(_READ_BYTES)
                # Some stores answer a range with the whole.
                yield from _cut(chunks, start, end) if span and "ContentRange" not in answer else chunks
        finally:
            body.close()

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """See `Store.list`."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
        with told(self._name(prefix)):
            for page in pages:
                for found in page.get("Contents", ()):
                    yield StoredObject(found["Key"].removeprefix(self._prefix), found["Size"])
                self._assert_goes_on(page, "NextContinuationToken", prefix)

    def _assert_goes_on(self, page: Mapping[str, Any], token: str, prefix: str) -> None:
        """See that a page of a list that is not its last says where the next begins: the SDK takes it for the last."""
        if page.get("IsTruncated") and not page.get(token):
            raise StoreError(f"{self._name(prefix)}: the store cut its list short, and does not say where it goes on")

    def presign(self, key: str, seconds: int) -> str | None:
        """See `Store.presign`. AWS wants signature version 4."""
        with told(self._name(key)):
            url = self._presigning.generate_presigned_url("get_object", Params=self._at(key), ExpiresIn=seconds)
        return str(url)

    def key_of(self, url: str) -> str | None:
        """See `Store.key_of`."""
        bucket, name = name_in_bucket(url)
        return f"/{name}" if url.startswith("s3://") and bucket == self._bucket else None

    def erase(self, key: str) -> None:
        """See `Store.erase`. Every version, and what marks it as deleted; where versions are not kept, the object."""
        place = self._at(key)
        for version in self._versions_of(key):
            with told(self._name(key)):
                self._s3.delete_object(**place, VersionId=version)
        with told(self._name(key)):
            self._s3.delete_object(**place)

    def _versions_of(self, key: str) -> tuple[str, ...]:
        """The versions of an object and what marks it as deleted; none where the store says that it keeps none."""
        name = self._at(key)["Key"]
        found: tuple[str, ...] = ()
        try:
            with told(self._name(key)):
                pages = self._s3.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=name)
                for page in pages:
                    both = (*page.get("Versions", ()), *page.get("DeleteMarkers", ()))
                    found += tuple(version["VersionId"] for version in both if version["Key"] == name)
                    self._assert_goes_on(page, "NextKeyMarker", key)
        except StoreError as error:
            if self._is_aws or not says_unknown(error):
                raise
        return found

    def remove_orphans(self) -> int:
        """See `Store.remove_orphans`. Without the permission to list uploads, the bucket's lifecycle rule must do it.

        An archive may share its bucket with others, at the bucket's root too: an upload is ours only where its key is one
        that we make.
        """
        removed = 0
        pages = self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix)
        with told(self._name("")):
            for page in pages:
                for upload in page.get("Uploads", ()):
                    is_ours = layout.is_key_of_parts(upload["Key"].removeprefix(self._prefix))
                    if is_ours and datetime.now(UTC) - upload["Initiated"] > _ORPHAN_AGE:
                        self._s3.abort_multipart_upload(
                            Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        removed += 1
        return removed

    def _put_whole(self, key: str, body: bytes, sha256: str, extra: dict[str, Any]) -> tuple[dict[str, str], str]:
        digest = base64.b64encode(bytes.fromhex(sha256)).decode()

        def send(dialect: Dialect, key: str = key, body: bytes = body, digest: str = digest) -> None:
            integrity = {"ChecksumSHA256": digest} if dialect.checksums else _md5_header(body) if dialect.md5 else {}
            call = self._client_of(dialect).put_object
            self._with_patience(
                key, lambda: call(**self._at(key), Body=body, **integrity, **_condition(dialect), **extra)
            )

        def ask(dialect: Dialect) -> None:
            send(dialect, _probe_key(), _PROBE_BODY, base64.b64encode(hashlib.sha256(_PROBE_BODY).digest()).decode())

        self._in_a_dialect(key, send, ask)
        etag = "" if self._checks else hashlib.md5(body, usedforsecurity=False).hexdigest()
        return {"sha256": sha256}, etag

    def _put_parts(
        self, key: str, first: bytes, source: Source, extra: dict[str, Any]
    ) -> tuple[dict[str, str], str | None]:
        """Multipart: equal parts, each sent while the next is being downloaded."""
        upload = _Upload(key)

        def begin(dialect: Dialect) -> None:
            if upload.id:
                self._abort(upload)
            self._begin(upload, first, dialect, extra)

        def ask(dialect: Dialect) -> None:
            probe = _Upload(_probe_key())
            try:
                self._begin(probe, _PROBE_BODY, dialect, extra)
                with told(self._name(probe.key)):
                    self._complete_once(probe, _base64_crc(crc64nvme(_PROBE_BODY)), dialect)
            except BaseException:
                if probe.id:
                    self._abort(probe)
                raise

        sending: Future[dict[str, Any]] | None = None
        overlapping = False
        crc, md5s = crc64nvme(first), [hashlib.md5(first, usedforsecurity=False).digest()]
        try:
            dialect = self._in_a_dialect(key, begin, ask)
            while part := source.part(self._options.part_bytes):
                crc = crc64nvme(part, crc)
                if not self._is_aws:  # the second rung of the ladder; on AWS the first always holds
                    md5s.append(hashlib.md5(part, usedforsecurity=False).digest())
                if sending is not None:
                    upload.parts.append(_result(sending, self._name(key)))
                    sending = None
                arguments = (upload, len(upload.parts) + 1, part, dialect)
                overlapping = overlapping or self._buffers.take_another()
                if overlapping:
                    sending = self._uploads.submit(self._put_part, *arguments)
                else:
                    with told(self._name(key)):
                        upload.parts.append(self._put_part(*arguments))
            if sending is not None:
                upload.parts.append(_result(sending, self._name(key)))
                sending = None
            etag = f"{hashlib.md5(b''.join(md5s), usedforsecurity=False).hexdigest()}-{len(upload.parts)}"
            written = {"crc64nvme": _base64_crc(crc)}, None if self._is_aws else etag
            try:
                self._complete(upload, written[0]["crc64nvme"], dialect, ask)
            except NoUpload:
                self._assert_completed(key, source.size, *written)
        except BaseException:
            if sending is not None:
                with suppress(Exception):
                    sending.result()
            if upload.id:
                self._abort(upload)
            raise
        finally:
            if overlapping:
                self._buffers.give()
        return written

    def _begin(self, upload: _Upload, first: bytes, dialect: Dialect, extra: dict[str, Any]) -> None:
        kind = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"} if dialect.checksums else {}
        with told(self._name(upload.key)):
            begun = self._client_of(dialect).create_multipart_upload(**self._at(upload.key), **kind, **extra)
            upload.id = begun["UploadId"]
            upload.parts = [self._put_part(upload, 1, first, dialect)]

    def _put_part(self, upload: _Upload, number: int, part: bytes, dialect: Dialect) -> dict[str, Any]:
        integrity: dict[str, str] = {}
        named: dict[str, str] = {}
        if dialect.checksums:
            integrity = named = {"ChecksumCRC64NVME": _base64_crc(crc64nvme(part))}
        elif dialect.md5:
            integrity = _md5_header(part)
        place = {**self._at(upload.key), "UploadId": upload.id, "PartNumber": number}
        answer = self._client_of(dialect).upload_part(**place, Body=part, **integrity)
        return {"PartNumber": number, "ETag": answer["ETag"]} | named

    def _complete(self, upload: _Upload, crc: str, dialect: Dialect, ask: Callable[[Dialect], None]) -> None:
        """Make an object of the parts, by the checksum of the whole where the store understands that.

        Some stores make a checksum of the parts' checksums instead and refuse ours; where that has been shown, they are
        completed without. Each part was checked as it went up, and what proves the object then is a lower rung. Where it
        has not, the refusal means damage, and nothing is completed.

        Raises:
            NoUpload: it is completed, maybe: see `_assert_completed`.
        """
        for _ in range(_COMPLETE_TRIES):
            try:
                with told(self._name(upload.key)):
                    self._complete_once(upload, crc, dialect)
                return
            except (NotUnderstood, BadDigest) as error:
                refusal: StoreError = error
            if (lower := self._dialect.after(dialect, refusal, ask)) == dialect and isinstance(refusal, BadDigest):
                raise refusal
            dialect = lower
        raise refusal

    def _complete_once(self, upload: _Upload, crc: str, dialect: Dialect) -> None:
        whole = {"ChecksumCRC64NVME": crc, "ChecksumType": "FULL_OBJECT"} if dialect.of_whole else {}
        parts = {"UploadId": upload.id, "MultipartUpload": {"Parts": upload.parts}}
        self._client_of(dialect).complete_multipart_upload(
            **self._at(upload.key), **parts, **whole, **_condition(dialect)
        )

    def _assert_completed(self, key: str, size: int, checksums: dict[str, str], etag: str | None) -> None:
        """See what became of an upload that is no more: its answer may have been lost, and the SDK asked again.

        Raises:
            KeyExists: there is an object that is not shown to be this one; whoever asked looks at its bytes.
            StoreError: there is none.
        """
        stored = self.stat(key)
        if stored is None:
            raise StoreError(f"{self._name(key)}: the upload was ended by another, and nothing is there")
        is_held = stored.checksums.get("crc64nvme") == checksums["crc64nvme"] or (etag and stored.etag == etag)
        if stored.size != size or not is_held:
            raise KeyExists(key)

    def _abort(self, upload: _Upload) -> None:
        with suppress(ClientError, BotoCoreError):  # what cannot be aborted now is an orphan for the janitor
            self._s3.abort_multipart_upload(**self._at(upload.key), UploadId=upload.id)
        upload.id = ""

    def _client_of(self, dialect: Dialect) -> Any:
        return self._s3 if dialect.checksums else self._signing

    def _in_a_dialect(self, key: str, send: Callable[[Dialect], None], ask: Callable[[Dialect], None]) -> Dialect:
        """Send in the dialect that is spoken; after a refusal, in the one that the store is shown to understand."""
        dialect = self._dialect.now
        for last in (False, False, True):
            try:
                send(dialect)
                break
            except NotUnderstood as error:
                if last:
                    raise
                dialect = self._dialect.after(dialect, error, ask)
        return dialect

    def _with_patience(self, key: str, send: Callable[[], object]) -> None:
        """A 409 says that another write is under way: ask again."""
        for attempt in range(_CONFLICT_TRIES):
            try:
                with told(self._name(key)):
                    send()
                return
            except WriteUnderWay:
                if attempt == _CONFLICT_TRIES - 1:
                    raise
                time.sleep(0.2 * 2**attempt)

    def _find_out(self) -> None:
        """Whether an endpoint that is not AWS's checks a SHA-256: once a process, before it matters."""
        if self._checks is not None and time.monotonic() < self._checks_until:
            return
        with self._lock:
            if self._checks is None or time.monotonic() >= self._checks_until:
                was = self._checks
                self._checks, self._checks_until = self._refuses_a_wrong_checksum()
                if not self._checks and was is None:
                    log.info(
                        "this store does not check checksums; objects are proven by ETag or by reading", store=self.url
                    )

    def _refuses_a_wrong_checksum(self) -> tuple[bool, float]:
        """Whether a put with a wrong checksum is refused as that, and until when (monotonic) the answer holds.

        Raises:
            StoreError: no answer to the question; it is asked before the next object is described.
        """
        wrong = base64.b64encode(hashlib.sha256(b"something else").digest()).decode()
        if self._has_mark():
            return False, math.inf
        try:
            with told(self._name(_PROBE)):
                self._s3.put_object(**self._at(_PROBE), Body=_PROBE_BODY, ChecksumSHA256=wrong)
        except BadDigest:
            return True, math.inf
        except StoreRefused:  # maybe the header, maybe not
            return False, time.monotonic() + _ASK_AGAIN_SECONDS
        return False, math.inf

    def _has_mark(self) -> bool:
        """Whether an earlier wrong put was taken, and lies there as a mark."""
        try:
            with told(self._name(_PROBE)):
                self._s3.head_object(**self._at(_PROBE))
        except Missing:
            return False
        return True

    def _extra(self, content_type: str, attributes: Mapping[str, str]) -> dict[str, Any]:
        options = self._options
        extra: dict[str, Any] = {"ContentType": content_type}
        if options.encryption_key:
            extra |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": options.encryption_key}
        if options.storage_class:
            extra["StorageClass"] = options.storage_class
        if options.retention is not None:
            extra["ObjectLockMode"] = options.retention_mode.upper()
            extra["ObjectLockRetainUntilDate"] = datetime.now(UTC) + options.retention
        if options.label == "metadata" and attributes:
            extra["Metadata"] = dict(attributes)
        if options.label == "tags" and attributes:
            extra["Tagging"] = urlencode(attributes)
        return extra

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": key[1:] if key.startswith("/") else self._prefix + key}

    def _name(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._at(key)['Key']}"


def _in_pieces(client: Any) -> Any:
    """The client, its connections sending in pieces. botocore has no option for that; its pools are named in one table."""
    client._endpoint.http_session._pool_classes_by_scheme.update(_POOLS)
    return client


def _result(sending: Future[dict[str, Any]], name: str) -> dict[str, Any]:
    with told(name):
        return sending.result()


def _cut(chunks: Iterator[bytes], start: int, end: int | None) -> Iterator[bytes]:
    """The bytes from `start` to before `end` of all of them."""
    passed = 0
    for chunk in chunks:
        if piece := chunk[max(0, start - passed) : None if end is None else max(0, end - passed)]:
            yield piece
        passed += len(chunk)
        if end is not None and passed >= end:
            return


def _probe_key() -> str:
    return f"probe/{secrets.token_hex(8)}"


def _condition(dialect: Dialect) -> dict[str, str]:
    return {"IfNoneMatch": "*"} if dialect.conditions else {}


def _base64_crc(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(8, "big")).decode()


def _md5_header(body: bytes) -> dict[str, str]:
    return {"ContentMD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()}
