"""Dead letters end when their work is done, and reconcile retries what may succeed by now."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from arq.worker import Retry

from lab.processes import callvault, wait_for
from lab.servers import RunningSandbox
from sandbox.world import Recording
from tests.workers.steps import assert_archived, committed, folder_of, request_of
from tests.workers.test_reconcile import let_reconcile_start, past
from text.times import format_instant, utc_now
from workers.engine.attempts import DeadLetter
from workers.engine.failure_classes import FAILURE_CLASSES
from workers.engine.run import job
from workers.keys import ARQ_JOB, BULK_QUEUE, DEAD_LETTERS, MAIN_QUEUE, REPEATED
from workers.queue.jobs import Job, deserialize, encode_job
from workers.reconcile.comparison import Tally
from workers.reconcile.dead_letters import end_done_letters
from workers.reconcile.reconcile import Days, missing_of, reconcile, reconcile_days
from workers.recordings.archive_recording import archive_recording
from workers.recordings.requests import (
    ReconcileRequest,
    RecordingRequest,
    TranscriptionRequest,
    recording_job,
    transcription_job,
)
from workers.recordings.transcriptions import archive_transcription
from workers.runtime import Runtime


async def bury(runtime: Runtime, made: Job, cause: str = "download") -> None:
    payload = msgspec.to_builtins(made.payload)
    at = format_instant(utc_now())
    await runtime.attempts.bury(DeadLetter(made.id, made.function, payload, MAIN_QUEUE, cause, "x", at, []))


async def run(runtime: Runtime, made: Job) -> None:
    """Run a job as a worker does."""
    functions = {
        "archive_recording": job(archive_recording, RecordingRequest, MAIN_QUEUE),
        "archive_transcription": job(archive_transcription, TranscriptionRequest, MAIN_QUEUE),
    }
    context = {"runtime": runtime, "job_id": made.id, "job_try": 1, "enqueue_time": utc_now()}
    await functions[made.function].coroutine(context, msgspec.to_builtins(made.payload))


def by_leg(recording: Recording, event_id: str) -> Job:
    return recording_job(RecordingRequest(event_id=event_id, call_leg_id=recording.data["call_leg_id"]))


async def test_a_dead_letter_ends_when_a_later_event_archives_its_recording(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Any
) -> None:
    recording, other = (sandbox.world.add_recording(seconds=1) for _ in range(2))
    for one in (recording, other):
        await bury(runtime, recording_job(request_of(one)))
    await run(runtime, recording_job(request_of(recording, "event-2")))  # the same job
    await run(runtime, by_leg(other, "event-3"))  # another job, which found it by its leg
    assert_archived(archive_folder, recording)
    assert_archived(archive_folder, other)
    assert redis.hlen(DEAD_LETTERS) == 0


async def test_a_dead_letter_stays_while_its_job_fails(sandbox: RunningSandbox, runtime: Runtime, redis: Any) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    recording.data["status"] = "in-progress"
    made = recording_job(request_of(recording))
    await bury(runtime, made)
    with pytest.raises(Retry):
        await run(runtime, made)
    assert redis.hkeys(DEAD_LETTERS) == [made.id]


async def test_a_dead_letter_of_a_transcription_ends_the_same_way(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    transcription = sandbox.world.add_transcription(recording)
    sandbox.world.complete_transcription(transcription)
    ids = {"transcription_id": transcription["id"], "recording_id": recording.data["id"]}
    made = transcription_job(TranscriptionRequest(event_id="event-1", **ids))
    await bury(runtime, made)
    await run(runtime, transcription_job(TranscriptionRequest(found_by="reconcile", **ids)))
    assert redis.hlen(DEAD_LETTERS) == 0
    await run(runtime, recording_job(request_of(recording)))
    await bury(runtime, made)  # an older state of Redis restores it
    assert await end_done_letters(runtime) == 1
    assert redis.hlen(DEAD_LETTERS) == 0


async def test_reconcile_ends_dead_letters_without_a_recording_id_once_all_candidates_are_archived(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any
) -> None:
    recording, other = sandbox.world.add_recording(seconds=1), sandbox.world.add_recording(seconds=1)
    done, open_, odd = by_leg(recording, "event-1"), by_leg(other, "event-2"), Job("archive_recording", {}, "odd")
    for made in (done, open_, odd):
        await bury(runtime, made)
    await run(runtime, recording_job(RecordingRequest(recording_id=recording.data["id"], found_by="reconcile")))
    assert redis.hlen(DEAD_LETTERS) == 3
    today = utc_now().date().isoformat()
    await reconcile(runtime, ReconcileRequest(since=today, until=today))
    assert set(redis.hkeys(DEAD_LETTERS)) == {open_.id, odd.id}


async def test_a_dead_letter_about_a_later_change_does_not_end_by_earlier_archiving(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    await run(runtime, recording_job(request_of(recording, "event-1")))
    await bury(runtime, recording_job(request_of(recording, "event-2")))
    await bury(runtime, recording_job(request_of(recording, None, look_again=True)))
    assert await end_done_letters(runtime) == 0
    assert redis.hlen(DEAD_LETTERS) == 2


@pytest.mark.parametrize("cause", [name for name, one in FAILURE_CLASSES.items() if not one.is_never_given_up])
async def test_reconcile_retries_dead_letters_whose_failure_may_have_passed(
    cause: str, sandbox: RunningSandbox, runtime: Runtime, redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    made = recording_job(request_of(recording, locations={"wav": "s3://bucket/a"}))
    await bury(runtime, made, cause)
    tally, today = Tally(), utc_now().date()
    assert (await missing_of(runtime, today)).count == 1
    assert redis.hlen(DEAD_LETTERS) == 1, "a day that waits for its seal is checked every few seconds"
    await reconcile_days(runtime, Days(today, today, "reconcile", dry_run=True), Tally())
    assert redis.hlen(DEAD_LETTERS) == 1
    await reconcile_days(runtime, Days(today, today, "reconcile"), tally)
    is_left = cause in ("rejected", "conflict", "damaged", "not-deleted")
    assert (redis.hlen(DEAD_LETTERS), tally.queued) == ((1, 0) if is_left else (0, 1))
    assert redis.zrange(BULK_QUEUE, 0, -1) == ([] if is_left else [made.id]) and redis.zcard(MAIN_QUEUE) == 0
    if not is_left:
        data = deserialize(await runtime.redis.get(f"arq:job:{made.id}"))
        assert data["a"][0] == msgspec.to_builtins(made.payload), "it has the facts of its event"


def test_reconcile_fetches_what_a_broken_download_host_left(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Any
) -> None:
    (recording,) = past(sandbox, 0.01)
    sandbox.world.faults.change({"download_page": 1})
    let_reconcile_start(redis)
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: redis.hlen(DEAD_LETTERS), 60, "the dead letter")
        sandbox.world.faults.change({"download_page": 0})
        let_reconcile_start(redis)
        wait_for(lambda: committed(archive_folder, recording), 60, "the recording")
        wait_for(lambda: not redis.hlen(DEAD_LETTERS), 60, "the end of the letter")


def test_a_backfill_does_not_wait_for_what_telnyx_has_not_finished(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Any, monkeypatch: Any
) -> None:
    sound, unfinished = past(sandbox, 1, 2)
    unfinished.data["status"] = "in-progress"
    job_id = f"archive_recording:{unfinished.data['id']}"
    with (
        callvault(["worker"], environment, "worker ready"),
        callvault(["backfill", "--since", "3d", "--json"], environment) as backfill,
    ):
        wait_for(lambda: redis.llen(f"callvault:attempts:{job_id}"), 60, "an attempt")
        wait_for(lambda: not redis.exists(f"arq:in-progress:{job_id}"))
        redis.zincrby(BULK_QUEUE, 3_600_000, job_id)  # as after some more
        wait_for(lambda: backfill.has_ended, 60, "its end")
        report = json.loads(backfill.output.splitlines()[-1])
    assert (report["queued"], report["done"], report["given_up"], report["left"]) == (2, 1, 0, 1)
    assert committed(archive_folder, sound) and not folder_of(archive_folder, unfinished).exists()


@pytest.mark.parametrize("there", ["of a newer version", "without an entry in a queue"])
async def test_a_dead_letter_retried_next_to_a_job_that_cannot_absorb_it_is_not_lost(
    there: str, runtime: Runtime, redis: Any, sandbox: RunningSandbox
) -> None:
    made = recording_job(request_of(sandbox.world.add_recording(seconds=1), locations={"wav": "s3://bucket/a"}))
    await bury(runtime, made, "download")
    if there == "of a newer version":
        other = msgspec.msgpack.encode({"t": None, "f": "archive_recording", "a": [{"v": 9}], "k": {}, "et": 1})
        redis.set(ARQ_JOB + made.id, other)
        redis.zadd(MAIN_QUEUE, {made.id: 1})
    else:
        redis.set(ARQ_JOB + made.id, encode_job(made, 1))
    assert await runtime.attempts.retry(made.id)
    kept = [await runtime.redis.get(key) for key in (ARQ_JOB + made.id, REPEATED + made.id)]
    assert any("s3://bucket/a" in str(data) for data in kept)
    assert redis.zscore(MAIN_QUEUE, made.id) is not None and redis.zcard(MAIN_QUEUE) == 1
