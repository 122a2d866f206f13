"""Seal a day without a completed transcription that Telnyx does not give: when a person says so, or after a time limit.

As in `not_archived.py`, the worker asks once more just before and records the answer, and the weekly count keeps asking. An
original stays at Telnyx while a transcription of it is listed and not archived.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from archive import layout
from archive.records import TranscriptionNotArchived
from process.logs import get_logger
from telnyx_api.errors import UnreadableRows
from telnyx_api.models import RecordingTranscription
from telnyx_api.pages import LARGEST_PAGE
from text.errors import UserError
from text.times import first_instant, format_duration, format_instant
from workers.engine.failure_classes import InProgress, NotYet
from workers.engine.lease import HeldElsewhere
from workers.reconcile.not_archived import waited
from workers.recordings.requests import TranscriptionRequest, transcription_job
from workers.recordings.transcriptions import archive_if_given, put_transcription
from workers.recordings.writing import Erased, unless_erased
from workers.runtime import Runtime

log = get_logger()

_AT_ONCE = 20


async def accept_transcription(
    runtime: Runtime, transcription_id: str, why: str, by: str
) -> TranscriptionNotArchived | None:
    """Let the day of a transcription be sealed without it, because a person says so, unless it comes after all.

    Args:
        runtime: the worker's parts.
        transcription_id: Telnyx's.
        why: the reason; the archive keeps it.
        by: who says so.

    Returns:
        The record; None if it came and is archived.

    Raises:
        UserError: it is not for this: Telnyx does not list it, its recording was erased, or something else keeps it from the
            archive.
        TelnyxError, StoreError: one of them is away.
    """
    job_id = transcription_job(TranscriptionRequest(transcription_id=transcription_id)).id
    letter = await runtime.attempts.letter(job_id)
    known = letter.payload.get("recording_id") if letter is not None and isinstance(letter.payload, dict) else None
    record = await _accept(runtime, await _listed(runtime, transcription_id), why, by, known)
    if letter is not None:
        await runtime.attempts.discard(job_id, letter.died_at)
    return record


async def _listed(runtime: Runtime, transcription_id: str) -> RecordingTranscription:
    """A transcription as Telnyx lists it.

    Raises:
        UserError: it does not.
    """
    try:
        async for row in runtime.telnyx.recording_transcriptions.list(page_size=LARGEST_PAGE):
            if row.id == transcription_id:
                return row
    except UnreadableRows as error:
        raise UserError(f"{error}; transcription {transcription_id} may be one of them, so its day waits") from error
    line = f"Telnyx does not list transcription {transcription_id}, so no day waits for it"
    raise UserError(f"{line}; to drop its dead letter, run `callvault dead-letters discard`")


async def _accept(
    runtime: Runtime, listed: RecordingTranscription, why: str, by: str, recording_id_of_event: str | None = None
) -> TranscriptionNotArchived | None:
    """Ask for a transcription once more, and record the answer; None if it is archived."""
    transcription_id, recording_id = str(listed.id), listed.recording_id or ""
    if (created := first_instant(listed.created_at)) is None:
        raise UserError(f"Telnyx does not say when transcription {transcription_id} was made, so no day waits for it")
    request = TranscriptionRequest(
        transcription_id=transcription_id,
        recording_id=listed.recording_id or recording_id_of_event,
        found_by="reconcile",
    )
    try:
        await archive_if_given(runtime, request)
    except (InProgress, NotYet) as error:
        if (answer := await _why_not_by_its_row(runtime, listed, request, str(error))) is None:
            return None
    except HeldElsewhere:
        raise UserError(
            f"recording {request.recording_id} is being archived now; run the command again later"
        ) from None
    except Erased:
        raise UserError(
            f"recording {request.recording_id} was erased, so no day waits for transcription {transcription_id}"
        ) from None
    except Exception as error:
        line = f"transcription {transcription_id} is not archived, but not because Telnyx does not give it"
        raise UserError(f"{line}, so its day waits: {type(error).__name__}: {error}") from error
    else:
        return None
    key = layout.transcription_not_archived_key(created.date(), recording_id, transcription_id)
    record = TranscriptionNotArchived(
        recording_id=recording_id,
        transcription_id=transcription_id,
        transcription={name: value for name, value in listed.as_returned().items() if name != "transcription_text"},
        answer=answer,
        why=why,
        by=by,
        at=format_instant(runtime.clock.now()),
    )
    async with unless_erased(runtime, layout.recording_folder(created.date(), recording_id)):
        await runtime.in_thread(runtime.archive.put_once, key, record)
    standing = await runtime.in_thread(runtime.archive.transcription_not_archived, key)
    await runtime.announce(key, standing or record)
    log.warning("transcription recorded as not archived", transcription_id=transcription_id, answer=answer, by=by)
    return standing or record


async def _why_not_by_its_row(
    runtime: Runtime, listed: RecordingTranscription, request: TranscriptionRequest, answer: str
) -> str | None:
    """Archive a transcription from its row in the list, if that has the text; returns why not, or None if it is archived."""
    if listed.transcription_text is None or listed.status != "completed":
        return answer
    try:
        await put_transcription(runtime, listed, request.recording_id)
    except NotYet as error:
        return str(error)
    return None


async def accept_transcriptions_in_time(runtime: Runtime, day: date, listed: Sequence[RecordingTranscription]) -> None:
    """Let a day be sealed without the transcriptions that it has waited for too long, with an alert for each.

    The API itself has just listed them and answers that it does not give them; no other host is involved.

    Args:
        runtime: the worker's parts.
        day: UTC.
        listed: the transcriptions that it waits for.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    limit = runtime.settings.seal_without_after.total_seconds()
    times = await waited(runtime, day, [_name(one) for one in listed])
    why = f"{day} has waited for it for {format_duration(limit)} (CALLVAULT_SEAL_WITHOUT_AFTER)"
    for one in [one for one in listed if times[_name(one)] >= limit][:_AT_ONCE]:
        try:
            record = await _accept(runtime, one, why, "callvault")
        except Exception as error:  # its day keeps waiting; the next one is asked for
            log.info("a day waits for a transcription", transcription_id=one.id, day=day.isoformat(), why=str(error))
            continue
        if record is not None:
            text = f"{day} is sealed without transcription {one.id}, which is not archived: {record.answer}."
            advice = "Ask Telnyx support for it. The worker asks for it again each week and archives it if it comes."
            await runtime.alerts.send("sealed-without", day.isoformat(), text, advice)


def _name(listed: RecordingTranscription) -> str:
    return f"transcription {listed.id}"
