"""The index of the access log: one SQLite file per data folder, derived from the archive and from the lines in Redis.

It can be deleted at any time. The archive is listed in full once, and then only for its last days: an object is named when it is
written, so an older day gets no more of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec

from archive import kinds, layout
from archive.access import AccessLine, decode_line, read_lines
from archive.ahead import ahead
from archive.archive import Archive
from process.logs import get_logger
from process.private import close_files, private_file, private_folder
from text.errors import UserError
from text.times import utc_now
from workers.access.query import AccessQuery

log = get_logger()

NAME = "access-log.sqlite"
_VERSION = 3
_BUSY_SECONDS = 30
_OPEN_DAYS = 3  # in which objects may still be written
_MOST_DAYS_APART = 30  # that are listed one by one
_CACHE_KIB = 65_536  # while lines are taken in: ids come in no order, so each touches another page
_OBJECTS_AT_ONCE = 50  # of up to 2,000 lines each

_SCHEMA = f"""
PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS lines (
  id TEXT PRIMARY KEY NOT NULL, at TEXT NOT NULL, who TEXT NOT NULL, of TEXT, bytes INTEGER, seconds REAL, error TEXT,
  object TEXT, line BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS recordings (recording_id TEXT, at TEXT, id TEXT, PRIMARY KEY (recording_id, at, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT);
CREATE INDEX IF NOT EXISTS by_at ON lines (at, id);
CREATE INDEX IF NOT EXISTS by_who ON lines (who, at);
CREATE INDEX IF NOT EXISTS by_of ON lines (of) WHERE of IS NOT NULL;
CREATE INDEX IF NOT EXISTS waiting ON lines (id) WHERE object IS NULL;
PRAGMA user_version = {_VERSION};
COMMIT;
"""

_ENTRY_COLUMNS = """line, object, (SELECT SUM(bytes) FROM lines m WHERE m.of = lines.id),
  (SELECT SUM(seconds) FROM lines m WHERE m.of = lines.id), (SELECT MAX(error) FROM lines m WHERE m.of = lines.id)"""
_PER_PAGE = 1_000


class Entry(msgspec.Struct, frozen=True):
    """A line with what later lines add to it.

    Attributes:
        line: the line.
        bytes: how much of the audio was sent since; None if no line says so.
        seconds: its share of the length; likewise.
        error: why what was asked for was not done, as it or a later line says; None if none does.
        object: the key of the object that holds the line; None while Redis alone holds it.
        place: its position, for the next page.
    """

    line: AccessLine
    bytes: int | None
    seconds: float | None
    error: str | None
    object: str | None
    place: str


class AccessIndex:
    """The index of one archive's access log; every method blocks.

    Args:
        folder: the data folder; created if it does not exist.

    Raises:
        OSError, sqlite3.Error: it cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        private_folder(folder)

    def refresh(self, archive: Archive, waiting: Sequence[bytes] = ()) -> None:
        """Take in what the archive has, and the lines that wait in Redis. Read those from Redis first.

        Raises:
            StoreError: the archive does not answer; the lines of Redis may be taken in all the same.
            UserError: the file cannot be used now.
        """
        with self._open() as db:
            self._belong_to(db, archive.identity.id)
            with db:
                db.execute("BEGIN IMMEDIATE")
                _forget_waiting(db)
                _add(db, waiting, None)
            db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            started = utc_now().date()
            found = (key for key in self._listed(db, archive, started) if not _has(db, key))
            for keys in _in_groups(found, _OBJECTS_AT_ONCE):
                read = [*ahead(keys, lambda key: (key, read_lines(archive, key)))]
                with db:
                    db.execute("BEGIN IMMEDIATE")
                    for key, lines in read:
                        _add(db, lines, key)
                        db.execute("INSERT OR IGNORE INTO objects VALUES (?)", (key,))
            with db:
                db.execute("INSERT OR REPLACE INTO state VALUES ('read', ?)", (started.isoformat(),))

    def add_waiting(self, archive: Archive, waiting: Sequence[bytes]) -> None:
        """Take in the lines that wait in Redis, without a look at the archive.

        Raises:
            UserError: the file cannot be used now.
        """
        with self._open() as db:
            self._belong_to(db, archive.identity.id)
            with db:
                db.execute("BEGIN IMMEDIATE")
                _add(db, waiting, None)

    def find(self, query: AccessQuery, limit: int, before: str | None = None) -> list[Entry]:
        """The lines that match, the latest first; those that complete another line are part of that.

        Args:
            query: what to find.
            limit: the most.
            before: the `place` of the last entry of the page before.

        Raises:
            UserError: the file cannot be used now.
        """
        with self._open() as db:
            return [*_find(db, query, limit, before)]

    def count(self, query: AccessQuery) -> int:
        """How many entries match.

        Raises:
            UserError: the file cannot be used now.
        """
        with self._open() as db:
            where, values = query.conditions()
            text = f"SELECT COUNT(*) FROM lines WHERE of IS NULL AND {where}"  # noqa: S608
            return int(db.execute(text, values).fetchone()[0])

    def in_order(self, query: AccessQuery, most: int | None) -> Iterator[list[Entry]]:
        """The same lines, the earliest first, in pages of a thousand.

        Args:
            query: what to find.
            most: how many, the latest; None for all.

        Raises:
            UserError: the file cannot be used now.
        """
        with self._open() as db:
            for rows in _pages(db, f"{_ENTRY_COLUMNS}, at, id", "of IS NULL", query, most):
                found = (_entry(row) for row in rows)
                yield [entry for entry in found if entry is not None]

    def lines(self, query: AccessQuery, most: int | None) -> Iterator[bytes]:
        """All lines that match, as they were written, the earliest first.

        Args:
            query: what to find.
            most: how many, the latest; None for all.

        Raises:
            UserError: the file cannot be used now.
        """
        with self._open() as db:
            for rows in _pages(db, "line, at, id", "1", query, most):
                yield from (row[0] for row in rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection; a file that is not one of this version is made anew.

        Raises:
            UserError: it cannot be used now.
        """
        try:
            with closing(self._connect()) as db:
                yield db
        except sqlite3.OperationalError as error:  # locked, or its disk is full
            raise UserError(f"cannot use the index of the access log {self.path} now: {error}") from None
        except sqlite3.DatabaseError as error:
            log.warning("the index of the access log is unusable; it is built anew", why=str(error))
            self.remove()
            raise UserError(
                f"the index of the access log {self.path} was unusable and was removed; try again"
            ) from None

    def _connect(self) -> sqlite3.Connection:
        private_file(self.path)
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                db.close()
                self.remove()
                return self._connect()
            if version == 0:
                db.executescript(_SCHEMA)
                close_files(self.path.parent.glob(f"{NAME}*"))
        except BaseException:
            db.close()
            raise
        return db

    def remove(self) -> None:
        """Delete the file; the next use builds it anew."""
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _belong_to(self, db: sqlite3.Connection, archive_id: str) -> None:
        """Empty the file if it is of another archive."""
        row = db.execute("SELECT value FROM state WHERE name = 'archive'").fetchone()
        if row is not None and row[0] == archive_id:
            return
        with db:
            db.execute("BEGIN IMMEDIATE")
            for table in ("lines", "recordings", "objects", "state"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608
            db.execute("INSERT INTO state VALUES ('archive', ?)", (archive_id,))

    def _listed(self, db: sqlite3.Connection, archive: Archive, today: date) -> Iterator[str]:
        """The keys of the objects that may be new."""
        row = db.execute("SELECT value FROM state WHERE name = 'read'").fetchone()
        first = None if row is None else date.fromisoformat(row[0]) - timedelta(days=_OPEN_DAYS)
        if first is None or (today - first).days > _MOST_DAYS_APART:
            prefixes = [f"{kinds.ACCESS_LOG.prefix}"]
        else:
            days = (first + timedelta(days=n) for n in range((today - first).days + 2))  # clocks differ
            prefixes = [layout.day_prefix(day, "access-log") for day in days]
        for prefix in prefixes:
            for stored in archive.store.list(prefix):
                if kinds.kind_of(stored.key) is kinds.ACCESS_LOG:
                    yield stored.key


def _has(db: sqlite3.Connection, key: str) -> bool:
    return db.execute("SELECT 1 FROM objects WHERE key = ?", (key,)).fetchone() is not None


def _in_groups(keys: Iterable[str], most: int) -> Iterator[list[str]]:
    group: list[str] = []
    for key in keys:
        group.append(key)
        if len(group) == most:
            yield group
            group = []
    if group:
        yield group


def _forget_waiting(db: sqlite3.Connection) -> None:
    """Forget the lines that Redis alone held: it may have lost them."""
    for (data,) in db.execute("SELECT line FROM lines WHERE object IS NULL").fetchall():
        if (line := decode_line(data)) is not None:
            db.executemany("DELETE FROM recordings WHERE recording_id = ? AND at = ? AND id = ?", _recordings_of(line))
    db.execute("DELETE FROM lines WHERE object IS NULL")


def _add(db: sqlite3.Connection, lines: Iterable[bytes], key: str | None) -> None:
    """Add the lines of an object, or with None of Redis; of a line that is known already, its object."""
    rows, recordings = [], list[tuple[str, str, str]]()
    for data in lines:
        if (line := decode_line(data)) is None:
            log.warning("a line of the access log cannot be read; run `callvault verify --seals`", object=key)
            continue
        more = (_set(v) for v in (line.of, line.bytes, line.seconds, line.error))
        rows.append((line.id, line.at, line.who.casefold(), *more, key, data))
        recordings += _recordings_of(line)
    db.executemany(
        "INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET object = coalesce(excluded.object, object)",  # Redis may hold it still
        rows,
    )
    db.executemany("INSERT OR IGNORE INTO recordings VALUES (?, ?, ?)", sorted(recordings))


def _recordings_of(line: AccessLine) -> Iterator[tuple[str, str, str]]:
    """The rows of a line in the table `recordings`."""
    return ((recording_id, line.at, line.id) for recording_id in line.recordings)


def _set(value: object) -> object:
    return None if value is msgspec.UNSET else value


def _find(db: sqlite3.Connection, query: AccessQuery, limit: int, before: str | None) -> Iterator[Entry]:
    where, values = query.conditions()
    if before is not None:
        where += " AND (at, id) < (?, ?)"
        values = (*values, *before.split("~", 1))
    text = f"SELECT {_ENTRY_COLUMNS} FROM lines WHERE of IS NULL AND {where} ORDER BY at DESC, id DESC LIMIT ?"  # noqa: S608
    for row in db.execute(text, (*values, limit)):
        if (entry := _entry(row)) is not None:
            yield entry


def _pages(
    db: sqlite3.Connection, columns: str, condition: str, query: AccessQuery, most: int | None
) -> Iterator[list[tuple[Any, ...]]]:
    """Rows that match, the earliest first, in pages: no list of all is made, and no reader keeps the file from being tidied.

    Args:
        db: the file.
        columns: of each row; the last two are `at, id`.
        condition: a further condition.
        query: what to find.
        most: how many, the latest; None for all.
    """
    where, values = query.conditions()
    where = f"{condition} AND {where}"
    place, compare = ("", ""), ">="
    if most is not None:
        text = f"SELECT at, id FROM lines WHERE {where} ORDER BY at DESC, id DESC LIMIT 1 OFFSET ?"  # noqa: S608
        place = db.execute(text, (*values, most - 1)).fetchone() or place
    while True:
        text = f"SELECT {columns} FROM lines WHERE {where} AND (at, id) {compare} (?, ?) ORDER BY at, id LIMIT ?"  # noqa: S608
        if not (rows := db.execute(text, (*values, *place, _PER_PAGE)).fetchall()):
            return
        yield rows
        place, compare = rows[-1][-2:], ">"


def _entry(row: Sequence[Any]) -> Entry | None:
    data, key, sent, seconds, error = row[:5]
    if (line := decode_line(data)) is None:
        return None
    own = None if line.error is msgspec.UNSET else line.error
    return Entry(line, sent, seconds, error or own, key, f"{line.at}~{line.id}")
