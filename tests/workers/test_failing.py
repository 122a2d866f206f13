"""Jobs that are retried forever, and tasks of the clock, become no dead letter.

An alert shows that they fail, and for jobs also `status` and a metric.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from lab.processes import callvault, free_port, receiver, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.stores import S3_ENVIRONMENT
from lab.worker import runtime_of
from tests.workers.steps import alerts, ask
from workers.engine.attempts import Attempts
from workers.engine.failing import alert_turn_failing
from workers.engine.failure_classes import FAILURE_CLASSES
from workers.keys import FAILING, FAILING_JOBS, FAILING_SINCE


async def test_an_unreachable_store_causes_an_alert_although_no_job_is_given_up(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, receiver_of_alerts: Any
) -> None:
    settings = environment | S3_ENVIRONMENT | {
        "CALLVAULT_ARCHIVE_URL": "s3://bucket/archive",
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_port()}",
        "CALLVAULT_ALERT_URLS": receiver_of_alerts.url,
        "CALLVAULT_QUEUE_AGE_LIMIT": "1s",
    }  # fmt: skip
    for _ in range(30):
        recording = sandbox.world.add_recording(seconds=0.5)
        await ask(async_redis, recording, started_at=recording.data["recording_started_at"])
    with (
        callvault(["worker"], settings, "worker ready") as worker,
        receiver(settings) as (client, _),
    ):
        wait_for(lambda: any("has failed for" in text for text in receiver_of_alerts.texts), 90, "the alert")
        status = run_callvault(["status"], settings)
        page = client.get("/metrics").text
        attempts = sum(redis.llen(key) for key in redis.keys("callvault:attempts:*"))
        assert worker.output.count('"job failed"') < attempts / 3, "not a line for each job and attempt"
        assert not [r for r in sandbox.world.requests if r["path"].startswith("/v2/recordings/")], (
            "no request goes to Telnyx"
        )
    assert status.returncode == 1
    assert "jobs fail     outage: s3://bucket/archive" in status.stdout
    assert 'callvault_jobs_failing{cause="outage"} 1.0' in page
    assert 'callvault_jobs_failing{cause="throttled"} 0.0' in page
    assert redis.hlen("callvault:dead-letters") == 0
    assert 0 < redis.ttl("callvault:failing:outage") <= 120, "it is not shown for long after it is over"


async def test_a_failure_class_has_passed_once_every_job_that_failed_by_it_succeeds(
    async_redis: Any, redis: Any
) -> None:
    attempts = Attempts(async_redis)

    async def fail(job_id: str, cause: str, seconds: float = 60) -> None:
        await attempts.record(job_id, cause, "an error")
        await attempts.record_failing([job_id], cause, "an error", seconds)

    async def failing() -> set[str]:
        return {*await attempts.failing(FAILURE_CLASSES)}

    await fail("a", "outage")
    await fail("b", "outage")
    await fail("c", "refused")
    await attempts.record("d", "outage", "once, which is nothing to speak of")
    await attempts.done("d")
    await attempts.done("c")
    assert await failing() == {"outage"}, "the end of another job, or of another class, does not count"
    await attempts.done("a")
    assert await failing() == {"outage"}
    await fail("b", "throttled")
    assert await failing() == {"throttled"}, "it gets an answer now, and fails for another reason"
    await attempts.done("b")
    assert await failing() == set()

    await fail("lost", "outage", seconds=0.01)  # nobody runs this job any more
    wait_for(lambda: not redis.exists(FAILING_JOBS + "outage"), 60, "the end of a failure that is not reported again")
    assert await failing() == set()

    redis.set(FAILING + "outage", "as an earlier version wrote it, which knew of no job")
    assert await failing() == set()
    await attempts.record_failing([f"job {n}" for n in range(3_000)], "outage", "an error", 60)
    assert redis.zcard(FAILING_JOBS + "outage") == 1_000, "however many there are"


async def test_a_failing_clock_task_causes_one_alert_a_day(
    environment: dict[str, str], async_redis: Any, redis: Any
) -> None:
    async with runtime_of(environment, async_redis, CALLVAULT_QUEUE_AGE_LIMIT="1s") as runtime:
        deadline = time.monotonic() + 30
        while not alerts(redis, "turn-fails"):
            assert time.monotonic() < deadline, "no alert came"
            await alert_turn_failing(runtime, "archive_media", OSError("away"), 3600)
            await asyncio.sleep(0.1)
        assert redis.ttl(FAILING_SINCE + "archive_media") > 3700, (
            "one that is given up after an hour causes an alert too"
        )
        await alert_turn_failing(runtime, "archive_media", OSError("away"), 3600)
        redis.delete(FAILING_SINCE + "archive_media")
        await alert_turn_failing(runtime, "archive_media", OSError("away, and new"), 3600)
    (told,) = alerts(redis, "turn-fails")
    assert told.startswith("archive_media has failed for 1")
