"""Compare what Telnyx lists with the archive; count and enqueue what is missing."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta

import msgspec

from archive import layout
from archive.erasures import is_gone_on_record
from archive.records import FoundBy, UnreadableRecord
from process.logs import get_logger
from telnyx_api.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ServerError,
    UnexpectedAnswer,
    UnreadableRows,
    Unsettled,
)
from telnyx_api.models import Recording, RecordingTranscription
from telnyx_api.spans import list_window
from text.times import first_instant
from workers.damage.damage import report_wrong
from workers.deletion.kept import schedule_unless_kept
from workers.engine.failure_classes import may_have_passed
from workers.keys import BULK_QUEUE
from workers.queue.jobs import Job, enqueue
from workers.reconcile.archived_days import ArchivedDays
from workers.reconcile.unreadable import alert_unreadable
from workers.recordings.requests import RecordingRequest, TranscriptionRequest, recording_job, transcription_job
from workers.runtime import Runtime

log = get_logger()

# Errors that may concern one list or one thing alone; any other means that Telnyx is down.
OF_ONE_LIST = (BadRequest, Conflict, Forbidden, Invalid, NotFound, ServerError, UnexpectedAnswer, Unsettled)
_SCHEDULED_AT_ONCE = 100
_MOST_NAMED = 1_000  # recordings that a day waits for
_WAV_BYTES_PER_SECOND = 16_000  # 8 kHz, 16 bit, one channel: what Telnyx's recordings are, as far as is known


class Tally(msgspec.Struct):
    """What a reconcile has found so far; a backfill resumes from it.

    Attributes:
        found: recordings and transcriptions at Telnyx.
        found_transcriptions: of these, transcriptions.
        missing: those of them that the archive lacks.
        missing_transcriptions: of these, transcriptions.
        queued: jobs enqueued; fewer than missing if some were queued already.
        queued_transcriptions: of these, for transcriptions.
        unreadable: rows at Telnyx that cannot be read.
        scheduled: originals added to the deletion schedule.
        replayed: failed deliveries replayed.
        seconds: of audio missing, for the price of the work.
        bytes: of audio missing, estimated from its length.
        through: the last finished day, ISO 8601; empty at the start.
    """

    found: int = 0
    found_transcriptions: int = 0
    missing: int = 0
    missing_transcriptions: int = 0
    queued: int = 0
    queued_transcriptions: int = 0
    unreadable: int = 0
    scheduled: int = 0
    replayed: int = 0
    seconds: float = 0.0
    bytes: int = 0
    through: str = ""


def window(day: date) -> tuple[datetime, datetime]:
    """The first and the last instant of a UTC day."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return start, start + timedelta(days=1) - timedelta(microseconds=1)


def recordings_of(
    runtime: Runtime, since: date, until: date, connection_id: str | None = None
) -> AsyncIterator[Recording]:
    """The recordings that were created on some days, both inclusive; see `list_window`."""
    first, last = window(since)[0], window(until)[1]
    wanted = {"connection_id": connection_id} if connection_id else {}
    return list_window(runtime.telnyx, runtime.telnyx.recordings.list, first, last, wanted)


def transcriptions_of(runtime: Runtime, since: date, until: date) -> AsyncIterator[RecordingTranscription]:
    """The transcriptions that were created on some days, both inclusive; see `list_window`."""
    first, last = window(since)[0], window(until)[1]
    return list_window(runtime.telnyx, runtime.telnyx.recording_transcriptions.list, first, last, {})


