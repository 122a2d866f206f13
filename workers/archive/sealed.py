"""Which commit records the seals list: read from the manifests of a day, and remembered of a few days."""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left
from datetime import date

from workers.archive import layout
from workers.archive.archive import Archive
from workers.archive.seals import Chain, lines_of

_DAYS_REMEMBERED = 8


class SealedRecordings:
    """The commit records that seals list, by day, eight bytes each. A manifest never changes, so what was read stays true.

    Attributes:
        chain: the seals as far as they are known here; None at the start.
        reading: held by whoever reads, so that a day is read once.
    """

    def __init__(self, archive: Archive) -> None:
        self.chain: Chain | None = None
        self.reading = asyncio.Lock()
        self._archive = archive
        self._days: dict[date, tuple[int, array[int]]] = {}  # how many seals have been read, and what they list

    def lists(self, key: str) -> bool:
        """Whether a seal that has been read lists a commit record."""
        day = layout.day_of(key)
        listed = self._days[day][1] if day in self._days else array("q")
        place = bisect_left(listed, hash(key))
        return place < len(listed) and listed[place] == hash(key)

    def read_day(self, day: date | None) -> None:
        """Read the manifests of a day, unless no seal has come to it since; blocks.

        Raises:
            UnreadableRecord: a manifest cannot be read, or is not the one of its seal.
            StoreError: the store cannot be read now.
        """
        links = self.chain.of_day(day) if self.chain is not None and day is not None else []
        if day is None or not links or self._days.get(day, (0,))[0] == len(links):
            return
        found = [
            hash(key)
            for link in links
            for _, key in lines_of(self._archive, link)
            if (place := layout.recording_of(key)) is not None and place[2] == "recording.json"
        ]
        while len(self._days) >= _DAYS_REMEMBERED:
            del self._days[next(iter(self._days))]
        self._days[day] = (len(links), array("q", sorted(found)))
