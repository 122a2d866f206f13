"""Jobs that are tried for ever give no dead letter: that they fail is alerted, told by status, and shown as a metric."""

from __future__ import annotations

from typing import Any

import httpx

from tests.contract.emulators import S3_ENVIRONMENT
from tests.parts import RunningSandbox, callvault, free_port, run_callvault, wait_for
from tests.workers.test_archive_recording import ask


async def test_a_store_that_is_away_is_heard_of_though_nothing_is_given_up(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, receiver_of_alerts: Any
) -> None:
    port = free_port()
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
        callvault(["serve", "--port", str(port)], settings, "Uvicorn running"),
    ):
        wait_for(lambda: any("has failed for" in text for text in receiver_of_alerts.texts), 90, "the alert")
        status = run_callvault(["status"], settings)
        page = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        attempts = sum(redis.llen(key) for key in redis.keys("callvault:attempts:*"))
        assert worker.output.count('"job failed"') < attempts / 3, "not a line for each job and attempt"
        assert not [r for r in sandbox.world.requests if r["path"].startswith("/v2/recordings/")], (
            "Telnyx is left alone"
        )
    assert status.returncode == 1
    assert "jobs fail     outage: StoreError: " in status.stdout
    assert 'callvault_jobs_failing{cause="outage"} 1.0' in page
    assert 'callvault_jobs_failing{cause="throttled"} 0.0' in page
    assert redis.hlen("callvault:dead-letters") == 0
    assert 0 < redis.ttl("callvault:failing:outage") <= 120, "it is not said for long once it is over"
