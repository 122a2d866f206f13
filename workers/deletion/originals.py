"""Check an original just before its deletion: is it whole in the archive, and does Telnyx show it as archived?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from archive import kinds, layout
from archive.archive import Archive
from archive.decisions import Decisions, decisions_about, findings_of, read_decisions
from archive.folder import Folder, read_folder
from archive.proof import Damaged, Missing
from archive.readers import TRANSCRIPTION
from archive.records import ArchivedObject, CommitRecord
from archive.register import look
from archive.sameness import difference
from process.logs import get_logger
from telnyx_api.errors import NotFound
from telnyx_api.models import Recording, RecordingTranscription
from telnyx_api.pages import LARGEST_PAGE
from telnyx_api.source_mark import SourceMark
from text.times import format_instant, utc_now
from workers.damage.damaged import DamagedObjects
from workers.deletion.may_delete import Rules, why_kept, why_unsealed
from workers.deletion.outcomes import ask_later, keep, letter_id
from workers.keys import DEAD_LETTERS, TRANSCRIBING
from workers.queue.jobs import enqueue
from workers.recordings.fetching import addresses_of
from workers.recordings.requests import RecordingRequest, TranscriptionRequest, recording_job, transcription_job
from workers.runtime import Runtime

log = get_logger()

_SETTLED = (kinds.ERASURE, kinds.DISPOSAL, kinds.RECEIPT)


@dataclass(frozen=True)
class Proven:
    """A recording whose original may be deleted now, as far as this turn can see.

    Attributes:
        decisions: those in its folder.
        findings: what keeps it unless a person approves.
        seen_at: when Telnyx showed it as archived.
    """

    folder: str
    recording_id: str
    record: CommitRecord
    decisions: Decisions
    findings: Sequence[str]
    objects: list[ArchivedObject]
    transcriptions: list[RecordingTranscription]
    seen_at: str


@dataclass(frozen=True)
class GoneBefore:
    """A recording whose original Telnyx does not show: gone before, unless an earlier turn of ours deleted it."""

    folder: str
    recording_id: str
    objects: list[ArchivedObject]


async def look_at_original(runtime: Runtime, rules: Rules, folder: str) -> Proven | GoneBefore | None:
    """Check a recording in the archive and at Telnyx; None if its original stays for now (logged and scheduled again).

    Raises:
        Damaged, UnreadableRecord: the archive is not whole.
        DownloadFailed: its audio cannot be checked now.
    """
    there, record = await runtime.in_thread(_in_the_archive, runtime.archive, folder)
    if there.has(*_SETTLED):
        await runtime.schedule.done(folder)
        return None
    if record is None:
        raise Damaged(layout.commit_key(folder), "gone from the archive")
    recording_id = str(record.recording["id"])
    if await runtime.redis.hexists(DEAD_LETTERS, letter_id(recording_id)):
        await runtime.schedule.done(folder)
        return None
    versions = await runtime.in_thread(runtime.archive.versions, folder) if there.has(kinds.VERSION) else []
    findings = findings_of(versions, record)
    decisions = await _decisions(runtime, there, recording_id, findings)
    kept = why_kept(rules, record, decisions, findings) or await why_unsealed(runtime, rules, folder)
    if kept is not None:
        await keep(runtime, folder, kept)
        return None
    # A version of the same bytes names the first's object.
    known = {o.key: o for one in (*versions, record) for o in one.objects}
    damaged = await DamagedObjects(runtime.redis).all()
    damaged_here = [key for key in damaged if key in known or key.startswith(folder)]
    for key in damaged_here:
        if key not in known and (problem := await runtime.in_thread(look, runtime.archive, key)) is not None:
            raise (Missing if problem.kind == "missing" else Damaged)(key, problem.what)
    # Somebody has read these bytes as wrong, so a checksum of the store does not clear them.
    mode = "read-back" if damaged_here else None
    objects = [await runtime.in_thread(runtime.archive.prove_again, o, mode) for o in known.values()]
    archived = {place.name for place in there.places.values() if place.kind is kinds.TRANSCRIPTION}
    transcriptions = await _transcriptions(runtime, rules, folder, record, archived)
    if transcriptions is None:
        await ask_later(runtime, folder, recording_id, "transcription", "the archive lacks a transcription")
        return None
    try:
        recording = await runtime.telnyx.recordings.retrieve(recording_id)
    except NotFound:
        return GoneBefore(folder, recording_id, objects)
    seen_at = format_instant(utc_now())
    changed = await _difference(runtime, recording, [record, *versions])
    if changed is not None:
        await _recheck_changed(runtime, folder, recording_id, changed)
        return None
    return Proven(folder, recording_id, record, decisions, findings, objects, transcriptions, seen_at)


def _in_the_archive(archive: Archive, folder: str) -> tuple[Folder, CommitRecord | None]:
    """The objects of a recording, and its commit record unless its original is settled; blocks."""
    there = read_folder(archive.store, folder)
    return there, None if there.has(*_SETTLED) else archive.commit_record(folder)


async def _decisions(runtime: Runtime, there: Folder, recording_id: str, findings: Sequence[str]) -> Decisions:
    """The decisions in a recording's folder; if there are any, or findings need one, all that are about it."""
    beside = [key for key in there.objects if layout.decided_about(key) is not None]
    decisions = await runtime.in_thread(read_decisions, runtime.archive, beside) if beside else {}
    if not findings and not decisions:
        return decisions  # `ask_anew` reads those under its id
    return {**decisions, **await runtime.in_thread(decisions_about, runtime.archive, "recording", recording_id)}


