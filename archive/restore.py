"""Makes audio readable that lies in cold storage: asks the store for its restore, and says how far it is.

A restore is the store's work and takes minutes to days. Nobody waits for it here: whoever asked looks again later. To ask twice
is to ask once. Sources of the usual times: docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html
and learn.microsoft.com/azure/storage/blobs/archive-rehydrate-overview.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from archive.archive import Archive
from archive.proof import Missing
from archive.stores.store import RestoreWish, Speed, State, StoredObject
from text.counts import many

LONGEST_DAYS = 365
_USUAL: dict[tuple[str, Speed], str] = {
    ("GLACIER", "expedited"): "1 to 5 minutes",
    ("GLACIER", "standard"): "3 to 5 hours",
    ("GLACIER", "bulk"): "5 to 12 hours",
    ("DEEP_ARCHIVE", "standard"): "12 hours",
    ("DEEP_ARCHIVE", "bulk"): "48 hours",
    ("Archive", "expedited"): "an hour",
    ("Archive", "standard"): "15 hours",
    ("Archive", "bulk"): "15 hours",
}


@dataclass(frozen=True)
class Whereabouts:
    """In which storage class an object is, and whether it can be read.

    Attributes:
        key: its key.
        storage_class: as the store names it; None if it has none.
        state: whether its bytes can be read now.
        readable_until: when a restored copy ends; None if nothing ends.
    """

    key: str
    storage_class: str | None
    state: State
    readable_until: datetime | None

    def __str__(self) -> str:
        where = self.storage_class or "cold storage"
        if self.state == "restoring":
            return f"is being restored from {where}"
        if self.state == "cold":
            return f"is in {where} and must be restored before it can be read"
        if self.readable_until is not None:
            return f"was restored from {where} and can be read until {self.readable_until:%Y-%m-%d %H:%M} UTC"
        return "can be read"


def whereabouts(archive: Archive, key: str) -> Whereabouts:
    """Where an object is; one request; blocks.

    Raises:
        Missing: it is not in the archive.
        StoreError: the store does not answer.
    """
    return _of(key, archive.store.stat(key))


def ask_for_restore(archive: Archive, key: str, wish: RestoreWish) -> Whereabouts:
    """Ask for the restore of an object if it is cold; returns where it is then. Blocks.

    Raises:
        Missing: it is not in the archive.
        StoreRefused: the credentials lack the permission, or its class has no such speed.
        StoreError: the store does not answer.
    """
    try:
        archive.store.restore(key, wish)
    except KeyError:
        raise Missing(key, "gone from the archive") from None
    return whereabouts(archive, key)


def said_of(wish: RestoreWish, where: Whereabouts) -> str:
    """What was asked for, how long that takes, and how long the object stays readable then; the end of a sentence."""
    place = where.storage_class or "cold storage"
    usual = _USUAL.get((place, wish.speed))
    said = f"asked for its restore from {place} at the speed {wish.speed}"
    said += f"; usually ready within {usual}" if usual else ""
    return said if place == "Archive" else f"{said}, then readable for {many(wish.days, 'day')}"


def _of(key: str, stored: StoredObject | None) -> Whereabouts:
    if stored is None:
        raise Missing(key, "gone from the archive")
    return Whereabouts(key, stored.storage_class, stored.state, stored.readable_until)
