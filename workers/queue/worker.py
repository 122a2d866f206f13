"""arq's worker, as it has to be run so that it loses no work, with jobs claimed in one round trip as soon as there is room.

arq's defaults that lose work are set otherwise: MessagePack for pickle, no kept results (a kept one blocks its job id,
arq issues #531 and #432), no limit of tries (the table of causes decides).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from arq import Retry
from arq.cron import CronJob
from arq.worker import Function, Worker, func
from redis.exceptions import RedisError

from config.logs import get_logger
from workers.queue.jobs import JOB_TTL_MS, deserialize, serialize
from workers.queue.leases import Leases
from workers.queue.script import AsyncRedis, server_seconds

_POLL_SECONDS = 0.05  # arq's 0.5 s is half a second of delay for every webhook
_OTHER_VERSION_WAIT_SECONDS = 10

log = get_logger()


async def again_in(redis: AsyncRedis, seconds: float) -> Retry:
    """What a job raises to run again after some seconds: arq adds them to this worker's clock, others go by Redis's."""
    ahead = 0.0
    with suppress(RedisError, OSError):  # whatever else a job raises, arq takes for its end
        ahead = time.time() - await server_seconds(redis)
    return Retry(defer=seconds - ahead)


async def leave_to_newer(redis: AsyncRedis, what: str) -> Retry:
    """What a job raises that a newer version of Callvault has written: it waits for a worker that knows it."""
    log.info("left to a newer worker", what=what)
    return await again_in(redis, _OTHER_VERSION_WAIT_SECONDS)


class _Functions(dict[str, Function | CronJob]):
    """The functions of a worker. arq drops a job whose function it does not know; here it waits for a newer worker.

    Another version's clockwork is left alone: its turns come by themselves, on workers that have it.
    """

    def __init__(self, known: dict[str, Function | CronJob], redis: AsyncRedis) -> None:
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
        cron_jobs: what runs by the clock.
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
        cron_jobs: Sequence[CronJob] = (),
    ) -> None:
        super().__init__(
            functions=functions,
            cron_jobs=cron_jobs,
            queue_name=queue,
            redis_pool=redis,
            ctx={"runtime": runtime},
            max_jobs=most_jobs,
            job_timeout=timeout_seconds,
            poll_delay=_POLL_SECONDS,  # for cron, which looks a second ahead
            health_check_interval=30,
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
        self._look = asyncio.Event()
        self._are_more_waiting = False

    async def main(self) -> None:
        """Look for jobs by the clock, and as soon as there is room again while more are waiting; without an end.

        arq's own takes four round trips a job, writes no lease, and leaves a free slot idle until its next look.
        """
        while True:
            for job_id, task in list(self.tasks.items()):
                if task.done():
                    del self.tasks[job_id]
                    task.result()  # what failed in arq's own hands ends the worker
            if self.allow_pick_jobs and self.job_counter < self.max_jobs:
                await self._start_jobs(self.max_jobs - self.job_counter)
            await self.heart_beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._look.wait()
            self._look.clear()

    async def _start_jobs(self, room: int) -> None:
        claimed = await self._leases.claim(self.queue_name, room, int(self.in_progress_timeout_s * 1000))
        self._are_more_waiting = len(claimed) == room
        for job_id, score in claimed:
            # Freed by another worker, which took us for dead, and claimed again while it still runs here: it goes on under
            # the new lease. Twice in one process, arq would mix the two up and drop the job, should the second ask for a retry.
            if (running := self.tasks.get(job_id)) is not None and not running.done():
                continue
            self.job_counter += 1
            task = self.loop.create_task(self.run_job(job_id, score))
            task.add_done_callback(partial(self._end, job_id))
            self.tasks[job_id] = task

    def _end(self, job_id: str, _: object) -> None:
        self._leases.leave(job_id)
        self.job_counter -= 1
        if self._are_more_waiting:
            self._look.set()
