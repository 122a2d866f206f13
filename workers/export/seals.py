"""The seals of a bundle: the whole chain, and the manifests of the days of its recordings."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Literal, NamedTuple

from archive import layout
from archive.ahead import ahead
from archive.archive import Archive
from archive.problems import Problem
from archive.records import UnreadableRecord
from archive.seals import Chain, Link, lines_of
from workers.export.target import Piece, piece_of

_MANIFESTS_AT_ONCE = 2  # one of a large day has megabytes
_SUFFIXES: tuple[Literal["sha256", "sig", "tsr"], ...] = ("sha256", "sig", "tsr")


class Listed(NamedTuple):
    """What seals list of a recording.

    Attributes:
        seal: the number of the seal that lists its commit record; None without one.
        keys: the keys in its folder.
    """

    seal: int | None
    keys: Sequence[str]


class DaySeals:
    """What seals list of a recording. Recordings come day by day, so it remembers one day.

    Args:
        archive: the archive.
        chain: its seals.

    Attributes:
        days: those that it was asked about.
        problems: the manifests that cannot be read.
    """

    def __init__(self, archive: Archive, chain: Chain) -> None:
        self._archive, self._chain = archive, chain
        self._day: date | None = None
        self._seals: dict[str, int] = {}
        self._names: dict[str, str] = {}  # by folder what its keys go on with, a line each: a day has many
        self.days: set[date] = set()
        self.problems: list[Problem] = []

    def of(self, day: date, folder: str) -> Listed:
        """What seals list of a recording, by its folder; blocks.

        Raises:
            StoreError: the archive does not answer.
        """
        if day != self._day:
            self._day, self._seals, self._names = day, {}, {}
            for link in self._chain.of_day(day):
                self._read(link, is_first_time=day not in self.days)
            self.days.add(day)
        names = self._names.get(folder, "").split("\n")
        return Listed(self._seals.get(folder), [f"{folder}{name}" for name in names if name])

    def _read(self, link: Link, *, is_first_time: bool) -> None:
        try:
            for _, key in lines_of(self._archive, link):
                if (home := layout.recording_of(key)) is None:
                    continue
                name = home[2]
                folder = key[: len(key) - len(name)]
                self._names[folder] = f"{self._names.get(folder, '')}{name}\n"
                if key == layout.commit_key(folder):
                    self._seals[folder] = link.seal.sequence
        except UnreadableRecord as error:
            if is_first_time:
                self.problems.append(Problem("seal-altered", error.key, error.what))


def seals_of(archive: Archive, chain: Chain, days: set[date]) -> Iterator[Piece]:
    """The files of every seal, with the manifests, signatures and time stamps of some days and of the last seal; blocks.

    Raises:
        StoreError: the archive does not answer.
    """
    full = [*(link for day in sorted(days) for link in chain.of_day(day)), *chain.links[-1:]]
    small = [layout.seal_key(link.seal.sequence) for link in chain.links]
    large = dict.fromkeys(layout.seal_key(link.seal.sequence, suffix) for link in full for suffix in _SUFFIXES)

    def read(key: str) -> Piece | None:
        try:
            data = b"".join(archive.store.read(key))
        except KeyError:
            return None  # not every seal is signed and stamped
        return piece_of(f"proof/{key}", key, data)

    for piece in itertools.chain(ahead(small, read), ahead(large, read, _MANIFESTS_AT_ONCE)):
        if piece is not None:
            yield piece