class Comparison:
    """Compares what Telnyx has with the archive; counts and enqueues what is missing.

    Args:
        runtime: the worker's parts.
        tally: receives the counts.
        found_by: goes into the commit records.
        dry_run: enqueue nothing.
        schedules: whether to schedule the deletion of archived originals.
        retries_letters: whether to retry dead letters, where that may help.
        asks_for_not_archived: whether to request recordings again that are recorded as not archived.

    Attributes:
        tally: the counts.
        archived: what the archive holds of the days compared last.
        missing_recordings: ids of missing recordings, a thousand at most.
        missing_transcriptions: missing transcriptions as Telnyx lists them, a thousand at most.
        unreadable: the last list that had rows which cannot be read.
    """

    def __init__(
        self,
        runtime: Runtime,
        tally: Tally,
        found_by: FoundBy,
        *,
        dry_run: bool = False,
        schedules: bool = False,
        retries_letters: bool = True,
        asks_for_not_archived: bool = False,
    ) -> None:
        self.tally = tally
        self.archived = ArchivedDays(runtime.archive)
        self.missing_recordings: list[str] = []
        self.missing_transcriptions: list[RecordingTranscription] = []
        self.unreadable: UnreadableRows | None = None
        self._runtime = runtime
        self._found_by = found_by
        self._dry_run = dry_run
        self._retries_letters = retries_letters
        self._asks_for_not_archived = asks_for_not_archived
        self._schedules = schedules and runtime.settings.delete_originals == "verified"
        # Folders of archived recordings that are still at Telnyx, to be scheduled together.
        self._originals: list[str] = []

    async def of_recordings(
        self,
        rows: AsyncIterable[Recording],
        is_meant: Callable[[Recording], bool] = lambda _: True,
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Compare the recordings of a list with the archive; enqueue a row that cannot be read by its id.

        Args:
            rows: the list.
            is_meant: which rows to compare.
            room: called after each.
        """
        try:
            async for recording in rows:
                if is_meant(recording):
                    await self._of_recording(recording)
                    if room is not None:
                        await room()
        except UnreadableRows as error:
            await self._alert_unreadable(error)
            for row in error.rows:
                if row.id is not None:
                    await self._enqueue(recording_job(RecordingRequest(recording_id=row.id, found_by=self._found_by)))
        await self._schedule()

    async def of_transcriptions(
        self,
        rows: AsyncIterable[RecordingTranscription],
        day: date,
        is_meant: Callable[[RecordingTranscription], bool] = lambda _: True,
        room: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Compare the transcriptions of a list with the archive.

        Args:
            rows: the list.
            day: the day of rows that do not name theirs.
            is_meant: which rows to compare.
            room: called after each.
        """
        try:
            async for transcription in rows:
                if is_meant(transcription):
                    created = first_instant(transcription.created_at)
                    await self._of_transcription(transcription, day if created is None else created.date())
                    if room is not None:
                        await room()
        except UnreadableRows as error:
            await self._alert_unreadable(error)
            for row in error.rows:
                if row.id is not None:
                    request = TranscriptionRequest(transcription_id=row.id, found_by=self._found_by)
                    await self._enqueue(transcription_job(request))

    async def _alert_unreadable(self, error: UnreadableRows) -> None:
        self.unreadable = error
        self.tally.unreadable += len(error.rows)
        await alert_unreadable(self._runtime, error)

    async def _of_recording(self, recording: Recording) -> None:
        """Compare one recording with the archive."""
        recording_id = str(recording.id)
        try:
            day = recording.dated.date()
        except ValueError:  # its job reports that; the others are compared
            log.warning("recording without a usable date", recording_id=recording_id)
        else:
            await self._know(day)
            if self.archived.has_recording(day, recording_id):
                if self._schedules and self.archived.lacks_receipt(day, recording_id):
                    self._originals.append(layout.recording_folder(day, recording_id))
                    if len(self._originals) >= _SCHEDULED_AT_ONCE:
                        await self._schedule()
                return
            if self.archived.is_not_archived(day, recording_id) and await self._is_on_record(day, recording_id):
                if self._asks_for_not_archived:
                    await self._enqueue(recording_job(self._request(recording)))
                return
        if len(self.missing_recordings) < _MOST_NAMED:
            self.missing_recordings.append(recording_id)
        seconds = (recording.duration_millis or 0) / 1000
        self.tally.seconds += seconds
        self.tally.bytes += round(seconds * _WAV_BYTES_PER_SECOND * (2 if recording.channels == "dual" else 1))
        await self._missing(recording_job(self._request(recording)))

    async def _is_on_record(self, day: date, recording_id: str) -> bool:
        """Whether a record says that this recording is not archived; any other content is damage, and its day waits."""
        folder = layout.recording_folder(day, recording_id)
        try:
            record = await self._runtime.in_thread(self._runtime.archive.not_archived, folder)
        except UnreadableRecord as error:
            await report_wrong(self._runtime.redis, error, "sweep")
            return False
        if record is not None and record.recording_id != recording_id:
            wrong = UnreadableRecord(layout.not_archived_key(folder), f"names another recording, {record.recording_id}")
            await report_wrong(self._runtime.redis, wrong, "sweep")
            return False
        return record is not None

    def _request(self, recording: Recording) -> RecordingRequest:
        started_at = recording.recording_started_at
        return RecordingRequest(recording_id=str(recording.id), started_at=started_at, found_by=self._found_by)

    async def _of_transcription(self, transcription: RecordingTranscription, day: date) -> None:
        """Compare one transcription with the archive, by the day on which it was created."""
        recording_id, transcription_id = transcription.recording_id or "", str(transcription.id)
        for near in (day, day - timedelta(days=1)):  # its recording may be of the day before
            await self._know(near)
            if self.archived.has_transcription(near, recording_id, transcription_id):
                return
        if recording_id and await self._is_settled(recording_id, transcription_id, day):
            return
        if (key := await self._not_archived_at(day, transcription)) is not None:
            if self._asks_for_not_archived:
                asked = TranscriptionRequest(
                    transcription_id=transcription_id,
                    recording_id=transcription.recording_id,
                    not_archived_key=key,
                    found_by=self._found_by,
                )
                await self._enqueue(transcription_job(asked))
            return
        if len(self.missing_transcriptions) < _MOST_NAMED:
            self.missing_transcriptions.append(transcription)
        request = TranscriptionRequest(
            transcription_id=transcription_id, recording_id=transcription.recording_id, found_by=self._found_by
        )
        self.tally.missing_transcriptions += 1
        await self._missing(transcription_job(request))

    async def _not_archived_at(self, day: date, transcription: RecordingTranscription) -> str | None:
        """The key of the record that a transcription is not archived; None without one. Any other content is damage."""
        recording_id, transcription_id = transcription.recording_id or "", str(transcription.id)
        await self._know(day)
        if not self.archived.is_transcription_not_archived(day, recording_id, transcription_id):
            return None
        key = layout.transcription_not_archived_key(day, recording_id, transcription_id)
        archive = self._runtime.archive
        try:
            record = await self._runtime.in_thread(archive.transcription_not_archived, key)
        except UnreadableRecord as error:
            await report_wrong(self._runtime.redis, error, "sweep")
            return None
        return None if record is None else key

    async def _schedule(self) -> None:
        originals, self._originals = self._originals, []
        self.tally.scheduled += await schedule_unless_kept(self._runtime, originals)

    async def _know(self, day: date) -> None:
        if not self.archived.knows(day):
            await self._runtime.in_thread(self.archived.load, day)

    async def _is_settled(self, recording_id: str, transcription_id: str, day: date) -> bool:
        """Whether a transcription made long after its recording is archived with it, or its recording was erased."""
        runtime = self._runtime
        try:
            dated = (await runtime.telnyx.recordings.retrieve(recording_id)).dated
            folder: str | None = layout.recording_folder(dated, recording_id)
        except NotFound:  # its job looks for it the same way
            folder = await runtime.in_thread(runtime.archive.find_folder, recording_id, day)
        except (ValueError, *OF_ONE_LIST):  # its job reports that
            return False
        if folder is None:
            return False
        key = layout.transcription_key(folder, transcription_id)
        if await runtime.in_thread(runtime.archive.store.stat, key) is not None:
            return True
        return await runtime.in_thread(is_gone_on_record, runtime.archive, folder, key)

    async def _missing(self, job: Job) -> None:
        self.tally.missing += 1
        await self._enqueue(job)

    async def _enqueue(self, job: Job) -> None:
        """Enqueue a job; retry a dead letter only if its cause may have passed, else it waits for a person."""
        if self._dry_run:
            return
        letter, queued = await self._runtime.attempts.letter(job.id), False
        if letter is None:
            queued = await enqueue(self._runtime.redis, job)
        elif self._retries_letters and may_have_passed(letter.cause):  # with what its event knew
            queued = await self._runtime.attempts.retry(job.id, BULK_QUEUE)
        self.tally.queued += queued
        self.tally.queued_transcriptions += queued and isinstance(job.payload, TranscriptionRequest)
