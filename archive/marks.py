"""Marks of objects that `callvault verify` has read, kept on this machine so that it reads each object once.

After an archive was moved, mirrored or partly restored, the store's marks differ from those in the commit records and
prove nothing. Once an object was read, its new mark names the same bytes until the mark changes.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

from archive.records import ArchivedObject
from process.private import private_file, private_folder


class ProvenMarks:
    """The marks of one archive, in a file. Several threads use it. An unreadable file counts as empty.

    Args:
        folder: the data folder.
        archive: the name of the archive, which selects its file.
    """

    def __init__(self, folder: Path, archive: str) -> None:
        self._path = folder / f"verify-marks-{hashlib.sha256(archive.encode()).hexdigest()[:16]}.sqlite"
        self._lock = threading.Lock()
        self._db = self._open() if self._path.exists() else None

    def of(self, known: ArchivedObject) -> str | None:
        """The mark that an object had when it was read; None if it was not read."""
        with self._lock:
            if self._db is None:
                return None
            sql = "SELECT mark FROM marks WHERE key = ? AND sha256 = ? AND size = ?"
            try:
                row = self._db.execute(sql, (known.key, known.sha256, known.size)).fetchone()
            except sqlite3.DatabaseError:
                return None
            return None if row is None else str(row[0])

    def remember(self, proven: ArchivedObject) -> None:
        """Remember the mark of an object that was just read."""
        row = (proven.key, proven.proof.version, proven.sha256, proven.size)
        with self._lock:
            if self._db is None:
                private_folder(self._path.parent)
                self._db = self._open()
            with suppress(sqlite3.DatabaseError):
                self._db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?)", row)

    def forget(self) -> None:
        """Forget all marks, so each object is read again."""
        with self._lock:
            if self._db is not None:
                with suppress(sqlite3.DatabaseError):
                    self._db.execute("DELETE FROM marks")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _open(self) -> sqlite3.Connection:
        try:
            return self._prepared()
        except sqlite3.DatabaseError:
            with suppress(OSError):
                self._path.unlink()
            return self._prepared()

    def _prepared(self) -> sqlite3.Connection:
        private_file(self._path)
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=30)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = OFF")  # a lost mark costs one read
            db.execute(
                "CREATE TABLE IF NOT EXISTS marks (key TEXT PRIMARY KEY, mark TEXT, sha256 TEXT, size INTEGER) "
                "WITHOUT ROWID"
            )
        except sqlite3.DatabaseError:
            db.close()
            raise
        return db
