"""The catalogue: one SQLite file that finds a call among millions. Derived from the archive, and disposable.

It takes the records of the archive one by one or as rows, in any order and any number of times. A corrupt file is
renamed and the catalogue is rebuilt; a file of another version is rebuilt in place.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from archive import kinds
from archive.decisions import outcome_of
from archive.readers import COMMIT_RECORD, DAMAGE, DECISION, ERASURE, RECEIPT
from archive.records import Damage
from process.logs import get_logger
from process.private import close_files, private_file, private_folder
from text.errors import UserError
from workers.catalogue.numbers import address_of, digits_of
from workers.catalogue.rows import Row, row_of_commit, transcript_of
from workers.catalogue.words import indexed

log = get_logger()

# 3: what is known to be damaged, words of every script, and numbers in every form of SIP; 4: connections on hold
_VERSION = 4
_BUSY_SECONDS = 30
_ARCHIVE = "archive"  # the name in `state` of the id of its archive
# Errors that do not prove the file unusable (sqlite.org/rescode.html); it must stay then.
_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
_PRAGMAS = """
PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -32000; PRAGMA wal_autocheckpoint = 10000;
"""

# The columns that come from the commit record; the others come from other objects.
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

_SCHEMA = f"""
CREATE TABLE recordings (
  n INTEGER PRIMARY KEY, recording_id TEXT NOT NULL UNIQUE, day TEXT NOT NULL,
  {", ".join(name + (" INTEGER" if name in ("duration_ms", "bytes") else " TEXT") for name in _COMMITTED)},
  deleted_at TEXT, decision TEXT, erased_at TEXT, seal INTEGER
);
CREATE TABLE decisions (recording_id TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (recording_id, name));
CREATE TABLE damaged (key TEXT PRIMARY KEY, recording_id TEXT NOT NULL, number INTEGER NOT NULL, state TEXT NOT NULL);
CREATE TABLE held_connections (connection_id TEXT PRIMARY KEY);
CREATE TABLE parties (party TEXT NOT NULL, digits TEXT NOT NULL, reversed TEXT NOT NULL, n INTEGER NOT NULL);
CREATE TABLE transcripts (
  t INTEGER PRIMARY KEY, n INTEGER NOT NULL, transcription_id TEXT NOT NULL UNIQUE, text TEXT NOT NULL
);
CREATE VIRTUAL TABLE words USING fts5 (text, content='', tokenize='ascii');
CREATE TABLE seals (sequence INTEGER PRIMARY KEY, day TEXT NOT NULL);
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT);
PRAGMA user_version = {_VERSION};
"""

# The indexes of searches; absent during a large import, since creating an index at its end takes half the time.
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
    "by_damaged": "damaged (recording_id)",
}


class CatalogueBusy(UserError):
    """The catalogue cannot be read or written now, but is intact: it is locked, or its disk is full."""


class AnotherCatalogue(UserError):
    """A catalogue of another archive."""


class _AnotherVersion(Exception):
    """A catalogue of another version of Callvault; the archive has all of its data too."""


class Catalogue:
    """The catalogue in one file. One writer at a time (a process's lock and SQLite's own), any number of readers.

    Args:
        path: the file; created if it does not exist.

    Raises:
        OSError, CatalogueBusy: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        private_folder(path.parent)
        close_files(path.parent.glob(f"{path.name}*"))  # also files of an earlier version, and renamed ones
        try:
            self._db = self._open()
        except _AnotherVersion as error:
            log.warning("rebuilding the catalogue", why=str(error))
            self._remove()
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            self._must_be_unusable(error)
            self._set_aside(error)
            self._db = self._open()

    def _open(self) -> sqlite3.Connection:
        private_file(self.path)  # SQLite gives the files beside it the same permissions
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise _AnotherVersion(f"{self.path} has version {version}; this version of Callvault needs {_VERSION}")
            db.executescript(_PRAGMAS)
            if version == 0:
                db.execute("BEGIN IMMEDIATE")
                if db.execute("PRAGMA user_version").fetchone()[0] == 0:  # no other process was faster
                    for statement in filter(str.strip, _SCHEMA.split(";\n")):
                        db.execute(statement)
                db.execute("COMMIT")
            _make_indexes(db)
        except BaseException:
            db.close()
            raise
        return db

    def _must_be_unusable(self, error: sqlite3.DatabaseError) -> None:
        """Raise CatalogueBusy for an error that does not prove the file unusable. An error of ours has no code."""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING:
            raise CatalogueBusy(f"cannot use the catalogue {self.path} now: {error}") from None

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        aside = self.path.with_name(f"{self.path.name}.unusable")
        for suffix in ("", "-wal", "-shm"):
            part = self.path.with_name(self.path.name + suffix)
            if part.exists():
                part.replace(aside.with_name(aside.name + suffix))
        log.warning("the catalogue is unusable; rebuilding it", why=str(error), set_aside=str(aside))

    def start_anew(self, error: sqlite3.DatabaseError) -> None:
        """Rename the unusable file and create an empty one.

        Raises:
            CatalogueBusy: the error does not prove the file unusable, so it stays.
        """
        self._must_be_unusable(error)
        with self._lock:
            self._db.close()
            self._set_aside(error)
            self._db = self._open()

    def empty(self) -> None:
        """Replace the file by an empty one."""
        with self._lock:
            self._db.close()
            self._remove()
            self._db = self._open()

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

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
        """Drop the indexes during a large import; they are created at its end, or when the file is next opened."""
        with self.writing():
            for name in _INDEXES:
                self._db.execute(f"DROP INDEX IF EXISTS {name}")
        try:
            yield
        finally:
            with self._lock:
                _make_indexes(self._db)

    def state(self, name: str) -> str | None:
        """A value stored beside the recordings."""
        row = self._db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def remember(self, name: str, value: str | None) -> None:
        """Store such a value, within a transaction."""
        self._db.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (name, value))

    def belong_to(self, identity_id: str) -> None:
        """Bind the catalogue to an archive.

        Raises:
            AnotherCatalogue: it belongs to another.
        """
        kept = self.state(_ARCHIVE)
        if kept is None:
            with self.writing():
                self.remember(_ARCHIVE, identity_id)
        elif kept != identity_id:
            raise AnotherCatalogue(
                f"the catalogue {self.path} belongs to archive {kept}, but CALLVAULT_ARCHIVE_URL points to archive "
                f"{identity_id}; check CALLVAULT_ARCHIVE_URL and CALLVAULT_DATA, or run `callvault index --rebuild` to rebuild "
                "it from this archive"
            )

    @property
    def archive_id(self) -> str | None:
        """The id of its archive; None while it has none."""
        return self.state(_ARCHIVE)

    def count(self) -> int:
        """How many recordings there are."""
        return int(self._db.execute("SELECT count(*) FROM recordings WHERE key IS NOT NULL").fetchone()[0])

    def oldest_day(self) -> date | None:
        """The day of its oldest recording; None while it is empty."""
        day = self._db.execute("SELECT min(day) FROM recordings").fetchone()[0]
        return None if day is None else date.fromisoformat(day)

    def seals(self) -> set[int]:
        """The sequence numbers of the seals whose objects are all in the catalogue."""
        return {row[0] for row in self._db.execute("SELECT sequence FROM seals")}

    def knows(self, key: str) -> bool:
        """Whether the catalogue has the data of an object; True also for an object that is not about a recording."""
        place = kinds.place_of(key)
        recording_id, name = place.recording_id, place.name
        values: tuple[str | int, ...]
        if place.kind is kinds.DAMAGE:
            sql, values = "SELECT 1 FROM damaged WHERE key = ? AND number >= ?", (place.names[0], int(name))
        elif place.kind is kinds.TRANSCRIPTION:
            sql, values = "SELECT 1 FROM transcripts WHERE transcription_id = ?", (name,)
        elif place.kind is kinds.DECISION_COPY:
            sql, values = "SELECT 1 FROM decisions WHERE recording_id = ? AND name = ?", (recording_id, name)
        elif place.kind is not None and place.kind in _KNOWN_BY:
            sql = f"SELECT 1 FROM recordings WHERE recording_id = ? AND {_KNOWN_BY[place.kind]} NOT NULL"  # noqa: S608
            values = (recording_id,)
        else:
            return True
        return self._db.execute(sql, values).fetchone() is not None

    def apply(self, key: str, data: bytes) -> None:
        """Import an object of the archive, within a transaction; objects that are not about a recording change nothing.

        Raises:
            UnreadableRecord: it is not what its key says; the text names the key.
        """
        place = kinds.place_of(key)
        kind, recording_id, name = place.kind, place.recording_id, place.name
        day = "" if place.day is None else place.day.isoformat()
        if kind is kinds.DAMAGE:
            self._put_damage(DAMAGE.read(data, key))
        elif kind is kinds.COMMIT:
            self._put_row(row_of_commit(recording_id, day, COMMIT_RECORD.read(data, key)))
        elif kind is kinds.TRANSCRIPTION:
            self._put_transcript(self._number(recording_id, day), name, transcript_of(data, key))
        elif kind is kinds.RECEIPT:
            self._set(recording_id, day, "deleted_at", RECEIPT.read(data, key).confirmed_gone_at)
        elif kind is kinds.DECISION_COPY:
            DECISION.read(data, key)
            self._db.execute("INSERT OR REPLACE INTO decisions VALUES (?, ?, ?)", (recording_id, name, data))
            sql = "SELECT name, data FROM decisions WHERE recording_id = ?"
            known = {name: DECISION.read(data, key) for name, data in self._db.execute(sql, (recording_id,))}
            self._set(recording_id, day, "decision", outcome_of(known))
        elif kind is kinds.ERASURE:
            self._erase(self._number(recording_id, day), ERASURE.read(data, key).erased_at)

    def _put_damage(self, row: Damage) -> None:
        place = kinds.place_of(row.key)
        if place.recording_id and place.day is not None and row.state != "whole":
            self._number(
                place.recording_id, place.day.isoformat()
            )  # also a recording whose commit record is gone is found
        sql = "INSERT INTO damaged VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET number = ?3, state = ?4 WHERE number < ?3"
        self._db.execute(sql, (row.key, place.recording_id, row.number, row.state))

    def put_rows(self, rows: Iterable[Row]) -> None:
        """Import whole rows from a Parquet file, within a transaction."""
        for row in rows:
            n = self._put_row(row)
            for transcription_id, text in zip(row.transcription_ids, row.transcripts, strict=False):
                self._put_transcript(n, transcription_id, text)
            if row.deleted_at or row.decision or row.seal:
                sql = "UPDATE recordings SET deleted_at = coalesce(?, deleted_at), decision = coalesce(?, decision),"
                sql += " seal = coalesce(seal, ?) WHERE n = ?"
                self._db.execute(sql, (row.deleted_at, row.decision, row.seal, n))

    def hold_connections(self, connection_ids: Collection[str]) -> None:
        """Set which connections are on hold; nothing is written if that is known."""
        known = {row[0] for row in self._db.execute("SELECT connection_id FROM held_connections")}
        if known == set(connection_ids):
            return
        with self.writing():
            self._db.execute("DELETE FROM held_connections")
            self._db.executemany("INSERT INTO held_connections VALUES (?)", ((one,) for one in set(connection_ids)))

    def put_seal(self, sequence: int, day: str, keys: Iterable[str]) -> None:
        """Import a seal, and which commit records its manifest lists, within a transaction."""
        places = map(kinds.place_of, keys)
        ids = ((sequence, place.recording_id) for place in places if place.kind is kinds.COMMIT)
        self._db.executemany("UPDATE recordings SET seal = coalesce(seal, ?) WHERE recording_id = ?", ids)
        self._db.execute("INSERT OR IGNORE INTO seals VALUES (?, ?)", (sequence, day))

    def _put_row(self, row: Row) -> int:
        values = [getattr(row, name) for name in _COMMITTED]
        values[_COMMITTED.index("findings")] = ",".join(row.findings)
        sql = "SELECT n, coalesce(key, erased_at) FROM recordings WHERE recording_id = ?"  # what is erased stays erased
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
            self._db.execute(
                "INSERT INTO parties VALUES (?, ?, ?, ?)", (address_of(str(party)), digits, digits[::-1], n)
            )
        return n

    def _number(self, recording_id: str, day: str) -> int:
        """The number of a recording; a recording without a known commit record gets one too."""
        sql = "INSERT INTO recordings (recording_id, day) VALUES (?, ?) ON CONFLICT DO UPDATE SET day = day RETURNING n"
        return int(self._db.execute(sql, (recording_id, day)).fetchone()[0])

    def _set(self, recording_id: str, day: str, column: str, value: str | None) -> None:
        n = self._number(recording_id, day)
        self._db.execute(f"UPDATE recordings SET {column} = ? WHERE n = ?", (value, n))  # noqa: S608

    def _put_transcript(self, n: int, transcription_id: str, text: str) -> None:
        sql = "INSERT OR IGNORE INTO transcripts (n, transcription_id, text) SELECT n, ?, ? FROM recordings"
        done = self._db.execute(f"{sql} WHERE n = ? AND erased_at IS NULL", (transcription_id, text, n))
        if done.rowcount > 0:
            self._db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (done.lastrowid, indexed(text)))

    def _erase(self, n: int, erased_at: str) -> None:
        for t, text in self._db.execute("SELECT t, text FROM transcripts WHERE n = ?", (n,)).fetchall():
            self._db.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (t, indexed(text)))
        self._db.execute("DELETE FROM transcripts WHERE n = ?", (n,))
        self._db.execute("DELETE FROM parties WHERE n = ?", (n,))
        kept = ("started_at", "connection_id", "key", "sha256", "bytes", "findings")
        gone = ", ".join(f"{name} = NULL" for name in _COMMITTED if name not in kept)
        self._db.execute(f"UPDATE recordings SET {gone}, erased_at = ? WHERE n = ?", (erased_at, n))  # noqa: S608


def _make_indexes(db: sqlite3.Connection) -> None:
    for name, where in _INDEXES.items():
        db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {where}")


_KNOWN_BY = {kinds.COMMIT: "coalesce(key, erased_at)", kinds.RECEIPT: "deleted_at", kinds.ERASURE: "erased_at"}
