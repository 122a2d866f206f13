"""Cases: each holds recordings by a query, those to come too, until it is closed. No clock orders them.

Whether a case holds a recording is decided from the commit record in the archive, never from a catalogue. What a commit
record does not say, such as the numbers of a conference, may be what a case asks for: then the case holds the recording.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache

import msgspec

from archive import kinds, layout
from archive.ahead import ahead
from archive.archive import Archive
from archive.decision_records import CaseQuery, CaseRecord
from archive.hold import Hold
from archive.readers import CASE
from archive.records import CommitRecord, UnreadableRecord
from text.numbers import wanted_number
from text.times import first_instant, parse_instant

_ID_BYTES = 6


# A page asks many cases about many recordings.
_wanted = lru_cache(1024)(wanted_number)
_instant = lru_cache(1024)(parse_instant)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A case, as its rows in the archive say.

    Attributes:
        id: of the case; of an object that is no row of a case, its key.
        name: what people call it; empty if it cannot be read.
        query: which recordings it holds; one that asks for nothing holds all.
        number: of its last row.
        is_open: whether it holds anything.
        why: the reason of who opened it; `opened_by`: who that was; `opened_at`: when, ISO 8601, UTC. Empty if unknown.
        closed_why, closed_by, closed_at: likewise of who closed it; None while it is open.
        problem: why its last row cannot be read, so that it holds every recording; None if it can.
    """

    id: str
    name: str
    query: CaseQuery
    number: int
    is_open: bool
    why: str = ""
    opened_by: str = ""
    opened_at: str = ""
    closed_why: str | None = None
    closed_by: str | None = None
    closed_at: str | None = None
    problem: str | None = None

    @property
    def title(self) -> str:
        """Its name and id, for a sentence."""
        return f'case "{self.name}" ({self.id})' if self.name else f"case {self.id}"

    def __str__(self) -> str:
        if self.problem is not None:
            return f"{self.title}, which cannot be read and so may hold every recording: {self.problem}"
        return f"{self.title}: {Hold(self.why, self.opened_by, self.opened_at)}"


@dataclass(frozen=True)
class Facts:
    """What is known of a recording that a case may ask for.

    Attributes:
        recording_id: its id.
        earliest, latest: when the call began, at the earliest and at the latest; the same instant if that is known.
        parties: its caller and called; None: one that is unknown.
        connection, session, leg: ids; None: unknown.
        has_no_leg: whether it belongs to no call leg, as a conference.
    """

    recording_id: str
    earliest: datetime
    latest: datetime
    parties: tuple[str | None, ...] = (None,)
    connection: str | None = None
    session: str | None = None
    leg: str | None = None
    has_no_leg: bool = False


def new_id() -> str:
    """An id for a case."""
    return secrets.token_hex(_ID_BYTES)


def put_case(archive: Archive, row: CaseRecord) -> None:
    """Write a row of a case; blocks.

    Raises:
        ArchiveConflict: another row has its number.
        StoreError: the store did not take it.
    """
    archive.put_record(layout.case_key(row.id, row.number), row)


def open_cases(archive: Archive) -> list[Case]:
    """The cases that hold recordings now: one listing, and a read of each new row; blocks.

    A row that cannot be read may hold anything, so its case holds every recording.

    Raises:
        StoreError: the store does not answer.
    """
    return [case for case in read_cases(archive) if case.is_open]


def read_cases(archive: Archive) -> list[Case]:
    """All cases, open ones first, then by when they were opened, the latest first; blocks.

    Raises:
        StoreError: the store does not answer.
    """
    rows: dict[str, dict[int, str]] = {}
    odd: list[str] = []
    for stored in archive.store.list(layout.CASES):
        place = kinds.place_of(stored.key)
        if place.kind is kinds.CASE:
            rows.setdefault(place.names[0], {})[int(place.name)] = stored.key
        else:
            odd.append(stored.key)
    found = [*ahead(rows.items(), lambda one: _read(archive, *one)), *map(_odd, odd)]
    found.sort(key=lambda case: (case.is_open, case.opened_at), reverse=True)
    return found


def _odd(key: str) -> Case:
    problem = f"{key} is no row of a case; move it out of {layout.CASES}, or restore what it was"
    return Case(id=key, name="", query=CaseQuery(), number=0, is_open=True, problem=problem)


