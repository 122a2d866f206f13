"""Finds recordings at Telnyx: one by its id, or those of a leg, session or conference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from process.tasks import end_tasks
from process.tracing import span
from telnyx_api.errors import UnreadableRows
from telnyx_api.models import Recording
from telnyx_api.operations import RecordingFilter
from telnyx_api.pages import LARGEST_PAGE, read_all
from text.times import parse_instant
from workers.engine.failure_classes import NotYet
from workers.engine.first_run import is_first_run
from workers.recordings.requests import RecordingRequest
from workers.runtime import Runtime

_SAME_MOMENT = timedelta(seconds=2)


@asynccontextmanager
async def asked_for(
    runtime: Runtime, request: RecordingRequest, recording_id: str, is_store_answering: bool
) -> AsyncIterator[Callable[[], Awaitable[Recording]]]:
    """Ask Telnyx for a recording while the archive is asked about it; gives what waits for the answer.

    Telnyx is asked in advance only by the first run of a webhook's job, whose recording is hardly ever archived already: the
    same event asks Telnyx nothing (decision 15). And not while the store is away: each job that waits for it would ask
    again and again.

    Args:
        runtime: the worker's parts.
        request: what is asked for.
        recording_id: its recording.
        is_store_answering: whether the store answered when a job last asked it.
    """

    async def retrieve() -> Recording:
        with span("find"):
            return await runtime.telnyx.recordings.retrieve(recording_id)

    if request.found_by != "webhook" or not is_first_run() or not is_store_answering:
        yield retrieve
        return
    asked = asyncio.create_task(retrieve())
    try:
        yield lambda: asked
    finally:
        await end_tasks([asked])


async def find(runtime: Runtime, request: RecordingRequest) -> tuple[list[Recording], UnreadableRows | None]:
    """The recordings that a request without an id means, and the error of rows that cannot be read, one of which it may be.

    Raises:
        NotYet: Telnyx has nothing of the call.
    """
    rows = runtime.telnyx.recordings.list(filter=_filter(request), page_size=LARGEST_PAGE)
    found, unreadable = await read_all(rows)
    if not found and unreadable is None:
        raise NotYet("no recording of this leg, session or conference at Telnyx")
    # Several recordings of one call: those of the event's times. If none fits, all of them, and then it is asked again:
    # archiving one too many loses nothing, and the one that is meant may not be listed yet.
    return [recording for recording in found if is_of(recording, request)] or found, unreadable


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


def is_of(recording: Recording, request: RecordingRequest) -> bool:
    """Whether a recording is the one that is meant, by its times."""
    pairs = (
        (recording.recording_started_at, request.started_at),
        (recording.recording_ended_at, request.ended_at),
    )
    return all(not (a and b) or abs(parse_instant(a) - parse_instant(b)) <= _SAME_MOMENT for a, b in pairs)
