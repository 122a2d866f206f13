"""`archive_recording`: find it at Telnyx, stream its audio into the archive, prove it, commit it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple, cast

from msgspec import UNSET

from archive import layout
from archive.archive import Archive
from archive.audio import AudioReader, merge_summaries
from archive.commit import Commit
from archive.decision_records import Decision
from archive.decisions import decisions_about
from archive.proof import Missing
from archive.records import ArchivedObject, CommitRecord, FoundBy, UnreadableRecord
from archive.stores.lifecycle import AUDIO_TAG
from archive.stores.store import StoreError, lies_in_a_bucket, open_bucket_of
from process.logs import get_logger
from process.tracing import span
from telnyx_api.errors import NotFound
from telnyx_api.models import Recording
from telnyx_api.source_mark import SourceMark
from text.times import first_instant, format_instant, parse_instant, utc_now
from workers.deletion.may_delete import why_kept_by_record
from workers.engine.failure_classes import NotFinished, NotYet
from workers.keys import DECIDED_EARLY
from workers.queue.history import ARCHIVED
from workers.recordings.fetching import (
    CONTENT_TYPES,
    Fetched,
    addresses_of,
    as_archived,
    expected_audio,
    fetch_audio,
    why_refused,
)
from workers.recordings.finding import asked_for, find, is_of
from workers.recordings.requests import RecordingRequest, recording_job_id
from workers.recordings.versions import look_again
from workers.recordings.writing import Erased, refuse_if_erased, sole_writer, unless_erased
from workers.runtime import Runtime, sealable_at
from workers.seals.chain import is_sealed

log = get_logger()

_NO_MARK = SourceMark(None, None, None)  # custom storage has no download address


async def archive_recording(runtime: Runtime, request: RecordingRequest) -> None:
    """Archive the recording of a request; compare one that is committed already with Telnyx, if a new event is about it.

    Raises:
        NotYet: it is not at Telnyx.
        NotFinished: it is there, and not completed.
        HeldElsewhere: another job works on it.
        Exception: as `workers/engine/failing.py` lists them.
    """
    if request.recording_id:
        with suppress(Erased):
            async with sole_writer(runtime.redis, request.recording_id):
                await _archive_by_id(runtime, request, request.recording_id)
        return
    with span("find"):
        recordings, unreadable = await find(runtime, request)
    failed: list[Exception] = []
    for recording in recordings:
        try:
            await _archive_found(runtime, request, recording)
        except Exception as error:  # the others of the call are archived all the same
            failed.append(error)
    if failed:
        raise failed[0]
    if not any(is_of(recording, request) for recording in recordings):
        if unreadable is not None:
            raise unreadable
        raise NotYet("Telnyx has recordings of this call, but none of the event's times yet")


async def _archive_found(runtime: Runtime, request: RecordingRequest, recording: Recording) -> None:
    """Archive one of the recordings that Telnyx has of a call."""
    folder = layout.recording_folder(recording.dated, str(recording.id))
    with suppress(Erased):
        async with sole_writer(runtime.redis, str(recording.id)):
            commit = Commit(runtime.archive, folder)
            await _archive(runtime, request, recording, commit, await _committed(runtime, commit))


async def _archive_by_id(runtime: Runtime, request: RecordingRequest, recording_id: str) -> None:
    commit = record = None
    async with asked_for(runtime, request, recording_id, runtime.store_answers.is_set()) as at_telnyx:
        if (began := first_instant(request.started_at)) is not None:
            commit = Commit(runtime.archive, layout.recording_folder(began, recording_id))
            record = await _committed(runtime, commit)
            if record is not None and not _is_to_be_compared(request, record):
                return
        try:
            recording = await at_telnyx()
        except NotFound as error:
            if record is not None or await _lies_near(runtime, recording_id, request):
                return
            raise NotYet(f"recording {recording_id} is not at Telnyx") from error
    dated = layout.recording_folder(recording.dated, recording_id)
    if commit is None or (record is None and commit.folder != dated):
        commit = Commit(runtime.archive, dated)
        record = await _committed(runtime, commit)
    await _archive(runtime, request, recording, commit, record)


async def _refuse_if_sealed(runtime: Runtime, folder: str) -> None:
    """Refuse to rewrite a missing commit record that a seal lists: it would differ, and the seal would never verify again.

    Raises:
        Missing: the one that the seal lists is gone.
    """
    day = layout.day_of(layout.commit_key(folder))
    if day is None or runtime.clock.latest().timestamp() < sealable_at(runtime.settings, day):
        return  # it has no seal yet
    try:
        is_listed = await is_sealed(runtime, folder)
    except UnreadableRecord:
        return  # an unreadable seal is damage of its own, and keeps no recording from being archived
    if is_listed:
        raise Missing(
            layout.commit_key(folder), "a seal lists it, and it is gone; restore it from a copy of the archive"
        )


async def _archive(
    runtime: Runtime, request: RecordingRequest, recording: Recording, commit: Commit, record: CommitRecord | None
) -> None:
    """Archive what Telnyx shows, or compare it with what is committed; under the recording's lease."""
    folder = commit.folder
    if record is None:
        await _refuse_if_sealed(runtime, folder)
        try:
            async with unless_erased(runtime, folder, commit):
                record = await _fetch_and_commit(runtime, request, recording, commit)
        except Exception as error:
            # An event that names a location knows more than Telnyx' answer: its job keeps asking there.
            if request.locations or not await _is_known_not_archived(runtime, recording, folder, error):
                raise
            return
        await _announce(runtime, recording, folder, record)
        await schedule_deletion(runtime, folder, record)
        if request.recording_id is None:  # a job of another id has archived it
            await runtime.attempts.done(recording_job_id(str(recording.id)))
    elif _is_to_be_compared(request, record):
        await look_again(runtime, request, recording, folder, record)


