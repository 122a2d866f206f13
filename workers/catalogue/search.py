"""Searches the catalogue: the recordings that match a query, page by page."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from archive.cases import Case, holding
from archive.decisions import Decisions, outcome_of
from text.numbers import wanted_number
from workers.catalogue.file import COLUMNS, IS_DAMAGED, IS_SHOWN, reading
from workers.catalogue.in_cases import (
    Condition,
    candidates,
    case_of,
    facts_of_row,
    holds_row,
    is_of_case,
    read_cases_of,
)
from workers.catalogue.parties import party_conditions
from workers.catalogue.query import Query, conditions
from workers.catalogue.reach import EVERYTHING, Reach, scope_conditions
from workers.catalogue.rows import Row
from workers.catalogue.words import marked, words_query

MOST_COUNTED = 10_000
_PAGE = 1_000
_FEW = 10_000

# Of other recordings it is not known any more, or not yet, whose they are.
_IS_READABLE = "r.key IS NOT NULL AND r.erased_at IS NULL"

_IS_HELD = "r.decision = 'hold' OR r.connection_id IN (SELECT connection_id FROM held_connections)"
_OPENING = "(SELECT substr(t.text, 1, 200) FROM transcripts t WHERE t.n = r.n ORDER BY t.t LIMIT 1)"


def _state(cases: Sequence[Case]) -> tuple[str, list[object]]:
    """The SQL of the state of a recording, while some cases are open, and the values of its parameters.

    Held comes before deleted, since a hold also keeps the archived copy. Damage comes before both, and so does a disposal:
    no copy is left to keep.
    """
    in_case, values = holds_row(cases)
    sql = f"""CASE WHEN r.erased_at IS NOT NULL THEN 'erased' WHEN {IS_DAMAGED} THEN 'damaged'
 WHEN r.disposed_at IS NOT NULL THEN 'disposed' WHEN {_IS_HELD} OR {in_case} THEN 'held'
 WHEN r.deleted_at IS NOT NULL THEN 'deleted'
 WHEN r.findings <> '' AND r.decision IS NULL THEN 'kept' ELSE 'archived' END"""
    return sql, values


def _select(cases: Sequence[Case]) -> tuple[str, list[object]]:
    state, values = _state(cases)
    names = ", ".join(f"r.{name}" for name in COLUMNS)
    return f"SELECT r.n, {state} AS state, {_OPENING} AS opening, {names} FROM recordings r", values  # noqa: S608


def state_of(
    findings: Sequence[str],
    decisions: Decisions,
    *,
    is_deleted: bool,
    is_erased: bool,
    is_disposed: bool,
    is_held: bool,
) -> str:
    """The state of a recording that is not damaged, by the same rules as the SQL above.

    Args:
        findings: the findings of its audio.
        decisions: the decisions in its folder.
        is_deleted: whether a receipt records the deletion of its original.
        is_erased: whether a record of its erasure exists.
        is_disposed: whether a record says that its audio was disposed of.
        is_held: whether it or its connection is on hold, or an open case holds it.
    """
    if is_erased:
        return "erased"
    if is_disposed:
        return "disposed"
    word = "hold" if is_held else outcome_of(decisions)
    if word == "hold":
        return "held"
    if is_deleted:
        return "deleted"
    return "kept" if findings and word is None else "archived"


class Hit(msgspec.Struct, kw_only=True):
    """A recording that was found.

    Attributes:
        row: its row, without transcripts.
        state: one of `query.STATES`.
        words: text around the words that were searched for, with those between `\\x02` and `\\x03`; else None.
        opening: the first words of its transcription; None without one.
        cases: the ids of the open cases that hold it.
        place: its position among the hits, for the next page.
    """

    row: Row
    state: str
    words: str | None = None
    opening: str | None = None
    cases: list[str] = []
    place: str = ""


def search(path: Path, query: Query, reach: Reach, limit: int = 100, before: str | None = None) -> list[Hit]:
    """The recordings of a catalogue that match, latest first.

    Args:
        path: the catalogue's file.
        query: the query.
        reach: of whoever asks; what it does not reach does not exist.
        limit: the most hits to return.
        before: continue after the hit of this position.

    Raises:
        BadNumber, BadWords: the number or the words are invalid.
        BadQuery: no case has the id, and the reach is everything.
        sqlite3.DatabaseError: the file cannot be read.
    """
    with reading(path) as db:
        db.execute("PRAGMA cache_size = -32000")
        return list(_found(db, query, limit, before, reach))


def count(path: Path, query: Query, reach: Reach) -> int:
    """How many recordings match within a reach; `MOST_COUNTED + 1` if there are more than that.

    Raises:
        as `search`.
    """
    with reading(path) as db:
        cases = read_cases_of(db)
        where = _where(db, query, reach, cases)
        # In the order of what selects, so that it ends once it has counted enough; unless the rest leaves few to look at.
        first = [] if where.is_few or _is_short(db, query) else where.many[:1]
        where.test(where.many[len(first) :])
        source = "".join(f"({one.sql}) s CROSS JOIN recordings r ON r.n = s.n" for one in first) or "recordings r"
        state, its = ("''", []) if query.state is None else _state(cases)
        sql = f"SELECT DISTINCT r.n, {state} AS state FROM {source} WHERE {' AND '.join(where.clauses)} LIMIT ?"  # noqa: S608
        values = [*its, *(value for one in first for value in one.values), *where.values, MOST_COUNTED + 1]
        return int(db.execute(f"SELECT count(*) FROM ({sql})", values).fetchone()[0])  # noqa: S608


def _is_short(db: sqlite3.Connection, query: Query) -> bool:
    """Whether a query has a span of time with few enough recordings to look at each."""
    if query.since is None and query.until is None:
        return False
    clauses, values = conditions(Query(since=query.since, until=query.until))
    sql = f"SELECT count(*) FROM (SELECT 1 FROM recordings r WHERE {' AND '.join(clauses)} LIMIT {_FEW + 1})"  # noqa: S608
    return bool(db.execute(sql, values).fetchone()[0] <= _FEW)


def search_ids(path: Path, recording_ids: Sequence[str], reach: Reach) -> dict[str, Hit]:
    """The recordings with some ids, by id; those that the catalogue does not know, or not within the reach, are left out.

    Raises:
        sqlite3.DatabaseError: the file cannot be read.
    """
    with reading(path) as db:
        cases = read_cases_of(db)
        select, values = _select(cases)
        clauses = ["r.recording_id IN (SELECT value FROM json_each(?))"]
        values.append(json.dumps(list(recording_ids)))
        if (within := _within(reach)) is not None:
            clauses += [within.test, _IS_READABLE]
            values += within.values
        rows = db.execute(f"{select} WHERE {' AND '.join(clauses)}", values)
        hits = [_hit(cases, n, state, opening, cells) for n, state, opening, *cells in rows]
        return {hit.row.recording_id: hit for hit in hits}


def ids_beginning(path: Path, beginning: str, most: int) -> list[str]:
    """The IDs of recordings that begin with a text, sorted.

    Raises:
        sqlite3.DatabaseError: the file cannot be read.
    """
    with reading(path) as db:
        sql = "SELECT recording_id FROM recordings WHERE recording_id >= ? AND recording_id < ? ORDER BY 1 LIMIT ?"
        return [str(id_) for (id_,) in db.execute(sql, (beginning, f"{beginning}\U0010ffff", most))]


def search_all(path: Path, query: Query, reach: Reach, most: int | None = None) -> Iterator[Hit]:
    """All hits within a reach, latest first, read a page at a time.

    Args:
        path, query, reach: as of `search`.
        most: how many at most; None: all.
    """
    before, left = None, sys.maxsize if most is None else most
    while left > 0 and (hits := search(path, query, reach, min(_PAGE, left), before)):
        yield from hits
        before, left = hits[-1].place, left - len(hits)


class Chosen(msgspec.Struct, frozen=True):
    """A recording by its place in the archive.

    Attributes:
        day: UTC, ISO 8601.
        recording_id: its id.
        size_bytes: of its audio, as the catalogue has it; 0 if that was erased or disposed of.
    """

    day: str
    recording_id: str
    size_bytes: int = 0

    @classmethod
    def of(cls, hit: Hit) -> Chosen:
        """The place of a recording that was found."""
        return cls(hit.row.day, hit.row.recording_id, _size_there(hit.state, hit.row.bytes))

    @property
    def date(self) -> date:
        """The day as a value."""
        return date.fromisoformat(self.day)


def choose_all(path: Path, query: Query) -> list[Chosen]:
    """The places of all hits as they are now, oldest first: for whoever sees everything.

    Raises:
        as `search`.
    """
    with reading(path) as db:
        cases = read_cases_of(db)
        where = _where(db, query, EVERYTHING, cases)
        where.test(where.many)
        state, its = _state(cases)
        what = f"r.day, r.recording_id, r.bytes, {state} AS state"
        sql = f"SELECT {what} FROM recordings r WHERE {' AND '.join(where.clauses)}"  # noqa: S608
        rows = db.execute(f"{sql} ORDER BY coalesce(r.started_at, r.day), r.n", [*its, *where.values])
        return [Chosen(day, recording_id, _size_there(state, size)) for day, recording_id, size, state in rows]


def _size_there(state: str, size_bytes: int) -> int:
    return 0 if state in ("erased", "disposed") else size_bytes


@dataclass(frozen=True)
class _Selection:
    """What limits a search, and what an index may find.

    Attributes:
        sql: finds the numbers `n` of all recordings that it leaves, some twice.
        values: of its parameters.
        test: the condition on a recording `r` that says the same, with the same values; empty: another one has it.
        also: finds more of them: SQL with its values. SQLite joins no more than 500 SELECTs.
    """

    sql: str
    values: list[object]
    test: str = ""
    also: Sequence[Condition] = ()

    def few(self, db: sqlite3.Connection) -> set[int] | None:
        """The numbers that it finds; None if they are many."""
        found = set[int]()
        for sql, values in ((self.sql, self.values), *self.also):
            if len(found) <= _FEW:
                found.update(n for (n,) in db.execute(f"{sql} LIMIT {_FEW + 1}", values))
        return found if len(found) <= _FEW else None


def _selections(query: Query, match: str | None, cases: Sequence[Case], *, whole_numbers: bool) -> Iterator[_Selection]:
    shortest, longest = query.min_duration_seconds, query.max_duration_seconds
    held = "connection_id IN (SELECT connection_id FROM held_connections)"
    rows: tuple[tuple[bool, list[str], list[object]], ...] = (
        (query.state == "erased", ["erased_at IS NOT NULL"], []),
        (query.state == "disposed", ["disposed_at IS NOT NULL"], []),
        (query.findings or query.state == "kept", ["findings <> ''"], []),
        (shortest is not None, ["duration_ms >= 1000 * ?"], [shortest]),
        (longest is not None, ["duration_ms <= 1000 * ?"], [longest]),
    )
    for is_asked, clauses, values in rows:
        if is_asked:
            yield _Selection(_all_of("recordings", clauses), values)
    if query.state == "held":
        in_cases = [candidates(case.query) for case in cases if case.is_open]
        yield _Selection(_all_of("recordings", ["decision = 'hold'", held]), [], also=in_cases)
    if query.case is not None:
        of_case = case_of(cases, query.case).query
        yield _Selection(*candidates(of_case))
    if query.number is not None:
        clauses, values = party_conditions(wanted_number(query.number), is_whole=whole_numbers)
        test = f"EXISTS (SELECT 1 FROM parties WHERE n = r.n AND ({' OR '.join(clauses)}))"  # noqa: S608
        yield _Selection(_all_of("parties", clauses), values, test)
    if match is not None:
        said = "FROM transcripts t JOIN words ON words.rowid = t.t WHERE {} words MATCH ?"
        test = f"EXISTS (SELECT 1 {said.format('t.n = r.n AND')})"
        yield _Selection(f"SELECT t.n {said.format('')}", [match], test)


def _all_of(table: str, clauses: Sequence[str]) -> str:
    return " UNION ALL ".join(f"SELECT n FROM {table} WHERE {clause}" for clause in clauses)  # noqa: S608


@dataclass
class _Where:
    """The conditions of a search.

    Attributes:
        clauses: the conditions on a recording `r`, and `values` of their parameters.
        many: the selections that are not among them, because each finds many.
        is_few: whether the clauses name all recordings that may match.
        match: the words to look for in the index of transcriptions.
    """

    clauses: list[str]
    values: list[object]
    many: list[_Selection]
    is_few: bool
    match: str | None

    def test(self, selections: Sequence[_Selection]) -> None:
        """Add selections as conditions on each recording."""
        for one in selections:
            self.clauses.append(one.test)
            self.values += one.values


def _within(reach: Reach) -> _Selection | None:
    """What limits a search to a reach; None if nothing does."""
    if reach.is_whole:
        return None
    rows = scope_conditions(reach)
    if not rows:  # no grant counts
        return _Selection("SELECT n FROM recordings WHERE 0", [], "0")
    selects, tests, values = zip(*rows, strict=True)
    return _Selection(" UNION ALL ".join(selects), [one for of in values for one in of], f"({' OR '.join(tests)})")


def _where(db: sqlite3.Connection, query: Query, reach: Reach, cases: Sequence[Case]) -> _Where:
    """The conditions of a query; recordings that an index finds to be few are named by their numbers.

    Where many match, the latest of them are soon found by their time; to collect them all takes seconds.
    """
    clauses, values = conditions(query)
    if query.case is not None and not reach.is_whole and all(case.id != query.case for case in cases):
        # An error would tell those who see a part of the recordings which cases exist.
        query = msgspec.structs.replace(query, case=None)
        clauses.append("0")
    if query.case is not None:
        of_case, its = is_of_case(case_of(cases, query.case))
        clauses.append(of_case)
        values += its
    clauses.append(IS_SHOWN)
    match = None if query.text is None else words_query(query.text)
    selections = [*_selections(query, match, cases, whole_numbers=reach.whole_numbers)]
    if (within := _within(reach)) is not None:
        clauses.append(_IS_READABLE)
        selections.append(within)
    where = _Where(clauses, values, [], False, match)
    few = []
    for selection in selections:
        if (found := selection.few(db)) is not None:  # as literals, so that SQLite knows how few they are
            few.append(f"r.n IN ({', '.join(map(str, found))})")
        elif selection.test:
            where.many.append(selection)
    if few:  # no other index is better
        where.is_few = True
        where.clauses = [*few, *("+r.connection_id = ?" if one == "r.connection_id = ?" else one for one in clauses)]
    return where


def _found(db: sqlite3.Connection, query: Query, limit: int, before: str | None, reach: Reach) -> Iterator[Hit]:
    cases = read_cases_of(db)
    where = _where(db, query, reach, cases)
    where.test(where.many)
    select, its = _select(cases)
    for behind, place in _behind(before):
        order = f" WHERE {' AND '.join([*where.clauses, behind])} ORDER BY r.started_at DESC, r.n DESC LIMIT ?"
        for n, state, opening, *cells in db.execute(select + order, (*its, *where.values, *place, limit)):
            words = None if query.text is None else marked(_text(db, n, where.match), query.text)
            yield _hit(cases, n, state, opening, cells, words)
            limit -= 1


def _behind(before: str | None) -> list[Condition]:
    """The conditions of what comes after a hit, in order. The few recordings without a time come last."""
    if before is None:
        return [("1", [])]
    started, _, n = before.rpartition("~")
    if started:
        return [("(r.started_at, r.n) < (?, ?)", [started, int(n)]), ("r.started_at IS NULL", [])]
    return [("r.started_at IS NULL AND r.n < ?", [int(n)])]


def _hit(
    cases: Sequence[Case], n: int, state: str, opening: str | None, cells: Sequence[Any], words: str | None = None
) -> Hit:
    named = dict(zip(COLUMNS, cells, strict=True))
    named["findings"] = named["findings"].split(",") if named["findings"] else []
    row = Row(**named)
    held_by = [case.id for case in holding(cases, facts_of_row(row))] if cases and state != "erased" else []
    place = f"{row.started_at or ''}~{n}"
    return Hit(row=row, state=state, words=words, opening=opening, cases=held_by, place=place)


def _text(db: sqlite3.Connection, n: int, match: str | None) -> str:
    """The first transcription of a recording that contains the words."""
    sql = "SELECT t.text FROM transcripts t JOIN words ON words.rowid = t.t WHERE t.n = ? AND words MATCH ?"
    found = db.execute(f"{sql} ORDER BY t.t LIMIT 1", (n, match)).fetchone()
    return "" if found is None else str(found[0])
