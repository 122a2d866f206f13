"""Which commit records the seals list: read from the manifests of a day, and cached, eight days at most."""

from __future__ import annotations

import asyncio
from array import array
from bisect import bisect_left
from datetime import date

from archive import kinds, layout
from archive.archive import Archive
from archive.seals import Chain, Link, lines_of

_DAYS_REMEMBERED = 8


class SealedRecordings:
    """The commit records that the seals of a chain list, by day, eight bytes each.

    A manifest never changes, so a cached day stays valid while the chain holds the seals that it was read from.

    Attributes:
        reading: held while a day is read, so that each day is read once.
    """

    def __init__(self, archive: Archive) -> None:
        self.reading = asyncio.Lock()
        self._archive = archive
        self._chain: Chain | None = None
        self._days: dict[date, tuple[list[str], array[int]]] = {}  # which seals have been read, and what they list

    @property
    def seals(self) -> int | None:
        """The number of seals in the followed chain; None at the start."""
        return None if self._chain is None else len(self._chain.links)

    @property
    def last(self) -> Link | None:
        """The last seal of the followed chain; None for an empty chain."""
        return self._chain.links[-1] if self._chain is not None and self._chain.links else None

    def follow(self, chain: Chain) -> None:
        """Follow a chain; forget the days that have other seals in it."""
        self._chain = chain
        self._days = {day: known for day, known in self._days.items() if known[0] == _seals_of(chain, day)}

    def lists(self, key: str) -> bool | None:
        """Whether a seal of the followed chain lists a commit record; None if its day must be read first."""
        day, chain = layout.day_of(key), self._chain
        if day is None:
            return False
        read = self._days.get(day)  # once: a thread that reads another day may drop this one
        if read is None:
            return False if chain is not None and not chain.of_day(day) else None
        listed = read[1]
        place = bisect_left(listed, hash(key))
        return place < len(listed) and listed[place] == hash(key)

    def read_day(self, day: date | None) -> None:
        """Read the manifests of a day, unless they are cached; blocks.

        Raises:
            UnreadableRecord: a manifest cannot be read, or is not the one of its seal.
            StoreError: the store cannot be read now.
        """
        chain = self._chain
        if chain is None or day is None or day in self._days or not chain.of_day(day):
            return
        found = [
            hash(key)
            for link in chain.of_day(day)
            for _, key in lines_of(self._archive, link)
            if kinds.kind_of(key) is kinds.COMMIT
        ]
        if self._chain is not chain:
            return  # a job was cancelled, and another one follows a later chain by now
        while len(self._days) >= _DAYS_REMEMBERED:
            del self._days[next(iter(self._days))]
        self._days[day] = (_seals_of(chain, day), array("q", sorted(found)))


def _seals_of(chain: Chain, day: date) -> list[str]:
    return [link.sha256 for link in chain.of_day(day)]
