"""Rolling updates: workers of two versions on one Redis.

A job that the older does not know waits for the newer.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from arq.worker import func

from lab.processes import callvault, wait_for
from lab.servers import RunningSandbox
from process.tasks import end_tasks
from tests.workers.steps import assert_archived
from workers.engine.leases import Leases
from workers.engine.worker import LeasingWorker
from workers.keys import ARQ_JOB, DEAD_LETTERS, MAIN_QUEUE
from workers.queue.jobs import Job, enqueue
from workers.recordings import requests as payloads

NEWER = payloads.VERSION + 1


@pytest.mark.parametrize(
    ("job", "what"),
    [
        (Job("job_of_tomorrow", {"v": 1}, "tomorrow"), "job_of_tomorrow"),
        (
            Job("archive_recording", {"v": NEWER, "recordings": ["a", "b"]}, "tomorrow"),
            f"archive_recording of version {NEWER}",
        ),
    ],
    ids=("a function", "a payload"),
)
async def test_an_unknown_job_waits_for_a_worker_that_knows_it(
    job: Job, what: str, environment: dict[str, str], async_redis: Any, redis: Any
) -> None:
    await enqueue(async_redis, job)
    with callvault(["worker"], environment, "worker ready") as older:
        older.wait_for_output(f'"what": "{what}"')
        due = wait_for(lambda: (redis.zscore(MAIN_QUEUE, "tomorrow") or 0) > redis.time()[0] * 1000, what="its wait")
        assert older.stop() == 0
    assert due and redis.exists(ARQ_JOB + "tomorrow") and redis.hlen(DEAD_LETTERS) == 0

    taken: list[Any] = []

    async def newer_function(ctx: dict[Any, Any], *args: Any, **_: Any) -> None:
        taken.extend(args)

    redis.zadd(MAIN_QUEUE, {"tomorrow": 1})  # its wait is over
    worker = LeasingWorker(
        [func(newer_function, name=job.function)],
        async_redis, Leases(async_redis), queue=MAIN_QUEUE, runtime=None, most_jobs=5, timeout_seconds=60,
    )  # fmt: skip
    running = asyncio.create_task(worker.main())
    async with asyncio.timeout(20):
        while not taken or redis.exists(ARQ_JOB + "tomorrow"):
            await asyncio.sleep(0.02)
    await end_tasks([running])
    assert taken == [job.payload]


async def test_a_field_of_a_newer_version_is_ignored(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    request = payloads.RecordingRequest(event_id="e", recording_id=recording.data["id"])
    newer = msgspec.to_builtins(request) | {"priority": "high"}
    await enqueue(async_redis, Job("archive_recording", newer, "with-a-field"))
    with callvault(["worker"], environment, "worker ready"):
        assert_archived(archive_folder, recording)


async def test_the_clockwork_of_another_version_neither_stops_a_worker_nor_stays(
    environment: dict[str, str], async_redis: Any, redis: Any
) -> None:
    await enqueue(async_redis, Job("cron:of_tomorrow", {}, "cron:of_tomorrow:1"))
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: not redis.exists(ARQ_JOB + "cron:of_tomorrow:1"), what="its end")
