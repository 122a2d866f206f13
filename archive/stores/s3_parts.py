"""Multipart uploads to S3: each part is sent while the next is downloaded."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from awscrt.checksums import crc64nvme
from botocore.exceptions import BotoCoreError, ClientError

from archive import kinds
from archive.source import Source
from archive.stores.buffers import Buffers
from archive.stores.next_part import parts_ahead
from archive.stores.s3_bucket import Bucket, condition
from archive.stores.s3_errors import BadDigest, NotUnderstood, NoUpload, store_errors
from archive.stores.s3_fallbacks import ChosenFallback, Fallback
from archive.stores.s3_md5s import Forms, Md5s
from archive.stores.store import KeyExists, StoredObject, StoreError

_COMPLETE_TRIES = 3
_ORPHAN_AGE = timedelta(days=1)
_PROBE_BODY = b"Callvault asks whether this store understands checksums of parts.\n"
_ETAG_PROBE = "probe/multipart"
_ETAG_PROBE_BODY = b"Callvault asks what the ETag of an object is that was uploaded in parts.\n"
_AS_AUDIO = ("ContentType", "ServerSideEncryption", "SSEKMSKeyId")  # what may decide about an ETag


@dataclass
class _Upload:
    """A multipart upload: its key, the store's id, and the list of parts that completes it."""

    key: str
    id: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)


