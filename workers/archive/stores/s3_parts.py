"""Objects in parts on S3: each part sent while the next is being downloaded, and made an object at the end or not at all."""

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

from workers.archive import layout
from workers.archive.source import Source
from workers.archive.stores.next_part import parts_ahead
from workers.archive.stores.s3_bucket import Bucket, condition
from workers.archive.stores.s3_dialects import Dialect, SpokenDialect
from workers.archive.stores.s3_errors import BadDigest, NotUnderstood, NoUpload, told
from workers.archive.stores.s3_md5s import Form, Md5s, forms_like
from workers.archive.stores.store import Buffers, KeyExists, StoredObject, StoreError

_COMPLETE_TRIES = 3
_ORPHAN_AGE = timedelta(days=1)
_PROBE_BODY = b"Callvault asks whether this store understands checksums of parts.\n"


@dataclass
class _Upload:
    """An upload in parts: its key, the store's id of it, and what is to be said of each part at its end."""

    key: str
    id: str = ""
    parts: list[dict[str, Any]] = field(default_factory=list)


class Parts:
    """Uploads in parts to one bucket.

    Args:
        bucket: the bucket.
        dialect: what is spoken with it.
        buffers: the memory of all its uploads.
        stat: describes an object, as `Store.stat`.
    """

    def __init__(
        self, bucket: Bucket, dialect: SpokenDialect, buffers: Buffers, stat: Callable[[str], StoredObject | None]
    ) -> None:
        self._bucket = bucket
        self._dialect = dialect
        self._buffers = buffers
        self._stat = stat
        self._forms: tuple[Form, ...] = () if bucket.is_aws else ("parts", "whole")  # on AWS a checksum proves always

    def put(
        self, key: str, first: bytes, source: Source, extra: dict[str, Any]
    ) -> tuple[dict[str, str], tuple[str, ...]]:
        """Multipart: equal parts, each sent while the next is being downloaded.

        Returns:
            What the store's checksums must be, and its ETag may.
        """
        part_bytes = self._bucket.options.part_bytes
        upload = _Upload(key)

        def begin(dialect: Dialect) -> None:
            if upload.id:
                self._abort(upload)
            self._begin(upload, first, dialect, extra)

        def ask(dialect: Dialect) -> None:
            probe = _Upload(probe_key())
            try:
                self._begin(probe, _PROBE_BODY, dialect, extra)
                with told(self._bucket.name(probe.key)):
                    self._complete_once(probe, _base64_crc(crc64nvme(_PROBE_BODY)), dialect)
            except BaseException:
                if probe.id:
                    self._abort(probe)
                raise

        crc, md5s = 0, Md5s(self._forms)
        try:
            with closing(parts_ahead(first, source, part_bytes, self._buffers)) as parts:
                for number, part in enumerate(parts, 1):
                    crc = crc64nvme(part, crc)
                    md5s.update(part)
                    if number == 1:
                        dialect = self._dialect.send(begin, ask)
                    else:
                        upload.parts.append(self._put_part(upload, number, part, dialect))
            written = {"crc64nvme": _base64_crc(crc)}, md5s.etags()
            try:
                self._complete(upload, written[0]["crc64nvme"], dialect, ask)
            except NoUpload:
                self._assert_completed(key, source.size, *written)
        except BaseException:
            if upload.id:
                self._abort(upload)
            raise
        return written

    def learn(self, stored: StoredObject) -> None:
        """Learn from an object that went up in parts which MD5s to compute of the next."""
        self._forms = forms_like(stored)

    def remove_orphans(self) -> int:
        """See `Store.remove_orphans`. Without the permission to list uploads, the bucket's lifecycle rule must do it.

        An archive may share its bucket with others, at the bucket's root too: an upload is ours only where its key is one
        that we make.
        """
        bucket, removed = self._bucket, 0
        pages = bucket.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=bucket.bucket, Prefix=bucket.prefix
        )
        with told(bucket.name("")):
            for page in pages:
                for upload in page.get("Uploads", ()):
                    is_ours = layout.is_key_of_parts(upload["Key"].removeprefix(bucket.prefix))
                    if is_ours and datetime.now(UTC) - upload["Initiated"] > _ORPHAN_AGE:
                        bucket.client.abort_multipart_upload(
                            Bucket=bucket.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                        )
                        removed += 1
        return removed

    def _begin(self, upload: _Upload, first: bytes, dialect: Dialect, extra: dict[str, Any]) -> None:
        bucket = self._bucket
        kind = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"} if dialect.checksums else {}
        with told(bucket.name(upload.key)):
            begun = bucket.client_of(dialect).create_multipart_upload(**bucket.at(upload.key), **kind, **extra)
            upload.id = begun["UploadId"]
            upload.parts = [self._put_part(upload, 1, first, dialect)]

    def _put_part(self, upload: _Upload, number: int, part: bytes, dialect: Dialect) -> dict[str, Any]:
        crc = _base64_crc(crc64nvme(part))
        etag = self._bucket.put_part(upload.key, upload.id, number, part, dialect, crc)
        return {"PartNumber": number, "ETag": etag} | ({"ChecksumCRC64NVME": crc} if dialect.checksums else {})

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
                with told(self._bucket.name(upload.key)):
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
        self._bucket.client_of(dialect).complete_multipart_upload(
            **self._bucket.at(upload.key), **parts, **whole, **condition(dialect)
        )

    def _assert_completed(self, key: str, size: int, checksums: dict[str, str], etags: tuple[str, ...]) -> None:
        """See what became of an upload that is no more: its answer may have been lost, and the SDK asked again.

        Raises:
            KeyExists: there is an object that is not shown to be this one; whoever asked looks at its bytes.
            StoreError: there is no object.
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
        with suppress(ClientError, BotoCoreError):  # what cannot be aborted now is an orphan for the janitor
            self._bucket.client.abort_multipart_upload(**self._bucket.at(upload.key), UploadId=upload.id)
        upload.id = ""


def probe_key() -> str:
    """A key for a small write that shows what the store understands."""
    return f"probe/{secrets.token_hex(8)}"


def _base64_crc(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(8, "big")).decode()
