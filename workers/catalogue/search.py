"""Searches the catalogue: the recordings that match a query, page by page."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from archive.decisions import Decisions, outcome_of
from workers.catalogue.file import COLUMNS
from workers.catalogue.numbers import Wanted, wanted_number
from workers.catalogue.query import Query, conditions
from workers.catalogue.rows import Row
from workers.catalogue.words import marked, words_query

MOST_COUNTED = 10_000

_PAGE = 1_000

_IS_DAMAGED = "EXISTS (SELECT 1 FROM damaged d WHERE d.recording_id = r.recording_id AND d.state <> 'whole')"

_IS_HELD = "(r.decision = 'hold' OR r.connection_id IN (SELECT connection_id FROM held_connections))"

# Held comes before deleted, since a hold also keeps the archived copy. Damage comes before both.
_STATE = f"""CASE WHEN r.erased_at IS NOT NULL THEN 'erased' WHEN {_IS_DAMAGED} THEN 'damaged'
 WHEN {_IS_HELD} THEN 'held'
 WHEN r.deleted_at IS NOT NULL THEN 'deleted'
 WHEN r.findings <> '' AND r.decision IS NULL THEN 'kept' ELSE 'archived' END"""


_FEW = 10_000

_OPENING = "(SELECT substr(t.text, 1, 200) FROM transcripts t WHERE t.n = r.n ORDER BY t.t LIMIT 1)"

_SELECT = f"""SELECT r.n, {_STATE} AS state, {_OPENING} AS opening, {", ".join(f"r.{name}" for name in COLUMNS)}
 FROM recordings r"""  # noqa: S608


def state_of(findings: Sequence[str], decisions: Decisions, *, is_deleted: bool, is_erased: bool, is_held: bool) -> str:
    """The state of a recording that is not damaged, by the same rules as the SQL above.

    Args:
        findings: the findings of its audio.
        decisions: the decisions in its folder.
        is_deleted: whether a receipt records the deletion of its original.
        is_erased: whether a record of its erasure exists.
        is_held: whether it or its connection is on hold.
    """
    if is_erased:
        return "erased"
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
        place: its position among the hits, for the next page.
    """

    row: Row
    state: str
    words: str | None = None
    opening: str | None = None
    place: str = ""


def search(path: Path, query: Query, limit: int = 100, before: str | None = None) -> list[Hit]:
    """The recordings of a catalogue that match, latest first.

    Args:
        path: the catalogue's file.
        query: the query.
        limit: the most hits to return.
        before: continue after the hit of this position.

    Raises:
        BadNumber, BadWords: the number or the words are invalid.
        sqlite3.DatabaseError: the file cannot be read.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as db:
        db.execute("PRAGMA cache_size = -32000")
        return list(_found(db, query, limit, before))


def count(path: Path, query: Query) -> int:
    """How many recordings match; `MOST_COUNTED + 1` if there are more than that.

    Raises:
        as `search`.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as db:
        clauses, values, _ = _conditions(db, query)
        sql = f"SELECT {_STATE} AS state FROM recordings r WHERE {' AND '.join(clauses)} LIMIT ?"  # noqa: S608
        return int(db.execute(f"SELECT count(*) FROM ({sql})", (*values, MOST_COUNTED + 1)).fetchone()[0])  # noqa: S608


def search_ids(path: Path, recording_ids: Sequence[str]) -> dict[str, Hit]:
    """The recordings with some ids, by id; those that the catalogue does not know are left out.

    Raises:
        sqlite3.DatabaseError: the file cannot be read.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as db:
        where = " WHERE r.recording_id IN (SELECT value FROM json_each(?))"
        rows = db.execute(_SELECT + where, (json.dumps(list(recording_ids)),))
        hits = [Hit(row=_row(cells), state=state, opening=opening) for _, state, opening, *cells in rows]
        return {hit.row.recording_id: hit for hit in hits}


def ids_beginning(path: Path, beginning: str, most: int) -> list[str]:
    """The IDs of recordings that begin with a text, sorted.

    Raises:
        sqlite3.DatabaseError: the file cannot be read.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as db:
        sql = "SELECT recording_id FROM recordings WHERE recording_id >= ? AND recording_id < ? ORDER BY 1 LIMIT ?"
        return [str(id_) for (id_,) in db.execute(sql, (beginning, f"{beginning}\U0010ffff", most))]


def search_all(path: Path, query: Query) -> Iterator[Hit]:
    """All hits, latest first, read a page at a time."""
    before = None
    while hits := search(path, query, _PAGE, before):
        yield from hits
        before = hits[-1].place


