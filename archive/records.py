"""The records of the archive, such as commit records and receipts, as values and as canonical JSON.

Readers outside this project depend on their shapes (docs/archive-format.md); a changed shape gets a new `schema`.
`decision_records.py` has those of what people decide, `removal_records.py` those of what is gone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from archive.decision_records import AnyDecision, ApiToken, AppliedRules, CaseRecord, Duties
from archive.layout import Outside
from archive.removal_records import Disposal, Erasure
from telnyx_api.source_mark import SourceMark
from text.times import first_instant, parse_instant

ProofKind = Literal["checksum", "etag", "read-back"]
FoundBy = Literal["webhook", "reconcile", "backfill"]
DamageState = Literal["damaged", "missing", "whole"]


class Proof(msgspec.Struct, frozen=True):
    """How an object was proven in the store.

    Attributes:
        by: the proof level (see `archive/proof.py`).
        algorithm: the algorithm of the compared checksum, such as `sha256` or `crc64nvme`.
        value: the checksum: hexadecimal for SHA-256 and MD5, else as the store writes it.
        version: the store's mark of this object; None if the store has none (`file`).
    """

    by: ProofKind
    algorithm: str
    value: str
    version: str | None


class ArchivedObject(msgspec.Struct, frozen=True):
    """A proven object of the archive.

    Attributes:
        key: relative to the archive's prefix, or the key of a `layout.Outside`.
        size: its size in bytes.
        sha256: the SHA-256 of all its bytes, hexadecimal.
    """

    key: str
    size: int
    sha256: str
    content_type: str
    proof: Proof

    @property
    def is_adopted(self) -> bool:
        """Whether it lies outside the archive's prefix, where Telnyx put it by custom storage."""
        return Outside.of(self.key) is not None


class AudioSummary(msgspec.Struct, frozen=True):
    """What the audio bytes show, read while they streamed.

    Attributes:
        format: `wav` or `mp3`.
        channels: the number of channels; 0 if the file is not of its format.
        duration_ms: the length of the readable part in milliseconds; 0 if it is unknown.
        findings: differences from what Telnyx says: `unparsable`, `duration`, `channels`, `silent-channel`,
            `not-looked-at`.
    """

    format: str
    channels: int
    sample_rate_hz: int
    duration_ms: int
    findings: list[str]


class CommitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`recording.json`: written last and once. A recording that has one is archived and proven.

    The same shape under `versions/` records other content that Telnyx showed under the same id.

    Attributes:
        recording: the recording as Telnyx returned it, without `download_urls`.
        objects: the audio objects.
        archived_at: ISO 8601, UTC, by the clock of Redis.
        machine_clock: the same by the worker's clock, if that was more than a minute ahead.
        event_id: the webhook event that led to the recording; None if none did.
        sources: what the download address said of the bytes, by format; earlier versions did not record it.
    """

    schema: Literal["callvault.recording/1"] = "callvault.recording/1"
    recording: dict[str, Any]
    objects: list[ArchivedObject]
    audio: AudioSummary
    archived_at: str
    event_id: str | None
    found_by: FoundBy
    sources: dict[str, SourceMark] | msgspec.UnsetType = msgspec.UNSET
    machine_clock: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def is_in_custom_storage(self) -> bool:
        """Whether the archive's copy is the object that Telnyx put into the user's bucket, so no other original exists."""
        return any(one.is_adopted for one in self.objects)

    @property
    def latest_archived_at(self) -> datetime:
        """The latest time of archiving by both clocks, and never before the end of the call."""
        written = [self.archived_at, *([self.machine_clock] if isinstance(self.machine_clock, str) else [])]
        of_call = (first_instant(self.recording.get(name)) for name in ("recording_ended_at", "created_at"))
        return max([*map(parse_instant, written), *(at for at in of_call if at is not None)])


class TranscriptionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`transcriptions/{id}.json`: the transcription as Telnyx returned it, the same in every run."""

    schema: Literal["callvault.transcription/1"] = "callvault.transcription/1"
    transcription: dict[str, Any]


class EarlierReceipt(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="callvault.deletion/1"):
    """`deleted.json` of versions before 2: Telnyx answered 404, maybe because this API key never had the recording."""

    recording_id: str
    objects: list[ArchivedObject]
    transcription_ids: list[str]
    confirmed_gone_at: str


class DeletionReceipt(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="callvault.deletion/2"):
    """`deleted.json`: the receipt of a deletion at Telnyx by the worker.

    Attributes:
        objects: the audio objects with their proofs just before the deletion.
        transcription_ids: the transcriptions that were deleted with the recording.
        seen_at: when Telnyx last showed the recording under this API key; ISO 8601, UTC, as all instants here.
        asked_at: when the worker asked Telnyx to delete it.
        confirmed_gone_at: when Telnyx answered 404 for it.
    """

    recording_id: str
    objects: list[ArchivedObject]
    transcription_ids: list[str]
    seen_at: str
    asked_at: str
    confirmed_gone_at: str


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """`gone.json`: the original was gone at Telnyx before the worker asked for its deletion.

    Attributes:
        objects: the audio objects with their proofs at that moment.
        found_gone_at: when Telnyx answered 404 for it and showed other recordings of the account; ISO 8601, UTC.
    """

    schema: Literal["callvault.gone/1"] = "callvault.gone/1"
    recording_id: str
    objects: list[ArchivedObject]
    found_gone_at: str


