"""Several events of one recording: one download, and no fact of any event is lost."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest
from arq.worker import func

from lab.processes import callvault, wait_for
from lab.servers import RunningSandbox
from tests.workers.steps import assert_archived
from workers.engine.attempts import Attempts, DeadLetter
from workers.engine.leases import Leases
from workers.engine.worker import LeasingWorker
from workers.keys import ARQ_IN_PROGRESS, ARQ_JOB, BULK_QUEUE, MAIN_QUEUE, REPEATED
from workers.queue.accept import Acceptor
from workers.queue.jobs import Job, deserialize, enqueue
from workers.recordings.requests import RecordingRequest, recording_job


@pytest.mark.parametrize("known", ["nothing but the leg", "the id"])
@pytest.mark.parametrize("tagged", [True, False])
async def test_five_events_of_one_recording_are_one_download(
    known: str,
    tagged: bool,
    sandbox: RunningSandbox,
    environment: dict[str, str],
    async_redis: Any,
    redis: Any,
    archive_folder: Any,
) -> None:
    recording = sandbox.world.add_recording(seconds=10)
    sandbox.world.faults.change({"download_bytes_per_second": 100_000, "download_untagged": 0 if tagged else 1})
    named = {"call_leg_id": recording.data["call_leg_id"]}
    if known == "the id":
        named["recording_id"] = recording.data["id"]
    acceptor = Acceptor(async_redis)
    with callvault(["worker"], environment, "worker ready"), callvault(["worker"], environment, "worker ready"):
        for n in range(5):
            request = RecordingRequest(event_id=f"event-{n}", **named)
            assert await acceptor.accept(f"event-{n}", [recording_job(request)])
            await asyncio.sleep(0.1)
        wait_for(
            lambda: not [j for j in redis.zrange("arq:queue", 0, -1) if not j.startswith("cron:")], 60, "their end"
        )
    assert_archived(archive_folder, recording)
    assert recording.served == {"wav": 1}


ID = "archive_recording:r"
PLACES = {"wav": "s3://bucket/a.wav"}


def request_of(event_id: str | None, **fields: Any) -> RecordingRequest:
    return RecordingRequest(event_id=event_id, recording_id="r", **fields)


def worker_of(redis: Any, queue: str) -> LeasingWorker:
    async def archive_recording(ctx: dict[str, Any], payload: Any) -> None: ...

    functions = [func(archive_recording, name="archive_recording")]
    return LeasingWorker(functions, redis, Leases(redis), queue=queue, runtime=None, most_jobs=1, timeout_seconds=60)


async def deliver(redis: Any, request: RecordingRequest) -> None:
    assert await Acceptor(redis).accept(str(request.event_id), [recording_job(request)])


async def waiting(redis: Any, key: str = ARQ_JOB) -> RecordingRequest:
    """The payload of the job, as a worker reads it."""
    return msgspec.convert(deserialize(await redis.get(key + ID))["a"][0], RecordingRequest)


async def test_an_event_adds_its_facts_to_a_waiting_job_and_makes_it_run_now(async_redis: Any, redis: Any) -> None:
    listed = request_of(None, started_at="2026-11-25T10:00:00Z", found_by="reconcile")
    await enqueue(async_redis, recording_job(listed))
    redis.zadd(BULK_QUEUE, {ID: (time.time() + 3600) * 1000})  # it has failed, and waits for an hour
    await deliver(async_redis, request_of("event-1", locations=PLACES, call_leg_id="leg"))
    assert await waiting(async_redis) == request_of(
        "event-1", started_at="2026-11-25T10:00:00Z", locations=PLACES, call_leg_id="leg", found_by="webhook"
    )
    assert redis.zcard(BULK_QUEUE) == 0
    assert redis.zrange(MAIN_QUEUE, 0, -1) == [ID] and redis.zscore(MAIN_QUEUE, ID) <= time.time() * 1000 + 1


async def test_an_event_with_fewer_facts_removes_none(async_redis: Any, redis: Any) -> None:
    await deliver(
        async_redis, request_of("event-1", locations=PLACES, started_at="2026-11-25T10:00:00Z", conference_id="c")
    )
    await deliver(async_redis, request_of("event-2", locations={"mp3": "s3://bucket/a.mp3"}, trace="t"))
    await deliver(async_redis, request_of("event-3"))
    assert await waiting(async_redis) == request_of(
        "event-3",
        locations=PLACES | {"mp3": "s3://bucket/a.mp3"},
        started_at="2026-11-25T10:00:00Z",
        conference_id="c",
        trace="t",
    )
    assert redis.zrange(MAIN_QUEUE, 0, -1) == [ID]
    assert redis.pttl(ARQ_JOB + ID) > 29 * 24 * 3600 * 1000


@pytest.mark.parametrize("end", ["again", "ended"])
async def test_facts_of_events_that_arrive_during_a_run_reach_the_next_run(
    end: str, async_redis: Any, redis: Any
) -> None:
    await enqueue(async_redis, recording_job(request_of(None, started_at="2026-11-25T10:00:00Z", found_by="reconcile")))
    redis.set(ARQ_IN_PROGRESS + ID, "1")
    await deliver(async_redis, request_of("event-1", locations=PLACES))
    await deliver(async_redis, request_of("event-2"))
    worker = worker_of(async_redis, BULK_QUEUE)
    await worker._write_end(ID, end, str((time.time() + 3600) * 1000) if end == "again" else "")
    assert await waiting(async_redis) == request_of("event-2", locations=PLACES, started_at="2026-11-25T10:00:00Z")
    assert redis.zscore(BULK_QUEUE, ID) <= time.time() * 1000 + 1
    assert not redis.exists(REPEATED + ID, ARQ_IN_PROGRESS + ID)


async def test_a_job_that_fails_for_weeks_does_not_expire(async_redis: Any, redis: Any) -> None:
    await deliver(async_redis, request_of("event-1"))
    redis.pexpire(ARQ_JOB + ID, 1000)
    worker = worker_of(async_redis, MAIN_QUEUE)
    await worker._write_end(ID, "again", str(time.time() * 1000))
    assert redis.pttl(ARQ_JOB + ID) > 29 * 24 * 3600 * 1000


@pytest.mark.parametrize("other", ["a newer version", "unreadable", "of another shape"])
async def test_parts_that_cannot_be_composed_are_sent_one_after_the_other(
    other: str, async_redis: Any, redis: Any
) -> None:
    data = {
        "a newer version": msgspec.msgpack.encode(
            {"t": None, "f": "archive_recording", "a": [{"v": 2}], "k": {}, "et": 1}
        ),
        "unreadable": b"\xc1\xff",
        "of another shape": msgspec.msgpack.encode([1]),
    }[other]
    redis.set(ARQ_JOB + ID, data)
    redis.zadd(MAIN_QUEUE, {ID: 1})
    await deliver(async_redis, request_of("event-1", locations=PLACES))
    assert await async_redis.get(ARQ_JOB + ID) == data
    worker = worker_of(async_redis, MAIN_QUEUE)
    await worker._write_end(ID, "again", str(time.time() * 1000))
    assert await async_redis.get(ARQ_JOB + ID) == data, "it is left to a worker that knows it"
    await worker._write_end(ID, "ended")
    assert await waiting(async_redis) == request_of("event-1", locations=PLACES)


async def test_a_burst_of_checks_of_a_connection_stays_one_waiting_check(async_redis: Any, redis: Any) -> None:
    look, seen = Job("mirror_log_messages", {}, "mirror_log_messages:1", delay_ms=3_000), set()
    for n in range(3):
        assert await Acceptor(async_redis).accept(f"event-{n}", [look])
        seen.add(redis.zscore(MAIN_QUEUE, look.id))
    assert len(seen) == 1


async def test_a_waiting_job_learns_the_facts_of_a_retried_dead_letter(async_redis: Any, redis: Any) -> None:
    attempts = Attempts(async_redis)
    payload = msgspec.to_builtins(request_of("event-1", locations=PLACES))
    await attempts.bury(DeadLetter(ID, "archive_recording", payload, MAIN_QUEUE, "download", "x", "2026", []))
    await enqueue(async_redis, recording_job(request_of(None, started_at="2026-11-25T10:00:00Z", found_by="reconcile")))
    assert await attempts.retry(ID)
    known = await waiting(async_redis)
    assert (known.locations, known.started_at) == (PLACES, "2026-11-25T10:00:00Z")
    assert (known.found_by, known.event_id) == ("webhook", "event-1"), "the record will be true"
    assert redis.zrange(BULK_QUEUE, 0, -1) == [ID] and redis.zcard(MAIN_QUEUE) == 0


@pytest.mark.parametrize("state", ["waits", "runs"])
@pytest.mark.parametrize("letters", ["webhook", "reconcile"])
async def test_a_dead_letter_merged_into_a_job_counts_as_found_by_webhook_if_either_was(
    state: str, letters: str, async_redis: Any, redis: Any
) -> None:
    of_webhook, of_reconcile = request_of("event-1", trace="t"), request_of(None, found_by="reconcile")
    letter, job = (of_webhook, of_reconcile) if letters == "webhook" else (of_reconcile, of_webhook)
    attempts = Attempts(async_redis)
    payload = msgspec.to_builtins(letter)
    await attempts.bury(DeadLetter(ID, "archive_recording", payload, MAIN_QUEUE, "download", "x", "2026", []))
    await enqueue(async_redis, recording_job(job))
    if state == "runs":
        redis.set(ARQ_IN_PROGRESS + ID, "1")
    assert await attempts.retry(ID)
    assert await waiting(async_redis, ARQ_JOB if state == "waits" else REPEATED) == of_webhook
