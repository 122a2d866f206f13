"""Leases of jobs: which worker runs which job, so that a dead worker's jobs run elsewhere within 30 seconds.

arq frees a killed worker's job only when `arq:in-progress:*` expires: its timeout plus 10 s (arq issue #343), which is
hours with a timeout for the longest recording. And arq's key does not name the worker. So a worker claims jobs together
with leases that carry its id, and sends heartbeats. Every worker runs the lease reaper, which frees the jobs of workers
without a heartbeat. A job in progress without a lease (a stock arq worker claimed it) is freed after 30 s. The next claim
releases the leases of jobs that have ended.

A failover may set Redis back by a moment, to after a claim and before the end of its job. So a worker also frees jobs
that are leased to itself and that it does not run.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import msgspec
from redis.exceptions import RedisError

from process.logs import get_logger
from workers.keys import ARQ_IN_PROGRESS, CLAIMED, LEASES, QUEUES, UNLEASED, WORKER
from workers.queue.script import AsyncRedis, Script, write_when_full
from workers.running import new_id

HEARTBEAT_SECONDS = 3
_HEARTBEAT_EXPIRES_SECONDS = 15
_UNLEASED_MS = 30_000
_ANSWER_KEPT_SECONDS = 600  # longer than a worker retries a claim
_PAGE, _PAGES = 200, 50
_HEAD = 1_000  # jobs in progress stay in arq's queue with an old score, so they are found at its head

log = get_logger()

_encoder = msgspec.msgpack.Encoder()

_FREE = Script(
    __package__,
    "free_jobs.lua",
    ARQ_IN_PROGRESS=ARQ_IN_PROGRESS,
    WORKER=WORKER,
    HEARTBEAT_MS=_HEARTBEAT_EXPIRES_SECONDS * 1000,
)
_CLAIM = Script(__package__, "claim_jobs.lua", uses=("release_jobs.lua",), ARQ_IN_PROGRESS=ARQ_IN_PROGRESS)
_RELEASE_ALL = Script(__package__, "release_all_jobs.lua", uses=("release_jobs.lua",))


class Leases:
    """The leases of one worker process, its heartbeat, and its lease reaper."""

    def __init__(self, redis: AsyncRedis, queues: Sequence[str] = tuple(QUEUES.values())) -> None:
        self.worker_id = new_id()
        self._redis = redis
        self._queues = queues
        self._running: set[str] = set()  # claimed and not ended
        self._ended: list[str] = []
        self._claiming = asyncio.Lock()  # during a claim, Redis may hold leases that this worker does not know yet
        self._claims: Counter[str] = Counter()  # by queue: how many have been answered

    async def claim(self, queue: str, most: int, in_progress_ms: int) -> list[tuple[str, int]]:
        """Claim jobs that are due and that nobody runs, each with its lease.

        Args:
            queue: the queue.
            most: how many to claim, at least one.
            in_progress_ms: after how many milliseconds a claim expires if nobody ends or frees it.

        Returns:
            The claimed jobs: id, and score in the queue (milliseconds since the epoch).
        """
        keys = (LEASES, queue, f"{CLAIMED}{self.worker_id}:{queue}")
        async with self._claiming:
            ended, self._ended = self._ended, []
            arguments = (
                *(self.worker_id, _encoder.encode(ended), in_progress_ms, most, _PAGE, _PAGES),
                *(self._claims[queue], _ANSWER_KEPT_SECONDS),
            )
            try:
                answer = await _CLAIM(self._redis, keys, arguments)
            except BaseException:
                self._ended += ended
                raise
            self._claims[queue] += 1
            claimed = [(job_id.decode(), int(float(at))) for job_id, at in zip(answer[::2], answer[1::2], strict=True)]
            self._running.update(job_id for job_id, _ in claimed)
            return claimed

    def leave(self, job_id: str) -> None:
        """Note that a job has ended; the next claim releases its lease."""
        self._running.discard(job_id)
        self._ended.append(job_id)

    async def beat(self) -> None:
        """Send a heartbeat."""
        await write_when_full(self._redis, ("SET", WORKER + self.worker_id, "1", "EX", _HEARTBEAT_EXPIRES_SECONDS))

    async def free_dead_workers_jobs(self) -> list[str]:
        """Free the jobs of dead workers, and those leased to this worker that it does not run; returns their ids."""
        async with self._claiming:
            own = (self.worker_id, _encoder.encode([*self._running]))
            answer = await _FREE(self._redis, (LEASES, UNLEASED), (_UNLEASED_MS, _HEAD, *own, *self._queues))
        freed = [job_id.decode() for job_id in answer]
        if freed:
            log.warning("freed jobs of dead workers", jobs=freed[:20], count=len(freed))
        return freed

    async def run(self) -> None:
        """Send heartbeats and free the jobs of dead workers until cancelled, through outages of Redis.

        After an outage all heartbeats have expired. So this worker frees nothing before it has sent heartbeats without trouble
        for as long as one lasts: by then every living worker has sent one too (decision 10).
        """
        well_since = time.monotonic()
        while True:
            began = time.monotonic()
            try:
                await self.beat()
                if time.monotonic() - began > HEARTBEAT_SECONDS:  # the client retried through an outage
                    well_since = time.monotonic()
                if time.monotonic() - well_since >= _HEARTBEAT_EXPIRES_SECONDS:
                    await self.free_dead_workers_jobs()
            except (RedisError, OSError) as error:
                log.warning("heartbeat failed", error=str(error))
                well_since = time.monotonic()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def close(self) -> None:
        """End the heartbeat: the jobs that this worker still holds can run elsewhere at once."""
        try:
            await _RELEASE_ALL(self._redis, (LEASES,), (self.worker_id, _encoder.encode(self._ended)))
            await self._redis.delete(WORKER + self.worker_id)
        except (RedisError, OSError):
            pass
