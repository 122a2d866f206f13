"""The access tiers of Azure, and which blobs must be rehydrated first.

Source: learn.microsoft.com/azure/storage/blobs/archive-rehydrate-overview.
"""

from __future__ import annotations

from typing import Any

from azure.storage.blob import StandardBlobTier

from archive.stores.store import State, StoreRefused

ARCHIVE, RESTORED = "Archive", "Cool"


def state_of(found: Any) -> State:
    """Whether a blob can be read, from its properties."""
    if text_of(found.blob_tier) != ARCHIVE:
        return "readable"
    return "restoring" if (text_of(found.archive_status) or "").startswith("rehydrate-pending") else "cold"


def text_of(value: Any) -> str | None:
    """What the SDK gives as text or as an enumeration, as text; None if it gives nothing."""
    return None if value is None else str(getattr(value, "value", value))


def tier_of(url: str, name: str) -> StandardBlobTier:
    """The tier of a name.

    Raises:
        StoreRefused: Azure has no such tier.
    """
    for tier in StandardBlobTier:
        if str(tier.value).lower() == name.lower():
            return tier
    tiers = ", ".join(str(tier.value) for tier in StandardBlobTier)
    raise StoreRefused(f"{url}: CALLVAULT_STORAGE_CLASS: {name[:40]!r} is no access tier; expected one of {tiers}")
