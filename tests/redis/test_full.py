"""A Redis that is full: what is under way ends and makes room, nothing new is taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from arq import func
from redis.exceptions import OutOfMemoryError

from tests.redis.servers import server
from workers.alerts.alerts import Alerts
from workers.keys import ALERT_COUNTS, ALERTS, ARQ_JOB, DEAD_LETTERS, MAIN_QUEUE, UNSEALED, WORKER
from workers.queue.accept import Acceptor, enqueue
from workers.queue.attempts import Attempts, DeadLetter
from workers.queue.connect import connect_worker
from workers.queue.due import DueList
from workers.queue.jobs import Job
from workers.queue.leases import Leases
from workers.queue.leaving import LeavingOriginals
from workers.queue.recording_lease import sole_writer
from workers.queue.worker import LeasingWorker
from workers.queue.written import announce


@contextmanager
def full(redis: Any) -> Iterator[None]:
    """Have a server be full while the block lasts, and stay so whatever is removed meanwhile."""
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


async def test_a_job_of_a_full_redis_is_claimed_run_and_ended_and_no_other_is_taken(tmp_path: Path) -> None:
    ran: list[Any] = []

    async def archive(ctx: dict[str, Any], payload: Any) -> None:
        async with sole_writer(client, "recording"):
            await announce(client, "key", b"{}", date(2026, 11, 25), 1.0)
            await DueList(client).schedule("folder/", 5)
            await Attempts(client).record("job", "outage", "error")
            async with LeavingOriginals(client).turn():
                ran.append(payload)

    with server(tmp_path) as plain, plain.client() as redis:
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
            assert redis.zcard(UNSEALED) == 1 and await DueList(client).count() == 1
            assert await leases.free_dead_workers_jobs() == []
            with pytest.raises(OutOfMemoryError):
                await enqueue(client, Job("archive", {}, "another"))
            with pytest.raises(OutOfMemoryError):
                await Acceptor(client).accept("event", [Job("archive", {}, "another")])
        await client.aclose()


async def test_what_fails_while_redis_is_full_is_given_up_and_told_once(
    tmp_path: Path, receiver_of_alerts: Any
) -> None:
    with server(tmp_path) as plain, plain.client() as redis:
        client = connect_worker(plain.url)
        with full(redis):
            letter = DeadLetter("job", "archive", {}, MAIN_QUEUE, "unexpected", "error", "2026", [])
            await Attempts(client).bury(letter)
            assert redis.hkeys(DEAD_LETTERS) == ["job"]
            alerts = Alerts(client, [receiver_of_alerts.url])
            for _ in range(3):
                await alerts.send("pressure", "memory", "Redis is full.", "Give it more.")
            await alerts.close()
            assert len(receiver_of_alerts.texts) == 1
            assert redis.llen(ALERTS) == 3 and redis.hget(ALERT_COUNTS, "pressure:memory") == "2"
        await client.aclose()
