"""A lifecycle rule that moves the audio of an archive to a cheaper class and leaves everything else, as each store writes it.

`lifecycle.py` says how a rule tells audio from records. Sources: docs.aws.amazon.com/AmazonS3/latest/userguide/
lifecycle-configuration-examples.html, cloud.google.com/storage/docs/lifecycle-configurations and
learn.microsoft.com/azure/storage/blobs/lifecycle-management-policy-structure.
"""

from __future__ import annotations

from typing import Any

from archive.stores.lifecycle import AUDIO_ENDS, AUDIO_TAG, LEAST_AUDIO_BYTES
from archive.stores.store import split_url
from text.errors import UserError

# The classes that a rule can move to, by the scheme of the archive.
TARGETS = {
    "s3": ("STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"),
    "gs": ("NEARLINE", "COLDLINE", "ARCHIVE"),
    "az": ("Cool", "Cold", "Archive"),
}
_NAME = "callvault-audio"
_STAYS_RESTORED_DAYS = 7


def target_of(archive_url: str, name: str) -> str:
    """The storage class of a name, in the store's own letters.

    Raises:
        UserError: the store has no such class to move to.
    """
    scheme = archive_url.partition("://")[0]
    classes = TARGETS.get(scheme, ())
    found = next((one for one in classes if one.lower() == name.lower()), None)
    if found is None:
        expected = f"expected {', '.join(classes[:-1])} or {classes[-1]}" if classes else "a folder has none"
        raise UserError(f"cannot move audio to the storage class {name[:40]!r}; {expected}")
    return found


def least_bytes_of(archive_url: str) -> int:
    """The size from which the rule of a store takes audio: S3 tells it from records by size alone."""
    return LEAST_AUDIO_BYTES if archive_url.startswith("s3://") else 0


def audio_rule(archive_url: str, storage_class: str, after_days: int) -> dict[str, Any]:
    """The lifecycle configuration of a bucket, ready for the store's own tool.

    Args:
        archive_url: of the archive.
        storage_class: where audio goes, a value of `target_of`.
        after_days: of its age.
    """
    scheme = archive_url.partition("://")[0]
    bucket, prefix = split_url(archive_url)
    folder = f"{prefix}recordings/"
    if scheme == "s3":
        # S3 takes objects that are larger than this number.
        wanted = {"Prefix": folder, "ObjectSizeGreaterThan": LEAST_AUDIO_BYTES - 1}
        moves = [{"Days": after_days, "StorageClass": storage_class}]
        return {"Rules": [{"ID": _NAME, "Status": "Enabled", "Filter": {"And": wanted}, "Transitions": moves}]}
    if scheme == "gs":
        action = {"type": "SetStorageClass", "storageClass": storage_class}
        condition = {"age": after_days, "matchesPrefix": [folder], "matchesSuffix": [*AUDIO_ENDS]}
        return {"rule": [{"action": action, "condition": condition}]}
    move = {"daysAfterModificationGreaterThan": after_days}
    if storage_class == "Archive":  # else a restored blob would go back at once
        move["daysAfterLastTierChangeGreaterThan"] = _STAYS_RESTORED_DAYS
    tag = {"name": AUDIO_TAG[0], "op": "==", "value": AUDIO_TAG[1]}
    filters = {"blobTypes": ["blockBlob"], "prefixMatch": [f"{bucket}/{folder}"], "blobIndexMatch": [tag]}
    definition = {"actions": {"baseBlob": {f"tierTo{storage_class}": move}}, "filters": filters}
    return {"rules": [{"enabled": True, "name": _NAME, "type": "Lifecycle", "definition": definition}]}
