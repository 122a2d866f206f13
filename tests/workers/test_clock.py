"""Clock tasks wait for no other work, survive dead workers, and trust no worker's clock."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from archive.layout import seal_key
from lab.clock import Clock
from lab.processes import callvault, wait_for
from lab.servers import RunningSandbox
from process.tasks import end_tasks
from tests.workers.steps import ask, assert_archived, committed
from tests.workers.test_deletion import DELETING
from text.times import utc_now
from workers import clock
from workers.alerts import delivery
from workers.keys import ALERTS, BULK_QUEUE, CLOCKS, DELETIONS_DUE, LEASES, MAIN_QUEUE, RECONCILED, TURN
from workers.queue.accept import Acceptor
from workers.queue.jobs import Job, enqueue
from workers.recordings.requests import RecordingRequest, SealRequest, recording_job
from workers.runtime import Runtime

_BEHIND_SECONDS = -40 * 24 * 3600


async def test_the_clock_waits_for_no_slot_and_behind_no_job(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    """Deletion, reconcile and alerts run although downloads hold every slot and thousands of jobs wait."""
    gone, missing = sandbox.world.add_recording(seconds=1), sandbox.world.add_recording(seconds=1)
    with callvault(["worker"], environment, "worker ready"):
        await ask(async_redis, gone)
        assert_archived(archive_folder, gone)
    redis.delete(LEASES)  # the lease of a job whose worker has just ended
    sandbox.world.faults.change({"download_bytes_per_second": 100})
    await ask(async_redis, missing)
    holder = f"archive_recording:{missing.data['id']}"
    for n in range(8):
        jobs = [recording_job(RecordingRequest(event_id=f"e{n}", recording_id=f"none-{n}-{m}")) for m in range(500)]
        await Acceptor(async_redis).accept(f"event-{n}", jobs)
    waiting = {f"waits-{n}": 1 for n in range(100)}
    redis.zadd(BULK_QUEUE, waiting)  # and none of it runs while small work waits
    redis.delete(RECONCILED + "recent", RECONCILED + "open")
    redis.zadd(DELETIONS_DUE, dict.fromkeys(redis.zrange(DELETIONS_DUE, 0, -1), 0) or {"x": 0})
    settings = DELETING | {"CALLVAULT_CONCURRENCY": "1", "CALLVAULT_QUEUE_AGE_LIMIT": "1s"}
    asked = len(sandbox.world.requests)
    with callvault(["worker"], environment | settings, "worker ready"):
        wait_for(lambda: holder in redis.hkeys(LEASES), what="the job that holds the slot")
        wait_for(lambda: _lists(sandbox, asked), 40, "a reconcile")

        def deleted() -> object:
            """Whether it is; a turn that began before the worker knew its duties postpones it."""
            redis.zadd(DELETIONS_DUE, dict.fromkeys(redis.zrange(DELETIONS_DUE, 0, -1), 0) or {"x": 0})
            return gone.deleted_at

        wait_for(deleted, 40, "a deletion", every_seconds=1)
        wait_for(lambda: "pressure" in _alerts(redis), 40, "the alert")
        assert holder in redis.hkeys(LEASES) and redis.zcard(MAIN_QUEUE) >= 4_001


async def test_a_seal_waits_behind_no_download(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    """A download holds the only slot of bulk work; more waits, including a task of an earlier version."""
    day = utc_now() - timedelta(days=5)
    with callvault(["worker"], environment, "worker ready"):
        for recording in (sandbox.world.add_recording(seconds=1, started_at=day) for _ in range(2)):
            await ask(async_redis, recording)
            assert_archived(archive_folder, recording)
    sandbox.world.faults.change({"download_bytes_per_second": 100})
    for found in (sandbox.world.add_recording(seconds=1) for _ in range(3)):
        await enqueue(async_redis, recording_job(RecordingRequest(recording_id=found.data["id"], found_by="reconcile")))
    before = Job("seal_day", SealRequest(day=day.date().isoformat()), f"seal_day:{day.date()}", BULK_QUEUE)
    await enqueue(async_redis, before)
    with callvault(["worker"], environment | {"CALLVAULT_CONCURRENCY": "1"}, "worker ready"):
        wait_for(lambda: (archive_folder / seal_key(1)).exists(), 40, "the seal")
        assert redis.zscore(BULK_QUEUE, before.id) is not None and redis.zcard(BULK_QUEUE) >= 3


def _lists(sandbox: RunningSandbox, since: int) -> bool:
    return any(r["path"] == "/v2/recordings" and r["method"] == "GET" for r in sandbox.world.requests[since:])


def _alerts(redis: Any) -> set[str]:
    return {msgspec.json.decode(row)["kind"] for row in redis.lrange(ALERTS, 0, -1)}


@pytest.mark.parametrize("ahead_seconds", [_BEHIND_SECONDS, -_BEHIND_SECONDS])
def test_a_worker_with_a_wrong_clock_reconciles_the_days_of_the_server(
    ahead_seconds: int,
    sandbox: RunningSandbox,
    environment: dict[str, str],
    redis: Any,
    archive_folder: Path,
    tmp_path: Path,
) -> None:
    """It also reports its wrong clock for as long as it lives, and hardly longer."""
    wrong = Clock(tmp_path, "worker", ahead_seconds).environment
    recording = sandbox.world.add_recording(seconds=1, started_at=utc_now() - timedelta(hours=30))
    redis.delete(RECONCILED + "recent", RECONCILED + "open")
    with callvault(["worker"], environment | wrong, "worker ready"):
        wait_for(lambda: committed(archive_folder, recording), 60, "the reconcile of the right days")
        wait_for(lambda: redis.hlen(CLOCKS) == 1, what="what Redis knows of its clock")
        assert 0 < redis.ttl(CLOCKS) <= 60


async def test_a_worker_with_a_wrong_clock_blocks_no_other_from_deleting(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path, tmp_path: Path
) -> None:
    wrong = Clock(tmp_path, "worker", _BEHIND_SECONDS).environment
    recording = sandbox.world.add_recording(seconds=1)
    with (
        callvault(["worker"], environment | DELETING | wrong, "worker ready"),
        callvault(["worker"], environment | DELETING, "worker ready"),
    ):
        await ask(async_redis, recording)
        wait_for(lambda: recording.deleted_at, 60, "the deletion by the other")


def test_a_dead_workers_turn_soon_goes_to_another(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any
) -> None:
    turn = TURN + "watch_connections"
    with callvault(["worker"], environment, "worker ready") as first:
        wait_for(lambda: redis.pttl(turn) > 12_000, what="a turn that is over")
        redis.set(turn, "of a worker that has just begun it", px=12_000)
        first.stop(signal.SIGKILL)
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: redis.pttl(turn) > 30_000, 40, "the next turn")


async def test_a_turn_that_loses_a_cancellation_is_cancelled_again(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Python 3.12, `asyncio.wait_for`, which the Redis client uses, sometimes loses a cancellation."""
    began = asyncio.Event()

    async def loses_one(_: Runtime) -> None:
        try:
            began.set()
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(3600)

    monkeypatch.setattr(clock, "TURNS", (clock.Turn(loses_one, 60),))
    tasks = clock.run_clock(runtime)
    async with asyncio.timeout(15):
        await began.wait()
        await end_tasks(tasks)
    assert all(task.done() for task in tasks)


def test_a_hanging_witness_is_given_up_and_reported_within_its_turn() -> None:
    """Otherwise the turn is cut short each minute, and the alert about the witness is never sent."""
    (turn,) = [turn for turn in clock.TURNS if turn.function is clock.witness_seals]
    assert turn.longest_seconds > 2 * delivery._BUDGET_SECONDS
