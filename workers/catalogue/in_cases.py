"""Which recordings of the catalogue a case holds, as `archive/cases.py` says of one commit record; for display alone.

The catalogue keeps the cases, and a search asks their queries. So a case that is opened or closed changes no row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import msgspec

from archive.cases import Case, Facts
from archive.decision_records import CaseQuery
from text.numbers import wanted_number
from text.times import first_instant, format_instant, parse_instant
from workers.catalogue.file import IS_DAMAGED, IS_SHOWN, WITHOUT_NUMBER, reading
from workers.catalogue.parties import party_conditions
from workers.catalogue.query import BadQuery
from workers.catalogue.rows import Row

CASES = "cases"  # the name in `state` of all cases of the archive

_DECODER = msgspec.json.Decoder(list[Case])

Condition = tuple[str, list[object]]  # SQL, and the values of its parameters


def read_cases_of(db: sqlite3.Connection) -> list[Case]:
    """The cases that the catalogue knows."""
    row = db.execute("SELECT value FROM state WHERE name = ?", (CASES,)).fetchone()
    return [] if row is None else _DECODER.decode(row[0])


def case_of(cases: Sequence[Case], case_id: str) -> Case:
    """The case with an id.

    Raises:
        BadQuery: no case has it.
    """
    for case in cases:
        if case.id == case_id:
            return case
    raise BadQuery(f"no case {case_id[:40]}; `callvault cases list` and the page of cases have all")


def facts_of_row(row: Row) -> Facts:
    """What the catalogue knows of a recording that a case may ask for."""
    if row.started_at is None:
        earliest = datetime.combine(row.date, time(), UTC)
        latest = earliest + timedelta(days=1, microseconds=-1)
    else:
        earliest = latest = parse_instant(row.started_at)
    return Facts(
        recording_id=row.recording_id,
        earliest=earliest,
        latest=latest,
        parties=(row.from_number or None, row.to_number or None),
        connection=row.connection_id or None,
        session=row.call_session_id or None,
        leg=row.call_leg_id or None,
        has_no_leg=bool(row.conference_id) and not row.call_leg_id,
    )


def holds_row(cases: Sequence[Case]) -> Condition:
    """The condition that one of some open cases holds a recording `r` that is not erased."""
    clauses, values = list[str](), list[object]()
    for case in cases:
        if case.is_open:
            clause, its = _conjunction(case.query, is_certain=False)
            clauses.append(f"WHEN {clause} THEN 1")  # an OR of many hundreds would be too deep for SQLite
            values += its
    return f"CASE {' '.join(clauses)} ELSE 0 END" if clauses else "0", values


def is_of_case(case: Case, *, is_certain: bool = False) -> Condition:
    """The condition that a recording `r` is of a case, or was when it was closed.

    Args:
        case: open or closed.
        is_certain: leave out those that it holds because something of them is unknown. Of an erased recording, only what
            its row still says counts.
    """
    certain, its = _conjunction(case.query, is_certain=True)
    if not is_certain:
        may, more = _conjunction(case.query, is_certain=False)
        certain, its = f"CASE WHEN r.erased_at IS NULL THEN {may} ELSE {certain} END", [*more, *its]
    if (closed := first_instant(case.closed_at)) is None:
        return certain, its
    return f"({certain}) AND (r.archived_at IS NULL OR r.archived_at < ?)", [*its, format_instant(closed)]


class CaseCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The recordings of a case, as the catalogue knows them.

    Attributes:
        recordings: how many the archive has; the erased ones are not among them.
        unsure: how many of these it holds because Telnyx does not say what the case asks for, such as their numbers.
        deleted: how many of them Callvault has deleted at Telnyx, after they were archived.
        damaged: of how many something is damaged or missing.
        erased: how many were erased, as far as their rows still say.
        disposed: of how many retention rules have disposed of the audio, the transcripts or both.
        bytes: of their audio that is there; `seconds`: its length.
        first, last: when the earliest and the latest of the calls began, ISO 8601, UTC; None without one.
    """

    recordings: int
    unsure: int
    deleted: int
    damaged: int
    erased: int
    disposed: int
    bytes: int
    seconds: float
    first: str | None
    last: str | None


