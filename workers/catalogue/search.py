"""How the catalogue is searched: a query, and the recordings that fit, page by page."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from archive.decisions import Decisions, outcome_of
from workers.catalogue.catalogue import COLUMNS
from workers.catalogue.numbers import Wanted, wanted_number
from workers.catalogue.query import Query, conditions
from workers.catalogue.rows import Row
from workers.catalogue.words import marked, words_query

_PAGE = 1_000

_IS_DAMAGED = "EXISTS (SELECT 1 FROM damaged d WHERE d.recording_id = r.recording_id AND d.state <> 'whole')"

_IS_HELD = "(r.decision = 'hold' OR r.connection_id IN (SELECT connection_id FROM held_connections))"

# Held before deleted: a hold keeps what is archived too. Damage before both: it is what must be seen.
_STATE = f"""CASE WHEN r.erased_at IS NOT NULL THEN 'erased' WHEN {_IS_DAMAGED} THEN 'damaged'
 WHEN {_IS_HELD} THEN 'held'
 WHEN r.deleted_at IS NOT NULL THEN 'deleted'
 WHEN r.findings <> '' AND r.decision IS NULL THEN 'kept' ELSE 'archived' END"""


def state_of(findings: Sequence[str], decisions: Decisions, *, is_deleted: bool, is_erased: bool, is_held: bool) -> str:
    """The state of a recording that is not damaged, as the catalogue has it where that is up to date.

    Args:
        findings: what was found in its audio.
        decisions: those in its folder.
        is_deleted: whether there is a receipt of the deletion of its original.
        is_erased: whether its erasure is on record.
        is_held: whether a hold of its own or of its connection stands.
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
        row: what is known of it, without transcripts.
        state: one of `query.STATES`.
        words: the words around those that were looked for, which stand between `\\x02` and `\\x03`; else None.
        place: where it stands among the hits, for the next page.
    """

    row: Row
    state: str
    words: str | None = None
    place: str = ""


def search(path: Path, query: Query, limit: int = 100, before: str | None = None) -> list[Hit]:
    """The recordings of a catalogue that fit, the latest first.

    Args:
        path: the catalogue's file.
        query: what is searched for.
        limit: most of them.
        before: goes on behind the hit of this place.

    Raises:
        BadNumber, BadWords: the number or the words cannot be used.
        sqlite3.DatabaseError: the file cannot be read.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as db:
        db.execute("PRAGMA cache_size = -32000")
        return list(_found(db, query, limit, before))


def search_all(path: Path, query: Query) -> Iterator[Hit]:
    """All that fit, the latest first, read a page at a time."""
    before = None
    while hits := search(path, query, _PAGE, before):
        yield from hits
        before = hits[-1].place


def _found(db: sqlite3.Connection, query: Query, limit: int, before: str | None) -> Iterator[Hit]:
    clauses, values = conditions(query)
    clauses.append(f"(r.key IS NOT NULL OR r.erased_at IS NOT NULL OR {_IS_DAMAGED})")
    if before is not None:
        started, _, n = before.rpartition("~")
        clauses.append("(r.started_at, r.n) < (?, ?)")
        values += [started, int(n)]
    if query.number is not None:
        clause, parts = _party_condition(wanted_number(query.number))
        clauses.append(clause)
        values += parts
    match = None if query.text is None else words_query(query.text)
    if match is not None:
        said = "SELECT t.n FROM words JOIN transcripts t ON t.t = words.rowid WHERE words MATCH ?"
        clauses.append(f"r.n IN ({said})")
        values.append(match)
    sql = f"SELECT r.n, {_STATE} AS state, {', '.join(f'r.{name}' for name in COLUMNS)} FROM recordings r"  # noqa: S608
    sql += f" WHERE {' AND '.join(clauses)} ORDER BY r.started_at DESC, r.n DESC LIMIT ?"
    for n, state, *columns in db.execute(sql, (*values, limit)):
        named = dict(zip(COLUMNS, columns, strict=True))
        named["findings"] = named["findings"].split(",") if named["findings"] else []
        row = Row(**named)
        words = None if query.text is None else marked(_text(db, n, match), query.text)
        yield Hit(row=row, state=state, words=words, place=f"{row.started_at or ''}~{n}")


def _text(db: sqlite3.Connection, n: int, match: str | None) -> str:
    """The first transcription of a recording that holds the words."""
    sql = (
        "SELECT t.text FROM transcripts t JOIN words ON words.rowid = t.t WHERE t.n = ? AND words MATCH ? ORDER BY t.t"
    )
    found = db.execute(f"{sql} LIMIT 1", (n, match)).fetchone()
    return "" if found is None else str(found[0])


def _party_condition(wanted: Wanted) -> tuple[str, list[str]]:
    """The condition that a party of a recording is the wanted one, by an index wherever there is one for it."""
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
    ends = begins.format("reversed"), [backwards, backwards + ":"]  # the colon follows the nine
    if wanted.how == "begins":
        return begins.format("digits"), [text, text + ":"]
    if wanted.how == "ends":
        return ends
    # The first is answered by the index of digits alone, the second of the few parties that are no number.
    within = (
        "SELECT n FROM parties WHERE instr(digits, ?) UNION SELECT n FROM parties WHERE digits = '' AND instr(party, ?)"
    )
    return f"r.n IN ({within})", [text, text]
