"""Everything that Callvault takes from arq, and everything that it replaces in it (decision 25). Nothing else imports arq.

Taken: the loop around one job (`run_job`: read, call, time out, `Retry`), and `ArqRedis` under it.
Replaced, because arq's own loses work:

- writing a job: `jobs.py` and `accept.py` (arq pickles, takes three round trips, and costs the receiver its import)
- claiming jobs: `LeasingWorker.main` and `leases.py` (a killed worker's job would wait for its timeout: arq issue #343)
- ending a run: `end_run.lua` (arq's ZINCRBY is sent twice when an answer is lost)
- the count of tries and the end of a failed job: `workers/engine/run.py` and `attempts.py` (arq counts outages too)
- results: none are kept (a kept one blocks its job id: arq issues #531 and #432)
- an unknown function: the job waits for a newer worker (arq drops it)
- counting a job's starts while Redis is full: `WorkersRedis` (a refused INCR would end the worker)
- periodic jobs: `workers/clock.py`
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from arq import ArqRedis, Retry
from arq.constants import retry_key_prefix
from arq.worker import Function, Worker, func
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from process.logs import get_logger
from workers.engine.leases import Leases
from workers.keys import ARQ_IN_PROGRESS, ARQ_JOB, REPEATED
from workers.queue.jobs import JOB_TTL_MS, deserialize, serialize
from workers.queue.script import AsyncRedis, Script, server_seconds

__all__ = ["Function", "LeasingWorker", "Retry", "WorkersRedis", "again_in", "func", "leave_to_newer"]

_OTHER_VERSION_WAIT_SECONDS = 10
_IDLE_AFTER_SECONDS = 10
_IDLE_FACTOR = 3
_JITTER = (0.75, 1.25)

log = get_logger()

_END = Script(__package__, "end_run.lua", uses=("merge_job.lua",))
_INCR = "#!lua flags=allow-oom\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])"


class _WorkersPipeline(Pipeline):
    def incrby(self, name: Any, amount: int = 1) -> Any:
        """INCRBY, also while Redis is full; `incr` is the same."""
        return self.eval(_INCR, 1, name, str(amount))

    incr = incrby


class WorkersRedis(ArqRedis):
    """arq's client, whose pipelines count also while Redis is full."""

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> _WorkersPipeline:
        """A pipeline of commands, as of any client."""
        return _WorkersPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


async def again_in(redis: AsyncRedis, seconds: float) -> Retry:
    """The `Retry` that a job raises to run again after some seconds by the clock of Redis; arq counts by this machine's."""
    ahead = 0.0
    with suppress(RedisError, OSError):  # arq ends the job for good on any other exception
        ahead = time.time() - await server_seconds(redis)
    return Retry(defer=seconds - ahead)


async def leave_to_newer(redis: AsyncRedis, what: str) -> Retry:
    """The `Retry` of a job that a newer version of Callvault has written: it waits for a worker that knows it."""
    log.info("job waits for a newer worker", what=what)
    return await again_in(redis, _OTHER_VERSION_WAIT_SECONDS)


class _Functions(dict[str, Any]):
    """The functions of a worker. A job whose function is unknown waits for a newer worker; arq would drop it.

    The exception are the periodic jobs of older versions (`cron:`): workers of those versions start them again.
    """

    def __init__(self, known: dict[str, Any], redis: AsyncRedis) -> None:
        super().__init__(known)
        self._redis = redis

    def __missing__(self, name: str) -> Function:
        async def unknown(*_: Any, **__: Any) -> None:
            if not name.startswith("cron:"):
                raise await leave_to_newer(self._redis, name)

        return func(unknown, name=name)


