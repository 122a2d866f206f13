"""`callvault verify`: the archive against its own commit records, by the same ladder that proved it.

It asks nobody but the store, so it works with Redis and Telnyx gone. Cost: a listing, and for each recording its record
and one question for each object; with `deep` every byte is read.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import msgspec

from workers.archive import layout
from workers.archive.ahead import ahead
from workers.archive.archive import Archive
from workers.archive.proof import Damaged, hash_object, prove_again
from workers.archive.records import (
    COMMIT_RECORD,
    DECISION,
    ERASURE,
    RECEIPT,
    TRANSCRIPTION,
    ArchivedObject,
    CommitRecord,
    RecordReader,
    UnreadableRecord,
)
from workers.archive.stores.store import StoredObject

ADVICE = {
    "unlisted": "nobody sealed it: find out who put it there; what a worker wrote is sealed within a day of its writing",
    "gap": "restore the seal from a copy of the archive; the last one may be made by `callvault seal --due`",
    "seal-altered": "restore the seal and its manifest from a copy of the archive; find out who could write there",
    "signature": "restore the signature from a copy; keys that signed before belong behind CALLVAULT_SEAL_KEY",
    "time-stamp": "restore it from a copy; check that CALLVAULT_TIMESTAMP_CA is that authority's",
    "missing": "restore it from a copy of the archive, or, while Telnyx still has the original, move the commit record "
    "aside and run `callvault backfill` for its day",
    "damaged": "restore it from a copy of the archive; compare with the original at Telnyx before you decide",
    "uncommitted": "a worker may be at it right now; else `callvault backfill` for its day finishes it",
    "unknown": "not Callvault's; find out who put it there",
}


class Problem(msgspec.Struct, frozen=True):
    """Something that is not as it must be.

    Attributes:
        kind: a row of `ADVICE`.
        key: of the object.
        what: what is wrong with it, one line.
    """

    kind: str
    key: str
    what: str

    @property
    def advice(self) -> str:
        """What to do about it."""
        return ADVICE[self.kind]


# What may lie beside a commit record: the first part of its name, and how it is read.
_BESIDE: dict[str, RecordReader[Any]] = {
    "deleted.json": RECEIPT,
    "erased.json": ERASURE,
    "transcriptions": TRANSCRIPTION,
    "decisions": DECISION,
}


class Verified(msgspec.Struct):
    """What a verification found so far; also what it resumes from.

    Attributes:
        sealed_objects: listed by seals; of recordings, media and log messages.
        erased: of them, erased on record.
        waiting: objects that came after the seal of their day, for its next one.
        through: the last day that is done, ISO 8601; empty at the start.
    """

    recordings: int = 0
    objects: int = 0
    bytes: int = 0
    seals: int = 0
    sealed_objects: int = 0
    erased: int = 0
    waiting: int = 0
    problems: list[Problem] = []
    through: str = ""


@dataclass
class _Folder:
    prefix: str
    day: date
    found: dict[str, StoredObject] = field(default_factory=dict)


def count_recordings(archive: Archive, since: date | None, until: date | None) -> int:
    """How many folders of recordings there are, by a listing alone."""
    return sum(1 for _ in _folders(archive, since, until))


def verify(
    archive: Archive,
    state: Verified,
    *,
    since: date | None = None,
    until: date | None = None,
    deep: bool = False,
    show: Callable[[Verified], None] = lambda _: None,
    save: Callable[[Verified], None] = lambda _: None,
) -> Verified:
    """Verify a span of days, both inclusive; None is the archive's own end.

    Args:
        archive: the archive.
        state: where to begin; a new one for all of it.
        since: first day.
        until: last day.
        deep: read and hash every object, whatever proved it.
        show: called after each recording.
        save: called after each day, with a state to resume from.

    Raises:
        StoreError: the store cannot be asked now; what was saved resumes it.
    """
    begin = date.fromisoformat(state.through) if state.through else None
    days = itertools.groupby(_folders(archive, since, until), key=lambda folder: folder.day)
    for day, folders in days:
        if begin is not None and day <= begin:
            deque(folders, maxlen=0)
            continue
        for problems, record in ahead(folders, lambda f: _check(archive, f, deep)):
            state.recordings += 1
            state.problems += problems
            if record is not None:
                state.objects += len(record.objects)
                state.bytes += sum(o.size for o in record.objects)
            show(state)
        state.through = day.isoformat()
        save(state)
    return state


def erased_keys(archive: Archive, folder: str, present: Container[str]) -> set[str]:
    """The keys of a folder that were erased, and are on record as such."""
    key = layout.erasure_key(folder)
    if key not in present:
        return set()
    try:
        return {o.key for o in ERASURE.read(archive.read_small(key), key).objects}
    except UnreadableRecord:
        return set()


def _folders(archive: Archive, since: date | None, until: date | None) -> Iterator[_Folder]:
    """The recordings' folders, in order, each with what a listing found in it."""
    current: _Folder | None = None
    for stored in archive.store.list("recordings/"):
        place = layout.recording_of(stored.key)
        if place is None:
            day, prefix = date.min, stored.key
        else:
            day, prefix = place[0], stored.key.removesuffix(place[2])
            if (since and day < since) or (until and day > until):
                continue
        if current is None or current.prefix != prefix:
            if current is not None:
                yield current
            current = _Folder(prefix, day)
        current.found[stored.key] = stored
    if current is not None:
        yield current