async def _difference(runtime: Runtime, recording: Recording, known: Sequence[CommitRecord]) -> str | None:
    """How the recording at Telnyx differs from every archived version; None if one of them is the same.

    Raises:
        DownloadFailed: its audio cannot be checked now.
    """
    returned = recording.as_returned()
    marks: dict[str, SourceMark] = {}
    for audio_format, url in addresses_of(recording).items():
        if any(o.key.endswith(f"audio.{audio_format}") for record in known for o in record.objects):
            marks[audio_format] = await runtime.in_thread(runtime.downloads.look, url)
    found = [difference(record, returned, marks) for record in known]
    return None if None in found else found[-1]


async def _recheck_changed(runtime: Runtime, folder: str, recording_id: str, changed: str) -> None:
    """Keep an original that differs from the archive until a job has fetched its audio and compared it.

    Other audio then waits for a person; other metadata of the same audio waits for nobody.
    """
    log.warning("original kept: changed at Telnyx", recording_id=recording_id, difference=changed)
    day = layout.day_of(layout.commit_key(folder))  # Telnyx may show another day by now
    request = RecordingRequest(
        recording_id=recording_id, started_at=f"{day}T00:00:00Z", found_by="reconcile", look_again=True
    )
    await enqueue(runtime.redis, recording_job(request))
    await ask_later(runtime, folder, recording_id, "changed", changed)


async def _transcriptions(
    runtime: Runtime, rules: Rules, folder: str, record: CommitRecord, archived: set[str]
) -> list[RecordingTranscription] | None:
    """The transcriptions that Telnyx has of a recording; None while the archive lacks one that exists or is awaited.

    Raises:
        Damaged: a transcription in the archive differs from the one at Telnyx.
    """
    recording_id, policy = str(record.recording["id"]), rules.transcriptions
    listed = runtime.telnyx.recording_transcriptions.list(filter={"recording_id": recording_id}, page_size=LARGEST_PAGE)
    found = [transcription async for transcription in listed if transcription.recording_id == recording_id]
    missing = [transcription for transcription in found if transcription.id not in archived]
    if policy.kind == "ignore":
        missing = [transcription for transcription in missing if transcription.status == "completed"]
    for transcription in missing:
        request = TranscriptionRequest(
            transcription_id=str(transcription.id), recording_id=recording_id, found_by="reconcile"
        )
        await enqueue(runtime.redis, transcription_job(request))
    if missing:
        return None
    if not found and not archived and policy.kind != "ignore":
        connection_id = str(record.recording.get("connection_id") or "")
        if await _is_transcribing(runtime, rules, connection_id):
            age = utc_now() - record.latest_archived_at
            if policy.kind == "require" or age < policy.wait:
                return None
    for transcription in found:
        if transcription.status == "completed":
            await _prove_transcription(runtime, folder, transcription)
    return found


async def _is_transcribing(runtime: Runtime, rules: Rules, connection_id: str) -> bool:
    """Whether transcriptions of a connection are awaited. An earlier version noted that in Redis alone: it is copied."""
    if connection_id in rules.transcribing:
        return True
    if not connection_id or not await runtime.redis.sismember(TRANSCRIBING, connection_id):
        return False
    await runtime.in_thread(runtime.archive.put_transcribing, connection_id)
    return True


async def _prove_transcription(runtime: Runtime, folder: str, transcription: RecordingTranscription) -> None:
    """Compare a transcription in the archive with the text at Telnyx."""
    if transcription.transcription_text is None:  # a list need not carry the text
        transcription = await runtime.telnyx.recording_transcriptions.retrieve(str(transcription.id))
    key = layout.transcription_key(folder, str(transcription.id))
    record = TRANSCRIPTION.read(await runtime.in_thread(runtime.archive.read_small, key), key)
    if record.transcription.get("transcription_text") != transcription.transcription_text:
        raise Damaged(key, "does not say what Telnyx says")
