"""`archive_recording`: find it at Telnyx, stream its audio into the archive, prove it, commit it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import cast

from config.logs import get_logger
from config.times import first_instant, format_instant, parse_instant, utc_now
from config.tracing import span
from workers.archive import layout
from workers.archive.archive import Archive
from workers.archive.audio import AudioReader
from workers.archive.records import ArchivedObject, AudioSummary, CommitRecord, FoundBy
from workers.archive.stores.store import lies_in_a_bucket, open_bucket_of
from workers.jobs.causes import NotYet
from workers.jobs.fetching import CONTENT_TYPES, Fetched, addresses_of, fetch_audio
from workers.jobs.payloads import RecordingRequest
from workers.runtime import Runtime
from workers.source_mark import SourceMark
from workers.telnyx.client import LARGEST_PAGE
from workers.telnyx.errors import NotFound
from workers.telnyx.models import Recording
from workers.telnyx.operations import RecordingFilter

log = get_logger()

_NO_MARK = SourceMark(None, None, None)  # custom storage has no download address
_SAME_MOMENT = timedelta(seconds=2)


async def archive_recording(runtime: Runtime, request: RecordingRequest) -> None:
    """Archive the recording of a request; does nothing if it is committed already.

    Raises:
        NotYet: it is not at Telnyx, or not completed.
        Exception: as `workers/jobs/judge.py` lists them.
    """
    looked_at = None
    if request.recording_id and (began := first_instant(request.started_at)) is not None:
        # Before Telnyx is asked: while the store is away, each job that waits for it would ask again and again.
        looked_at = layout.recording_folder(began, request.recording_id)
        if await _is_committed(runtime, looked_at):
            return
    with span("find"):
        recordings = await _find(runtime, request)
    for recording in recordings:
        folder = layout.recording_folder(recording.dated, str(recording.id))
        if folder != looked_at and await _is_committed(runtime, folder):
            continue
        record = await _fetch_and_commit(runtime, request, recording, folder)
        await schedule_deletion(runtime, folder, record)
    if recordings and not any(_is_of(recording, request) for recording in recordings):
        raise NotYet("Telnyx has recordings of this call, but none of the event's times yet")


async def _is_committed(runtime: Runtime, folder: str) -> bool:
    """Whether an earlier run has committed a recording. It may have died before it told, so that is made good here."""
    record = await runtime.in_thread(runtime.archive.commit_record, folder)
    if record is None:
        return False
    await runtime.announce(layout.commit_key(folder), record)
    await schedule_deletion(runtime, folder, record)
    return True


async def schedule_deletion(runtime: Runtime, folder: str, record: CommitRecord) -> None:
    """Put a committed recording on the due list, if deletion is on and nothing keeps its original."""
    if runtime.settings.delete_originals != "verified":
        return
    if record.audio.findings or any(o.key.startswith("/") for o in record.objects):
        return  # `callvault deletions approve` puts it on the list; custom storage is never deleted
    grace = runtime.settings.delete_after.total_seconds()
    await runtime.due.schedule(folder, grace)


async def _find(runtime: Runtime, request: RecordingRequest) -> list[Recording]:
    """The recordings that a request means; none if the one it means is committed and gone from Telnyx."""
    if request.recording_id:
        try:
            return [await runtime.telnyx.recordings.retrieve(request.recording_id)]
        except NotFound as error:
            if await _lies_near(runtime, request):
                return []
            raise NotYet(f"recording {request.recording_id} is not at Telnyx") from error
    found = [
        recording async for recording in runtime.telnyx.recordings.list(filter=_filter(request), page_size=LARGEST_PAGE)
    ]
    if not found:
        raise NotYet("no recording of this leg, session or conference at Telnyx")
    # Several recordings of one call: those of the event's times. If none fits, all of them, and then it is asked again:
    # archiving one too many loses nothing, and the one that is meant may not be listed yet.
    return [recording for recording in found if _is_of(recording, request)] or found


def _filter(request: RecordingRequest) -> RecordingFilter:
    if request.call_leg_id:
        return {"call_leg_id": request.call_leg_id}
    if request.call_session_id:
        return {"call_session_id": request.call_session_id}
    if request.conference_id:
        return {"conference_id": request.conference_id}
    if request.call_control_id:
        return {"call_control_id": request.call_control_id}
    raise ValueError("the event names neither a recording nor a leg, session or conference")


def _is_of(recording: Recording, request: RecordingRequest) -> bool:
    """Whether a recording is the one that is meant: by its id, else by its times."""
    if request.recording_id:
        return True
    pairs = (
        (recording.recording_started_at, request.started_at),
        (recording.recording_ended_at, request.ended_at),
    )
    return all(not (a and b) or abs(parse_instant(a) - parse_instant(b)) <= _SAME_MOMENT for a, b in pairs)


async def _lies_near(runtime: Runtime, request: RecordingRequest) -> bool:
    """Whether a recording that Telnyx does not have (any more) is in the archive."""
    near = first_instant(request.started_at) or utc_now()
    folder = await runtime.in_thread(runtime.archive.find_folder, str(request.recording_id), near.date())
    return folder is not None


async def _fetch_and_commit(
    runtime: Runtime, request: RecordingRequest, recording: Recording, folder: str
) -> CommitRecord:
    if recording.status not in (None, "completed"):
        raise NotYet(f"recording {recording.id} is {recording.status}")
    urls = addresses_of(recording) | request.locations
    if not urls:
        raise NotYet(f"recording {recording.id} has no download address yet")
    fetched: dict[str, Fetched[ArchivedObject]] = {}
    for audio_format, url in urls.items():
        with span("fetch and archive", recording_id=recording.id, format=audio_format):
            fetched[audio_format] = await _fetch(runtime, recording, folder, audio_format, url)
    record = CommitRecord(
        recording={name: value for name, value in recording.as_returned().items() if name != "download_urls"},
        objects=[one.taken for one in fetched.values()],
        audio=_merge([one.summary for one in fetched.values()]),
        archived_at=format_instant(utc_now()),
        event_id=request.event_id,
        found_by=cast(FoundBy, request.found_by),
        sources={audio_format: one.source for audio_format, one in fetched.items() if one.source != _NO_MARK},
    )
    with span("commit", recording_id=recording.id):
        record = await runtime.in_thread(runtime.archive.commit, folder, record)
    await runtime.announce(layout.commit_key(folder), record)
    if record.audio.findings:
        text = (
            f"Recording {recording.id}: {', '.join(record.audio.findings)}. It is archived, and its original is kept."
        )
        advice = f"Listen to it; then `callvault deletions approve {recording.id} --why ...` lets the original go."
        await runtime.alerts.send("audio-finding", ",".join(record.audio.findings), text, advice)
    size = sum(o.size for o in record.objects)
    runtime.history.add("archived")
    runtime.history.add("archived_bytes", size)
    log.info("recording archived", recording_id=recording.id, bytes=size, findings=record.audio.findings)
    return record


async def _fetch(
    runtime: Runtime, recording: Recording, folder: str, audio_format: str, url: str
) -> Fetched[ArchivedObject]:
    """Bring one format into the archive."""
    key, content_type = layout.audio_key(folder, audio_format), CONTENT_TYPES[audio_format]
    if lies_in_a_bucket(url):
        reader = AudioReader(audio_format)
        archived = await runtime.in_thread(_take_over, runtime.archive, url, key, content_type, reader)
        return Fetched(archived, reader.summary(recording.duration_millis), _NO_MARK)

    def put(chunks: Iterator[bytes]) -> ArchivedObject:
        return runtime.archive.put(key, chunks, content_type, (), _attributes(recording))

    return await fetch_audio(runtime, recording, audio_format, url, put)


def _take_over(archive: Archive, url: str, key: str, content_type: str, reader: AudioReader) -> ArchivedObject:
    """What custom storage has put into a bucket of the user's: adopted where it lies in ours, copied otherwise.

    Raises:
        NotYet: it is not in the bucket.
        StoreError: the other bucket cannot be read, or is of a kind that we do not know.
    """
    try:
        if (adopted := archive.store.key_of(url)) is not None:
            return archive.adopt(adopted, content_type, (reader.feed,))
        other, other_key = open_bucket_of(url)
        return archive.put(key, other.read(other_key), content_type, (reader.feed,))
    except KeyError:
        raise NotYet(f"{url} is not in its bucket") from None


def _attributes(recording: Recording) -> dict[str, str]:
    """What goes onto objects as metadata or tags, if the user wants that."""
    named = {
        "connection_id": recording.connection_id,
        "channels": recording.channels,
        "day": recording.dated.date().isoformat(),
    }
    return {name: value for name, value in named.items() if value}


def _merge(summaries: list[AudioSummary]) -> AudioSummary:
    """One summary of a recording's formats: the first, with what was found in any."""
    first = summaries[0]
    findings = sorted({finding for summary in summaries for finding in summary.findings})
    return AudioSummary(first.format, first.channels, first.sample_rate_hz, first.duration_ms, findings)