class NotArchived(msgspec.Struct, frozen=True, kw_only=True):
    """`not-archived.json`: Telnyx lists a recording without audio, so its day is sealed without it.

    If Telnyx has the audio later, the worker archives it in the same folder and a further seal lists it.

    Attributes:
        recording: the recording as Telnyx returned it, without `download_urls`.
        answer: the answer to the last request for its audio.
        why: the reason.
        by: who decided to seal the day without it; `callvault` for `CALLVAULT_SEAL_WITHOUT_AFTER`.
        at: ISO 8601, UTC.
    """

    schema: Literal["callvault.not-archived/1"] = "callvault.not-archived/1"
    recording_id: str
    recording: dict[str, Any]
    answer: str
    why: str
    by: str
    at: str


class TranscriptionNotArchived(msgspec.Struct, frozen=True, kw_only=True):
    """`transcriptions-not-archived/{id}.json`: Telnyx lists a transcription without text; its day is sealed without it.

    Attributes:
        recording_id: the id of its recording; empty if Telnyx does not say.
        transcription: the transcription as Telnyx listed it, without text, which an erasure would not find here.
        answer, why, by, at: as in `NotArchived`.
    """

    schema: Literal["callvault.transcription-not-archived/1"] = "callvault.transcription-not-archived/1"
    recording_id: str
    transcription_id: str
    transcription: dict[str, Any]
    answer: str
    why: str
    by: str
    at: str


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """`damage/{key}/{number}.json`: an object was found damaged, missing or whole again; the last number counts.

    Attributes:
        key: the key of the object.
        state: `damaged`: its bytes differ from its records; `missing`; `whole`: a later check found it intact.
        what: what is wrong, in one line; empty if it is whole.
        found_by: `deletion`, `job`, `seal`, `sweep`, `verify`, `get`, `page`, or `register` for a repeated check.
        at: ISO 8601, UTC; for people, never compared.
    """

    schema: Literal["callvault.damage/1"] = "callvault.damage/1"
    key: str
    number: int
    state: DamageState
    what: str
    found_by: str
    at: str


class Transcribing(msgspec.Struct, frozen=True, kw_only=True):
    """`transcribing/{connection_id}.json`: this connection has had a transcription, so its recordings await theirs."""

    schema: Literal["callvault.transcribing/1"] = "callvault.transcribing/1"
    connection_id: str


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """`archive.json`: the identity of the archive, written once by `callvault init`.

    Attributes:
        id: random.
        created_at: ISO 8601, UTC. Every day from here on gets a seal, also an empty day.
        adopted: whether the archive held objects when it got its identity.
        adopted_seals: the number of seals at that time.
        adopted_head: the SHA-256 of the last of them; None if there were none.
    """

    schema: Literal["callvault.archive/1"] = "callvault.archive/1"
    id: str
    created_at: str
    by: str
    adopted: bool
    adopted_seals: int
    adopted_head: str | None


class LogMessageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`log-messages/…/{identity}.json`: a log message as Telnyx returned it.

    Attributes:
        identified_by: `id` if Telnyx gave one, else `fingerprint` of the whole message.
        occurrence: 1, or more if the message came back after it was gone.
        first_seen_at: ISO 8601, UTC; the message itself has no time.
    """

    schema: Literal["callvault.log-message/1"] = "callvault.log-message/1"
    message: dict[str, Any]
    identified_by: Literal["id", "fingerprint"]
    occurrence: int
    first_seen_at: str


class MediaRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`media/…/media.json`: a medium as Telnyx describes it, and the object of its bytes; written last."""

    schema: Literal["callvault.media/1"] = "callvault.media/1"
    media: dict[str, Any]
    object: ArchivedObject


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """`seals/{sequence}.json`: what a closed day held, chained to the previous seal.

    Attributes:
        sequence: 1, 2, 3 ...
        day: UTC, ISO 8601.
        recordings: the number of commit records in the manifest; likewise transcriptions.
        bytes: the size of all objects in the manifest.
        manifest_sha256: the SHA-256 of `seals/{sequence}.sha256`, hexadecimal.
        previous_sha256: the SHA-256 of the previous seal's JSON, hexadecimal; None for the first.
        reconciled_at: when a reconcile with Telnyx found the day complete; ISO 8601, UTC.
        not_archived: the number of recordings that the manifest lists as not archived; absent if zero.
        void: why the seal does not count; absent in a seal that counts.
    """

    schema: Literal["callvault.seal/1"] = "callvault.seal/1"
    sequence: int
    day: str
    recordings: int
    transcriptions: int
    bytes: int
    manifest_sha256: str
    previous_sha256: str | None
    reconciled_at: str
    sealed_at: str
    not_archived: int | msgspec.UnsetType = msgspec.UNSET
    void: str | msgspec.UnsetType = msgspec.UNSET


class WrongObject(Exception):
    """An object of the archive is wrong.

    Attributes:
        key: the key of the object.
        what: what is wrong, in one line without the key.
    """

    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"{key}: {what}")
        self.key = key
        self.what = what


class UnreadableRecord(WrongObject):
    """A record is missing, is not JSON, or does not match its schema."""


Receipt = EarlierReceipt | DeletionReceipt
Record = (
    CommitRecord
    | TranscriptionRecord
    | Receipt
    | Gone
    | NotArchived
    | TranscriptionNotArchived
    | AnyDecision
    | Duties
    | Damage
    | ApiToken
    | AppliedRules
    | CaseRecord
    | Transcribing
    | Identity
    | LogMessageRecord
    | MediaRecord
    | Erasure
    | Disposal
    | Seal
)


def encode_record(record: Record) -> bytes:
    """Canonical bytes: fields in the order of the schema, two spaces, a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
