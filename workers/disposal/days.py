"""Finds what is past its term: sealed days, each looked at once under the same rules and seals, and again when a term ends.

What was found is kept in Redis for each day. It is derived: without it, every day is looked at again. It disposes of nothing,
since everything is asked anew (`may_dispose.py`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import msgspec

from archive import kinds, layout
from archive.ahead import ahead
from archive.archive import Archive
from archive.decision_records import AppliedRules
from archive.dispose import goes_at, keys_to_go
from archive.erasures import read_removal, rule_of
from archive.folder import Folder, folders_in
from archive.records import UnreadableRecord
from archive.removal_records import Removal
from archive.retention import Term
from archive.seals import Link, lines_of
from workers.disposal.may_dispose import Standing, due_of
from workers.keys import DISPOSAL_DAYS
from workers.queue.script import AsyncRedis, write_when_full


@dataclass(frozen=True)
class Candidate:
    """A recording of which something is past its term.

    Attributes:
        folder: its folder.
        due: what, in the order in which it goes.
        size_bytes: of the objects that go.
        is_kept: whether something was known to keep it when the run began.
    """

    folder: str
    due: Sequence[Term]
    size_bytes: int
    is_kept: bool


@dataclass
class Day:
    """A day as it was found.

    Attributes:
        day: UTC.
        sealed: the SHA-256 of each object of its recordings that seals list, by key.
        recordings: how many recordings have a commit record.
        candidates: those of which something is past its term.
        next_at: when the next term of the others ends, in seconds since the epoch; None if none does.
        unsealed: records of disposals that no seal lists yet, by key: an interrupted run may not have announced them.
        unreadable: recordings whose records cannot be read.
        has_gone: whether something of the day was erased or disposed of.
        undone: recordings of which only versions of objects are left that a killed run has deleted, and nothing by which a rule
            could be asked: what is left, and what to do, by id.
    """

    day: date
    sealed: Mapping[str, str]
    recordings: int = 0
    candidates: list[Candidate] = field(default_factory=list)
    next_at: float | None = None
    unsealed: dict[str, Removal] = field(default_factory=dict)
    unreadable: list[UnreadableRecord] = field(default_factory=list)
    has_gone: bool = False
    undone: dict[str, str] = field(default_factory=dict)


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """What Redis keeps of a day.

    Attributes:
        under: the rules and seals under which it was looked at.
        next_at: as in `Day`.
        recordings: as in `Day`.
    """

    under: str
    next_at: float | None
    recordings: int


def under(applied: Sequence[AppliedRules], links: Sequence[Link]) -> str:
    """A name of the rules and the seals of a day."""
    digest = hashlib.sha256(msgspec.json.encode([*applied]))
    digest.update(" ".join(link.sha256 for link in links).encode())
    return digest.hexdigest()[:32]


async def read_seen(redis: AsyncRedis) -> dict[date, Seen]:
    """What Redis keeps of each day; a row that cannot be read is left out.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    found = {}
    for day, data in (await redis.hgetall(DISPOSAL_DAYS)).items():
        try:
            found[date.fromisoformat(day.decode())] = msgspec.msgpack.decode(data, type=Seen)
        except (ValueError, msgspec.MsgspecError):
            continue
    return found


async def remember(redis: AsyncRedis, day: Day, name: str) -> None:
    """Keep what was found of a day, once nothing of it is left half-done.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    row = msgspec.msgpack.encode(Seen(name, day.next_at, day.recordings))
    await write_when_full(redis, ("HSET", DISPOSAL_DAYS, day.day.isoformat(), row))


@dataclass(frozen=True)
class Terms:
    """By what recordings are looked at.

    Attributes:
        applied: the rules that people applied.
        now: seconds since the epoch, by the clock that is behind.
        standing: what keeps recordings.
    """

    applied: Sequence[AppliedRules]
    now: float
    standing: Standing


def look_at_day(archive: Archive, day: date, links: Sequence[Link], terms: Terms) -> Day:
    """Look at every recording of a day; blocks.

    Args:
        archive: the archive.
        day: UTC.
        links: its seals.
        terms: by what they are looked at.

    Raises:
        UnreadableRecord: a manifest of the day cannot be read.
        StoreError: the store does not answer.
    """
    prefix = layout.day_prefix(day)
    listed = (pair for link in links for pair in lines_of(archive, link))
    found = Day(day, {key: sha256 for sha256, key in listed if key.startswith(prefix)})
    folders = (folder for folder in folders_in(archive.store.list(prefix)) if folder.recording_id)
    remains = list(archive.store.remains(prefix))

    def look(folder: Folder) -> _Look:
        return _look(archive, folder, [key for key in remains if key.startswith(folder.prefix)], found.sealed, terms)

    for one in ahead(folders, look):
        found.recordings += one.is_committed
        found.unsealed |= one.unsealed
        found.has_gone |= one.has_gone
        found.unreadable += one.unreadable
        found.undone |= one.undone
        if one.candidate is not None:
            found.candidates.append(one.candidate)
        if one.next_at is not None:
            found.next_at = min(one.next_at, found.next_at or one.next_at)
    return found


@dataclass
class _Look:
    is_committed: bool = False
    has_gone: bool = False
    candidate: Candidate | None = None
    next_at: float | None = None
    unsealed: dict[str, Removal] = field(default_factory=dict)
    unreadable: list[UnreadableRecord] = field(default_factory=list)
    undone: dict[str, str] = field(default_factory=dict)


def _look(archive: Archive, folder: Folder, remains: Sequence[str], sealed: Mapping[str, str], terms: Terms) -> _Look:
    found = _Look(folder.has(kinds.COMMIT), folder.has(*kinds.REMOVALS))
    named = set[str]()
    try:
        for key in folder.keys_of(*kinds.REMOVALS):
            if key in sealed and not remains:
                continue
            record = read_removal(archive.read_small(key), key)
            named |= {one.key for one in record.objects}
            if key not in sealed and rule_of(record) is not None:
                found.unsealed[key] = record
        record_of_it = archive.commit_record(folder.prefix) if found.is_committed else None
        remains = [key for key in remains if key in named]
        if record_of_it is None:
            if remains:
                advice = f"run `callvault erase {folder.recording_id} --reason ...` with credentials that may delete"
                found.undone[folder.recording_id] = (
                    f"{remains[0]}: deleted, and an earlier version of it is left; {advice}"
                )
            return found
        versions = archive.versions(folder.prefix) if folder.has(kinds.VERSION) else []
    except UnreadableRecord as error:
        found.unreadable.append(error)
        return found
    due, found.next_at = due_of([record_of_it, *versions], terms.applied, terms.now)
    due = [one for one in due if keys_to_go(folder, one) or any(goes_at(one, kinds.kind_of(key)) for key in remains)]
    if due:
        is_kept = terms.standing.keeps(folder, [record_of_it, *versions])
        keys = {key for one in due for key in keys_to_go(folder, one)}
        found.candidate = Candidate(folder.prefix, due, sum(folder.objects[key].size for key in keys), is_kept)
    return found