class Parts:
    """Multipart uploads to one bucket.

    Args:
        bucket: the bucket.
        fallback: the fallback in use.
        buffers: the memory of all uploads.
        stat: describes an object, as `Store.stat`.
    """

    def __init__(
        self, bucket: Bucket, fallback: ChosenFallback, buffers: Buffers, stat: Callable[[str], StoredObject | None]
    ) -> None:
        self._bucket = bucket
        self._fallback = fallback
        self._buffers = buffers
        self._stat = stat
        self._forms = Forms(() if bucket.is_aws else None)  # on AWS a checksum is always the proof

    def put(
        self, key: str, first: bytes, source: Source, extra: dict[str, Any]
    ) -> tuple[dict[str, str], tuple[str, ...]]:
        """Upload an object in equal parts, each sent while the next is downloaded.

        Returns:
            The checksums that the store must show, and the ETags that it may show.
        """
        part_bytes = self._bucket.options.part_bytes
        upload = _Upload(key)

        def begin(fallback: Fallback) -> None:
            if upload.id:
                self._abort(upload)
            self._begin(upload, first, fallback, extra)

        def ask(fallback: Fallback) -> None:
            probe = _Upload(probe_key())
            try:
                self._begin(probe, _PROBE_BODY, fallback, extra)
                with store_errors(self._bucket.name(probe.key)):
                    self._complete_once(probe, _base64_crc(crc64nvme(_PROBE_BODY)), fallback)
            except BaseException:
                if probe.id:
                    self._abort(probe)
                raise

        crc, md5s = 0, Md5s(self._forms.to_compute(lambda: self._probe(extra)))
        try:
            with closing(parts_ahead(first, source, part_bytes, self._buffers)) as parts:
                for number, part in enumerate(parts, 1):
                    crc = crc64nvme(part, crc)
                    md5s.update(part)
                    if number == 1:
                        fallback = self._fallback.send(begin, ask)
                    else:
                        upload.parts.append(self._put_part(upload, number, part, fallback))
            written = {"crc64nvme": _base64_crc(crc)}, md5s.etags()
            try:
                self._complete(upload, written[0]["crc64nvme"], fallback, ask)
            except NoUpload:
                self._assert_completed(key, source.size, *written)
        except BaseException:
            if upload.id:
                self._abort(upload)
            raise
        return written

    def learn(self, stored: StoredObject) -> None:
        """Learn from an uploaded object which MD5s to compute for the next."""
        self._forms.learn(stored)

    def _probe(self, extra: dict[str, Any]) -> StoredObject:
        """A small object that was uploaded in parts; the first process leaves it there."""
        if (stored := self._stat(_ETAG_PROBE)) is not None:
            return stored
        probe, fallback, name = _Upload(_ETAG_PROBE), self._fallback.now, self._bucket.name(_ETAG_PROBE)
        try:
            self._begin(probe, _ETAG_PROBE_BODY, fallback, {name: extra[name] for name in _AS_AUDIO if name in extra})
            with store_errors(name):
                self._complete_once(probe, _base64_crc(crc64nvme(_ETAG_PROBE_BODY)), fallback)
        except BaseException as error:
            if probe.id:
                self._abort(probe)
            if not isinstance(error, KeyExists):  # another process was first
                raise
        if (stored := self._stat(_ETAG_PROBE)) is None:
            raise StoreError(f"{name}: the store took the probe and does not show it")
        return stored

    def remove_orphans(self) -> int:
        """See `Store.remove_orphans`. Without the permission to list uploads, a lifecycle rule of the bucket must do it.

        An archive may share its bucket with other data, so only uploads with a key of the archive format are removed.
        """
        bucket, removed = self._bucket, 0
        pages = bucket.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=bucket.bucket, Prefix=bucket.prefix
        )
        with store_errors(bucket.name("")):
            for page in pages:
                for upload in page.get("Uploads", ()):
                    is_ours = kinds.is_key_of_parts(upload["Key"].removeprefix(bucket.prefix))
                    if is_ours and datetime.now(UTC) - upload["Initiated"] > _ORPHAN_AGE:
                        bucket.client.abort_multipart_upload(
                            Bucket=bucket.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        removed += 1
        return removed

    def _begin(self, upload: _Upload, first: bytes, fallback: Fallback, extra: dict[str, Any]) -> None:
        bucket = self._bucket
        kind = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"} if fallback.checksums else {}
        with store_errors(bucket.name(upload.key)):
            begun = bucket.client_of(fallback).create_multipart_upload(**bucket.at(upload.key), **kind, **extra)
            upload.id = begun["UploadId"]
            upload.parts = [self._put_part(upload, 1, first, fallback)]

    def _put_part(self, upload: _Upload, number: int, part: bytes, fallback: Fallback) -> dict[str, Any]:
        crc = _base64_crc(crc64nvme(part))
        etag = self._bucket.put_part(upload.key, upload.id, number, part, fallback, crc)
        return {"PartNumber": number, "ETag": etag} | ({"ChecksumCRC64NVME": crc} if fallback.checksums else {})

    def _complete(self, upload: _Upload, crc: str, fallback: Fallback, ask: Callable[[Fallback], None]) -> None:
        """Complete the upload, with the checksum of the whole object if the store understands that.

        Some stores compute a checksum of the parts' checksums instead and refuse ours. If a probe shows that, the upload
        is completed without: each part was checked as it went up, and the object gets a lower proof level. Otherwise the
        refusal means damage, and the upload is not completed.

        Raises:
            NoUpload: the upload may be complete already; see `_assert_completed`.
        """
        for _ in range(_COMPLETE_TRIES):
            try:
                with store_errors(self._bucket.name(upload.key)):
                    self._complete_once(upload, crc, fallback)
                return
            except (NotUnderstood, BadDigest) as error:
                refusal: StoreError = error
            if (lower := self._fallback.after(fallback, refusal, ask)) == fallback and isinstance(refusal, BadDigest):
                raise refusal
            fallback = lower
        raise refusal

    def _complete_once(self, upload: _Upload, crc: str, fallback: Fallback) -> None:
        whole = {"ChecksumCRC64NVME": crc, "ChecksumType": "FULL_OBJECT"} if fallback.of_whole else {}
        parts = {"UploadId": upload.id, "MultipartUpload": {"Parts": upload.parts}}
        self._bucket.client_of(fallback).complete_multipart_upload(
            **self._bucket.at(upload.key), **parts, **whole, **condition(fallback)
        )

    def _assert_completed(self, key: str, size: int, checksums: dict[str, str], etags: tuple[str, ...]) -> None:
        """Check the result of an upload that the store no longer knows: the SDK may have retried after a lost answer.

        Raises:
            KeyExists: the key holds an object that is not proven to be this one; the caller checks its bytes.
            StoreError: the key holds no object.
        """
        stored = self._stat(key)
        if stored is None:
            raise StoreError(
                f"{self._bucket.name(key)}: the upload ended without an object; another process or the store ended it"
            )
        is_held = stored.checksums.get("crc64nvme") == checksums["crc64nvme"] or stored.etag in etags
        if stored.size != size or not is_held:
            raise KeyExists(key)

    def _abort(self, upload: _Upload) -> None:
        with suppress(ClientError, BotoCoreError):  # `remove_orphans` removes it later
            self._bucket.client.abort_multipart_upload(**self._bucket.at(upload.key), UploadId=upload.id)
        upload.id = ""


def probe_key() -> str:
    """A key for a probe of the store."""
    return f"probe/{secrets.token_hex(8)}"


def _base64_crc(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(8, "big")).decode()