class LeasingWorker(Worker):
    """An arq worker of one queue that claims jobs together with their leases.

    Args:
        functions: the functions that it can run.
        redis: a client made by `connect_worker`.
        leases: the leases of this process.
        queue: its queue.
        runtime: passed to the functions as `runtime` in their context.
        most_jobs: how many jobs it runs at once.
        timeout_seconds: the time limit of a job.
        poll_seconds: between two polls while no job waits; three times as long after ten idle seconds. arq's 0.5 s
            would delay every webhook.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        redis: AsyncRedis,
        leases: Leases,
        *,
        queue: str,
        runtime: Any,
        most_jobs: int,
        timeout_seconds: float,
        poll_seconds: float = 0.05,
    ) -> None:
        super().__init__(
            functions=functions,
            queue_name=queue,
            redis_pool=redis,
            ctx={"runtime": runtime},
            max_jobs=most_jobs,
            job_timeout=timeout_seconds,
            poll_delay=poll_seconds,
            max_tries=1_000_000_000,
            keep_result=0,
            job_serializer=serialize,
            job_deserializer=deserialize,
            expires_extra_ms=JOB_TTL_MS,
            handle_signals=False,
            log_results=False,
        )
        self.functions = _Functions(self.functions, redis)
        self._leases = leases
        self._scores: dict[str, int] = {}  # in the queue, of the jobs that run
        self._wake = asyncio.Event()
        self._are_more_waiting = False
        self._claimed_at = 0.0  # by the loop's clock

    async def main(self) -> None:
        """Poll for jobs for ever, and claim at once when a slot is free while more jobs wait.

        arq's own loop takes four round trips a job, writes no lease, and leaves a free slot idle until its next poll. It runs
        periodic work as jobs, behind all other jobs and by the worker's own clock (see `workers/clock.py`).
        """
        while True:
            for job_id, task in list(self.tasks.items()):
                if task.done():
                    del self.tasks[job_id]
                    task.result()  # an exception from arq itself ends the worker
            if self.allow_pick_jobs and self.job_counter < self.max_jobs:
                await self._start_jobs(self.max_jobs - self.job_counter)
            is_idle = self.loop.time() - self._claimed_at > _IDLE_AFTER_SECONDS
            # Jitter: otherwise the same one of two workers would always be first, and it may be one that puts jobs back.
            seconds = self.poll_delay_s * (_IDLE_FACTOR if is_idle else 1) * random.uniform(*_JITTER)  # noqa: S311
            # `asyncio.timeout` would cost half as much as the poll itself.
            timer = self.loop.call_later(seconds, self._wake.set)
            await self._wake.wait()
            timer.cancel()
            self._wake.clear()

    async def _start_jobs(self, room: int) -> None:
        claimed = await self._leases.claim(self.queue_name, room, int(self.in_progress_timeout_s * 1000))
        self._are_more_waiting = len(claimed) == room
        if claimed:
            self._claimed_at = self.loop.time()
        for job_id, score in claimed:
            # Another worker took us for dead and freed the job, which still runs here: it goes on under the new lease. arq
            # would mix up two runs in one process, and drop the job if the second one raised Retry.
            if (running := self.tasks.get(job_id)) is not None and not running.done():
                continue
            self.job_counter += 1
            self._scores[job_id] = score
            task = self.loop.create_task(self.run_job(job_id, score))
            task.add_done_callback(partial(self._end, job_id))
            self.tasks[job_id] = task

    def _end(self, job_id: str, _: object) -> None:
        self._scores.pop(job_id, None)
        self._leases.leave(job_id)
        self.job_counter -= 1
        if self._are_more_waiting:
            self._wake.set()

    async def finish_job(
        self,
        job_id: str,
        finish: bool,
        result_data: bytes | None,
        result_timeout_s: float | None,
        keep_result_forever: bool,
        incr_score: int | None,
        keep_in_progress: float | None,
    ) -> None:
        """End a run as arq asks for it: for good, or to run again at its score plus `incr_score`."""
        again_at = str(self._scores[job_id] + incr_score) if incr_score and not finish else ""
        await self._write_end(job_id, "ended" if finish else "again", again_at)

    async def finish_failed_job(self, job_id: str, result_data: bytes | None) -> None:
        """Drop a job whose data is missing or unreadable. If readable data has come since, the job runs again."""
        data = await self.pool.get(ARQ_JOB + job_id) or b""
        try:
            deserialize(data)
        except msgspec.MsgspecError:
            await self._write_end(job_id, "unread", unread=data)
        else:
            await self._write_end(job_id, "again")

    async def _write_end(self, job_id: str, end: str, again_at: str = "", unread: bytes = b"") -> None:
        names = (ARQ_JOB, ARQ_IN_PROGRESS, retry_key_prefix, REPEATED)
        keys = (self.queue_name, *(name + job_id for name in names))
        await _END(self.pool, keys, (job_id, JOB_TTL_MS, end, again_at, unread))
