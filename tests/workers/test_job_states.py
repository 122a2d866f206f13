"""A job's states, walked at random on a real Valkey by a real worker: every order of events ends in an end state.

The states of the work on one recording, and what leads from one to the next:

    unknown --event, reconcile--> queued --start--> running --success--> done
                                ^                 |  |
                                |<--failure, wait-+  +--given up--> dead --retry--> queued
                                |<--crash, reaper--+           +----discard--> unknown
    any --Redis wiped--> unknown (and done stays done: the archive is the ledger)

The end states are `done` and `dead`; from every other state, reconcile, a worker and time lead to one of them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from archive.proof import Damaged
from config.settings import Settings
from lab.processes import wait_for
from process.logs import LogThrottle
from workers.alerts.alerts import Alerts
from workers.engine import run
from workers.engine.attempts import Attempts
from workers.engine.connect import connect_worker
from workers.engine.failure_classes import NotYet
from workers.engine.leases import Leases
from workers.engine.run import job
from workers.engine.worker import LeasingWorker
from workers.keys import ARQ_IN_PROGRESS, DEAD_LETTERS, MAIN_QUEUE
from workers.queue.accept import Acceptor
from workers.queue.embedded import EmbeddedServer
from workers.queue.history import History
from workers.queue.jobs import enqueue
from workers.recordings.requests import RecordingRequest, recording_job

IDS = st.sampled_from(["a", "b", "c"])


class _Runtime:
    """The parts of a worker that running jobs needs; the archive is a set."""

    def __init__(self, redis: Any) -> None:
        self.settings = Settings()
        self.redis = redis
        self.attempts = Attempts(redis)
        self.alerts = Alerts(redis)
        self.history = History(redis)
        self.throttle = LogThrottle()


class JobStates(RuleBasedStateMachine):
    """Three recordings, any number of events, failing and dying workers, a wiped Redis, a person who retries."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.redis = connect_worker(self.url)
        self.archive: set[str] = set()
        self.announced: set[str] = set()
        self.failure: dict[str, Exception | None] = {}
        self.events = 0
        self.do(self.redis.flushall())

    def do(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def teardown(self) -> None:
        self.settle()
        self.do(self.redis.aclose())
        self.loop.close()

    @rule(recording=IDS, again=st.booleans())
    def deliver(self, recording: str, again: bool) -> None:
        self.events += 0 if again else 1
        request = RecordingRequest(event_id=f"e{self.events}-{recording}", recording_id=recording)
        self.do(Acceptor(self.redis).accept(str(request.event_id), [recording_job(request)]))
        self.announced.add(recording)

    @rule(recording=IDS)
    def reconcile(self, recording: str) -> None:
        """Reconcile queues missing recordings, except those that wait for a person."""
        request = RecordingRequest(recording_id=recording)
        made = recording_job(request)
        if recording not in self.archive and not self.do(self.redis.hexists(DEAD_LETTERS, made.id)):
            self.do(enqueue(self.redis, made))
        self.announced.add(recording)

    @rule(recording=IDS, error=st.sampled_from([None, NotYet("not there"), Damaged("x", "y"), OSError("away")]))
    def fail_from_now_on(self, recording: str, error: Exception | None) -> None:
        self.failure[recording] = error

    @rule()
    def work(self) -> None:
        self.do(self._work())

    async def _work(self) -> None:
        # Waits between attempts do not matter here: everything is due now.
        for member in await self.redis.zrange(MAIN_QUEUE, 0, -1):
            await self.redis.zadd(MAIN_QUEUE, {member: 1})

        async def archive_recording(runtime: Any, request: RecordingRequest) -> None:
            if (error := self.failure.get(str(request.recording_id))) is not None:
                raise error
            self.archive.add(str(request.recording_id))

        leases = Leases(self.redis)
        await leases.beat()
        worker = LeasingWorker(
            [job(archive_recording, RecordingRequest, MAIN_QUEUE, needs_archive=False)],
            self.redis,
            leases,
            queue=MAIN_QUEUE,
            runtime=_Runtime(self.redis),
            most_jobs=10,
            timeout_seconds=60,
        )
        await worker._start_jobs(10)
        await asyncio.gather(*worker.tasks.values())
        await leases.close()

    @rule(recording=IDS, with_lease=st.booleans())
    def crash(self, recording: str, with_lease: bool) -> None:
        """A worker, or a stock one of arq's that leaves no lease, takes a job and is killed."""
        job_id = f"archive_recording:{recording}"
        if self.do(self.redis.zscore(MAIN_QUEUE, job_id)) is None:
            return
        if with_lease:
            self.do(Leases(self.redis).claim(MAIN_QUEUE, 1, 60_000))
        else:
            self.do(self.redis.set(ARQ_IN_PROGRESS + job_id, "1"))

    @rule()
    def janitor(self) -> None:
        leases = Leases(self.redis)
        self.do(leases.beat())
        self.do(leases.free_dead_workers_jobs())
        for job_id in self.do(self.redis.hkeys("callvault:unleased")):  # half a minute passes
            self.do(self.redis.hset("callvault:unleased", job_id, str(int(time.time() * 1000) - 31_000)))
        self.do(leases.free_dead_workers_jobs())
        self.do(leases.close())

    @rule()
    def wipe(self) -> None:
        self.do(self.redis.flushall())

    @rule(recording=IDS, discard=st.booleans())
    def person(self, recording: str, discard: bool) -> None:
        attempts, job_id = Attempts(self.redis), f"archive_recording:{recording}"
        self.do(attempts.discard(job_id) if discard else attempts.retry(job_id))

    @invariant()
    def redis_holds_no_half_jobs(self) -> None:
        queued = {m.decode() for m in self.do(self.redis.zrange(MAIN_QUEUE, 0, -1))}
        data = {k.decode().removeprefix("arq:job:") for k in self.do(self.redis.keys("arq:job:*"))}
        assert queued == data

    def settle(self) -> None:
        """After reconcile, lease reaper, workers and time, every known recording is archived or a dead letter."""
        for _ in range(3):
            for recording in sorted(self.announced):
                self.reconcile(recording)
            self.janitor()
            self.work()
        dead = {k.decode().removeprefix("archive_recording:") for k in self.do(self.redis.hkeys(DEAD_LETTERS))}
        waiting = {r for r in self.announced if isinstance(self.failure.get(r), (NotYet, OSError))}
        for recording in waiting - self.archive - dead:  # retried for as long as it takes
            assert self.do(self.redis.zscore(MAIN_QUEUE, f"archive_recording:{recording}")) is not None
        assert self.announced - waiting <= self.archive | dead
        assert self.do(self.redis.hlen("callvault:leases")) == 0


@pytest.mark.timeout(300)
def test_every_order_of_events_retries_and_crashes_leads_to_an_end_state(valkey: EmbeddedServer) -> None:
    JobStates.url = valkey.url
    wait_for(lambda: valkey.is_running)
    run_state_machine_as_test(
        JobStates,
        settings=settings(
            max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def worker_of(function: Any, redis: Any) -> LeasingWorker:
    return LeasingWorker(
        [job(function, RecordingRequest, MAIN_QUEUE, needs_archive=False)],
        redis,
        Leases(redis),
        queue=MAIN_QUEUE,
        runtime=_Runtime(redis),
        most_jobs=10,
        timeout_seconds=60,
    )


@pytest.mark.parametrize("trouble", ["full", "refusing"])
async def test_a_job_that_fails_during_redis_trouble_is_given_up_only_with_its_dead_letter(
    trouble: str, async_redis: Any, redis: Any
) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def archive_recording(runtime: Any, request: RecordingRequest) -> None:
        begun.set()
        await gate.wait()
        raise Damaged("key", "so that it is given up")

    made = recording_job(RecordingRequest(recording_id="unlucky"))
    await enqueue(async_redis, made)
    worker = worker_of(archive_recording, async_redis)
    await worker._start_jobs(10)
    await begun.wait()
    if trouble == "full":
        redis.config_set("maxmemory", "1")
    else:
        redis.set(DEAD_LETTERS, "no hash")
    try:
        gate.set()
        await asyncio.gather(*worker.tasks.values())
    finally:
        redis.config_set("maxmemory", "0")
    assert not redis.exists(ARQ_IN_PROGRESS + made.id)
    if trouble == "full":
        assert redis.hkeys(DEAD_LETTERS) == [made.id] and not redis.exists(f"arq:job:{made.id}")
    else:
        assert redis.exists(f"arq:job:{made.id}") and redis.zscore(MAIN_QUEUE, made.id) > time.time() * 1000


async def test_a_job_that_hangs_is_tried_again_and_never_dropped(
    async_redis: Any, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "LONGEST_SECONDS", 0.1)

    async def archive_recording(runtime: Any, request: RecordingRequest) -> None:
        await asyncio.sleep(60)

    hung = recording_job(RecordingRequest(recording_id="hung"))
    await enqueue(async_redis, hung)
    worker = worker_of(archive_recording, async_redis)
    await worker._start_jobs(10)
    await asyncio.gather(*worker.tasks.values())
    assert redis.zscore(MAIN_QUEUE, hung.id) > time.time() * 1000
    (attempt,) = redis.lrange(f"callvault:attempts:{hung.id}", 0, -1)
    assert "TimeoutError" in attempt
