"""An S3 bucket: its clients, object names, frequent requests, and the options of every upload."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import boto3
from botocore.awsrequest import AWSHTTPConnectionPool, AWSHTTPSConnectionPool
from botocore.config import Config

from archive.layout import name_in_bucket
from archive.source import Source
from archive.stores import lines
from archive.stores.s3_errors import store_errors
from archive.stores.s3_fallbacks import Fallback
from archive.stores.s3_lean import Answer, Lean, Request
from archive.stores.store import StoreError, StoreOptions, split_url

_POOLS = {"http": lines.in_pieces(AWSHTTPConnectionPool), "https": lines.in_pieces(AWSHTTPSConnectionPool)}
# The arguments that we give boto3 for a put, and the headers that they become.
_HEADERS = {
    "ChecksumCRC64NVME": "x-amz-checksum-crc64nvme",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ContentMD5": "content-md5",
    "ContentType": "content-type",
    "IfNoneMatch": "if-none-match",
    "ObjectLockMode": "x-amz-object-lock-mode",
    "ObjectLockRetainUntilDate": "x-amz-object-lock-retain-until-date",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "StorageClass": "x-amz-storage-class",
    "Tagging": "x-amz-tagging",
}


class Bucket:
    """A bucket, or a prefix of one; settings of boto3 (`AWS_*`) keep their meaning.

    Attributes:
        url: of the archive.
        is_aws: whether its endpoint is AWS's own.
        options: what the user wants of every object.
        client: boto3's.
    """

    def __init__(self, url: str, options: StoreOptions) -> None:
        self.url = url
        self.options = options
        self.bucket, self.prefix = split_url(url)
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
        self.client = _in_pieces(session.client("s3", config=common))
        self._lean = Lean(self.client, session.get_credentials(), self.bucket, url)
        # With no checksum header, botocore would send UNSIGNED-PAYLOAD over TLS: no integrity at all.
        signing = common.merge(Config(s3={"payload_signing_enabled": True}))
        self._signing = _in_pieces(session.client("s3", config=signing))
        self._presigning = session.client("s3", config=common.merge(Config(signature_version="s3v4")))
        host = urlsplit(self.client.meta.endpoint_url).hostname or ""
        self.is_aws = host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    def head(self, key: str) -> Mapping[str, str]:
        """The headers that describe an object.

        Raises:
            Missing: there is no such object.
        """
        place = self.at(key)
        request = Request("HEAD", place["Key"], self.name(key), {"x-amz-checksum-mode": "ENABLED"})
        with store_errors(request.name):
            answer = self._lean.send(request, lambda: self.client.head_object(**place, ChecksumMode="ENABLED"))
        return answer.headers

    def ask_head(self, key: str) -> Callable[[], Mapping[str, str]] | None:
        """The same without waiting: a call of the result waits. None if no open connection is free for it."""
        place = self.at(key)
        request = Request("HEAD", place["Key"], self.name(key), {"x-amz-checksum-mode": "ENABLED"})
        asked = self._lean.ask(request, lambda: self.client.head_object(**place, ChecksumMode="ENABLED"))
        if asked is None:
            return None

        def headers() -> Mapping[str, str]:
            with store_errors(request.name):
                return asked().headers

        return headers

    def get(self, key: str, span: str | None) -> Answer:
        """An object, or a span of its bytes as the header `Range` writes it.

        Raises:
            Missing: there is no such object.
            OutOfRange: it ends before the span begins.
        """
        place = self.at(key)
        named = {"Range": span} if span else {}
        request = Request("GET", place["Key"], self.name(key), {"range": span} if span else {})
        with store_errors(request.name):
            return self._lean.send(request, lambda: self.client.get_object(**place, **named))

    def put(self, key: str, body: bytes, sha256: str, fallback: Fallback, wishes: dict[str, Any]) -> Mapping[str, str]:
        """Put an object in one request, create-only and with the checksum that the fallback sends.

        Returns:
            The headers of the answer.

        Raises:
            KeyExists: there is one already.
        """
        place = self.at(key)
        integrity = {"ChecksumSHA256": in_base64(sha256)} if fallback.checksums else {}
        arguments = wishes | (md5_of(body) if fallback.md5 else integrity) | condition(fallback)
        request = Request("PUT", place["Key"], self.name(key), _headers_of(arguments), body, sha256)
        with store_errors(request.name):
            put = self.client_of(fallback).put_object
            return self._lean.send(request, lambda: put(**place, Body=body, **arguments)).headers

    def put_part(self, key: str, upload_id: str, number: int, part: bytes, fallback: Fallback, crc: str) -> str:
        """Send a part of a multipart upload, with the checksum that the fallback sends.

        Args:
            key: the key of the object.
            upload_id: the store's id of the upload.
            number: the number of the part, from 1.
            part: its bytes.
            fallback: the fallback in use.
            crc: the CRC-64/NVME of the part, in base64.

        Returns:
            The ETag of the part, which completes the upload.
        """
        arguments = {"ChecksumCRC64NVME": crc} if fallback.checksums else md5_of(part) if fallback.md5 else {}
        sha256 = hashlib.sha256(part).hexdigest()
        place = self.at(key)
        query = (("partNumber", str(number)), ("uploadId", upload_id))
        request = Request("PUT", place["Key"], self.name(key), _headers_of(arguments), part, sha256, query)
        named = {**place, "UploadId": upload_id, "PartNumber": number, **arguments}
        with store_errors(request.name):
            answer = self._lean.send(request, lambda: self.client_of(fallback).upload_part(**named, Body=part))
        if (etag := answer.headers.get("etag")) is None:
            raise StoreError(f"{request.name}: the store's answer has no ETag for part {number}")
        return etag

    def client_of(self, fallback: Fallback) -> Any:
        """The boto3 client for writes with a fallback."""
        return self.client if fallback.checksums else self._signing

    def at(self, key: str) -> dict[str, str]:
        """The bucket and key of an object, as boto3 arguments."""
        return {"Bucket": self.bucket, "Key": name_in_bucket(key, self.prefix)}

    def name(self, key: str) -> str:
        """An object's own address, for errors."""
        return f"s3://{self.bucket}/{self.at(key)['Key']}"

    def presign(self, key: str, seconds: int) -> str:
        """An address for a while. AWS wants signature version 4."""
        with store_errors(self.name(key)):
            url = self._presigning.generate_presigned_url("get_object", Params=self.at(key), ExpiresIn=seconds)
        return str(url)

    def wishes(self, content_type: str, attributes: Mapping[str, str], source: Source) -> dict[str, Any]:
        """The user's options for an object, as boto3 arguments for the first request of its upload."""
        options = self.options
        extra: dict[str, Any] = {"ContentType": content_type}
        if options.encryption_key:
            extra |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": options.encryption_key}
        if (storage_class := options.class_of(content_type)) is not None:
            extra["StorageClass"] = storage_class
        if (until := options.lock_end(source)) is not None:
            extra["ObjectLockMode"] = options.retention_mode.upper()
            extra["ObjectLockRetainUntilDate"] = until.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if options.label == "metadata" and attributes:
            extra["Metadata"] = dict(attributes)
        if options.label == "tags" and attributes:
            extra["Tagging"] = urlencode(attributes)
        return extra

    def assert_goes_on(self, page: Mapping[str, Any], token: str, prefix: str) -> None:
        """Raise StoreError if a truncated page has no token: the SDK would take it for the last page."""
        if page.get("IsTruncated") and not page.get(token):
            raise StoreError(f"{self.name(prefix)}: the store's listing is incomplete and has no token to continue")


def condition(fallback: Fallback) -> dict[str, str]:
    """The boto3 arguments that ask for create-only with a fallback."""
    return {"IfNoneMatch": "*"} if fallback.conditions else {}


def md5_of(body: bytes) -> dict[str, str]:
    """The boto3 argument for the `Content-MD5` of a body."""
    return {"ContentMD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()}


def in_base64(hexadecimal: str) -> str:
    """A hexadecimal digest as S3 writes it."""
    return base64.b64encode(bytes.fromhex(hexadecimal)).decode()


def _headers_of(arguments: Mapping[str, Any]) -> dict[str, str]:
    """The HTTP headers for the boto3 arguments of a put."""
    headers = {_HEADERS[name]: value for name, value in arguments.items() if name != "Metadata"}
    return headers | {f"x-amz-meta-{name.lower()}": value for name, value in arguments.get("Metadata", {}).items()}


def _in_pieces(client: Any) -> Any:
    """Make the client's connections send in pieces. botocore has no option for it, but one table of its pools."""
    client._endpoint.http_session._pool_classes_by_scheme.update(_POOLS)
    return client
