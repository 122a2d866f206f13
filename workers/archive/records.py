"""What the archive says about itself: commit records and receipts, as values and as canonical JSON.

A reader needs nothing but the bucket and a SHA-256 tool, so the shapes are a contract; a change gets a new `schema`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from config.times import first_instant, parse_instant
from workers.archive.layout import Outside
from workers.source_mark import SourceMark

ProofKind = Literal["checksum", "etag", "read-back"]
FoundBy = Literal["webhook", "reconcile", "backfill"]
DamageState = Literal["damaged", "missing", "whole"]


class Proof(msgspec.Struct, frozen=True):
    """How an object was proven in the store.

    Attributes:
        by: the rung of the ladder that held (see `workers/archive/proof.py`).
        algorithm: of the checksum that was compared, such as `sha256` or `crc64nvme`.
        value: that checksum: hexadecimal for SHA-256 and MD5, else as the store writes it.
        version: the store's own mark of this very object, None where it has none (`file`).
    """

    by: ProofKind
    algorithm: str
    value: str
    version: str | None


class ArchivedObject(msgspec.Struct, frozen=True):
    """An object of the archive, proven.

    Attributes:
        key: relative to the archive's prefix.
        size: bytes.
        sha256: hexadecimal, of all its bytes.
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
    """What the audio itself says, read while it streamed.

    Attributes:
        format: `wav` or `mp3`.
        channels: number of channels; 0 if it is no such file.
        duration_ms: milliseconds, as far as it could be read; 0 if it could not.
        findings: what is not as Telnyx says: `unparsable`, `duration`, `channels`, `silent-channel`, `not-looked-at`.
    """

    format: str
    channels: int
    sample_rate_hz: int
    duration_ms: int
    findings: list[str]


class CommitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`recording.json`: written last and once; where it is, the recording is archived and proven.

    The same shape under `versions/` is another content that Telnyx has shown under the same id.

    Attributes:
        recording: as Telnyx returned it, without `download_urls`.
        objects: the audio objects.
        archived_at: ISO 8601, UTC, by the clock of Redis.
        machine_clock: likewise by the worker's own, where that was ahead by more than a minute: one of them was wrong.
        event_id: the webhook event that led here, None if none did.
        sources: by format, what the address it came from said of it; records of earlier versions do not say.
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
        """Whether what Telnyx put into the user's bucket is the archive's copy, so that there is no other original."""
        return any(one.is_adopted for one in self.objects)

    @property
    def latest_archived_at(self) -> datetime:
        """When it was archived at the latest, by what two clocks said, and never before its call was over."""
        told = [self.archived_at, *([self.machine_clock] if isinstance(self.machine_clock, str) else [])]
        of_call = (first_instant(self.recording.get(name)) for name in ("recording_ended_at", "created_at"))
        return max([*map(parse_instant, told), *(at for at in of_call if at is not None)])


class TranscriptionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`transcriptions/{id}.json`: the transcription as Telnyx returned it; nothing in it differs between two runs."""

    schema: Literal["callvault.transcription/1"] = "callvault.transcription/1"
    transcription: dict[str, Any]


class EarlierReceipt(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="callvault.deletion/1"):
    """`deleted.json` as versions before 2 wrote it: Telnyx answered 404; whether it ever was there under this key is not said."""

    recording_id: str
    objects: list[ArchivedObject]
    transcription_ids: list[str]
    confirmed_gone_at: str


class DeletionReceipt(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="callvault.deletion/2"):
    """`deleted.json`: we deleted the original at Telnyx, and what was seen while we did.

    Attributes:
        objects: the audio objects with the proof of that moment.
        transcription_ids: the transcriptions that were deleted with it.
        seen_at: when Telnyx still had it under this API key, just before; ISO 8601, UTC, as all instants here.
        asked_at: when Telnyx was asked to delete it.
        confirmed_gone_at: when Telnyx answered 404 for it.
    """

    recording_id: str
    objects: list[ArchivedObject]
    transcription_ids: list[str]
    seen_at: str
    asked_at: str
    confirmed_gone_at: str


class Gone(msgspec.Struct, frozen=True, kw_only=True):
    """`gone.json`: the original was gone at Telnyx before we asked for its deletion; no deletion of ours.

    Attributes:
        objects: the audio objects with the proof of that moment.
        found_gone_at: when Telnyx answered 404 for it, and had others of the account; ISO 8601, UTC.
    """

    schema: Literal["callvault.gone/1"] = "callvault.gone/1"
    recording_id: str
    objects: list[ArchivedObject]
    found_gone_at: str


class NotArchived(msgspec.Struct, frozen=True, kw_only=True):
    """`not-archived.json`: Telnyx lists a recording and gives no audio of it, so its day is sealed without it.

    Should the audio be had later, it is archived beside this, and sealed as what came late.

    Attributes:
        recording: as Telnyx returned it, without `download_urls`.
        answer: what was answered when its audio was asked for, just before.
        why: the reason given.
        by: who said that the day is to be sealed without it; `callvault` if `CALLVAULT_SEAL_WITHOUT_AFTER` did.
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
    """`transcriptions-not-archived/{id}.json`: Telnyx lists a transcription and does not give it; its day is sealed without it.

    Attributes:
        recording_id: of its recording; empty where Telnyx does not say.
        transcription: as Telnyx listed it, without its words, which an erasure of the recording would not find here.
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


class EarlierDecision(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="callvault.decision/1"):
    """`decisions/{instant}.json` in a recording's folder, as versions before 2 wrote it; of these the latest counts.

    Attributes:
        decision: `hold`: the original is never deleted; `release`: neither a hold nor a finding keeps it.
    """

    decision: Literal["hold", "release"]
    why: str
    at: str


class Decision(msgspec.Struct, frozen=True, kw_only=True, tag_field="schema", tag="callvault.decision/2"):
    """`decisions/{scope}/{subject}/{id}.json`: what a person decided about originals. No clock orders decisions.

    Attributes:
        id: random; the name of the object.
        decision: `hold`: what it is about is not deleted; `release`: lifts the holds that it names, and no other;
            `approve`: what was found in a recording no longer keeps its original.
        scope: whether it is about one recording, one connection, or everything (a pause).
        subject: the id of the recording or connection; empty for everything.
        lifts: ids of the holds that a release lifts.
        findings: what an approval is about.
        by: who decided.
        at: ISO 8601, UTC; for people to read, never compared.
    """

    id: str
    decision: Literal["hold", "release", "approve"]
    scope: Literal["recording", "connection", "everything"]
    subject: str
    why: str
    by: str
    at: str
    lifts: list[str] = []
    findings: list[str] = []


class Duties(msgspec.Struct, frozen=True, kw_only=True):
    """`duties/{unit}/{number}.json`: what the workers on one Redis are set to do with originals; the last number counts.

    The strictest of all units counts for every worker.

    Attributes:
        unit: names the Redis, without its credentials.
        delete_originals: `never` or `verified`.
        delete_after_seconds: the grace.
        hold_connections: connections under hold by setting.
        transcriptions: as `CALLVAULT_TRANSCRIPTIONS` writes it.
        sealed_first: whether an original stays until a seal lists its commit record.
        retired: whether the unit is gone, so that its duties count no more.
        at: ISO 8601, UTC; for people to read, never compared.
    """

    schema: Literal["callvault.duties/1"] = "callvault.duties/1"
    unit: str
    number: int
    delete_originals: Literal["never", "verified"]
    delete_after_seconds: float
    hold_connections: list[str]
    transcriptions: str
    sealed_first: bool
    by: str
    at: str
    retired: bool = False


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """`damage/{key}/{number}.json`: an object of the archive was found damaged or gone, or whole again; the last number counts.

    Attributes:
        key: of the object, relative to the archive's prefix.
        state: `damaged`: other bytes than its records say; `missing`; `whole`: a later check found it right again.
        what: what is wrong with it, one line; empty where it is whole.
        found_by: who looked: `deletion`, `job`, `seal`, `sweep`, `verify`, `get`, `page`; `register`: what looks again.
        at: ISO 8601, UTC; for people to read, never compared.
    """

    schema: Literal["callvault.damage/1"] = "callvault.damage/1"
    key: str
    number: int
    state: DamageState
    what: str
    found_by: str
    at: str


class Transcribing(msgspec.Struct, frozen=True, kw_only=True):
    """`transcribing/{connection_id}.json`: a transcription of this connection has been seen, so more are awaited."""

    schema: Literal["callvault.transcribing/1"] = "callvault.transcribing/1"
    connection_id: str


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """`archive.json` at the archive's root: which archive this is. Written once, by `callvault init`.

    Attributes:
        id: random.
        created_at: ISO 8601, UTC. Every day from here on gets a seal, an empty one too.
        adopted: whether it held objects when it got its identity.
        adopted_seals: how many seals its chain had then.
        adopted_head: SHA-256 of the last of them; None where there was none.
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
        identified_by: `id` if Telnyx gave one, else `fingerprint` of all that the message says.
        occurrence: 1, or how often it has come back after it was gone.
        first_seen_at: ISO 8601, UTC; the message itself carries no time.
    """

    schema: Literal["callvault.log-message/1"] = "callvault.log-message/1"
    message: dict[str, Any]
    identified_by: Literal["id", "fingerprint"]
    occurrence: int
    first_seen_at: str


class MediaRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`media/…/media.json`: what Telnyx says of a medium, and the object that holds its bytes; written last."""

    schema: Literal["callvault.media/1"] = "callvault.media/1"
    media: dict[str, Any]
    object: ArchivedObject


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """`erased.json`: what of a recording its owner had erased, with credentials of their own. Hashes and sizes stay.

    Attributes:
        objects: key, bytes and SHA-256 of each object that was erased.
        why: the reason given, such as a request under GDPR article 17.
        by: who did it.
    """

    schema: Literal["callvault.erasure/1"] = "callvault.erasure/1"
    recording_id: str
    objects: list[ErasedObject]
    why: str
    by: str
    erased_at: str


