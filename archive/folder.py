"""The folder of a recording as a listing shows it: one walk for everything that looks at whole recordings."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from archive import kinds, layout
from archive.kinds import Kind
from archive.stores.store import Store, StoredObject


@dataclass(frozen=True)
class Folder:
    """The objects of one recording.

    Attributes:
        prefix: what their keys begin with, with the slash at its end.
        day: the UTC day of the folder; None if the listing had a key that is not of a recording: that key is the prefix.
        recording_id: the id of the recording; empty likewise.
        objects: the objects by key, in the order of their keys.
    """

    prefix: str
    day: date | None
    recording_id: str
    objects: dict[str, StoredObject]

    def keys_of(self, kind: Kind) -> list[str]:
        """The keys of one kind."""
        return [key for key in self.objects if kinds.kind_in_folder(key.removeprefix(self.prefix)) is kind]

    def has(self, kind: Kind) -> bool:
        """Whether the folder holds an object of a kind."""
        return bool(self.keys_of(kind))


def folders_in(objects: Iterable[StoredObject]) -> Iterator[Folder]:
    """The recordings of a listing in the order of keys."""
    for prefix, found in itertools.groupby(objects, key=lambda stored: _prefix_of(stored.key)):
        few = {stored.key: stored for stored in found}
        yield _folder(prefix, next(iter(few)), few)


def read_folder(store: Store, prefix: str) -> Folder:
    """The folder of one recording, by a listing.

    Raises:
        StoreError: the store does not answer.
    """
    return _folder(prefix, layout.commit_key(prefix), {stored.key: stored for stored in store.list(prefix)})


def _folder(prefix: str, key: str, objects: dict[str, StoredObject]) -> Folder:
    place = layout.recording_of(key)
    return Folder(prefix, None, "", objects) if place is None else Folder(prefix, place[0], place[1], objects)


def _prefix_of(key: str) -> str:
    place = layout.recording_of(key)
    return key if place is None else key.removesuffix(place[2])


def commit_keys(prefix: str, present: Iterable[str]) -> list[str]:
    """The keys of the commit records in the folder of a recording: its own first, then its versions'."""
    own = layout.commit_key(prefix)
    keys = [key for key in present if key == own or layout.is_version(key.removeprefix(prefix))]
    return sorted(keys, key=lambda key: (key != own, key))


def is_not_archived(prefix: str, present: Collection[str]) -> bool:
    """Whether the folder records that its recording is not archived, and the recording has not come since."""
    others = (layout.commit_key(prefix), layout.erasure_key(prefix))
    return layout.not_archived_key(prefix) in present and not any(key in present for key in others)
