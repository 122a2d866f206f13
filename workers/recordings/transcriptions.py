"""`archive_transcription`: fetch a completed transcription from Telnyx, and store it with its recording."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from archive import layout
from archive.erasures import disposed_keys, is_gone_on_record
from archive.records import TranscriptionRecord
from process.logs import get_logger
from telnyx_api.errors import NotFound
from telnyx_api.models import RecordingTranscription
from text.times import first_instant, utc_now
from workers.engine.failure_classes import InProgress, NotYet
from workers.recordings.requests import TranscriptionRequest
from workers.recordings.writing import Erased, sole_writer, unless_erased
from workers.runtime import Runtime

log = get_logger()


async def archive_transcription(runtime: Runtime, request: TranscriptionRequest) -> None:
    """Archive a transcription, unless it is archived already, or Telnyx still does not give one that it did not give before.

    Nor is anything done about one whose recording was erased.

    Raises:
        InProgress: Telnyx is still making it.
        NotYet: it, or its recording, is neither at Telnyx nor in the archive.
    """
    try:
        with suppress(Erased):
            await archive_if_given(runtime, request)
    except (InProgress, NotYet) as error:
        key = request.not_archived_key
        if key is None or await runtime.in_thread(runtime.archive.transcription_not_archived, key) is None:
            raise
        log.info("still not given", transcription_id=request.transcription_id, answer=str(error))


async def archive_if_given(runtime: Runtime, request: TranscriptionRequest) -> None:
    """Archive a transcription, unless it is there already.

    Raises:
        InProgress, NotYet: as `archive_transcription`.
        Erased: its recording was erased.
    """
    try:
        transcription = await runtime.telnyx.recording_transcriptions.retrieve(request.transcription_id)
    except NotFound as error:
        if await _lies_near(runtime, request, utc_now()):
            return
        raise NotYet(f"transcription {request.transcription_id} is not at Telnyx") from error
    if transcription.status != "completed":
        raise InProgress(f"transcription {request.transcription_id} is {transcription.status}")
    await put_transcription(runtime, transcription, request.recording_id)


async def put_transcription(
    runtime: Runtime, transcription: RecordingTranscription, recording_id: str | None = None
) -> None:
    """Put a completed transcription into the archive, beside its recording.

    Args:
        transcription: as Telnyx returned it.
        recording_id: its recording's, should the transcription itself not say.

    Raises:
        NotYet: its recording is not known, or is neither at Telnyx nor in the archive.
        Erased: its recording was erased.
    """
    recording_id = transcription.recording_id or recording_id
    if not recording_id:
        raise NotYet(f"transcription {transcription.id} does not name its recording")
    async with sole_writer(runtime.redis, recording_id):
        folder = await _folder(runtime, recording_id, transcription)
        await _put(runtime, folder, recording_id, transcription)


async def _put(runtime: Runtime, folder: str, recording_id: str, transcription: RecordingTranscription) -> None:
    """Write and announce it under the recording's lease, unless the recording was erased."""
    record = TranscriptionRecord(transcription=transcription.as_returned())
    key = layout.transcription_key(folder, str(transcription.id))
    if key in await runtime.in_thread(disposed_keys, runtime.archive, folder):
        raise Erased(f"{key}: disposed of under a retention rule, and not written any more")
    async with unless_erased(runtime, folder):
        record = await runtime.in_thread(runtime.archive.put_transcription, folder, str(transcription.id), record)
    await runtime.announce(key, record)
    log.info("transcription archived", recording_id=recording_id, transcription_id=transcription.id)


async def _folder(runtime: Runtime, recording_id: str, transcription: RecordingTranscription) -> str:
    """The folder of the recording: by its date at Telnyx, else, once it is gone there, found in the archive."""
    try:
        recording = await runtime.telnyx.recordings.retrieve(recording_id)
        if recording.connection_id:
            await runtime.in_thread(runtime.archive.put_transcribing, recording.connection_id)
        return layout.recording_folder(recording.dated, recording_id)
    except NotFound:
        near = (first_instant(transcription.created_at) or utc_now()).date()
        found = await runtime.in_thread(runtime.archive.find_folder, recording_id, near)
        if found is None:
            raise NotYet(f"recording {recording_id} is neither at Telnyx nor in the archive near {near}") from None
        return found


async def is_archived(runtime: Runtime, request: TranscriptionRequest, near: datetime) -> bool:
    """Whether nothing is left to do: it is in the archive, or its recording was erased.

    Args:
        runtime: the worker's parts.
        request: what was asked for.
        near: about when its recording was made.

    Raises:
        StoreError: the store is away.
    """
    try:
        return await _lies_near(runtime, request, near)
    except Erased:
        return True


async def _lies_near(runtime: Runtime, request: TranscriptionRequest, near: datetime) -> bool:
    """Whether it is in the archive.

    Raises:
        Erased: its recording was erased.
    """
    if not request.recording_id:
        return False
    folder = await runtime.in_thread(runtime.archive.find_folder, request.recording_id, near.date())
    if folder is None:
        return False
    key = layout.transcription_key(folder, request.transcription_id)
    if await runtime.in_thread(is_gone_on_record, runtime.archive, folder, key):
        raise Erased(f"recording {request.recording_id} was erased, or its transcripts were disposed of")
    return await runtime.in_thread(runtime.archive.store.stat, key) is not None
