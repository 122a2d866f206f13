"""End dead letters whose work has been done in another way.

A job that succeeds ends the letter of its own id at once, and the recording's. What is left are letters of events that did not
name their recording, and those that an older state of Redis has brought back.
"""

from __future__ import annotations

import random

import msgspec

from archive.records import UnreadableRecord
from archive.stores.store import StoreError
from process.logs import get_logger
from telnyx_api.errors import TelnyxError
from text.times import first_instant
from workers.engine.attempts import DeadLetter
from workers.reconcile.comparison import OF_ONE_LIST
from workers.recordings import archive_recording as recordings
from workers.recordings import transcriptions
from workers.recordings.requests import VERSION, RecordingRequest, TranscriptionRequest, payload_version
from workers.runtime import Runtime

log = get_logger()

_MOST = 1_000  # a turn, whichever: each costs a request or two, and those that stay must keep no other from its turn


async def end_done_letters(runtime: Runtime) -> int:
    """End the dead letters of recordings and transcriptions that are archived by now; returns their number.

    One that cannot be asked about now stays until the next turn.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    ended = 0
    letters = await runtime.attempts.letters()
    for letter in random.sample(letters, min(len(letters), _MOST)):
        try:
            is_done = await _is_done(runtime, letter)
        except (ValueError, UnreadableRecord, *OF_ONE_LIST):
            continue  # what it asks for, or what lies there, cannot be had or read; a person must look
        except (TelnyxError, StoreError) as error:
            log.info("dead letters not checked", error=f"{type(error).__name__}: {error}")
            break
        if is_done and await runtime.attempts.discard(letter.job_id, letter.died_at):
            log.info("dead letter ended", job_id=letter.job_id, function=letter.function)
            ended += 1
    return ended


async def _is_done(runtime: Runtime, letter: DeadLetter) -> bool:
    died_at = first_instant(letter.died_at)
    if died_at is None or payload_version(letter.payload) > VERSION:
        return False
    if letter.function == "archive_recording":
        request = msgspec.convert(letter.payload, RecordingRequest)
        return await recordings.is_archived(runtime, request, died_at)
    if letter.function == "archive_transcription":
        return await transcriptions.is_archived(runtime, msgspec.convert(letter.payload, TranscriptionRequest), died_at)
    return False