def count_case(path: Path, case: Case) -> CaseCounts:
    """Count the recordings of a case.

    Raises:
        sqlite3.DatabaseError: the file cannot be read.
    """
    (found, its), (of_case, more) = candidates(case.query), is_of_case(case)
    certain, further = is_of_case(case, is_certain=True)
    here = "r.erased_at IS NULL"
    is_disposed = "(r.disposed_at IS NOT NULL OR r.transcripts_disposed_at IS NOT NULL)"
    audio = f"{here} AND r.disposed_at IS NULL"
    sql = f"""SELECT sum({here}), sum({here} AND ({certain}) IS NOT TRUE), sum({here} AND r.deleted_at IS NOT NULL),
 sum({here} AND {IS_DAMAGED}), sum(NOT {here}), sum({here} AND {is_disposed}),
 sum(iif({audio}, r.bytes, 0)), sum(iif({audio}, r.duration_ms, 0)),
 min(r.started_at), max(r.started_at)
 FROM recordings r WHERE r.n IN ({found}) AND {of_case} AND {IS_SHOWN}"""  # noqa: S608
    with reading(path) as db:
        row = db.execute(sql, [*further, *its, *more]).fetchone()
    numbers = [value or 0 for value in row[:8]]
    return CaseCounts(
        recordings=numbers[0],
        unsure=numbers[1],
        deleted=numbers[2],
        damaged=numbers[3],
        erased=numbers[4],
        disposed=numbers[5],
        bytes=numbers[6],
        seconds=numbers[7] / 1000,
        first=row[8],
        last=row[9],
    )


def candidates(query: CaseQuery) -> Condition:
    """SQL that finds the numbers `n` of all recordings that may be of a case, and maybe of others, by one index."""
    text, values = next(_narrowing(query), ("SELECT n FROM recordings", []))
    return text, values


def _narrowing(query: CaseQuery) -> Iterator[Condition]:
    if query.id is not None:
        yield "SELECT n FROM recordings WHERE recording_id = ?", [query.id]
    if query.session is not None:
        yield _this_or_unknown("call_session_id"), [query.session]
    if query.leg is not None:
        yield _this_or_unknown("call_leg_id"), [query.leg]
    if query.number is not None:
        clauses, values = party_conditions(wanted_number(query.number))
        found = " UNION ALL ".join(f"SELECT n FROM parties WHERE {clause}" for clause in clauses)  # noqa: S608
        yield f"{found} UNION ALL SELECT n FROM recordings WHERE {WITHOUT_NUMBER}", values  # noqa: S608
    if query.connection is not None:
        yield _this_or_unknown("connection_id"), [query.connection]
    since, until = _end(query.since), _end(query.until)
    ends = [(f"started_at {sign} ?", end) for sign, end in ((">=", since), ("<", until)) if end is not None]
    if ends:
        found = f"SELECT n FROM recordings WHERE {' AND '.join(text for text, _ in ends)}"  # noqa: S608
        yield f"{found} UNION ALL SELECT n FROM recordings WHERE started_at IS NULL", [end for _, end in ends]  # noqa: S608


def _this_or_unknown(column: str) -> str:
    unknown = f"SELECT n FROM recordings WHERE {column} IS NULL"  # noqa: S608
    return f"SELECT n FROM recordings WHERE {column} = ? UNION ALL {unknown}"  # noqa: S608


def _end(text: str | None) -> str | None:
    """An end of a span in the form of the catalogue, so that texts sort by time."""
    return None if text is None else format_instant(parse_instant(text))


def _conjunction(query: CaseQuery, *, is_certain: bool) -> Condition:
    clauses, values = ["1"], list[object]()
    for certain, may, its in _conditions(query):
        clauses.append(certain if is_certain else may)
        values += its
    return f"({' AND '.join(clauses)})", values


def _conditions(query: CaseQuery) -> Iterator[tuple[str, str, list[object]]]:
    """Each condition on a recording `r`, the condition that it may be met, and the values of either.

    Without a commit record the day is known alone.
    """
    rows: tuple[tuple[str, str, object], ...] = (
        ("r.started_at >= ?", "coalesce(r.started_at, r.day || 'T23:59:59.999999Z') >= ?", _end(query.since)),
        ("r.started_at < ?", "coalesce(r.started_at, r.day || 'T00:00:00.000000Z') < ?", _end(query.until)),
        ("r.recording_id = ?", "r.recording_id = ?", query.id),
        ("r.connection_id = ?", "coalesce(r.connection_id = ?, 1)", query.connection),
        ("r.call_session_id = ?", "coalesce(r.call_session_id = ?, 1)", query.session),
        ("r.call_leg_id = ?", "coalesce(r.call_leg_id = ?, r.conference_id IS NULL)", query.leg),
    )
    yield from ((certain, may, [value]) for certain, may, value in rows if value is not None)
    if query.number is not None:
        clauses, values = party_conditions(wanted_number(query.number))
        certain = f"EXISTS (SELECT 1 FROM parties WHERE n = r.n AND ({' OR '.join(clauses)}))"  # noqa: S608
        yield certain, f"({certain} OR r.from_number IS NULL OR r.to_number IS NULL)", values
