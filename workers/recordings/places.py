"""Whether an unfinished event names a location in the user's own storage for a recording.

Only events name these locations. The request of an event lies in its job, beside a running job, or in a dead letter:
under the recording's id or, if the event did not name its recording, under the event's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from telnyx_api.models import Recording
from workers.keys import ARQ_JOB, QUEUES, REPEATED
from workers.queue.jobs import deserialize
from workers.recordings.finding import is_of
from workers.recordings.requests import VERSION, RecordingRequest, payload_version, recording_job_id
from workers.runtime import Runtime

_AT_ONCE = 500
_NAMES = ("call_leg_id", "call_session_id", "conference_id", "call_control_id")


async def who_names_a_place(runtime: Runtime, recording: Recording) -> str | None:
    """The id of a job, waiting, running or given up, that knows a recording's location in custom storage; else None.

    A payload that is unreadable or of a newer version counts if it lies under the recording's own id: it may know.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    own = recording_job_id(str(recording.id))
    async for job_id, payload in _payloads(runtime, own):
        try:
            request = msgspec.convert(payload, RecordingRequest)
        except msgspec.ValidationError:
            request = None
        if request is None or payload_version(payload) > VERSION:
            if job_id == own:
                return job_id
            continue
        if request.locations and (job_id == own or _may_be_of(recording, request)):
            return job_id
    return None


async def _payloads(runtime: Runtime, own: str) -> AsyncIterator[tuple[str, Any]]:
    """Id and payload of the recording's own job and of the jobs of events that did not name their recording."""
    of_events = recording_job_id("event:")

    async def letters() -> list[tuple[str, Any]]:
        every = await runtime.attempts.letters()
        return [(one.job_id, one.payload) for one in every if one.job_id == own or one.job_id.startswith(of_events)]

    for letter in await letters():
        yield letter
    ids = [own]
    for queue in QUEUES.values():
        listed = [row.decode() for row in await runtime.redis.zrange(queue, 0, -1)]
        ids += [job_id for job_id in listed if job_id.startswith(of_events)]
    for at in range(0, len(ids), _AT_ONCE):
        some = ids[at : at + _AT_ONCE]
        keys = [prefix + job_id for job_id in some for prefix in (ARQ_JOB, REPEATED)]
        for key, data in zip(keys, await runtime.redis.mget(keys), strict=True):
            if data is not None:
                yield key.removeprefix(ARQ_JOB).removeprefix(REPEATED), _payload_of(data)
    for letter in await letters():  # again: a job that was given up in between was in neither
        yield letter


def _payload_of(data: bytes) -> Any:
    """The payload of a job in arq's form; None if it cannot be read."""
    try:
        (payload,) = deserialize(data)["a"]
    except (msgspec.MsgspecError, ValueError):
        return None
    return payload


def _may_be_of(recording: Recording, request: RecordingRequest) -> bool:
    """Whether an event may concern a recording: they share an id of the call, and the times do not contradict it."""
    pairs = ((getattr(recording, name), getattr(request, name)) for name in _NAMES)
    return any(ours and ours == theirs for ours, theirs in pairs) and is_of(recording, request)
