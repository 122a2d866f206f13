"""One recording as a row of the catalogue and of the Parquet files in the bucket."""

from __future__ import annotations

import re
from datetime import date

import msgspec

from archive import kinds, layout
from archive.decision_records import AnyDecision
from archive.decisions import outcome_of
from archive.readers import DECISION, ERASURE, RECEIPT, TRANSCRIPTION
from archive.records import CommitRecord
from archive.seals import SealedFolder
from text.times import first_instant, format_instant

# Python 3.14 reads 24:00 as midnight of the next day, so it is written anew.
_NORMAL = re.compile(r"\d{4}-\d\d-\d\dT(?!24)\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_INT64 = 2**63  # the limit of SQLite and Parquet; the commit record keeps Telnyx's number


class Row(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A recording.

    Attributes:
        day: its day in the archive: UTC, ISO 8601.
        started_at: ISO 8601, UTC, microseconds; likewise all instants here.
        from_number: as Telnyx returns it: E.164, or a SIP address; likewise to_number.
        bytes: of its audio objects together.
        key: of its first audio object; likewise sha256 and proof.
        deleted_at: when its original was confirmed gone.
        decision: the outcome of all decisions: `hold`, `approve`, or `release` of an earlier version.
        transcription_ids: in the order of their keys; the texts in transcripts, likewise.
        seal: the sequence number of the seal that lists its commit record.
    """

    recording_id: str
    day: str
    started_at: str | None = None
    ended_at: str | None = None
    from_number: str | None = None
    to_number: str | None = None
    direction: str | None = None
    connection_id: str | None = None
    call_leg_id: str | None = None
    call_session_id: str | None = None
    conference_id: str | None = None
    duration_ms: int | None = None
    bytes: int = 0
    key: str | None = None
    sha256: str | None = None
    proof: str | None = None
    findings: list[str] = []
    archived_at: str | None = None
    found_by: str | None = None
    deleted_at: str | None = None
    decision: str | None = None
    transcription_ids: list[str] = []
    transcripts: list[str] = []
    seal: int | None = None

    @property
    def date(self) -> date:
        """The day as a value."""
        return date.fromisoformat(self.day)


def row_of_commit(recording_id: str, day: str, record: CommitRecord) -> Row:
    """The row of a commit record alone."""
    fields = record.recording
    first = record.objects[0] if record.objects else None

    def text(name: str) -> str | None:
        value = fields.get(name)
        return None if value in (None, "") else str(value)

    duration = fields.get("duration_millis")
    return Row(
        recording_id=recording_id,
        day=day,
        started_at=_instant(fields.get("recording_started_at"), fields.get("created_at")),
        ended_at=_instant(fields.get("recording_ended_at")),
        from_number=text("from"),
        to_number=text("to"),
        direction=text("direction"),
        connection_id=text("connection_id"),
        call_leg_id=text("call_leg_id"),
        call_session_id=text("call_session_id"),
        conference_id=text("conference_id"),
        duration_ms=duration if isinstance(duration, int) and abs(duration) < _INT64 else record.audio.duration_ms,
        bytes=sum(o.size for o in record.objects),
        key=first.key if first else None,
        sha256=first.sha256 if first else None,
        proof=first.proof.by if first else None,
        findings=record.audio.findings,
        archived_at=_instant(record.archived_at),
        found_by=record.found_by,
    )


def row_of(folder: SealedFolder) -> Row | None:
    """The row of a recording, from its folder; None if it is not committed, or erased."""
    records = folder.records
    if folder.commit is None or (home := folder.place_of(layout.commit_key(folder.prefix))).day is None:
        return None
    row = row_of_commit(home.recording_id, home.day.isoformat(), folder.commit)
    decisions: dict[str, AnyDecision] = {}
    for key in sorted(records) if len(records) > 1 else ():  # most have a commit record alone
        place = folder.place_of(key)
        kind, name = place.kind, place.name
        if kind is kinds.TRANSCRIPTION:
            row.transcription_ids = [*row.transcription_ids, name]
            row.transcripts = [*row.transcripts, transcript_of(records[key], key)]
        elif kind is kinds.RECEIPT:
            row.deleted_at = _instant(RECEIPT.read(records[key], key).confirmed_gone_at)
        elif kind is kinds.DECISION_COPY:
            decisions[name] = DECISION.read(records[key], key)
        elif kind is kinds.ERASURE:
            ERASURE.read(records[key], key)
            return None
    if decisions:
        row.decision = outcome_of(decisions)
    return row


def transcript_of(data: bytes | None, key: str) -> str:
    """The text of a transcription record.

    Raises:
        UnreadableRecord: it is not a transcription, or is missing.
    """
    return str(TRANSCRIPTION.read(data, key).transcription.get("transcription_text") or "")


def _instant(*texts: object) -> str | None:
    """The first value that is an instant, normalised so that texts sort by time; the commit record keeps Telnyx's form."""
    first = texts[0]
    if isinstance(first, str) and _NORMAL.fullmatch(first) and first_instant(first) is not None:
        return first  # as almost all are
    instant = first_instant(*texts)
    return None if instant is None else format_instant(instant)
