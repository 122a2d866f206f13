"""The catalogue: one SQLite file that finds a call among millions. Derived from the archive, and disposable.

It takes the records of the archive one by one or as rows, in any order and any number of times.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date

import msgspec

from archive import kinds
from archive.cases import Case
from archive.decisions import outcome_of
from archive.readers import COMMIT_RECORD, DAMAGE, DECISION, DISPOSAL, ERASURE, RECEIPT
from archive.records import Damage
from archive.removal_records import Disposal
from text.numbers import address_of, digits_of
from workers.catalogue.file import COMMITTED, CatalogueFile
from workers.catalogue.in_cases import CASES
from workers.catalogue.rows import Row, row_of_commit, transcript_of
from workers.catalogue.words import indexed

_KNOWN_BY = {kinds.COMMIT: "coalesce(key, erased_at)", kinds.RECEIPT: "deleted_at", kinds.ERASURE: "erased_at"}


class Catalogue(CatalogueFile):
    """What the catalogue knows of the archive."""

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
        elif place.kind is kinds.DISPOSAL:
            sql, values = "SELECT 1 FROM disposals WHERE recording_id = ? AND number = ?", (recording_id, int(name))
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
        elif kind is kinds.DISPOSAL:
            self._dispose(self._number(recording_id, day), DISPOSAL.read(data, key))

    def _put_damage(self, row: Damage) -> None:
        place = kinds.place_of(row.key)
        if place.recording_id and place.day is not None and row.state != "whole":
            # also a recording whose commit record is gone is found
            self._number(place.recording_id, place.day.isoformat())
        sql = (
            "INSERT INTO damaged VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET number = excluded.number, state = excluded.state "
            "WHERE number < excluded.number"
        )
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

    def put_cases(self, cases: Sequence[Case]) -> None:
        """Set all cases of the archive; nothing is written if they are known."""
        data = msgspec.json.encode(cases).decode()
        if self.state(CASES) != data:
            with self.writing():
                self.remember(CASES, data)

    def put_seal(self, sequence: int, day: str, keys: Iterable[str]) -> None:
        """Import a seal, and which commit records its manifest lists, within a transaction."""
        places = map(kinds.place_of, keys)
        ids = ((sequence, place.recording_id) for place in places if place.kind is kinds.COMMIT)
        self._db.executemany("UPDATE recordings SET seal = coalesce(seal, ?) WHERE recording_id = ?", ids)
        self._db.execute("INSERT OR IGNORE INTO seals VALUES (?, ?)", (sequence, day))

    def _put_row(self, row: Row) -> int:
        values = [getattr(row, name) for name in COMMITTED]
        values[COMMITTED.index("findings")] = ",".join(row.findings)
        sql = "SELECT n, coalesce(key, erased_at) FROM recordings WHERE recording_id = ?"  # what is erased stays erased
        known = self._db.execute(sql, (row.recording_id,)).fetchone()
        if known is not None and known[1] is not None:
            return int(known[0])
        if known is None:
            names = ", ".join(("recording_id", "day", *COMMITTED))
            marks = ", ".join("?" * (len(COMMITTED) + 2))
            sql = f"INSERT INTO recordings ({names}) VALUES ({marks})"  # noqa: S608
            n = int(self._db.execute(sql, (row.recording_id, row.day, *values)).lastrowid or 0)
        else:
            n = int(known[0])
            pairs = ", ".join(f"{name} = ?" for name in COMMITTED)
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
        done = self._db.execute(
            f"{sql} WHERE n = ? AND coalesce(erased_at, transcripts_disposed_at) IS NULL", (transcription_id, text, n)
        )
        if done.rowcount > 0:
            self._db.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (done.lastrowid, indexed(text)))

    def _dispose(self, n: int, record: Disposal) -> None:
        """Take in that parts of a recording were disposed of; the earliest time of each part stays."""
        sql = "INSERT OR IGNORE INTO disposals SELECT recording_id, ? FROM recordings WHERE n = ?"
        self._db.execute(sql, (record.number, n))
        columns = {"audio": "disposed_at", "transcripts": "transcripts_disposed_at"}
        for column in (columns[part] for part in record.goes):
            sql = f"UPDATE recordings SET {column} = min(coalesce({column}, ?), ?) WHERE n = ?"  # noqa: S608
            self._db.execute(sql, (record.disposed_at, record.disposed_at, n))
        if "transcripts" in record.goes:
            self._forget_transcripts(n)

    def _forget_transcripts(self, n: int) -> None:
        for t, text in self._db.execute("SELECT t, text FROM transcripts WHERE n = ?", (n,)).fetchall():
            self._db.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', ?, ?)", (t, indexed(text)))
        self._db.execute("DELETE FROM transcripts WHERE n = ?", (n,))

    def _erase(self, n: int, erased_at: str) -> None:
        self._forget_transcripts(n)
        self._db.execute("DELETE FROM parties WHERE n = ?", (n,))
        kept = ("started_at", "connection_id", "key", "sha256", "bytes", "findings")
        gone = ", ".join(f"{name} = NULL" for name in COMMITTED if name not in kept)
        self._db.execute(f"UPDATE recordings SET {gone}, erased_at = ? WHERE n = ?", (erased_at, n))  # noqa: S608
