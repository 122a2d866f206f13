"""Storage classes of S3: which objects must be restored first, the request that restores one, and the bucket's lifecycle.

A restore makes a copy that can be read for some days; the object itself stays in its class, with its ETag, version and
checksums. An object of `INTELLIGENT_TIERING` in one of its archive tiers becomes readable itself. Sources:
docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreObject.html, API_HeadObject.html (`x-amz-restore`,
`x-amz-archive-status`), API_GetBucketLifecycleConfiguration.html, and for the size below which nothing is moved
docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.exceptions import ClientError

from archive.stores.lifecycle import COLD_CLASSES, LifecycleRule
from archive.stores.s3_bucket import Bucket
from archive.stores.s3_errors import says_unknown, store_errors
from archive.stores.store import RestoreWish, State, StoredObject, StoreError, StoreRefused

STANDARD = "STANDARD"  # the class of an object for which the store names none
_TIERING = "INTELLIGENT_TIERING"
_EXPIRY = re.compile(r'expiry-date="([^"]+)"')
_LEAST_MOVED_BYTES = 128 * 1024  # by AWS, unless a rule or the bucket says otherwise


def class_and_state(headers: Mapping[str, str]) -> tuple[str, State, datetime | None]:
    """The storage class of an object, whether it can be read, and until when, from the headers of a HEAD."""
    storage_class = headers.get("x-amz-storage-class") or STANDARD
    is_cold = storage_class in COLD_CLASSES or "x-amz-archive-status" in headers
    restore = headers.get("x-amz-restore", "")
    if 'ongoing-request="true"' in restore:
        return storage_class, "restoring", None
    if not is_cold:
        return storage_class, "readable", None
    if 'ongoing-request="false"' in restore:
        return storage_class, "readable", _until(restore)
    return storage_class, "cold", None


def _until(restore: str) -> datetime | None:
    found = _EXPIRY.search(restore)
    if found is None:
        return None
    try:
        return parsedate_to_datetime(found[1]).astimezone(UTC)
    except ValueError:  # the store's own form of a time
        return None


def restore(bucket: Bucket, key: str, stored: StoredObject, wish: RestoreWish) -> None:
    """Ask for the restore of a cold object; see `Store.restore`."""
    asked: dict[str, Any] = {"GlacierJobParameters": {"Tier": wish.speed.capitalize()}}
    if stored.storage_class != _TIERING:
        asked["Days"] = wish.days
    try:
        with store_errors(bucket.name(key)):
            bucket.client.restore_object(**bucket.at(key), RestoreRequest=asked)
    except StoreError as error:
        code = _code_of(error)
        if code in ("RestoreAlreadyInProgress", "ObjectAlreadyInActiveTierError"):
            return
        if code == "GlacierExpeditedRetrievalNotAvailable":
            raise StoreRefused(f"{error}; use the speed standard, or try again later") from None
        if wish.speed == "expedited" and code in ("InvalidArgument", "NotImplemented", "InvalidRequest"):
            raise StoreRefused(f"{error}; {stored.storage_class} cannot be restored at the speed expedited") from None
        raise


def lifecycle(bucket: Bucket) -> tuple[LifecycleRule, ...] | None:
    """See `Store.lifecycle`."""
    try:
        with store_errors(bucket.name("")):
            found = bucket.client.get_bucket_lifecycle_configuration(Bucket=bucket.bucket)
    except StoreError as error:
        if _code_of(error) == "NoSuchLifecycleConfiguration":
            return ()
        if not bucket.is_aws and says_unknown(error):
            return None
        raise
    varies = found.get("TransitionDefaultMinimumObjectSize") == "varies_by_storage_class"
    least = 0 if varies or not bucket.is_aws else _LEAST_MOVED_BYTES
    return tuple(
        rule for row in found.get("Rules", ()) if row.get("Status") == "Enabled" for rule in _rules(row, least)
    )


def _rules(row: Mapping[str, Any], least_moved_bytes: int) -> Iterator[LifecycleRule]:
    """What a rule does to objects that are current, an entry for each deed. Older versions are none of ours."""
    name, wanted = str(row.get("ID", "")), row.get("Filter", {})
    wanted = wanted.get("And", wanted)
    prefix = row.get("Prefix") or wanted.get("Prefix") or ""
    tags = {tag["Key"]: tag["Value"] for tag in (*wanted.get("Tags", ()), *filter(None, [wanted.get("Tag")]))}
    least = wanted["ObjectSizeGreaterThan"] + 1 if "ObjectSizeGreaterThan" in wanted else None
    about: dict[str, Any] = {"prefixes": (prefix,) if prefix else (), "tags": tags}
    expiration = row.get("Expiration", {})
    if "Days" in expiration or "Date" in expiration:
        yield LifecycleRule(name, "delete", "", expiration.get("Days"), least_bytes=least or 0, **about)
    for move in row.get("Transitions", ()):
        smallest = least_moved_bytes if least is None else least
        yield LifecycleRule(name, "move", move["StorageClass"], move.get("Days"), least_bytes=smallest, **about)


def _code_of(error: StoreError) -> str:
    answer = error.__cause__
    return str(answer.response.get("Error", {}).get("Code", "")) if isinstance(answer, ClientError) else ""
