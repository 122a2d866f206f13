"""Translates the errors of Azure Blob Storage into store errors."""

from __future__ import annotations

from contextlib import AbstractContextManager

import requests
from azure.core.exceptions import AzureError, ClientAuthenticationError, ResourceExistsError, ResourceNotFoundError
from urllib3.exceptions import HTTPError

from archive.stores.ranges import OtherRange
from archive.stores.store import KeyExists, StoreError, StoreRefused, errors_as

_LOCKS = {"BlobImmutableDueToPolicy": "a retention lock", "BlobImmutableDueToLegalHold": "a legal hold"}


class Missing(StoreError):
    """The key is not in use."""


class Cold(StoreError):
    """The blob must be rehydrated before it can be read."""


class OutOfRange(StoreError):
    """The blob ends before the range begins."""


class NoBlocks(StoreError):
    """The store has none of the blocks that an upload has staged."""


def store_errors(name: str, *, is_write: bool = False) -> AbstractContextManager[None]:
    """Translate the exceptions of the SDK into store errors about the object with this name."""
    return errors_as(lambda error: _error_of(name, error, is_write=is_write))


def _error_of(name: str, error: Exception, *, is_write: bool) -> Exception | None:
    if isinstance(error, OtherRange):
        return StoreError(f"{name}: {error}")
    if isinstance(error, (requests.RequestException, HTTPError, OSError)):  # let through while a body is read
        return StoreError(f"{name}: {type(error).__name__} {error}")
    if not isinstance(error, AzureError):
        return None
    raw = getattr(error, "error_code", "")  # the SDK gives some as text and some as an enumeration
    code = str(getattr(raw, "value", raw) or "")
    status = getattr(error, "status_code", None)
    text = " ".join(str(error).split())[:300]
    is_there = isinstance(error, ResourceExistsError) and code in ("BlobAlreadyExists", "ConditionNotMet")
    if is_there or status == 412:
        return KeyExists(name) if is_write else StoreError(f"{name}: the object changed while it was read")
    if code == "ContainerNotFound":
        return StoreRefused(f"{name}: the container does not exist; create it or correct the address")
    if isinstance(error, ResourceNotFoundError) or status == 404:
        return Missing(name)
    if status == 416:
        return OutOfRange(name)
    if code in ("BlobArchived", "BlobBeingRehydrated"):  # so there is one
        return KeyExists(name) if is_write else Cold(f"{name}: it is in the tier Archive")
    if code == "InvalidBlockList":
        return NoBlocks(f"{name}: the store dropped the blocks of the upload; the upload starts again")
    if isinstance(error, ClientAuthenticationError) or status in (401, 403):
        role = "the role Storage Blob Data Contributor, or a SAS with create, write, read and list"
        return StoreRefused(f"{name}: {code or status} {text}; the credentials need {role}")
    if code in _LOCKS and not is_write:
        return StoreRefused(f"{name}: {_LOCKS[code]} forbids this; wait until it ends, or lift it")
    if status == 409:
        return StoreError(f"{name}: {code}; another operation is in progress")
    return StoreError(f"{name}: {type(error).__name__} {text}")