def _check(archive: Archive, folder: _Folder, deep: bool) -> tuple[list[Problem], CommitRecord | None]:
    """One folder: its record, every object that it names, and everything else that lies there."""
    found = dict(folder.found)
    if folder.day == date.min:
        return [Problem("unknown", key, "not a key of the archive's layout") for key in found], None
    record: CommitRecord | None = None
    problems: list[Problem] = []
    key = layout.commit_key(folder.prefix)
    if found.pop(key, None) is not None:
        try:
            record = COMMIT_RECORD.read(archive.read_small(key), key)
        except UnreadableRecord as error:
            problems.append(Problem("damaged", key, str(error).removeprefix(f"{key}: ")))
    erased = erased_keys(archive, folder.prefix, folder.found)
    for known in record.objects if record else ():
        listed = found.pop(known.key, None)
        if listed is None and known.key in erased:
            continue
        problem = _check_object(archive, known, listed is not None or known.key.startswith("/"), deep)
        if problem is not None:
            problems.append(problem)
    for left in sorted(found):
        problems += _check_other(archive, folder, left, record is not None)
    return problems, record


def _check_object(archive: Archive, known: ArchivedObject, is_listed: bool, deep: bool) -> Problem | None:
    if not is_listed:
        return Problem("missing", known.key, "named in the commit record, and not there")
    try:
        if deep:
            if (found := hash_object(archive.store, known.key)) != known.sha256:
                raise Damaged(f"reads back with SHA-256 {found}, not {known.sha256}")
        else:
            prove_again(archive.store, known)
    except KeyError:
        return Problem("missing", known.key, "listed, and then not there")
    except Damaged as error:
        return Problem("damaged", known.key, str(error).removeprefix(f"{known.key}: "))
    return None


def _check_other(archive: Archive, folder: _Folder, key: str, is_committed: bool) -> list[Problem]:
    name = key.removeprefix(folder.prefix)
    if name.startswith("audio.") and not is_committed:
        return [Problem("uncommitted", key, "audio without a commit record")]
    reader = _BESIDE.get(name.partition("/")[0])
    if reader is None or not name.endswith(".json"):
        return [Problem("unknown", key, "no commit record names it")]
    try:
        reader.read(archive.read_small(key), key)
    except UnreadableRecord as error:
        return [Problem("damaged", key, str(error).removeprefix(f"{key}: "))]
    return []
