"""Translates the errors of S3 and compatible stores into store errors."""

from __future__ import annotations

from contextlib import AbstractContextManager

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from urllib3.exceptions import HTTPError

from archive.stores.store import KeyExists, StoreError, StoreRefused, errors_as

_MISSING = ("404", "NoSuchKey", "NotFound")
COLD = "InvalidObjectState"
_CHECKED = ("BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch")
# Answers to an unknown header; some are misleading ones about credentials and signatures. One such answer proves nothing:
# healthy stores give some of them for a moment.
_NOT_UNDERSTOOD = {
    "NotImplemented",
    "InvalidArgument",
    "InvalidRequest",
    "UnsupportedHeader",
    "MalformedHeader",
    "SignatureDoesNotMatch",
    "Unauthorized",
    "AccessDenied",
    "400",
    "401",
    "403",
    "501",
}
# These are about the credentials or the clock, whatever the headers.
_CREDENTIALS = {"InvalidAccessKeyId", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "RequestTimeTooSkewed"}
# These have status 400 but are about the connection or the load, and pass.
_PASSING = {"RequestTimeout", "IncompleteBody", "RequestTimeoutException", "PriorRequestNotComplete"}
# Answers to an unknown operation.
_UNKNOWN = {
    "NotImplemented",
    "MethodNotAllowed",
    "UnsupportedOperation",
    "InvalidRequest",
    "InvalidArgument",
    "405",
    "501",
}
_PERMISSIONS = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "HeadObject": "s3:GetObject and s3:ListBucket",
    "GetObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "RestoreObject": "s3:RestoreObject",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
}


class Missing(StoreError):
    """The key is not in use."""


class OutOfRange(StoreError):
    """The object ends before the range begins."""


class Cold(StoreError):
    """The object must be restored before it can be read."""


class BadDigest(StoreError):
    """The store received bytes that do not match the checksum."""


class WriteUnderWay(StoreError):
    """Another write of the same key is in progress; retry."""


class NoUpload(StoreError):
    """The store has no such multipart upload: it was completed, aborted, or never begun."""


class NotUnderstood(StoreRefused):
    """The store refused the request, maybe for a header that it does not know."""


def says_unknown(error: StoreError) -> bool:
    """Whether an error means that the store does not know the operation."""
    answer = error.__cause__
    if not isinstance(answer, ClientError):
        return False
    code = str(answer.response.get("Error", {}).get("Code", ""))
    return code in _UNKNOWN or answer.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in (405, 501)


def store_errors(name: str) -> AbstractContextManager[None]:
    """Translate the exceptions of boto3 into store errors about the object with this name."""
    return errors_as(lambda error: _error_of(name, error))


def _error_of(name: str, error: Exception) -> Exception | None:
    if isinstance(error, ClientError):
        return _answer(name, error)
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        line = f"{name}: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role"
        return StoreRefused(line)
    if isinstance(error, ParamValidationError):  # a name that no store can have; botocore's text has two lines
        return StoreRefused(f"{name}: {' '.join(str(error).split())}")
    if isinstance(error, (BotoCoreError, Boto3Error, HTTPError, OSError)):  # the last two while a body is read
        return StoreError(f"{name}: {error}")
    return None


def _answer(name: str, error: ClientError) -> Exception:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    what = error.operation_name
    if code == "NoSuchBucket":
        return StoreRefused(f"{name}: the bucket does not exist; create it or correct the address")
    if code in _MISSING:
        return Missing(name)
    if code == "NoSuchUpload":
        return NoUpload(f"{name}: the store has ended the upload")
    if status == 412 or code == "PreconditionFailed":
        return KeyExists(name)
    if status == 409 or code == "ConditionalRequestConflict":
        return WriteUnderWay(f"{name}: another write is in progress")
    if status == 416:
        return OutOfRange(name)
    if code == COLD and what == "GetObject":
        return Cold(name)
    message = " ".join(str(error.response.get("Error", {}).get("Message", "")).split())
    line = f"{name}: {what}: {code} {message}".rstrip()
    if code in _CHECKED:
        return BadDigest(f"{line}; the body was damaged in transit")
    if code in _PASSING:
        return StoreError(line)
    if code in _CREDENTIALS:
        return StoreRefused(line)
    if code in _NOT_UNDERSTOOD or status in (400, 401, 403, 501):
        permission = _PERMISSIONS.get(what)
        hint = (
            f"; the credentials need {permission}"
            if permission and status == 403 and code != "SignatureDoesNotMatch"
            else ""
        )
        return NotUnderstood(line + hint)
    return StoreError(line)
