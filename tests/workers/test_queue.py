"""The promises of the queue, on a real Valkey."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from importlib import import_module
from typing import Any, get_args, get_type_hints

import pytest
from arq import Retry, func
from arq.constants import in_progress_key_prefix, job_key_prefix
from redis.exceptions import ResponseError

from lab.worker import runtime_of
from process.tasks import end_tasks
from workers.engine import leases
from workers.engine.attempts import Attempts, DeadLetter
from workers.engine.leases import Leases
from workers.engine.worker import LeasingWorker
from workers.keys import (
    ARQ_IN_PROGRESS,
    ARQ_JOB,
    CLOCK_QUEUE,
    DEAD_LETTERS,
    LEASES,
    MAIN_QUEUE,
    RECONCILED,
    REPEATED,
    UNSEALED,
    UNSEALED_WHY,
    WORKER,
)
from workers.queue.accept import Acceptor
from workers.queue.backlog import backlog, oldest_waiting_seconds
from workers.queue.jobs import Job, deserialize, enqueue
from workers.queue.limits import SharedLimiter
from workers.reconcile.reconcile import start_reconciles
from workers.recordings.requests import JOBS, RecordingRequest, recording_job
from workers.runtime import Runtime
from workers.seals.waiting import UnsealedDays

JOB = recording_job(RecordingRequest(event_id="e", recording_id="r"))


def test_our_names_of_arqs_keys_are_arqs() -> None:
    assert (job_key_prefix, in_progress_key_prefix) == (ARQ_JOB, ARQ_IN_PROGRESS)


async def test_concurrent_events_share_flushes_and_each_is_answered(async_redis: Any, redis: Any) -> None:
    acceptor = Acceptor(async_redis)
    events = [(f"event-{i % 700}", Job("f", {"n": i}, f"job-{i % 700}")) for i in range(1400)]
    redis.config_resetstat()
    answers = await asyncio.gather(*(acceptor.accept(event_id, [job]) for event_id, job in events))
    assert answers.count(True) == 700
    assert await async_redis.zcard(MAIN_QUEUE) == 700
    stats = await async_redis.info("commandstats")
    assert sum(stats[name]["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in stats) < 20


async def test_a_job_that_waits_is_not_enqueued_again(async_redis: Any) -> None:
    assert await enqueue(async_redis, JOB)
    assert not await enqueue(async_redis, JOB)


async def test_the_jobs_of_a_dead_worker_are_freed_and_those_of_a_live_one_are_not(async_redis: Any) -> None:
    dead, alive = Leases(async_redis), Leases(async_redis)
    await alive.beat()
    await async_redis.zadd(MAIN_QUEUE, {"dead-job": 1, "live-job": 2})
    assert await dead.claim(MAIN_QUEUE, 1, 60_000) == [("dead-job", 1)]
    assert await alive.claim(MAIN_QUEUE, 2, 60_000) == [("live-job", 2)]
    assert await alive.free_dead_workers_jobs() == ["dead-job"]
    assert await async_redis.exists(ARQ_IN_PROGRESS + "live-job")
    assert await async_redis.hkeys(LEASES) == [b"live-job"]
    alive.leave("live-job")
    alive.leave("dead-job")
    assert await dead.claim(MAIN_QUEUE, 1, 60_000) == [("dead-job", 1)]
    assert await alive.claim(MAIN_QUEUE, 1, 60_000) == []
    assert await async_redis.hgetall(LEASES) == {b"dead-job": dead.worker_id.encode()}


async def test_a_dead_workers_heartbeat_of_a_server_with_a_clock_ahead_ends_soon_once_it_is_right(
    async_redis: Any, redis: Any
) -> None:
    dead, alive = Leases(async_redis), Leases(async_redis)
    await async_redis.zadd(MAIN_QUEUE, {"job": 1})
    await dead.claim(MAIN_QUEUE, 1, 60_000)
    redis.set(WORKER + dead.worker_id, "1", ex=3600)
    assert await alive.free_dead_workers_jobs() == [], "it may be alive, without a heartbeat since"
    assert 0 < redis.ttl(WORKER + dead.worker_id) <= 15
    redis.delete(WORKER + dead.worker_id)
    assert await alive.free_dead_workers_jobs() == ["job"]


async def test_a_claim_takes_due_and_free_jobs_up_to_the_free_slots(async_redis: Any, redis: Any) -> None:
    leases = Leases(async_redis)
    later = (time.time() + 60) * 1000
    others = {f"other-{n:04}": 0 for n in range(450)}
    await async_redis.zadd(MAIN_QUEUE, others | {"a": 1, "b": 2, "c": 3, "later": later})
    redis.mset({ARQ_IN_PROGRESS + job_id: "1" for job_id in others})
    assert await leases.claim(MAIN_QUEUE, 2, 60_000) == [("a", 1), ("b", 2)]
    assert 0 < await async_redis.pttl(ARQ_IN_PROGRESS + "a") <= 60_000
    assert await leases.claim(MAIN_QUEUE, 2, 60_000) == [("c", 3)]
    assert await leases.claim(MAIN_QUEUE, 2, 60_000) == []


async def test_a_job_that_never_got_its_lease_is_freed_after_30_s(async_redis: Any) -> None:
    leases = Leases(async_redis)
    await async_redis.zadd(MAIN_QUEUE, {"orphan": 1})
    await async_redis.set(ARQ_IN_PROGRESS + "orphan", "1")
    assert await leases.free_dead_workers_jobs() == []
    await async_redis.hset("callvault:unleased", "orphan", int(time.time() * 1000) - 31_000)
    assert await leases.free_dead_workers_jobs() == ["orphan"]
    assert await leases.free_dead_workers_jobs() == []
    assert await async_redis.hlen("callvault:unleased") == 0


async def test_a_worker_that_ends_withdraws_its_heartbeat(async_redis: Any, redis: Any) -> None:
    leases = Leases(async_redis)
    await leases.beat()
    assert 0 < redis.ttl(WORKER + leases.worker_id) <= 15
    await leases.close()
    assert not await async_redis.exists(WORKER + leases.worker_id)


async def test_after_an_outage_every_worker_can_send_a_heartbeat_before_it_counts_as_dead(
    async_redis: Any, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.2)
    monkeypatch.setattr(leases, "_HEARTBEAT_EXPIRES_SECONDS", 2)
    other, janitor = Leases(async_redis), Leases(async_redis)
    await async_redis.zadd(MAIN_QUEUE, {"job": 1})
    await other.beat()
    assert await other.claim(MAIN_QUEUE, 1, 60_000) == [("job", 1)]
    cleaning = asyncio.create_task(janitor.run())
    await asyncio.to_thread(redis.client_pause, 2500)
    assert not await async_redis.exists(WORKER + other.worker_id)  # asked, and answered when the pause is over
    await asyncio.sleep(0.3)
    assert await async_redis.exists(ARQ_IN_PROGRESS + "job"), "its worker may be about to come back"
    beating = asyncio.create_task(other.run())
    await asyncio.sleep(3)
    assert await async_redis.exists(ARQ_IN_PROGRESS + "job"), "it has"
    await end_tasks([beating])
    while await async_redis.exists(ARQ_IN_PROGRESS + "job"):
        await asyncio.sleep(0.1)
    await end_tasks([cleaning])


@pytest.mark.parametrize("asks_for_a_retry", [True, False])
async def test_a_job_that_is_freed_and_claimed_again_while_it_runs_here_goes_on_and_runs_once(
    asks_for_a_retry: bool, async_redis: Any, redis: Any
) -> None:
    runs, gate = [], asyncio.Event()

    async def archive_recording(ctx: dict[str, Any], payload: Any) -> None:
        runs.append(payload)
        await gate.wait()
        if asks_for_a_retry:
            raise Retry(defer=60)

    mine = Leases(async_redis)
    worker = LeasingWorker(
        [func(archive_recording, name="archive_recording")],
        async_redis,
        mine,
        queue=MAIN_QUEUE,
        runtime=None,
        most_jobs=9,
        timeout_seconds=60,
    )
    await mine.beat()
    await enqueue(async_redis, JOB)
    await worker._start_jobs(9)
    while not runs:
        await asyncio.sleep(0.01)
    redis.delete(ARQ_IN_PROGRESS + JOB.id)  # as the lease reaper does when this worker counts as dead
    redis.hdel(LEASES, JOB.id)
    await worker._start_jobs(9)
    assert worker.job_counter == 1
    assert redis.hget(LEASES, JOB.id) == mine.worker_id
    gate.set()
    await asyncio.gather(*worker.tasks.values())
    assert len(runs) == 1
    assert redis.exists(ARQ_JOB + JOB.id) == redis.zcard(MAIN_QUEUE) == asks_for_a_retry
    assert not redis.exists(ARQ_IN_PROGRESS + JOB.id)


async def test_two_workers_of_the_same_pace_take_turns(async_redis: Any) -> None:
    """A worker with a wrong clock puts a deletion back; if it always came first, no other would get it."""
    looks: list[str] = []

    class Looking(LeasingWorker):
        async def _start_jobs(self, room: int) -> None:
            looks.append(self.ctx["runtime"])

    async def nothing(ctx: dict[str, Any]) -> None:
        pass

    rules: dict[str, Any] = {"queue": MAIN_QUEUE, "most_jobs": 1, "timeout_seconds": 60, "poll_seconds": 0.05}
    one, two = (
        Looking([func(nothing, name="nothing")], async_redis, Leases(async_redis), runtime=n, **rules) for n in "12"
    )
    running = [asyncio.create_task(one.main())]
    await asyncio.sleep(0.001)  # a pace behind
    running.append(asyncio.create_task(two.main()))
    pairs: set[str] = set()
    async with asyncio.timeout(60):  # who waits longer is chance, so it takes some turns
        while not pairs >= {"11", "22"}:
            await asyncio.sleep(0.01)
            pairs = {"".join(pair) for pair in itertools.pairwise(looks)}
    await end_tasks(running)


async def test_a_dead_letter_is_kept_retried_and_discarded(async_redis: Any) -> None:
    attempts = Attempts(async_redis)
    for i in range(120):
        kept = await attempts.record("job-1", "outage", f"error {i}")
    assert (len(kept), kept[-1].error) == (100, "error 119")
    letter = DeadLetter("job-1", "archive_recording", {"v": 1}, MAIN_QUEUE, "outage", "error", "2026", kept)
    await attempts.bury(letter)
    assert await attempts.letters() == [letter]
    assert await attempts.retry("job-1")
    assert await async_redis.zrange(MAIN_QUEUE, 0, -1) == [b"job-1"]
    assert await attempts.count() == 0
    await attempts.bury(letter)
    assert await attempts.discard("job-1")
    assert not await attempts.discard("job-1")
    assert not await attempts.retry("job-1")


class _Between:
    """A client of Redis that calls a function once, right after its next script."""

    def __init__(self, redis: Any, happen: Callable[[], Awaitable[object]]) -> None:
        self._redis, self._happen = redis, happen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._redis, name)

    async def execute_command(self, *arguments: Any) -> Any:
        answer = await self._redis.execute_command(*arguments)
        happen, self._happen = self._happen, _nothing
        await happen()
        return answer


async def _nothing() -> None:
    pass


def _letter(error: str, died_at: str = "2026") -> DeadLetter:
    return DeadLetter(JOB.id, JOB.function, {"v": 1}, MAIN_QUEUE, "unexpected", error, died_at, [])


async def test_a_retried_job_that_is_given_up_again_at_once_keeps_its_new_dead_letter(async_redis: Any) -> None:
    attempts = Attempts(async_redis)
    await attempts.bury(_letter("first"))
    again = Attempts(_Between(async_redis, lambda: attempts.bury(_letter("second"))))
    assert await again.retry(JOB.id)
    assert [letter.error for letter in await attempts.letters()] == ["second"]


async def test_a_dead_letter_that_nobody_has_seen_is_not_discarded(async_redis: Any) -> None:
    attempts = Attempts(async_redis)
    await attempts.bury(_letter("second", "2027"))
    assert not await attempts.discard(JOB.id, "2026")
    assert not await attempts._take(JOB, b"the letter that was read before", b"data")
    assert await attempts.count() == 1 and await async_redis.zcard(MAIN_QUEUE) == 0
    assert await attempts.discard(JOB.id, "2027")


async def test_a_retried_dead_letter_whose_job_waits_already_adds_no_second_job(async_redis: Any) -> None:
    attempts = Attempts(async_redis)
    await enqueue(async_redis, JOB)
    before = await async_redis.get(ARQ_JOB + JOB.id)
    await attempts.bury(_letter("error"))
    assert await attempts.retry(JOB.id)
    assert await async_redis.get(ARQ_JOB + JOB.id) == before
    assert await attempts.count() == 0 and await async_redis.zcard(MAIN_QUEUE) == 1


async def test_a_reconcile_turn_is_not_used_up_when_its_job_cannot_be_enqueued(
    environment: dict[str, str], async_redis: Any, redis: Any
) -> None:
    async with runtime_of(environment, async_redis) as runtime:
        redis.delete(*redis.keys(RECONCILED + "*"))
        redis.set(CLOCK_QUEUE, "no queue")
        with pytest.raises(ResponseError):
            await start_reconciles(runtime)
        assert 0 < redis.ttl(RECONCILED + "recent") <= 60, "it is tried again soon"
        redis.delete(CLOCK_QUEUE, RECONCILED + "recent", ARQ_JOB + "reconcile:clock:recent")
        for _ in range(2):
            await start_reconciles(runtime)
    assert redis.zcard(CLOCK_QUEUE) == 3
    assert 3_500 < redis.ttl(RECONCILED + "recent") <= 3_600


@asynccontextmanager
async def _running(redis: Any) -> AsyncIterator[LeasingWorker]:
    """A worker that runs `JOB` for the length of the block."""
    started, gate = asyncio.Event(), asyncio.Event()

    async def archive_recording(ctx: dict[str, Any], payload: Any) -> None:
        started.set()
        await gate.wait()

    functions, mine = [func(archive_recording, name="archive_recording")], Leases(redis)
    rules: dict[str, Any] = {"queue": MAIN_QUEUE, "runtime": None, "most_jobs": 9, "timeout_seconds": 60}
    worker = LeasingWorker(functions, redis, mine, **rules)
    await mine.beat()
    await enqueue(redis, JOB)
    await worker._start_jobs(9)
    await started.wait()
    yield worker
    gate.set()
    await asyncio.gather(*worker.tasks.values())


async def test_a_dead_letter_retried_while_its_job_is_still_ending_is_not_lost(async_redis: Any) -> None:
    """A job becomes a dead letter before it ends; in between, its data still exists."""
    attempts = Attempts(async_redis)
    async with _running(async_redis):
        await attempts.bury(_letter("error"))
        assert await attempts.retry(JOB.id)
    assert await attempts.count() == 0
    assert await async_redis.zrange(MAIN_QUEUE, 0, -1) == [JOB.id.encode()]
    assert await async_redis.exists(ARQ_JOB + JOB.id)


async def test_an_event_that_comes_while_its_job_runs_is_not_swallowed(async_redis: Any) -> None:
    """The job may have read Telnyx before the change that the event announces."""
    newer = recording_job(RecordingRequest(event_id="newer", recording_id="r"))
    async with _running(async_redis):
        assert await Acceptor(async_redis).accept("newer", [newer])
    data = await async_redis.get(ARQ_JOB + JOB.id)
    assert deserialize(data)["a"][0]["event_id"] == "newer"
    assert await async_redis.zrange(MAIN_QUEUE, 0, -1) == [JOB.id.encode()]
    assert not await async_redis.exists(ARQ_IN_PROGRESS + JOB.id, REPEATED + JOB.id)
    async with _running(async_redis):
        pass
    assert not await async_redis.exists(ARQ_JOB + JOB.id, MAIN_QUEUE)


async def test_a_lease_that_its_live_worker_does_not_run_is_freed(async_redis: Any) -> None:
    """As after a failover, when the new primary has the claim of a job but not its end."""
    async with _running(async_redis) as worker:
        mine = worker._leases
        await async_redis.zadd(MAIN_QUEUE, {"ended": 1})
        await async_redis.set(ARQ_IN_PROGRESS + "ended", "1")
        await async_redis.hset(LEASES, "ended", mine.worker_id)
        assert await mine.free_dead_workers_jobs() == ["ended"]
        assert await async_redis.hkeys(LEASES) == [JOB.id.encode()]
        assert await async_redis.exists(ARQ_IN_PROGRESS + JOB.id), "it runs that one"


async def test_the_wait_before_another_run_is_the_same_however_often_it_is_written(async_redis: Any) -> None:
    """The client writes it again when the answer is lost."""
    async with _running(async_redis) as worker:
        score = worker._scores[JOB.id]
        for _ in range(2):
            await worker.finish_job(JOB.id, False, None, None, False, 60_000, None)
        assert await async_redis.zscore(MAIN_QUEUE, JOB.id) == score + 60_000


async def test_a_job_that_comes_right_after_its_data_was_not_found_is_not_dropped(async_redis: Any) -> None:
    """As after a failover: claimed from the dead server, enqueued again on its successor."""
    async with _running(async_redis) as worker:
        await async_redis.delete(ARQ_JOB + JOB.id)
        await async_redis.zrem(MAIN_QUEUE, JOB.id)
        assert await Acceptor(async_redis).accept("event", [JOB])
        await worker.finish_failed_job(JOB.id, None)
        assert await async_redis.exists(ARQ_JOB + JOB.id) and await async_redis.zcard(MAIN_QUEUE) == 1
        assert not await async_redis.exists(ARQ_IN_PROGRESS + JOB.id)
        await async_redis.set(ARQ_JOB + JOB.id, "unreadable")
        await worker.finish_failed_job(JOB.id, None)
        assert not await async_redis.exists(ARQ_JOB + JOB.id, MAIN_QUEUE)


async def test_a_pause_of_one_worker_is_a_pause_of_all(async_redis: Any) -> None:
    one, other = SharedLimiter(async_redis), SharedLimiter(async_redis)
    await one.pause(0.5)
    await other.pause(0.1)  # a shorter one does not end the longer
    started = time.monotonic()
    await other.wait()
    assert 0.4 < time.monotonic() - started < 8


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "unix:///nowhere.sock"])
async def test_a_missing_redis_is_reported_within_two_seconds(url: str) -> None:
    from redis.exceptions import RedisError

    from workers.queue.connect import connect_receiver

    client = connect_receiver(url)
    started = time.monotonic()
    with pytest.raises((RedisError, OSError)):
        await client.ping()
    assert time.monotonic() - started < 2


async def test_a_task_that_talks_to_redis_ends_whenever_it_is_cancelled(async_redis: Any) -> None:
    async def talk() -> None:
        while True:
            for _ in range(20):  # more than 40 turns of the loop
                await async_redis.ping()
            await asyncio.sleep(0.02)  # or it would work until it is cancelled again

    for turns in range(40):
        task = asyncio.create_task(talk())
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(end_tasks([task]), 60)
        assert task.done()


async def test_a_backlog_is_an_unclaimed_job_or_a_full_redis(async_redis: Any, redis: Any) -> None:
    assert await backlog(async_redis, 60) == {}
    old = time.time() * 1000 - 100_000
    await async_redis.zadd(MAIN_QUEUE, {"running": old - 50_000, "waiting": old, "later": time.time() * 1000 + 5000})
    await async_redis.hset(LEASES, "running", "worker")
    assert 99 < await oldest_waiting_seconds(async_redis, MAIN_QUEUE) < 105
    assert await backlog(async_redis, 200) == {}
    assert "the oldest job has waited 10" in (await backlog(async_redis, 60))["jobs"]
    redis.config_set("maxmemory", "1mb")
    try:
        assert "of its memory" in (await backlog(async_redis, 200))["memory"]
    finally:
        redis.config_set("maxmemory", "0")


async def test_state_that_cannot_be_read_counts_as_lost_and_hides_nothing_else(async_redis: Any, redis: Any) -> None:
    attempts, days = Attempts(async_redis), UnsealedDays(async_redis)
    letter = DeadLetter("job-1", "archive_recording", {"v": 1}, MAIN_QUEUE, "outage", "error", "2026", [])
    await attempts.bury(letter)
    await days.add(date(2026, 11, 25), 1.0, "why")
    for junk in (b"{", b'"\x80"', b"\xff", b"[]"):
        redis.hset(DEAD_LETTERS, junk, junk)
        redis.hset(UNSEALED_WHY, junk, junk)
        redis.zadd(UNSEALED, {junk: 0})
    assert await attempts.letters() == [letter]
    assert await days.due(2.0, 20) == [date(2026, 11, 25)]
    assert await days.all() == {date(2026, 11, 25): (1.0, "why")}


@pytest.mark.parametrize("name", JOBS)
def test_each_row_of_the_table_of_jobs_names_a_function_that_takes_its_request(name: str) -> None:
    hints = get_type_hints(getattr(import_module(JOBS[name].module), name))
    parameters = [hint for parameter, hint in hints.items() if parameter != "return"]
    assert parameters[0] is Runtime and JOBS[name].request in (parameters[1], *get_args(parameters[1]))
