"""arq's worker, as it has to be run so that it loses no work, with jobs claimed in one round trip as soon as there is room.

arq's defaults that lose work are set otherwise: MessagePack for pickle, no kept results (a kept one blocks its job id,
arq issues #531 and #432), no limit of tries (the table of causes decides).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from arq.cron import CronJob
from arq.worker import Function, Worker

from workers.queue.jobs import JOB_TTL_MS, deserialize, serialize
from workers.queue.leases import Leases
from workers.queue.script import AsyncRedis

_POLL_SECONDS = 0.05  # arq's 0.5 s is half a second of delay for every webhook


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
        self._leases = leases
        self._look = asyncio.Event()
        self._are_more_waiting = False

    async def main(self) -> None:
        """Look for jobs by the clock, and as soon as there is room again while more are waiting; without an end.

        arq's own takes four round trips a job, writes no lease, and leaves a free slot idle until its next look.
        """
        while True:
            if self.allow_pick_jobs and self.job_counter < self.max_jobs:
                await self._start_jobs(self.max_jobs - self.job_counter)
            for job_id, task in list(self.tasks.items()):
                if task.done():
                    del self.tasks[job_id]
                    task.result()  # what failed in arq's own hands ends the worker
            await self.heart_beat()
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._look.wait()
            self._look.clear()

    async def _start_jobs(self, room: int) -> None:
        claimed = await self._leases.claim(self.queue_name, room, int(self.in_progress_timeout_s * 1000))
        self._are_more_waiting = len(claimed) == room
        for job_id, score in claimed:
            self.job_counter += 1
            task = self.loop.create_task(self.run_job(job_id, score))
            task.add_done_callback(partial(self._end, job_id))
            self.tasks[job_id] = task

    def _end(self, job_id: str, _: object) -> None:
        self._leases.leave(job_id)
        self.job_counter -= 1
        if self._are_more_waiting:
            self._look.set()
