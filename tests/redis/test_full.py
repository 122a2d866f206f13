"""With a full Redis, running work ends and frees memory, and nothing new is accepted."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from arq import func
from redis.exceptions import OutOfMemoryError

from lab.processes import callvault, receiver, wait_for
from lab.redis import LEAST_PASSWORD, LEAST_USER, Server, least_rights
from lab.servers import RunningSandbox
from lab.webhooks import Signer, event
from lab.worker import archive as archive_one
from lab.worker import own_runtime
from telnyx_api.errors import UnreadableRow, UnreadableRows
from tests.workers.steps import alerts, committed
from text.times import utc_now
from workers.alerts.alerts import Alerts
from workers.deletion.schedule import DeletionSchedule, LeavingOriginals
from workers.engine.attempts import Attempts, DeadLetter
from workers.engine.connect import connect_worker
from workers.engine.failing import alert_turn_failing
from workers.engine.leases import Leases
from workers.engine.worker import LeasingWorker
from workers.keys import (
    ALERT_COUNTS,
    ALERTS,
    ARQ_JOB,
    COMPLETED,
    DEAD_LETTERS,
    LAST,
    MAIN_QUEUE,
    SEALS,
    UNSEALED,
    WORKER,
)
from workers.queue.accept import Acceptor
from workers.queue.change_feed import announce
from workers.queue.jobs import Job, enqueue
from workers.reconcile.reconcile import reconcile
from workers.reconcile.unreadable import alert_unreadable
from workers.recordings.requests import ReconcileRequest
from workers.recordings.writing import sole_writer
from workers.seals.signing import complete_seals
from workers.seals.witness import send_head


@contextmanager
def full(redis: Any) -> Iterator[None]:
    """Keep a server full for the length of the block, whatever is removed."""
    redis.setrange("ballast", 8_000_000, "x")
    redis.config_set("maxmemory", redis.info("memory")["used_memory"] - 4_000_000)
    with pytest.raises(OutOfMemoryError):
        redis.set("more", "1")
    try:
        yield
        with pytest.raises(OutOfMemoryError):
            redis.set("more", "1")
    finally:
        redis.config_set("maxmemory", 0)


async def test_with_a_full_redis_a_worker_finishes_its_job_and_claims_no_other(tmp_path: Path) -> None:
    ran: list[Any] = []

    async def archive(ctx: dict[str, Any], payload: Any) -> None:
        async with sole_writer(client, "recording"):
            await announce(client, "key", b"{}", date(2026, 11, 25), 1.0)
            await DeletionSchedule(client).add("folder/", 5)
            await Attempts(client).record("job", "outage", "error")
            async with LeavingOriginals(client).turn():
                ran.append(payload)

    with Server(tmp_path) as plain, plain.client() as redis:
        client = connect_worker(plain.url)
        await enqueue(client, Job("archive", {"n": 1}, "job"))
        with full(redis):
            leases = Leases(client)
            worker = LeasingWorker(
                [func(archive, name="archive")],
                client,
                leases,
                queue=MAIN_QUEUE,
                runtime=None,
                most_jobs=2,
                timeout_seconds=60,
            )
            await leases.beat()
            assert redis.exists(WORKER + leases.worker_id)
            await worker._start_jobs(2)
            await worker.tasks["job"]
            assert ran == [{"n": 1}]
            assert not redis.exists(ARQ_JOB + "job", MAIN_QUEUE)
            assert redis.zcard(UNSEALED) == 1 and await DeletionSchedule(client).count() == 1
            assert await leases.free_dead_workers_jobs() == []
            with pytest.raises(OutOfMemoryError):
                await enqueue(client, Job("archive", {}, "another"))
            with pytest.raises(OutOfMemoryError):
                await Acceptor(client).accept("event", [Job("archive", {}, "another")])
        await client.aclose()


async def test_a_job_that_fails_while_redis_is_full_is_given_up_with_one_alert(
    tmp_path: Path, receiver_of_alerts: Any
) -> None:
    with Server(tmp_path) as plain, plain.client() as redis:
        client = connect_worker(plain.url)
        with full(redis):
            letter = DeadLetter("job", "archive", {}, MAIN_QUEUE, "unexpected", "error", "2026", [])
            await Attempts(client).bury(letter)
            assert redis.hkeys(DEAD_LETTERS) == ["job"]
            alerts = Alerts(client, [receiver_of_alerts.url])
            for _ in range(3):
                await alerts.send("pressure", "memory", "Redis is full.", "Give it more.")
            # Closing waits for five seconds at most.
            await asyncio.to_thread(wait_for, lambda: receiver_of_alerts.texts, 60, "the alert")
            await alerts.close()
            assert len(receiver_of_alerts.texts) == 1
            assert redis.llen(ALERTS) == 3 and redis.hget(ALERT_COUNTS, "pressure:memory") == "2"
            assert await Attempts(client).failing_seconds(["one", "two"], 600) == [0, 0]
            (since,) = await Attempts(client).failing_seconds(["one"], 600)
            assert since > 0
        await client.aclose()


async def test_with_a_full_redis_the_head_still_counts_as_witnessed(tmp_path: Path, receiver_of_alerts: Any) -> None:
    with Server(tmp_path) as plain, plain.client() as redis:
        client = connect_worker(plain.url)
        redis.hset(SEALS, "1", json.dumps({"seal": {"sequence": 1, "day": "2026-11-25"}, "sha256": "ab"}))
        with full(redis):
            for _ in range(2):
                await send_head(client, [receiver_of_alerts.url], Alerts(client, []))
            assert len(receiver_of_alerts.texts) == 1
        await client.aclose()


async def test_with_a_full_redis_a_reconcile_that_finds_nothing_missing_is_done(
    sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path, tmp_path: Path
) -> None:
    with Server(tmp_path) as plain, plain.client() as redis:
        async with own_runtime(environment | {"REDIS_URL": plain.url}) as runtime:
            await archive_one(runtime, sandbox.world.add_recording(seconds=0.1))
            today = utc_now().date().isoformat()
            with full(redis):
                await reconcile(runtime, ReconcileRequest(since=today, until=today))
            assert redis.hget(LAST, "reconciled")


async def test_with_a_full_redis_alerts_about_turns_and_rows_are_sent_once_and_seals_are_completed(
    environment: dict[str, str], tmp_path: Path
) -> None:
    with Server(tmp_path) as plain, plain.client() as redis:
        key = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
        changed = {"CALLVAULT_SEAL_KEY": str(key), "CALLVAULT_QUEUE_AGE_LIMIT": "1s", "REDIS_URL": plain.url}
        async with own_runtime(environment | changed) as runtime:
            with full(redis):
                unreadable = UnreadableRows("/recordings", [UnreadableRow("one", "id: odd")])
                redis_error = OutOfMemoryError("full")
                for _ in range(2):
                    await alert_unreadable(runtime, unreadable)
                    await complete_seals(runtime)
                deadline = time.monotonic() + 30
                while not alerts(redis, "turn-fails"):
                    assert time.monotonic() < deadline, "no alert came"
                    await alert_turn_failing(runtime, "seal_days", redis_error, 3600)
                    await asyncio.sleep(0.1)
                await alert_turn_failing(runtime, "seal_days", redis_error, 3600)
            assert len(alerts(redis, "unreadable-rows")) == len(alerts(redis, "turn-fails")) == 1
            assert redis.ttl(COMPLETED) > 0


def _fill(redis: Any, share: float) -> None:
    """Grow the ballast until so much of the server's memory is used."""
    most = redis.info("memory")["maxmemory"]
    while (missing := int(share * most) - redis.info("memory")["used_memory"]) > 10_000:
        redis.setrange("ballast", redis.strlen("ballast") + missing // 2, "x")


def test_a_redis_that_filled_up_is_drained_by_a_worker_that_starts_then(
    sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path, tmp_path: Path
) -> None:
    recordings = [sandbox.world.add_recording(seconds=0.2) for _ in range(100)]
    signer = Signer()
    with Server(tmp_path) as plain, plain.client() as redis:
        redis.execute_command("ACL", "SETUSER", LEAST_USER, f">{unquote(LEAST_PASSWORD)}", *least_rights())
        here = environment | {
            "REDIS_URL": plain.url.replace("redis://", f"redis://{LEAST_USER}:{LEAST_PASSWORD}@"),
            "TELNYX_PUBLIC_KEY": signer.public_key,
        }
        redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 20_000_000)
        with receiver(here, answer_seconds=5) as (client, _):

            def post(recording_id: str) -> int:
                body = event("call.recording.saved", f"event-{recording_id}", recording_id=recording_id)
                return client.post("/webhooks/telnyx", content=body, headers=signer.headers(body)).status_code

            assert {post(recording.data["id"]) for recording in recordings} == {200}
            _fill(redis, 0.95)
            assert redis.set("more", "1", px=1), "the free memory is reserved for workers"
            wait_for(lambda: post("one-more") == 503, what="the refusal")
            queued = redis.zcard(MAIN_QUEUE)
            with pytest.raises(OutOfMemoryError):  # at once, if the buffers of connections have filled it already
                while True:
                    redis.setrange("ballast", redis.strlen("ballast") + 4_000_000, "x")
            with callvault(["worker"], here, "worker ready"):
                wait_for(lambda: redis.zcard(MAIN_QUEUE) <= queued - len(recordings), 60, "the end of all jobs")
                with pytest.raises(OutOfMemoryError):
                    redis.set("more", "1")
                assert all(committed(archive_folder, recording) for recording in recordings)
                redis.delete("ballast")
                wait_for(lambda: post("one-more-again") == 200, what="an event that is accepted")