def _read(archive: Archive, case_id: str, keys: dict[int, str]) -> Case:
    """One case from the keys of its rows by number: the last counts, the first says who opened it."""
    first, last = min(keys), max(keys)
    try:
        row = CASE.read(archive.read_once(keys[last]), keys[last])
    except UnreadableRecord as error:
        return Case(id=case_id, name="", query=CaseQuery(), number=last, is_open=True, problem=str(error))
    opened = row if first == last and row.state == "open" else _opened(archive, keys[first])
    case = Case(id=case_id, name=row.name, query=row.query, number=last, is_open=row.state == "open")
    if opened is not None:
        case = msgspec.structs.replace(case, why=opened.why, opened_by=opened.by, opened_at=opened.at)
    if not case.is_open:
        case = msgspec.structs.replace(case, closed_why=row.why, closed_by=row.by, closed_at=row.at)
    return case


def _opened(archive: Archive, key: str) -> CaseRecord | None:
    try:
        row = CASE.read(archive.read_once(key), key)
    except UnreadableRecord:
        return None
    return row if row.state == "open" else None


def facts_of(record: CommitRecord) -> Facts:
    """What a commit record says of its recording."""
    fields = record.recording
    began = first_instant(fields.get("recording_started_at"), fields.get("created_at"))
    known = {name: str(value) for name, value in fields.items() if value not in (None, "")}
    return Facts(
        recording_id=known.get("id", ""),
        earliest=began or datetime.min.replace(tzinfo=UTC),
        latest=began or datetime.max.replace(tzinfo=UTC),
        parties=(known.get("from"), known.get("to")),
        connection=known.get("connection_id"),
        session=known.get("call_session_id"),
        leg=known.get("call_leg_id"),
        has_no_leg="conference_id" in known and "call_leg_id" not in known,
    )


def facts_without_record(folder: str) -> Facts:
    """What the folder of a recording says of it: its id and its day."""
    recording_id, day = layout.recording_id_of(folder), layout.day_of(layout.commit_key(folder))
    if day is None:
        return Facts(recording_id, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    begin = datetime.combine(day, time(), UTC)
    return Facts(recording_id, begin, begin + timedelta(days=1, microseconds=-1))


def belongs(query: CaseQuery, facts: Facts) -> bool | None:
    """Whether a recording matches the query of a case; None if that is unknown.

    Raises:
        ValueError: the query cannot be asked; `CASE` reads no such query.
    """
    is_known = True
    for answer in _answers(query, facts):
        if answer is False:
            return False
        is_known = is_known and answer is not None
    return True if is_known else None


def _answers(query: CaseQuery, facts: Facts) -> Iterator[bool | None]:
    since, until = _ends(query)
    if since is not None:
        yield _agreed(facts.earliest >= since, facts.latest >= since)
    if until is not None:
        yield _agreed(facts.earliest < until, facts.latest < until)
    if query.id is not None:
        yield facts.recording_id == query.id
    if query.connection is not None:
        yield facts.connection == query.connection or _unless_known(facts.connection)
    if query.session is not None:
        yield facts.session == query.session or _unless_known(facts.session)
    if query.leg is not None:
        yield facts.leg == query.leg or (False if facts.has_no_leg else _unless_known(facts.leg))
    if query.number is not None:
        wanted = _wanted(query.number)
        is_party = any(wanted.is_of(party) for party in facts.parties if party is not None)
        yield is_party or (None if None in facts.parties else False)


def _agreed(one: bool, other: bool) -> bool | None:
    return one if one == other else None


def _unless_known(value: str | None) -> bool | None:
    return None if value is None else False


def _ends(query: CaseQuery) -> tuple[datetime | None, datetime | None]:
    since, until = query.since, query.until
    return None if since is None else _instant(since), None if until is None else _instant(until)


def holding(cases: Sequence[Case], facts: Facts) -> list[Case]:
    """Those of some cases that hold a recording: open ones that it matches or may match."""
    return [case for case in cases if case.is_open and belongs(case.query, facts) is not False]


def why_held_by_cases(cases: Sequence[Case], record: CommitRecord) -> str | None:
    """The open cases that hold a recording, by name; None if none does.

    Args:
        cases: as `open_cases` has just read them.
        record: the commit record of the recording, from the archive.
    """
    return _why(holding(cases, facts_of(record)))


def why_held_without_record(cases: Sequence[Case], folder: str) -> str | None:
    """The same for a recording whose commit record is missing or cannot be read: each case that it could belong to."""
    return _why(holding(cases, facts_without_record(folder)))


def _why(found: Sequence[Case]) -> str | None:
    return "; ".join(map(str, found)) or None
