"""Makes audio readable that lies in cold storage: asks the store for its restore, and says how far it is.

A restore is the store's work and takes minutes to days. Nobody waits for it here: whoever asked looks again later. To ask twice
is to ask once. Sources of the usual times: docs.aws.amazon.com/AmazonS3/latest/userguide/restoring-objects-retrieval-options.html
and learn.microsoft.com/azure/storage/blobs/archive-rehydrate-overview.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from archive.ahead import ahead
from archive.archive import Archive
from archive.proof import Missing
from archive.stores.store import RestoreWish, Speed, StoredObject, StoreError
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


def look_at(archive: Archive, key: str) -> StoredObject:
    """An object as the store describes it; one request; blocks.

    Raises:
        Missing: it is not in the archive.
        StoreError: the store does not answer.
    """
    stored = archive.store.stat(key)
    if stored is None:
        raise Missing(key, "gone from the archive")
    return stored


def ask_for_restore(archive: Archive, key: str, wish: RestoreWish) -> StoredObject:
    """Ask for the restore of an object if it is cold; returns how it is then. Blocks.

    Raises:
        Missing: it is not in the archive.
        StoreRefused: the credentials lack the permission, or its class has no such speed.
        StoreError: the store does not answer.
    """
    try:
        archive.store.restore(key, wish)
    except KeyError:
        raise Missing(key, "gone from the archive") from None
    return look_at(archive, key)


def look_at_each(archive: Archive, keys: Iterable[str]) -> Iterator[StoredObject | StoreError]:
    """Each object as the store describes it, or why it cannot; in the order of the keys, without those that are gone. Blocks."""
    return _for_each(keys, lambda key: look_at(archive, key))


def ask_for_each(archive: Archive, keys: Iterable[str], wish: RestoreWish) -> Iterator[StoredObject | StoreError]:
    """Ask for the restore of each object that is cold, several at once, each whatever becomes of the others; blocks.

    Args:
        archive: the archive.
        keys: of the objects.
        wish: how to restore them.

    Yields:
        Each as it is then, or why it could not be asked for; in the order of the keys, without those that are gone.
    """
    return _for_each(keys, lambda key: ask_for_restore(archive, key, wish))


def _for_each(keys: Iterable[str], do: Callable[[str], StoredObject]) -> Iterator[StoredObject | StoreError]:
    def one(key: str) -> StoredObject | StoreError | None:
        try:
            return do(key)
        except Missing:
            return None
        except StoreError as error:
            return error

    return (found for found in ahead(keys, one) if found is not None)


def state_of(stored: StoredObject) -> str:
    """Whether an object can be read, and where it is; the end of a sentence."""
    where = stored.storage_class or "cold storage"
    if stored.state == "restoring":
        return f"is being restored from {where}"
    if stored.state == "cold":
        return f"is in {where} and must be restored before it can be read"
    if stored.readable_until is not None:
        return f"was restored from {where} and can be read until {stored.readable_until:%Y-%m-%d %H:%M} UTC"
    return "can be read"


def said_of(wish: RestoreWish, stored: StoredObject) -> str:
    """What was asked for, how long that takes, and how long the object stays readable then; the end of a sentence."""
    place = stored.storage_class or "cold storage"
    usual = _USUAL.get((place, wish.speed))
    said = f"asked for its restore from {place} at the speed {wish.speed}"
    said += f"; usually ready within {usual}" if usual else ""
    return said if place == "Archive" else f"{said}, then readable for {many(wish.days, 'day')}"
