"""Jobs wait for recordings that Telnyx lists as unfinished, and give up those it does not know."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from arq.worker import Retry

from config.settings import Settings
from lab.servers import RunningSandbox
from lab.worker import runtime_of
from tests.workers.steps import assert_archived, kinds_of_alerts
from text.times import format_instant, parse_duration, utc_now
from workers.engine import failing
from workers.engine.attempts import Attempt
from workers.engine.failing import failure_class_of
from workers.engine.failure_classes import FAILURE_CLASSES, NotFinished, NotYet
from workers.engine.run import job
from workers.recordings.archive_recording import archive_recording
from workers.recordings.requests import RecordingRequest
from workers.runtime import Runtime

LONGER_THAN_KNOWN = {"CALLVAULT_NOT_FOUND_WAIT": "1s", "CALLVAULT_QUEUE_AGE_LIMIT": "1s"}


async def attempt(runtime: Runtime, recording_id: str) -> None:
    function = job(archive_recording, RecordingRequest, "arq:queue").coroutine
    context = {"runtime": runtime, "job_id": "one", "job_try": 2, "enqueue_time": utc_now()}
    await function(context, {"recording_id": recording_id})


def causes(redis: Any) -> list[str]:
    return [json.loads(row)["cause"] for row in redis.lrange("callvault:attempts:one", 0, -1)]


@pytest.mark.parametrize("what", ["in progress", "without addresses"])
async def test_a_recording_is_waited_for_as_long_as_telnyx_lists_it(
    what: str, sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    audio = dict(recording.audio)
    if what == "in progress":
        recording.data["status"] = "in-progress"
    else:
        recording.audio.clear()
    async with runtime_of(environment, async_redis, **LONGER_THAN_KNOWN) as runtime:
        for _ in range(4):
            with pytest.raises(Retry):
                await attempt(runtime, recording.data["id"])
            time.sleep(0.5)
        assert causes(redis) == ["not-yet"] * 4
        assert await kinds_of_alerts(runtime) == set(), "a call may last for hours"
        recording.data["status"] = "completed"
        recording.audio.update(audio)
        await attempt(runtime, recording.data["id"])
    assert redis.hlen("callvault:dead-letters") == 0
    assert_archived(archive_folder, recording)


async def test_an_unfinished_recording_delays_no_other_of_its_call(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Any
) -> None:
    first, second, third = (sandbox.world.add_recording(seconds=1, leg_id="leg") for _ in range(3))
    second.data["status"] = "in-progress"
    request = RecordingRequest(event_id="event-1", call_leg_id="leg")
    with pytest.raises(NotFinished):
        await archive_recording(runtime, request)
    assert_archived(archive_folder, first)
    assert_archived(archive_folder, third)
    second.data["status"] = "completed"
    await archive_recording(runtime, request)
    assert_archived(archive_folder, second)


async def test_an_unknown_recording_is_given_up_only_after_it_was_unknown_without_interruption(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any
) -> None:
    """Telnyx answers 404 twice with a long gap, in which it listed the recording or was down."""
    recording = sandbox.world.add_recording(seconds=1)
    recording.data["status"] = "in-progress"
    async with runtime_of(environment, async_redis, **LONGER_THAN_KNOWN) as runtime:
        for status in ("gone", "there", "gone", "away", "gone"):
            recording.deleted_at = "x" if status == "gone" else None
            sandbox.world.faults.change({"api_401": status == "away"})
            with pytest.raises(Retry):
                await attempt(runtime, recording.data["id"])
            time.sleep(0.7)
        assert causes(redis) == ["not-there-yet", "not-yet", "not-there-yet", "refused", "not-there-yet"]
        with pytest.raises(Retry):
            await attempt(runtime, recording.data["id"])
        time.sleep(0.7)
        await attempt(runtime, recording.data["id"])
    (letter,) = redis.hvals("callvault:dead-letters")
    assert json.loads(letter)["cause"] == "not-there-yet"


@pytest.mark.parametrize("wait", ["1s", "10m", "1d", "30d"])
def test_a_job_is_given_up_by_time_within_the_remembered_attempts(wait: str) -> None:
    found = [*FAILURE_CLASSES.values(), failure_class_of(NotYet(), Settings(not_found_wait=parse_duration(wait)))]
    for cause in (cause for cause in found if cause.give_up_seconds):
        attempts, at = list[Attempt](), utc_now()
        while not cause.is_final(*cause.of(attempts[-100:])):
            attempts.append(Attempt(format_instant(at), cause.name, "x"))
            at += timedelta(seconds=cause.wait_seconds(len(attempts[-100:])))
            assert len(attempts) < 100


def test_retries_for_a_listed_recording_back_off_to_an_hour() -> None:
    cause = failure_class_of(NotFinished(), Settings())
    assert cause.is_never_given_up
    assert cause.wait_seconds(1) <= 2 and 1800 <= cause.wait_seconds(30) <= 3600


def test_every_failure_class_of_an_error_is_in_the_table() -> None:
    assert {name for name, _ in failing._ERRORS} <= FAILURE_CLASSES.keys()
