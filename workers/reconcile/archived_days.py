"""What the archive holds, by day: how reconcile knows what is missing without a request a recording."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import date
from typing import NamedTuple

from archive import kinds, layout
from archive.archive import Archive
from archive.folder import Folder, folders_in
from archive.stores.store import StoredObject

_DAYS_REMEMBERED = 4


class _Day(NamedTuple):
    """Sorted hashes of the folders of what a day holds, and of the keys of transcriptions and of their records."""

    committed: array[int]  # or erased: what was erased is not to come back
    without_receipt: array[int]
    not_archived: array[int]
    transcribed: array[int]
    transcriptions_not_archived: array[int]


class ArchivedDays:
    """What the archive holds, by day, as sorted hashes; a few days are remembered.

    A hash that happens to be another's would hide a missing recording until another process reconciles, which hashes
    differently.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._days: dict[date, _Day] = {}

    def knows(self, day: date) -> bool:
        """Whether a day has been listed; else `load` it first."""
        return day in self._days

    def has_recording(self, day: date, recording_id: str) -> bool:
        """Whether a recording of a day is committed."""
        return _contains(self._days[day].committed, layout.recording_folder(day, recording_id))

    def lacks_receipt(self, day: date, recording_id: str) -> bool:
        """Whether a recording of a day is committed and has no receipt of its deletion; not for one that was erased."""
        return _contains(self._days[day].without_receipt, layout.recording_folder(day, recording_id))

    def has_transcription(self, day: date, recording_id: str, transcription_id: str) -> bool:
        """Whether a transcription lies beside a recording of a day."""
        key = layout.transcription_key(layout.recording_folder(day, recording_id), transcription_id)
        return _contains(self._days[day].transcribed, key)

    def is_not_archived(self, day: date, recording_id: str) -> bool:
        """Whether it is on record that a recording of a day is not archived, and it has not come since."""
        return _contains(self._days[day].not_archived, layout.recording_folder(day, recording_id))

    def is_transcription_not_archived(self, day: date, recording_id: str, transcription_id: str) -> bool:
        """Whether it is on record under a day that a transcription that was made on it is not archived."""
        key = layout.transcription_not_archived_key(day, recording_id, transcription_id)
        return _contains(self._days[day].transcriptions_not_archived, key)

    def load(self, day: date) -> None:
        """List a day; blocks.

        Raises:
            StoreError: the store cannot be listed now.
        """
        for _ in self.walk(day):
            pass

    def walk(self, day: date) -> Iterator[str]:
        """List a day; yields the folders that `without_receipt` yields, and remembers the day at the end; blocks.

        Raises:
            StoreError: the store cannot be listed now.
        """
        found = _Day(*(array("q") for _ in _Day._fields))
        for folder in folders_in(self._archive.store.list(layout.day_prefix(day))):
            if folder.has(kinds.COMMIT, kinds.ERASURE):
                found.committed.append(hash(folder.prefix))
            elif folder.has(kinds.NOT_ARCHIVED):
                found.not_archived.append(hash(folder.prefix))
            if folder.has(kinds.COMMIT) and not folder.has(kinds.RECEIPT, kinds.ERASURE):
                found.without_receipt.append(hash(folder.prefix))
            found.transcribed.extend(map(hash, folder.keys_of(kinds.TRANSCRIPTION)))
            found.transcriptions_not_archived.extend(map(hash, folder.keys_of(kinds.TRANSCRIPTION_NOT_ARCHIVED)))
            if _lacks_receipt(folder):
                yield folder.prefix
        while len(self._days) >= _DAYS_REMEMBERED:
            del self._days[min(self._days)]
        self._days[day] = _Day(*(array("q", sorted(hashes)) for hashes in found))


def without_receipt(objects: Iterable[StoredObject]) -> Iterator[str]:
    """The folders, of a listing in the order of keys, that have a commit record, no receipt, and were not found gone."""
    return (folder.prefix for folder in folders_in(objects) if _lacks_receipt(folder))


def _lacks_receipt(folder: Folder) -> bool:
    return folder.has(kinds.COMMIT) and not folder.has(kinds.RECEIPT, kinds.GONE)


def _contains(sorted_hashes: array[int], text: str) -> bool:
    value = hash(text)
    place = bisect_left(sorted_hashes, value)
    return place < len(sorted_hashes) and sorted_hashes[place] == value
