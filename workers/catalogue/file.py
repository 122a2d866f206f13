"""The SQLite file of the catalogue: its schema, and its life.

A corrupt file is renamed and the catalogue is rebuilt; a file of another version is rebuilt in place.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from process.logs import get_logger
from process.private import close_files, private_file, private_folder
from text.errors import UserError

log = get_logger()

# 3: what is known to be damaged, words of every script, and numbers in every form of SIP; 4: connections on hold;
# 5: what retention rules disposed of
_VERSION = 5
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
COMMITTED = (
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

COLUMNS = ("recording_id", "day", *COMMITTED, "deleted_at", "decision", "seal")  # of a row, and of an inventory

_SCHEMA = f"""
CREATE TABLE recordings (
  n INTEGER PRIMARY KEY, recording_id TEXT NOT NULL UNIQUE, day TEXT NOT NULL,
  {", ".join(name + (" INTEGER" if name in ("duration_ms", "bytes") else " TEXT") for name in COMMITTED)},
  deleted_at TEXT, decision TEXT, erased_at TEXT, disposed_at TEXT, transcripts_disposed_at TEXT, seal INTEGER
);
CREATE TABLE disposals (recording_id TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (recording_id, number)) WITHOUT ROWID;
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

# Recordings that a search for a number cannot rule out, as those of conferences.
WITHOUT_NUMBER = "erased_at IS NULL AND (from_number IS NULL OR to_number IS NULL)"

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
    "by_duration": "recordings (duration_ms)",
    # Of few recordings among many, in their order, so that a search for them does not look at all others.
    "without_number": f"recordings (started_at) WHERE {WITHOUT_NUMBER}",
    "with_findings": "recordings (started_at) WHERE findings <> ''",
    "decided": "recordings (decision) WHERE decision IS NOT NULL",
    "erased": "recordings (started_at) WHERE erased_at IS NOT NULL",
    "disposed": "recordings (started_at) WHERE disposed_at IS NOT NULL",
    "deleted": "recordings (started_at) WHERE deleted_at IS NOT NULL",
    "present": "recordings (started_at) WHERE deleted_at IS NULL AND erased_at IS NULL",
}


IS_DAMAGED = "EXISTS (SELECT 1 FROM damaged d WHERE d.recording_id = r.recording_id AND d.state <> 'whole')"
# A row without a commit record or an erasure is only known by a decision or a transcription.
IS_SHOWN = f"(r.key IS NOT NULL OR r.erased_at IS NOT NULL OR {IS_DAMAGED})"


def reading(path: Path) -> closing[sqlite3.Connection]:
    """A connection that only reads, closed at the end of its block."""
    return closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30))


class CatalogueBusy(UserError):
    """The catalogue cannot be read or written now, but is intact: it is locked, or its disk is full."""


class AnotherCatalogue(UserError):
    """A catalogue of another archive."""


class _AnotherVersion(Exception):
    """A catalogue of another version of Callvault; the archive has all of its data too."""


class CatalogueFile:
    """The file of a catalogue. One writer at a time (a process's lock and SQLite's own), any number of readers.

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


def _make_indexes(db: sqlite3.Connection) -> None:
    for name, where in _INDEXES.items():
        db.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {where}")