async def is_archived(runtime: Runtime, request: RecordingRequest, since: datetime) -> bool:
    """Whether the work of a request that was given up has been done since.

    Args:
        runtime: the worker's parts.
        request: what was asked for.
        since: when it was given up. What was archived after that covers its event.

    Raises:
        TelnyxError, StoreError: one of them is away.
    """
    if request.look_again:
        return False
    near = first_instant(request.started_at) or since
    if request.recording_id:
        folder = await runtime.in_thread(runtime.archive.find_folder, request.recording_id, near.date())
        return folder is not None and await _is_done(runtime, request, folder, since)
    try:
        listed, unreadable = await find(runtime, request)
    except NotYet:
        return False
    if unreadable is not None:
        return False
    recordings = [one for one in listed if is_of(one, request)]
    folders = [layout.recording_folder(one.dated, str(one.id)) for one in recordings]
    return bool(folders) and all([await _is_done(runtime, request, folder, since) for folder in folders])


async def _is_done(runtime: Runtime, request: RecordingRequest, folder: str, since: datetime) -> bool:
    if await runtime.in_thread(runtime.archive.is_erased, folder):
        return True
    record = await runtime.in_thread(runtime.archive.commit_record, folder)
    if record is None:
        return False
    return not _is_to_be_compared(request, record) or parse_instant(record.archived_at) >= since


async def _is_known_not_archived(runtime: Runtime, recording: Recording, folder: str, error: Exception) -> bool:
    """Whether Telnyx still gives no audio of a recording that is recorded as not archived, so this is not a failure."""
    answer = why_refused(recording, error)
    if answer is None or not await runtime.in_thread(runtime.archive.is_not_archived, folder):
        return False
    log.info("audio still not given", recording_id=recording.id, answer=answer)
    return True


def _is_to_be_compared(request: RecordingRequest, record: CommitRecord) -> bool:
    """Whether a committed recording may have changed at Telnyx: another event names it, or a deletion found a difference."""
    is_another_event = request.found_by == "webhook" and request.event_id not in (None, record.event_id)
    return request.look_again or is_another_event


async def _committed(runtime: Runtime, commit: Commit) -> CommitRecord | None:
    """The commit record of an earlier run, announced again in case that run died before it did so."""
    try:
        record, folder = await runtime.in_thread(commit.look), commit.folder
    except StoreError:
        runtime.store_answers.clear()
        raise
    runtime.store_answers.set()
    if record is None:
        return None
    await refuse_if_erased(runtime, folder)
    await _announce_commit(runtime, layout.recording_id_of(folder), folder, record)
    await schedule_deletion(runtime, folder, record)
    return record


async def _announce_commit(runtime: Runtime, recording_id: str, folder: str, record: CommitRecord) -> None:
    """Announce a commit record, and take up decisions that were made before it."""
    asked = ("HEXISTS", DECIDED_EARLY, recording_id)
    (are_decisions_early,) = await runtime.announce(layout.commit_key(folder), record, asked)
    if are_decisions_early:
        await _take_up_decisions(runtime, recording_id, folder)


async def _take_up_decisions(runtime: Runtime, recording_id: str, folder: str) -> None:
    """Copy decisions that were made before a recording was committed into its folder, for the seal of its day and for searches.

    If Redis was lost in between, the copy is missing; the decision under the recording's id applies anyway.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away; the job runs again.
    """
    known = await runtime.in_thread(decisions_about, runtime.archive, "recording", recording_id)
    for decision in known.values():
        if isinstance(decision, Decision):
            key = layout.decision_copy_key(folder, decision.id)
            await runtime.in_thread(runtime.archive.put_record, key, decision)
            await runtime.announce(key, decision)
    if known:  # else it is being written just now
        await runtime.redis.hdel(DECIDED_EARLY, recording_id)


