"""Reads the archive's records from their JSON bytes: one reader for each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import msgspec

from archive import layout
from archive.decision_records import AnyDecision, ApiToken, AppliedRules, CaseRecord, Duties
from archive.records import (
    CommitRecord,
    Damage,
    Gone,
    Identity,
    LogMessageRecord,
    MediaRecord,
    NotArchived,
    Receipt,
    Seal,
    Transcribing,
    TranscriptionNotArchived,
    TranscriptionRecord,
    UnreadableRecord,
)
from archive.removal_records import Disposal, Erasure
from text.numbers import wanted_number
from text.times import parse_instant

R = TypeVar("R")


class RecordReader(Generic[R]):
    """Reads one kind of record.

    Args:
        kind: the type of the record.
        name: the name of the record in errors.
    """

    def __init__(self, kind: Any, name: str) -> None:
        self._decoder: msgspec.json.Decoder[R] = msgspec.json.Decoder(kind)
        self._name = name

    def read(self, data: bytes | None, key: str) -> R:
        """Read a record.

        Args:
            data: its bytes; None if the archive has no such object.
            key: the key of the record.

        Raises:
            UnreadableRecord: the record is missing or cannot be read; the text names the key.
        """
        try:
            return self._decoder.decode(data or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UnreadableRecord(key, f"not {self._name} ({error})") from None


class CommitRecordReader(RecordReader[CommitRecord]):
    """Reads commit records of recordings and of versions.

    It refuses a record that names another recording, no object, or an object outside its folder: the worker would
    delete an original that the archive does not have. A version with the same bytes names the first audio object.
    """

    def read(self, data: bytes | None, key: str) -> CommitRecord:
        """Read a commit record.

        Raises:
            UnreadableRecord: as `RecordReader.read`, or the record names another recording, no object, or an
                object outside its folder.
        """
        record = super().read(data, key)
        folder, recording_id = key.removesuffix("recording.json"), str(record.recording.get("id"))
        first = layout.home_of(folder)
        if not first.endswith(f"/{layout.encode_name(recording_id)}/"):
            raise UnreadableRecord(key, f"not a commit record of this recording but of {recording_id}")
        if not record.objects:
            raise UnreadableRecord(key, "not a commit record (it names no object)")
        places = (folder,) if first == folder else (folder, f"{first}audio.")
        for known in record.objects:
            if not known.is_adopted and not known.key.startswith(places):
                raise UnreadableRecord(key, f"not a commit record ({known.key} lies elsewhere)")
        return record


class KeyedReader(RecordReader[R]):
    """Reads rows that say under which key they belong. It refuses a row under a wrong key: it would speak for something else.

    Args:
        kind: the type of the row.
        name: the name of the row in errors.
        key_of: the key of a row.
    """

    def __init__(self, kind: type[R], name: str, key_of: Callable[[R], str]) -> None:
        super().__init__(kind, name)
        self._key_of = key_of

    def read(self, data: bytes | None, key: str) -> R:
        """Read a row.

        Raises:
            UnreadableRecord: as `RecordReader.read`, or the row belongs under another key.
        """
        row = super().read(data, key)
        if (own := self._key_of(row)) != key:
            raise UnreadableRecord(key, f"belongs under the key {own}")
        return row


class CaseReader(KeyedReader[CaseRecord]):
    """Reads rows of cases. It refuses a query that cannot be asked, which would hold nothing."""

    def read(self, data: bytes | None, key: str) -> CaseRecord:
        """Read a row of a case.

        Raises:
            UnreadableRecord: as `KeyedReader.read`, or its query has what is no time or number.
        """
        row = super().read(data, key)
        try:
            for end in (row.query.since, row.query.until):
                if end is not None:
                    parse_instant(end)
            if row.query.number is not None:
                wanted_number(row.query.number)
        except ValueError as error:
            raise UnreadableRecord(key, f"not a case ({error})") from None
        return row


# Module constants: msgspec 0.22 prepares a type at its first use, and crashes if several threads do so at once.
COMMIT_RECORD = CommitRecordReader(CommitRecord, "a commit record")
DECISION: RecordReader[AnyDecision] = RecordReader(AnyDecision, "a decision")
DUTIES: RecordReader[Duties] = RecordReader(Duties, "a statement of duties")
DAMAGE = KeyedReader(Damage, "a row of the register of damage", lambda row: layout.damage_key(row.key, row.number))
API_TOKEN = KeyedReader(ApiToken, "an API token", lambda row: layout.api_token_key(row.id, row.number))
APPLIED_RULES = KeyedReader(AppliedRules, "retention rules", lambda row: layout.retention_key(row.number))
CASE = CaseReader(CaseRecord, "a case", lambda row: layout.case_key(row.id, row.number))
IDENTITY: RecordReader[Identity] = RecordReader(Identity, "an archive's identity")
GONE: RecordReader[Gone] = RecordReader(Gone, "a record of an original that was gone")
NOT_ARCHIVED: RecordReader[NotArchived] = RecordReader(NotArchived, "a record of a recording that is not archived")
TRANSCRIPTION_NOT_ARCHIVED: RecordReader[TranscriptionNotArchived] = RecordReader(
    TranscriptionNotArchived, "a record of a transcription that is not archived"
)
TRANSCRIBING: RecordReader[Transcribing] = RecordReader(Transcribing, "a mark of awaited transcriptions")
TRANSCRIPTION: RecordReader[TranscriptionRecord] = RecordReader(TranscriptionRecord, "a transcription")
LOG_MESSAGE: RecordReader[LogMessageRecord] = RecordReader(LogMessageRecord, "a log message")
RECEIPT: RecordReader[Receipt] = RecordReader(Receipt, "a receipt")
MEDIA: RecordReader[MediaRecord] = RecordReader(MediaRecord, "a medium's record")
ERASURE: RecordReader[Erasure] = RecordReader(Erasure, "a record of an erasure")
DISPOSAL: RecordReader[Disposal] = RecordReader(Disposal, "a record of a disposal")
SEAL: RecordReader[Seal] = RecordReader(Seal, "a seal")
ANY_RECORD: RecordReader[dict[str, Any]] = RecordReader(dict[str, Any], "a record")