class ErasedObject(msgspec.Struct, frozen=True):
    """An object that was erased."""

    key: str
    size: int
    sha256: str


class Seal(msgspec.Struct, frozen=True, kw_only=True):
    """`seals/{sequence}.json`: what a closed day held, chained to the seal before.

    Attributes:
        sequence: 1, 2, 3 ...
        day: UTC, ISO 8601.
        recordings: how many commit records the manifest lists; likewise transcriptions.
        bytes: of all that the manifest lists.
        manifest_sha256: hexadecimal, of `seals/{sequence}.sha256`.
        previous_sha256: hexadecimal, of the JSON of the seal before; None for the first.
        reconciled_at: when a comparison with Telnyx found nothing of this day missing; ISO 8601, UTC.
        not_archived: how many recordings the manifest lists as not archived. Not there in a seal of none.
        void: why its number is passed over: its manifest counts for nothing. Not there in a seal that counts.
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
    """An object of the archive is not what it must be.

    Attributes:
        key: of the object.
        what: what is wrong with it, one line without the key.
    """

    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"{key}: {what}")
        self.key = key
        self.what = what


class UnreadableRecord(WrongObject):
    """A record in the archive that is not JSON, or not of its schema."""


Receipt = EarlierReceipt | DeletionReceipt
AnyDecision = EarlierDecision | Decision
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
    | Transcribing
    | Identity
    | LogMessageRecord
    | MediaRecord
    | Erasure
    | Seal
)


def encode_record(record: Record) -> bytes:
    """Canonical bytes: fields in the order of the schema, two spaces, a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
