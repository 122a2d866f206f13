"""Seal a day without a recording that Telnyx lists but gives no audio for: when a person says so, or after a time limit.

A record in the archive says so. Just before, the worker asks for the audio once more, in full. It writes the record only if
Telnyx or its download host itself answers that it has no audio. The weekly count keeps asking. If the audio comes, it is
archived, and a further seal lists it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import date

import msgspec
from msgspec.structs import replace

from archive import layout
from archive.records import NotArchived
from archive.stores.store import lies_in_a_bucket
from process.logs import get_logger
from telnyx_api.downloads import AudioRefused, DownloadFailed
from telnyx_api.errors import NotFound
from telnyx_api.models import Recording
from text.errors import UserError
from text.one_line import one_line
from text.times import format_duration, format_instant
from workers.engine.attempts import DeadLetter
from workers.engine.lease import HeldElsewhere
from workers.keys import BULK_QUEUE, WAITED_FOR
from workers.queue.history import DAY, read_history
from workers.queue.script import server_seconds
from workers.recordings.archive_recording import archive_recording
from workers.recordings.fetching import DOWNLOADED, addresses_of, as_archived, why_refused
from workers.recordings.places import who_names_a_place
from workers.recordings.requests import VERSION, RecordingRequest, payload_version, recording_job_id
from workers.recordings.writing import sole_writer, unless_erased
from workers.runtime import Runtime, sealable_at
from workers.seals.waiting import UnsealedDays

log = get_logger()

_AT_ONCE = 20
_SMALL_BYTES = 1024 * 1024  # an error page in place of audio is smaller


async def accept_not_archived(runtime: Runtime, recording_id: str, why: str, by: str | None) -> NotArchived | None:
    """Let the day of a recording be sealed without it, unless its audio comes after all.

    Args:
        runtime: the worker's parts.
        recording_id: Telnyx's.
        why: the reason; the archive keeps it.
        by: who says so; None for `CALLVAULT_SEAL_WITHOUT_AFTER`.

    Returns:
        The record; None if the audio came and is archived.

    Raises:
        UserError: it is not for this: not at Telnyx, erased, being archived, or not archived for another reason.
        TelnyxError, StoreError: one of them is away.
    """
    try:
        recording = await runtime.telnyx.recordings.retrieve(recording_id)
        folder = layout.recording_folder(recording.dated, recording_id)
    except NotFound:
        line = f"recording {recording_id} is not at Telnyx, so no day waits for it"
        raise UserError(f"{line}; to drop its dead letter, run `callvault dead-letters discard`") from None
    except ValueError as error:
        raise UserError(f"{error}, so no day waits for it") from None
    letter = await runtime.attempts.letter(recording_job_id(recording_id))
    request = _request(recording, letter)
    try:
        answer = await _answer(runtime, recording, request, is_known_to_a_person=by is not None)
        if answer is not None and await _record(runtime, folder) is None:
            returned = as_archived(recording)
            at = format_instant(runtime.clock.now())
            record = NotArchived(
                recording_id=recording_id, recording=returned, answer=answer, why=why, by=by or "callvault", at=at
            )
            await _write(runtime, folder, record, recording)
    except HeldElsewhere:
        raise UserError(f"recording {recording_id} is being archived now; run the command again later") from None
    if letter is not None:
        await runtime.attempts.discard(letter.job_id, letter.died_at)
    return None if answer is None else await _record(runtime, folder)


def _request(recording: Recording, letter: DeadLetter | None) -> RecordingRequest:
    """The request of its dead letter, so that its record names what found it; without one, the request of reconcile."""
    with suppress(msgspec.ValidationError):
        if letter is not None and payload_version(letter.payload) == VERSION:
            return replace(msgspec.convert(letter.payload, RecordingRequest), recording_id=recording.id)
    started_at = recording.recording_started_at
    return RecordingRequest(recording_id=recording.id, started_at=started_at, found_by="reconcile")


async def _answer(
    runtime: Runtime, recording: Recording, request: RecordingRequest, *, is_known_to_a_person: bool
) -> str | None:
    """The answer to a request for the audio of a recording now; None if it is archived.

    Raises:
        UserError: it could not be asked for, or something else than Telnyx keeps it from the archive.
        HeldElsewhere: another job works on it.
    """
    folder = layout.recording_folder(recording.dated, str(request.recording_id))
    try:
        await archive_recording(runtime, request)
    except HeldElsewhere:
        raise
    except Exception as error:
        answer = why_refused(recording, error)
        if answer is None:
            line = f"recording {recording.id} is not archived, but not because Telnyx gives no audio"
            raise UserError(f"{line}, so its day waits: {one_line(error)}") from error
    else:
        if await runtime.in_thread(runtime.archive.commit_record, folder) is not None:
            return None
        if (known := await _record(runtime, folder)) is None:
            raise UserError(f"recording {recording.id} was erased, so no day waits for it")
        return known.answer
    if not addresses_of(recording):
        if recording.connection_id:
            await _refuse_if_in_custom_storage(runtime, recording, recording.connection_id)
        elif not is_known_to_a_person:
            line = f"Telnyx does not name the connection of recording {recording.id}"
            raise UserError(f"{line}, so its audio may be in your own storage, and its day waits for a person")
    if (audio_format := await _format_that_is_given(runtime, recording)) is not None:
        line = f"Telnyx still gives the {audio_format} of recording {recording.id}"
        raise UserError(f"{line}, so its day waits; ask Telnyx support for the rest ({answer})")
    return answer


async def _refuse_if_in_custom_storage(runtime: Runtime, recording: Recording, connection_id: str) -> None:
    """Refuse a recording without an address whose audio may be in the user's own bucket, which only its webhook names.

    Raises:
        UserError: it may.
        TelnyxError: nobody knows.
    """
    with suppress(NotFound):
        await runtime.telnyx.custom_storage_credentials.retrieve(connection_id)
        line = f"connection {connection_id} puts its recordings into your own storage"
        raise UserError(f"{line}, where the audio of {recording.id} may be, so its day waits; see docs/stores.md")


async def _format_that_is_given(runtime: Runtime, recording: Recording) -> str | None:
    """A format that Telnyx gives of a recording with several; one missing format keeps the recording from the archive."""
    addresses = addresses_of(await runtime.telnyx.recordings.retrieve(str(recording.id)))
    for audio_format, url in addresses.items() if len(addresses) > 1 else ():
        if lies_in_a_bucket(url):
            return audio_format  # nobody has asked for it yet
        try:
            mark = await runtime.in_thread(runtime.downloads.look, url)
        except AudioRefused:
            continue
        except DownloadFailed as error:
            line = f"the {audio_format} of recording {recording.id} cannot be checked now"
            raise UserError(f"{line}, so its day waits: {error}") from error
        if mark.size != 0:
            return audio_format
    return None


async def _record(runtime: Runtime, folder: str) -> NotArchived | None:
    return await runtime.in_thread(runtime.archive.not_archived, folder)


async def _write(runtime: Runtime, folder: str, record: NotArchived, recording: Recording) -> None:
    """Write the record under the recording's lease, unless it was archived or erased meanwhile, and have its day tried again.

    Raises:
        UserError: an event named a place in custom storage, and its job has not ended well yet.
    """
    key = layout.not_archived_key(folder)
    async with sole_writer(runtime.redis, record.recording_id), unless_erased(runtime, folder):
        if (job_id := await who_names_a_place(runtime, recording)) is not None:
            line = f"an event of recording {recording.id} named a place in your own storage, and job {job_id} has it"
            raise UserError(f"{line}, so its day waits; `callvault dead-letters list` shows it if it was given up")
        if await runtime.in_thread(runtime.archive.commit_record, folder) is None:
            await runtime.in_thread(runtime.archive.put_not_archived, folder, record)
    await runtime.announce(key, record)
    if (day := layout.day_of(key)) is not None:
        await UnsealedDays(runtime.redis).add(day, sealable_at(runtime.settings, day))
    log.warning(
        "recording recorded as not archived", recording_id=record.recording_id, answer=record.answer, by=record.by
    )


async def accept_in_time(runtime: Runtime, day: date, recording_ids: Sequence[str]) -> None:
    """Let a day be sealed without the recordings that it has waited for too long, with an alert for each.

    Not if nothing at all was downloaded within a day: then the download host may be out of reach.

    Args:
        runtime: the worker's parts.
        day: UTC.
        recording_ids: the recordings that it waits for.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    limit = runtime.settings.seal_without_after.total_seconds()
    overdue = [one for one, seconds in (await waited(runtime, day, recording_ids)).items() if seconds >= limit]
    if not overdue or not await _is_audio_given(runtime):
        return
    why = f"{day} has waited for it for {format_duration(limit)} (CALLVAULT_SEAL_WITHOUT_AFTER)"
    for recording_id in overdue[:_AT_ONCE]:
        try:
            # Its own job fetches what Telnyx gives: a download here would delay the seals of other days.
            if await _is_given(runtime, recording_id):
                await runtime.attempts.retry(recording_job_id(recording_id), BULK_QUEUE)
                continue
            record = await accept_not_archived(runtime, recording_id, why, None)
        except Exception as error:  # its day keeps waiting; the next one is asked for
            log.info("a day waits for a recording", recording_id=recording_id, day=day.isoformat(), why=str(error))
            continue
        if record is not None:
            text = f"{day} is sealed without recording {recording_id}, which is not archived: {record.answer}."
            advice = "Ask Telnyx support for it. The worker asks for it again each week and archives it if it comes."
            await runtime.alerts.send("sealed-without", day.isoformat(), text, advice)


