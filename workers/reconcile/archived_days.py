"""What the archive holds, by day: how reconcile knows what is missing without a request a recording."""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import date
from typing import NamedTuple

from archive import layout
from archive.archive import Archive
from archive.stores.store import StoredObject

_DAYS_REMEMBERED = 4


class _Day(NamedTuple):
    """Sorted hashes of what a day holds."""

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
        return _contains(self._days[day].committed, hash(recording_id))

    def lacks_receipt(self, day: date, recording_id: str) -> bool:
        """Whether a recording of a day is committed and has no receipt of its deletion; not for one that was erased."""
        return _contains(self._days[day].without_receipt, hash(recording_id))

    def has_transcription(self, day: date, recording_id: str, transcription_id: str) -> bool:
        """Whether a transcription lies beside a recording of a day."""
        return _contains(self._days[day].transcribed, hash((recording_id, transcription_id)))

    def is_not_archived(self, day: date, recording_id: str) -> bool:
        """Whether it is on record that a recording of a day is not archived, and it has not come since."""
        return _contains(self._days[day].not_archived, hash(recording_id))

    def is_transcription_not_archived(self, day: date, recording_id: str, transcription_id: str) -> bool:
        """Whether it is on record under a day that a transcription that was made on it is not archived."""
        return _contains(self._days[day].transcriptions_not_archived, hash((recording_id, transcription_id)))

    def load(self, day: date) -> None:
        """List a day; blocks.

        Raises:
            StoreError: the store cannot be listed now.
        """
        found = _Day(*(array("q") for _ in _Day._fields))
        for _, recording_id, names in _recordings(self._archive.store.list(layout.day_prefix(day))):
            if names & {"recording.json", "erased.json"}:
                found.committed.append(hash(recording_id))
            elif "not-archived.json" in names:
                found.not_archived.append(hash(recording_id))
            if "recording.json" in names and not names & {"deleted.json", "erased.json"}:
                found.without_receipt.append(hash(recording_id))
            for name in names:
                if name.startswith("transcriptions/"):
                    found.transcribed.append(hash((recording_id, layout.name_of(name))))
                elif name.startswith("transcriptions-not-archived/"):
                    found.transcriptions_not_archived.append(hash((recording_id, layout.name_of(name))))
        while len(self._days) >= _DAYS_REMEMBERED:
            del self._days[min(self._days)]
        self._days[day] = _Day(*(array("q", sorted(hashes)) for hashes in found))


def without_receipt(objects: Iterable[StoredObject]) -> Iterator[str]:
    """The folders, of a listing in the order of keys, that have a commit record, no receipt, and were not found gone."""
    for folder, _, names in _recordings(objects):
        if "recording.json" in names and not names & {"deleted.json", "gone.json"}:
            yield folder


def _recordings(objects: Iterable[StoredObject]) -> Iterator[tuple[str, str, set[str]]]:
    """Folder and id of each recording of a listing in the order of keys, and the names of what lies there."""
    listed = ((stored.key, place) for stored in objects if (place := layout.recording_of(stored.key)) is not None)
    for folder, keys in itertools.groupby(listed, key=lambda row: row[0].removesuffix(row[1][2])):
        places = [place for _, place in keys]
        yield folder, places[0][1], {place[2] for place in places}


def _contains(sorted_hashes: array[int], value: int) -> bool:
    place = bisect_left(sorted_hashes, value)
    return place < len(sorted_hashes) and sorted_hashes[place] == value
