"""The folders of the archive as a listing shows them: one walk for everything that looks at more than one object at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import date
from typing import TypeVar

import msgspec

from archive import kinds, layout
from archive.kinds import Kind, Place
from archive.stores.store import Store, StoredObject

T = TypeVar("T")


class Folder(msgspec.Struct, frozen=True):
    """The objects of one recording, or of one content of a medium; any other object is a folder of its own.

    Attributes:
        prefix: what their keys begin with, with the slash at its end; the key of an object that is alone.
        day: the UTC day that it lies under; None if it lies under none.
        recording_id: the id of the recording; empty if this is not the folder of one.
        objects: the objects by key, in the order of their keys.
        places: what each key says.
    """

    prefix: str
    day: date | None
    recording_id: str
    objects: dict[str, StoredObject]
    places: dict[str, Place]

    def keys_of(self, *wanted: Kind) -> list[str]:
        """The keys of some kinds."""
        return [key for key, place in self.places.items() if place.kind in wanted]

    def has(self, *wanted: Kind) -> bool:
        """Whether the folder holds an object of one of some kinds."""
        return any(place.kind in wanted for place in self.places.values())


def folders_in(objects: Iterable[StoredObject]) -> Iterator[Folder]:
    """The folders of a listing in the order of keys."""
    for found in by_folder(objects, lambda stored: stored.key):
        yield _folder(found[0][1], found)


def read_folder(store: Store, prefix: str) -> Folder:
    """The folder of one recording, by a listing.

    Raises:
        StoreError: the store does not answer.
    """
    return _folder(kinds.place_of(prefix), ((stored, kinds.place_of(stored.key)) for stored in store.list(prefix)))


def less_now(store: Store, folder: str, listed: Collection[str]) -> Folder | None:
    """A folder as it is now, if something of it went since it was listed and a record in it says that things go; else None.

    For whoever found something wrong: an erasure or a disposal may be under way, which writes its record first.

    Args:
        store: of the archive.
        folder: what its keys begin with.
        listed: its keys as they were listed.

    Raises:
        StoreError: the store does not answer.
    """
    now = read_folder(store, folder)
    return now if now.has(*kinds.REMOVALS) and not now.objects.keys() >= set(listed) else None


def by_folder(rows: Iterable[T], key_of: Callable[[T], str]) -> Iterator[list[tuple[T, Place]]]:
    """The rows of each folder, each with what its key says; the rows come in the order of their keys."""
    found: list[tuple[T, Place]] = []
    place = None
    for row in rows:
        place = kinds.place_after(key_of(row), place)
        if found and place.folder != found[0][1].folder:
            yield found
            found = []
        found.append((row, place))
    if found:
        yield found


def _folder(of: Place, found: Iterable[tuple[StoredObject, Place]]) -> Folder:
    rows = list(found)
    objects, places = {one.key: one for one, _ in rows}, {one.key: place for one, place in rows}
    return Folder(of.folder, of.day, of.recording_id, objects, places)


def commit_keys(keys: Iterable[str]) -> list[str]:
    """Of the keys of a recording's folder those of the commit records: its own first, then its versions'."""
    found = ((kinds.kind_of(key), key) for key in keys)
    committed = [(kind is kinds.VERSION, key) for kind, key in found if kind in (kinds.COMMIT, kinds.VERSION)]
    return [key for _, key in sorted(committed)]


def is_not_archived(prefix: str, present: Collection[str]) -> bool:
    """Whether the folder records that its recording is not archived, and the recording has not come since."""
    others = (layout.commit_key(prefix), layout.erasure_key(prefix))
    return layout.not_archived_key(prefix) in present and not any(key in present for key in others)