async def _is_given(runtime: Runtime, recording_id: str) -> bool:
    """Whether Telnyx gives audio of a recording, or something that is too large for an error page.

    Raises:
        TelnyxError, DownloadFailed: it cannot be asked now.
    """
    recording = await runtime.telnyx.recordings.retrieve(recording_id)
    for url in addresses_of(recording).values():
        with suppress(AudioRefused):
            if ((await runtime.in_thread(runtime.downloads.look, url)).size or 0) > _SMALL_BYTES:
                return True
    return False


async def waited(runtime: Runtime, day: date, names: Sequence[str]) -> dict[str, float]:
    """How many seconds a day has waited for each of some things, by the server's clock; recordings go by their ids.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    if not names:
        return {}
    now = await server_seconds(runtime.redis)
    async with runtime.redis.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.hsetnx(WAITED_FOR, name, f"{day} {now}")
        pipe.hmget(WAITED_FOR, list(names))
        *_, rows = await pipe.execute()
    return {one: now - _since(row, now) for one, row in zip(names, rows, strict=True)}


def _since(row: bytes | None, now: float) -> float:
    """When the waiting began, by a row of Redis; without a row it begins now."""
    try:
        return float((row or b"").partition(b" ")[2])
    except ValueError:
        return now


async def forget_waiting(runtime: Runtime, day: date) -> None:
    """Forget what a day waited for, once it is sealed.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    rows = (await runtime.redis.hgetall(WAITED_FOR)).items()
    if over := [one for one, row in rows if row.decode("ascii", "replace").partition(" ")[0] == day.isoformat()]:
        await runtime.redis.hdel(WAITED_FOR, *over)


async def _is_audio_given(runtime: Runtime) -> bool:
    """Whether any audio was downloaded from Telnyx within the last day."""
    steps = await read_history(runtime.redis, DAY, await server_seconds(runtime.redis))
    return any(step.get(DOWNLOADED) for step in steps)
