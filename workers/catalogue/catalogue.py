"""The catalogue: one SQLite file that finds a call among millions. Derived from the archive, and disposable.

It takes what the archive holds, record by record or row by row, in any order and any number of times. What cannot be
used any more (corrupt, or of another version) is set aside and built anew.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from config.logs import get_logger
from workers.archive import layout
from workers.archive.records import DECISION, ERASURE, RECEIPT, UnreadableRecord, decode_commit_record
from workers.catalogue.numbers import Wanted, digits_of, wanted_number
from workers.catalogue.query import Query, conditions
from workers.catalogue.rows import Row, row_of_commit, transcript_of
from workers.catalogue.words import words_query

log = get_logger()

_VERSION = 1
_PRAGMAS = """
PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -32000; PRAGMA wal_autocheckpoint = 10000;
"""
_SURE_DIGITS = 7  # so many at the end of a number are looked for at the end first, where there is an index

# What a commit record says of a recording; the rest of the columns comes from other objects.
_COMMITTED = (
    "started_at",
    "ended_at",
    "from_number",
    "to_number",
    "direction",
    "connection_id",
    "call_leg_id",
    "call_session_id",
    "conference_id",
    "duration_ms",
    "bytes",
    "key",
    "sha256",
    "proof",
    "findings",
    "archived_at",
    "found_by",
)

COLUMNS = ("recording_id", "day", *_COMMITTED, "deleted_at", "decision", "seal")  # of a row, and of an inventory

# Still deleted before held: what is gone at Telnyx cannot be held any more.
_STATE = """CASE WHEN r.erased_at IS NOT NULL THEN 'erased' WHEN r.deleted_at IS NOT NULL THEN 'deleted'
 WHEN r.decision = 'hold' THEN 'held' WHEN r.findings <> '' AND r.decision IS NULL THEN 'kept' ELSE 'archived' END"""

_SCHEMA = f"""
CREATE TABLE recordings (
  n INTEGER PRIMARY KEY, recording_id TEXT NOT NULL UNIQUE, day TEXT NOT NULL,
  {", ".join(name + (" INTEGER" if name in ("duration_ms", "bytes") else " TEXT") for name in _COMMITTED)},
  deleted_at TEXT, decision TEXT, decided TEXT, erased_at TEXT, seal INTEGER
);
CREATE TABLE parties (party TEXT NOT NULL, digits TEXT NOT NULL, reversed TEXT NOT NULL, n INTEGER NOT NULL);
CREATE TABLE transcripts (
  t INTEGER PRIMARY KEY, n INTEGER NOT NULL, transcription_id TEXT NOT NULL UNIQUE, text TEXT NOT NULL
);
CREATE VIRTUAL TABLE words USING fts5 (text, content='transcripts', content_rowid='t', tokenize='unicode61');
CREATE TABLE seals (sequence INTEGER PRIMARY KEY, day TEXT NOT NULL);
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT);
PRAGMA user_version = {_VERSION};
"""

# What searches go by; not there while a catalogue is filled, since making an index at the end takes half the time.
_INDEXES = {
    "by_time": "recordings (started_at)",
    "by_connection": "recordings (connection_id, started_at)",
    "by_session": "recordings (call_session_id)",
    "by_leg": "recordings (call_leg_id)",
    "by_day": "recordings (day)",
    "by_digits": "parties (digits, n)",
    "by_reversed": "parties (reversed, n)",
    "by_recording": "parties (n)",
    "by_recording_t": "transcripts (n)",
}


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


class Catalogue:
    """The catalogue in one file. One writer at a time (a process's lock and SQLite's own), any number of readers.

    Args:
        path: the file; made if it is not there.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            self._set_aside(str(error))
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=30, check_same_thread=False, isolation_level=None)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError(f"of version {version}, not {_VERSION}")
            db.executescript(_PRAGMAS)
            if version == 0:
                db.execute("BEGIN IMMEDIATE")
                if db.execute("PRAGMA user_version").fetchone()[0] == 0:  # nobody else was faster
                    for statement in filter(str.strip, _SCHEMA.split(";\n")):
                        db.execute(statement)
                db.execute("COMMIT")
            _make_indexes(db)
        except BaseException:
            db.close()
            raise
        return db

    def _set_aside(self, why: str) -> None:
        aside = self.path.with_name(f"{self.path.name}.unusable")
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
        log.warning("the catalogue could not be used and is built anew", why=why, set_aside=str(aside))

    def start_anew(self, why: str) -> None:
        """Set the file aside and begin an empty one."""
        with self._lock:
            self._db.close()
            self._set_aside(why)
            self._db = self._open()

    def empty(self) -> None:
        """Begin an empty one in place of this; nothing is kept of it."""
        with self._lock:
            self._db.close()
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            self._db = self._open()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def filling(self) -> Iterator[None]:
        """While a great deal is put in: without the indexes, which are made at the end (or when it is next opened)."""
        with self.writing():
            for name in _INDEXES:
                self._db.execute(f"DROP INDEX IF EXISTS {name}")
        try:
            yield
        finally:
            with self._lock:
                _make_indexes(self._db)

    def state(self, name: str) -> str | None:
        """Something remembered beside the recordings."""
        row = self._db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def remember(self, name: str, value: str | None) -> None:
        """Remember it, within a transaction."""
        self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))

    def count(self) -> int:
        """How many recordings there are."""
        return int(self._db.execute("SELECT count(*) FROM recordings WHERE key IS NOT NULL").fetchone()[0])

    def last_seal(self) -> int:
        """The last seal up to which all are known."""
        return int(self._db.execute("SELECT coalesce(max(sequence), 0) FROM seals").fetchone()[0])

    def knows(self, key: str) -> bool:
        """Whether what an object says is in here already; False for objects that say nothing to it, too."""
        place = layout.recording_of(key)
        if place is None:
            return True
        _, recording_id, name = place
        if name.startswith("transcriptions/"):
            sql, value = "SELECT 1 FROM transcripts WHERE transcription_id = ?", layout.transcription_of(key)
        elif name.startswith("decisions/"):
            sql = "SELECT 1 FROM recordings WHERE recording_id = ? AND decided >= ?"
            return self._db.execute(sql, (recording_id, name)).fetchone() is not None
        elif name in _KNOWN_BY:
            sql, value = f"SELECT 1 FROM recordings WHERE recording_id = ? AND {_KNOWN_BY[name]} NOT NULL", recording_id  # noqa: S608
        else:
            return True
        return self._db.execute(sql, (value,)).fetchone() is not None

    def apply(self, key: str, data: bytes) -> None:
        """Take what an object of the archive says, within a transaction; other objects than of recordings say nothing.

        Raises:
            UnreadableRecord: it is not what its key promises; the text names the key.
        """
        place = layout.recording_of(key)
        if place is None:
            return
        day, recording_id, name = place[0].isoformat(), place[1], place[2]
        try:
            if name == "recording.json":
                self._put_row(row_of_commit(recording_id, day, decode_commit_record(data, key)))
            elif name.startswith("transcriptions/"):
                self._put_transcript(self._number(recording_id, day), layout.transcription_of(key), transcript_of(data))
            elif name == "deleted.json":
                self._set(recording_id, day, "deleted_at = ?", RECEIPT.decode(data).confirmed_gone_at)
            elif name.startswith("decisions/"):
                decision = DECISION.decode(data).decision
                newer = "decision = CASE WHEN coalesce(decided, '') < ?1 THEN ?2 ELSE decision END"
                self._set(recording_id, day, f"{newer}, decided = max(coalesce(decided, ''), ?1)", name, decision)
            elif name == "erased.json":
                self._erase(self._number(recording_id, day), ERASURE.decode(data).erased_at)
        except msgspec.MsgspecError as error:
            raise UnreadableRecord(f"{key}: {error}") from None

    def put_rows(self, rows: Iterable[Row]) -> int:
        """Take whole rows, as they come from a Parquet file, within a transaction; returns how many."""
        count = 0
        for row in rows:
            n = self._put_row(row)
            for transcription_id, text in zip(row.transcription_ids, row.transcripts, strict=False):
                self._put_transcript(n, transcription_id, text)
            if row.deleted_at or row.decision or row.seal:
                sql = "UPDATE recordings SET deleted_at = coalesce(?, deleted_at), decision = coalesce(?, decision),"
                sql += " seal = coalesce(seal, ?) WHERE n = ?"
                self._db.execute(sql, (row.deleted_at, row.decision, row.seal, n))
            count += 1
        return count

    def put_seal(self, sequence: int, day: str, keys: Iterable[str]) -> None:
        """Take a seal: which commit records its manifest lists, within a transaction."""
        places = (layout.recording_of(key) for key in keys)
        ids = ((sequence, p[1]) for p in places if p is not None and p[2] == "recording.json")
        self._db.executemany("UPDATE recordings SET seal = coalesce(seal, ?) WHERE recording_id = ?", ids)
        self._db.execute("INSERT OR IGNORE INTO seals VALUES (?, ?)", (sequence, day))

    def find(self, query: Query, limit: int = 100, before: str | None = None) -> list[Hit]:
        """The recordings that fit, the latest first.

        Args:
            query: what is searched for.
            limit: most of them.
            before: goes on behind the hit of this place.

        Raises:
            BadNumber, BadWords: the number or the words cannot be used.
        """
        with closing(self._reader()) as db:
            return list(self._found(db, query, limit, before))

    def find_all(self, query: Query) -> Iterator[Hit]:
        """All that fit, the latest first, page by page."""
        before = None
        while hits := self.find(query, 1_000, before):
            yield from hits
            before = hits[-1].place

    def transcripts(self, recording_id: str) -> list[tuple[str, str]]:
        """Ids and texts of a recording's transcriptions."""
        sql = "SELECT transcription_id, text FROM transcripts t JOIN recordings r USING (n) WHERE recording_id = ?"
        with closing(self._reader()) as db:
            return [(row[0], row[1]) for row in db.execute(f"{sql} ORDER BY transcription_id", (recording_id,))]

    def _reader(self) -> sqlite3.Connection:
        db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=30)
        db.execute("PRAGMA cache_size = -32000")
        return db

    def _found(self, db: sqlite3.Connection, query: Query, limit: int, before: str | None) -> Iterator[Hit]:
        clauses, values = conditions(query)
        clauses.append("(r.key IS NOT NULL OR r.erased_at IS NOT NULL)")
        if before is not None:
            started, _, n = before.rpartition("~")
            clauses.append("(r.started_at, r.n) < (?, ?)")
            values += [started, int(n)]
        if query.number is not None:
            clause, parts = _party_condition(db, wanted_number(query.number))
            clauses.append(clause)
            values += parts
        match = None if query.text is None else words_query(query.text)
        source, t = "recordings r", "NULL"
        if match is not None:
            source, t = "words JOIN transcripts t ON t.t = words.rowid JOIN recordings r ON r.n = t.n", "t.t"
            clauses.append("words MATCH ?")
            values.append(match)
        sql = f"SELECT r.n, {t}, {_STATE} AS state, {', '.join(f'r.{name}' for name in COLUMNS)} FROM {source}"  # noqa: S608
        sql += f" WHERE {' AND '.join(clauses)} ORDER BY r.started_at DESC, r.n DESC LIMIT ?"
        seen: set[int] = set()
        for n, t, state, *columns in db.execute(sql, (*values, limit)):
            if n in seen:  # said in two transcriptions of one recording
                continue
            seen.add(n)
            named = dict(zip(COLUMNS, columns, strict=True))
            named["findings"] = named["findings"].split(",") if named["findings"] else []
            row = Row(**named)
            said = None if match is None else db.execute(_SNIPPET, (match, t)).fetchone()[0]
            yield Hit(row=row, state=state, words=said, place=f"{row.started_at or ''}~{n}")

    def _put_row(self, row: Row) -> int:
        values = [getattr(row, name) for name in _COMMITTED]
        values[_COMMITTED.index("findings")] = ",".join(row.findings)
        sql = "SELECT n, key FROM recordings WHERE recording_id = ?"
        known = self._db.execute(sql, (row.recording_id,)).fetchone()
        if known is not None and known[1] is not None:
            return int(known[0])
        if known is None:
            names = ", ".join(("recording_id", "day", *_COMMITTED))
            marks = ", ".join("?" * (len(_COMMITTED) + 2))
            sql = f"INSERT INTO recordings ({names}) VALUES ({marks})"  # noqa: S608
            n = int(self._db.execute(sql, (row.recording_id, row.day, *values)).lastrowid or 0)
        else:
            n = int(known[0])
            pairs = ", ".join(f"{name} = ?" for name in _COMMITTED)
            self._db.execute(f"UPDATE recordings SET {pairs} WHERE n = ?", (*values, n))  # noqa: S608
        for party in {row.from_number, row.to_number} - {None, ""}:
            digits = digits_of(str(party))
            self._db.execute("INSERT INTO parties VALUES (?, ?, ?, ?)", (str(party).lower(), digits, digits[::-1], n))
        return n

    def _number(self, recording_id: str, day: str) -> int:
        """The number of a recording; one of which only something beside it is known yet gets one."""
        sql = "INSERT INTO recordings (recording_id, day) VALUES (?, ?) ON CONFLICT DO UPDATE SET day = day RETURNING n"
        return int(self._db.execute(sql, (recording_id, day)).fetchone()[0])

    def _set(self, recording_id: str, day: str, what: str, *values: str) -> None:
        n = self._number(recording_id, day)
        place = f"?{len(values) + 1}"
        self._db.execute(f"UPDATE recordings SET {what} WHERE n = {place}", (*values, n))  # noqa: S608

    def _put_transcript(self, n: int, transcription_id: str, text: str) -> None:
        sql = "INSERT OR IGNORE INTO transcripts (n, transcription_id, text) VALUES (?, ?, ?)"
        done = self._db.execute(sql, (n, transcription_id, text))
        if done.rowcount > 0:
            self._db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (done.lastrowid, text))

    def _erase(self, n: int, erased_at: str) -> None:
        for t, text in self._db.execute("SELECT t, text FROM transcripts WHERE n = ?", (n,)).fetchall():
            self._db.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (t, text))
        self._db.execute("DELETE FROM transcripts WHERE n = ?", (n,))
        self._db.execute("DELETE FROM parties WHERE n = ?", (n,))
        kept = ("started_at", "connection_id", "key", "sha256", "bytes", "findings")
        gone = ", ".join(f"{name} = NULL" for name in _COMMITTED if name not in kept)
        self._db.execute(f"UPDATE recordings SET {gone}, erased_at = ? WHERE n = ?", (erased_at, n))  # noqa: S608


