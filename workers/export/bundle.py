"""A bundle: recordings with all that proves them, for somebody who has nothing else.

Audio lies under names that people can read, and under `proof/` lies what the archive has of each recording, byte for byte,
under its key: commit records, transcriptions, receipts, decisions, then the seals of their days with the manifests that list
them, and every seal between them and the head of the chain. `check.py` in the bundle follows the hashes from each file to the
head. docs/export.md describes the format.

The recordings come oldest first, so that what is archived during an export changes nothing of what is written already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from archive import layout
from archive.ahead import ahead
from archive.archive import Archive
from archive.cases import read_cases
from archive.problems import Problem
from archive.seals import Chain
from workers.catalogue.feed import all_held_connections
from workers.catalogue.search import Chosen
from workers.export.exported import Holds, export_one
from workers.export.index import About, Growing, Index
from workers.export.seals import DaySeals, seals_of
from workers.export.target import Piece, Target, piece_of

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds.

    Attributes:
        recordings: in it.
        files: of these recordings, from the archive.
        size_bytes: of these files.
        unsealed: recordings whose commit record no seal lists yet.
        head: the SHA-256 of the last seal; None: the archive has no seal.
        problems: what it lacks, and why.
    """

    recordings: int
    files: int
    size_bytes: int
    unsealed: int
    head: str | None
    problems: list[Problem]


def write_bundle(
    archive: Archive, chosen: Iterable[Chosen], target: Target, about: About, show: Callable[[int, int], None]
) -> Bundle:
    """Write a bundle; blocks.

    Args:
        archive: the archive.
        chosen: the recordings, oldest first.
        target: takes the files.
        about: what the bundle is an export of.
        show: called after each recording, with the recordings and bytes so far. What it raises ends the export.

    Raises:
        StoreError: the archive does not answer.
        UnreadableRecord: the chain of seals cannot be read.
        OSError: the bundle cannot be written.
        UserError: two files would have the same name.
    """
    chain = Chain(archive)
    chain.refresh()
    held, seals = Holds(all_held_connections(archive), read_cases(archive)), DaySeals(archive, chain)
    index, sums = Index(), Growing()

    def put(piece: Piece) -> None:
        target.put(piece)
        sums.add(f"{piece.file.sha256}  {piece.file.path}\n")

    for one in ahead(chosen, partial(export_one, archive, target.fetch, held), target.at_once):
        listed = seals.of(one.hit.row.date, one.folder)
        one.hit.row.seal = listed.seal
        one.compare(listed.keys)
        for piece in one.pieces:
            put(piece)
        index.add(one)
        show(index.recordings, index.size_bytes)
    head: tuple[int, str] | None = None
    for piece in seals_of(archive, chain, seals.days):
        put(piece)
        place = layout.seal_of(piece.file.key)
        if place is not None and place[1] == "json":
            head = place[0], piece.file.sha256
    # The last files are the same in no two runs.
    put(piece_of("proof/bundle.json", "", index.bundle_json(about, head, seals.problems)))
    put(piece_of("check.py", "", (_HERE / "check.py").read_bytes()))
    put(piece_of("index.csv", "", index.csv()))
    put(piece_of("index.html", "", index.page(about, seals.problems)))
    target.put(piece_of("SHA256SUMS", "", sums.end()))
    problems = [*index.problems, *seals.problems]
    target.finish(lacks_cold=any(one.kind == "cold" for one in problems))
    sealed = head[1] if head else None
    return Bundle(index.recordings, index.files, index.size_bytes, index.unsealed, sealed, problems)
