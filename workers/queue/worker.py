"""arq's worker, as it has to be run so that it loses no work, with jobs claimed in one round trip as soon as there is room.

arq's defaults that lose work are set otherwise: MessagePack for pickle, no kept results (a kept one blocks its job id,
arq issues #531 and #432), no limit of tries (the table of causes decides).
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
from arq import Retry
from arq.constants import retry_key_prefix
from arq.worker import Function, Worker, func
from redis.exceptions import RedisError

from config.logs import get_logger
from workers.keys import ARQ_IN_PROGRESS, ARQ_JOB, REPEATED
from workers.queue.jobs import JOB_TTL_MS, deserialize, serialize
from workers.queue.leases import Leases
from workers.queue.script import AsyncRedis, Script, server_seconds

_OTHER_VERSION_WAIT_SECONDS = 10
_IDLE_AFTER_SECONDS = 10
_IDLE_FACTOR = 3
_UNEVEN = (0.75, 1.25)

log = get_logger()

_END = Script(__package__, "end_run.lua", uses=("merge_job.lua",))


async def again_in(redis: AsyncRedis, seconds: float) -> Retry:
    """What a job raises to run again after some seconds: arq adds them to this worker's clock, others go by Redis's."""
    ahead = 0.0
    with suppress(RedisError, OSError):  # whatever else a job raises, arq takes for its end
        ahead = time.time() - await server_seconds(redis)
    return Retry(defer=seconds - ahead)


async def leave_to_newer(redis: AsyncRedis, what: str) -> Retry:
    """What a job raises that a newer version of Callvault has written: it waits for a worker that knows it."""
    log.info("job waits for a newer worker", what=what)
    return await again_in(redis, _OTHER_VERSION_WAIT_SECONDS)


class _Functions(dict[str, Any]):
    """The functions of a worker. arq drops a job whose function it does not know; here it waits for a newer worker.

    The clockwork of older versions, which was jobs, is left alone: its turns come by themselves, on workers that have it.
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
        functions: what it can run.
        redis: a client made by `connect_worker`.
        leases: of this process.
        queue: its queue.
        runtime: what its functions find under `runtime` in their context.
        most_jobs: how many it runs at once.
        timeout_seconds: of a job.
        poll_seconds: between two looks for jobs while there are none; arq's 0.5 s is a delay for every webhook. Three times
            as long once none has come for a while.
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
        self._look = asyncio.Event()
        self._are_more_waiting = False
        self._claimed_at = 0.0  # by the loop's clock

    async def main(self) -> None:
        """Look for jobs now and then, and as soon as there is room again while more are waiting; without an end.

        arq's own takes four round trips a job, writes no lease, leaves a free slot idle until its next look, and begins what runs
        by the clock as jobs that wait behind all others, at the time of the worker's own clock (see `workers/clock.py`).
        """
        while True:
            for job_id, task in list(self.tasks.items()):
                if task.done():
                    del self.tasks[job_id]
                    task.result()  # what failed in arq's own hands ends the worker
            if self.allow_pick_jobs and self.job_counter < self.max_jobs:
                await self._start_jobs(self.max_jobs - self.job_counter)
            is_idle = self.loop.time() - self._claimed_at > _IDLE_AFTER_SECONDS
            # Uneven: of two workers with the same pace one would always be first, and it may be one that puts jobs back.
            seconds = self.poll_delay_s * (_IDLE_FACTOR if is_idle else 1) * random.uniform(*_UNEVEN)  # noqa: S311
            # `asyncio.timeout` costs half as much as the look itself.
            timer = self.loop.call_later(seconds, self._look.set)
            await self._look.wait()
            timer.cancel()
            self._look.clear()

    async def _start_jobs(self, room: int) -> None:
        claimed = await self._leases.claim(self.queue_name, room, int(self.in_progress_timeout_s * 1000))
        self._are_more_waiting = len(claimed) == room
        if claimed:
            self._claimed_at = self.loop.time()
        for job_id, score in claimed:
            # Freed by another worker, which took us for dead, and claimed again while it still runs here: it goes on under
            # the new lease. Twice in one process, arq would mix the two up and drop the job, should the second ask for a retry.
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
            self._look.set()

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
        """End a run, as arq asks for it: for good, or to run again at the score that is `incr_score` behind its own."""
        again_at = str(self._scores[job_id] + incr_score) if incr_score and not finish else ""
        await self._write_end(job_id, "ended" if finish else "again", again_at)

    async def finish_failed_job(self, job_id: str, result_data: bytes | None) -> None:
        """Drop what arq could not run: its data is not there, or cannot be read. Data that has come since is left to run."""
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