def _make_indexes(db: sqlite3.Connection) -> None:
    for name, where in _INDEXES.items():
        db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {where}")


def _party_condition(db: sqlite3.Connection, wanted: Wanted) -> tuple[str, list[str]]:
    """The condition that a party of a recording is the wanted one, by an index wherever there is one for it."""
    begins = "r.n IN (SELECT n FROM parties WHERE {0} >= ? AND {0} < ?)"
    text, backwards = wanted.text, wanted.text[::-1]
    ends = begins.format("reversed"), [backwards, backwards + ":"]  # the colon follows the nine
    if wanted.how == "begins":
        return begins.format("digits"), [text, text + ":"]
    if wanted.how == "ends":
        return ends
    if text.isdigit() and len(text) >= _SURE_DIGITS:
        sql = "SELECT 1 FROM parties WHERE reversed >= ? AND reversed < ? LIMIT 1"
        if db.execute(sql, ends[1]).fetchone() is not None:
            return ends
    return "r.n IN (SELECT n FROM parties WHERE instr(digits, ?) OR instr(party, ?))", [text, text]


_KNOWN_BY = {"recording.json": "coalesce(key, erased_at)", "deleted.json": "deleted_at", "erased.json": "erased_at"}
_SNIPPET = "SELECT snippet(words, 0, char(2), char(3), ' ... ', 16) FROM words WHERE words MATCH ? AND rowid = ?"