def _selections(db: sqlite3.Connection, query: Query) -> Iterator[tuple[str, list[object]]]:
    """Conditions that change nothing but the time of a search: it looks at the few recordings that an index finds.

    Where many match, the latest of them are soon found by their time, and an index would only add to that.
    """
    held = "connection_id IN (SELECT connection_id FROM held_connections)"
    shortest, longest = query.min_duration_seconds, query.max_duration_seconds
    rows: tuple[tuple[bool, list[str], list[object]], ...] = (
        (query.state == "held", ["decision = 'hold'", held], []),
        (query.state == "erased", ["erased_at IS NOT NULL"], []),
        (query.findings or query.state == "kept", ["findings <> ''"], []),
        (shortest is not None, ["duration_ms >= 1000 * ?"], [shortest]),
        (longest is not None, ["duration_ms <= 1000 * ?"], [longest]),
    )
    for is_asked, clauses, values in rows:
        if is_asked:
            sql = " UNION ALL ".join(f"SELECT n FROM recordings WHERE {clause}" for clause in clauses)  # noqa: S608
            counted = f"SELECT count(*) FROM ({sql} LIMIT {_FEW + 1})"  # noqa: S608
            if db.execute(counted, values).fetchone()[0] <= _FEW:
                yield f"r.n IN ({sql})", values


def _conditions(db: sqlite3.Connection, query: Query) -> tuple[list[str], list[object], str | None]:
    """The conditions of a query, their values, and the words to look for in the index of transcriptions."""
    clauses, values = conditions(query)
    clauses.append(f"(r.key IS NOT NULL OR r.erased_at IS NOT NULL OR {_IS_DAMAGED})")
    for clause, given in _selections(db, query):
        clauses = [
            "+r.connection_id = ?" if one == "r.connection_id = ?" else one for one in clauses
        ]  # its index may have many
        clauses.append(clause)
        values += given
    if query.number is not None:
        clause, parts = _party_condition(wanted_number(query.number))
        clauses.append(clause)
        values += parts
    match = None if query.text is None else words_query(query.text)
    if match is not None:
        said = "SELECT t.n FROM words JOIN transcripts t ON t.t = words.rowid WHERE words MATCH ?"
        clauses.append(f"r.n IN ({said})")
        values.append(match)
    return clauses, values, match


def _found(db: sqlite3.Connection, query: Query, limit: int, before: str | None) -> Iterator[Hit]:
    clauses, values, match = _conditions(db, query)
    if before is not None:
        started, _, n = before.rpartition("~")
        clauses.append("(r.started_at, r.n) < (?, ?)")
        values += [started, int(n)]
    order = f" WHERE {' AND '.join(clauses)} ORDER BY r.started_at DESC, r.n DESC LIMIT ?"
    for n, state, opening, *cells in db.execute(_SELECT + order, (*values, limit)):
        row = _row(cells)
        words = None if query.text is None else marked(_text(db, n, match), query.text)
        yield Hit(row=row, state=state, words=words, opening=opening, place=f"{row.started_at or ''}~{n}")


def _row(cells: Sequence[Any]) -> Row:
    named = dict(zip(COLUMNS, cells, strict=True))
    named["findings"] = named["findings"].split(",") if named["findings"] else []
    return Row(**named)


def _text(db: sqlite3.Connection, n: int, match: str | None) -> str:
    """The first transcription of a recording that contains the words."""
    sql = (
        "SELECT t.text FROM transcripts t JOIN words ON words.rowid = t.t WHERE t.n = ? AND words MATCH ? ORDER BY t.t"
    )
    found = db.execute(f"{sql} LIMIT 1", (n, match)).fetchone()
    return "" if found is None else str(found[0])


def _party_condition(wanted: Wanted) -> tuple[str, list[str]]:
    """The condition that a party of a recording has this number, by an index where one exists."""
    clause, values = _as_written(wanted)
    if wanted.national:
        marks = ", ".join("?" * len(wanted.national))
        clause = f"({clause} OR r.n IN (SELECT n FROM parties WHERE digits IN ({marks})))"  # noqa: S608
    return clause, [*values, *wanted.national]


def _as_written(wanted: Wanted) -> tuple[str, list[str]]:
    if wanted.how == "address":
        return "r.n IN (SELECT n FROM parties WHERE instr(party, ?))", [wanted.text]
    begins = "r.n IN (SELECT n FROM parties WHERE {0} >= ? AND {0} < ?)"
    text, backwards = wanted.text, wanted.text[::-1]
    ends = begins.format("reversed"), [backwards, backwards + ":"]  # in ASCII the colon follows the digit nine
    if wanted.how == "begins":
        return begins.format("digits"), [text, text + ":"]
    if wanted.how == "ends":
        return ends
    # The first uses the index of digits, the second the index of the few parties that are not a number.
    within = (
        "SELECT n FROM parties WHERE instr(digits, ?) UNION SELECT n FROM parties WHERE digits = '' AND instr(party, ?)"
    )
    return f"r.n IN ({within})", [text, text]
