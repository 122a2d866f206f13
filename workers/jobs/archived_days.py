"""What the archive holds, by day: how reconcile knows what is missing without a request a recording."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from datetime import date

from workers.archive import layout
from workers.archive.archive import Archive

_DAYS_REMEMBERED = 4


class ArchivedDays:
    """What the archive holds, by day, as sorted hashes; a few days are remembered.

    A hash that happens to be another's would hide a missing recording until the next sweep, whose process hashes
    differently.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._days: dict[date, tuple[array[int], array[int]]] = {}

    def knows(self, day: date) -> bool:
        """Whether a day has been listed; else `load` it first."""
        return day in self._days

    def has_recording(self, day: date, recording_id: str) -> bool:
        """Whether a recording of a day is committed."""
        return _contains(self._days[day][0], hash(recording_id))

    def has_transcription(self, day: date, recording_id: str, transcription_id: str) -> bool:
        """Whether a transcription lies beside a recording of a day."""
        return _contains(self._days[day][1], hash((recording_id, transcription_id)))

    def load(self, day: date) -> None:
        """List a day; blocks.

        Raises:
            StoreError: the store cannot be listed now.
        """
        committed, transcribed = array("q"), array("q")
        for stored in self._archive.store.list(layout.day_prefix(day)):
            place = layout.recording_of(stored.key)
            if place is None:
                continue
            _, recording_id, name = place
            if name in ("recording.json", "erased.json"):  # what was erased is not to come back
                committed.append(hash(recording_id))
            elif name.startswith("transcriptions/"):
                transcribed.append(hash((recording_id, layout.transcription_of(name))))
        while len(self._days) >= _DAYS_REMEMBERED:
            del self._days[min(self._days)]
        self._days[day] = (array("q", sorted(committed)), array("q", sorted(transcribed)))


def _contains(sorted_hashes: array[int], value: int) -> bool:
    place = bisect_left(sorted_hashes, value)
    return place < len(sorted_hashes) and sorted_hashes[place] == value