async def schedule_deletion(runtime: Runtime, folder: str, record: CommitRecord) -> None:
    """Schedule the deletion of a recording's original, if deletion is on and its record does not keep it."""
    if runtime.settings.delete_originals != "verified":
        return
    if why_kept_by_record(record, {}, record.audio.findings) is not None:
        return  # `callvault deletions approve` schedules it; custom storage is never deleted
    grace = runtime.settings.delete_after.total_seconds()
    await runtime.schedule.add(folder, grace)


async def _lies_near(runtime: Runtime, recording_id: str, request: RecordingRequest) -> bool:
    """Whether a recording that Telnyx does not have (any more) is in the archive."""
    near = first_instant(request.started_at) or utc_now()
    folder = await runtime.in_thread(runtime.archive.find_folder, recording_id, near.date())
    return folder is not None


async def _fetch_and_commit(
    runtime: Runtime, request: RecordingRequest, recording: Recording, commit: Commit
) -> CommitRecord:
    if recording.status not in (None, "completed"):
        raise NotFinished(f"recording {recording.id} is {recording.status}")
    urls = addresses_of(recording) | request.locations
    if not urls:
        raise NotFinished(f"recording {recording.id} has no download address yet")
    if runtime.locks is not None:
        runtime.locks.know(commit.folder, recording)
    fetched: dict[str, Fetched[ArchivedObject]] = {}
    for audio_format, url in urls.items():
        with span("fetch and archive", recording_id=recording.id, format=audio_format):
            fetched[audio_format] = await _fetch(runtime, recording, commit, audio_format, url)
    record = CommitRecord(
        recording=as_archived(recording),
        objects=[one.taken for one in fetched.values()],
        audio=merge_summaries([one.summary for one in fetched.values()]),
        archived_at=format_instant(runtime.clock.now()),
        machine_clock=UNSET if (ahead := runtime.clock.machine_if_ahead()) is None else format_instant(ahead),
        event_id=request.event_id,
        found_by=cast(FoundBy, request.found_by),
        sources={audio_format: one.source for audio_format, one in fetched.items() if one.source != _NO_MARK},
    )
    with span("commit", recording_id=recording.id):
        return await runtime.in_thread(commit.commit, record)


async def _announce(runtime: Runtime, recording: Recording, folder: str, record: CommitRecord) -> None:
    """Announce a committed recording to catalogues and charts, and alert if its audio has a finding."""
    await _announce_commit(runtime, str(recording.id), folder, record)
    if record.audio.findings:
        text = (
            f"Recording {recording.id}: {', '.join(record.audio.findings)}. It is archived, and its original is kept."
        )
        advice = f"Listen to it. To allow its deletion, run `callvault deletions approve {recording.id} --why REASON`."
        await runtime.alerts.send("audio-finding", ",".join(record.audio.findings), text, advice)
    size = sum(o.size for o in record.objects)
    runtime.history.add(ARCHIVED)
    runtime.history.add("archived_bytes", size)
    log.info("recording archived", recording_id=recording.id, bytes=size, findings=record.audio.findings)


async def _fetch(
    runtime: Runtime, recording: Recording, commit: Commit, audio_format: str, url: str
) -> Fetched[ArchivedObject]:
    """Bring one format into the archive."""
    key, content_type = layout.audio_key(commit.folder, audio_format), CONTENT_TYPES[audio_format]
    if lies_in_a_bucket(url):
        reader = AudioReader(audio_format)
        target = _Target(key, content_type, _attributes(recording))
        archived = await runtime.in_thread(_take_over, runtime.archive, url, target, reader)
        return Fetched(archived, reader.summary(expected_audio(runtime, recording)), _NO_MARK)

    def put(chunks: Iterator[bytes]) -> ArchivedObject:
        return commit.put(key, chunks, content_type, _attributes(recording))

    return await fetch_audio(runtime, recording, audio_format, url, put)


class _Target(NamedTuple):
    """Where audio goes in the archive, and the labels of its object."""

    key: str
    content_type: str
    attributes: dict[str, str]


def _take_over(archive: Archive, url: str, target: _Target, reader: AudioReader) -> ArchivedObject:
    """What custom storage has put into a bucket of the user's: adopted where it lies in ours, copied otherwise.

    Raises:
        NotFinished: it is not in the bucket.
        StoreError: the other bucket cannot be read, or is of a kind that we do not know.
    """
    try:
        if (adopted := archive.store.key_of(url)) is not None:
            return archive.adopt(adopted, target.content_type, (reader.feed,))
        other, other_key = open_bucket_of(url)
        chunks = other.read(other_key)
        return archive.put(target.key, chunks, target.content_type, (reader.feed,), target.attributes)
    except KeyError:
        raise NotFinished(f"{url} is not in its bucket") from None


def _attributes(recording: Recording) -> dict[str, str]:
    """What goes onto objects as metadata or tags, if the user wants that."""
    kind, audio = AUDIO_TAG
    named = {
        kind: audio,
        "connection_id": recording.connection_id,
        "channels": recording.channels,
        "day": recording.dated.date().isoformat(),
    }
    return {name: value for name, value in named.items() if value}
