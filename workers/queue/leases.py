"""Leases: which worker holds which job, so that a dead worker's jobs run elsewhere within 30 seconds.

arq frees a killed worker's job only when `arq:in-progress:*` expires, its timeout plus 10 s (arq issue #343): hours,
with a timeout that suits the longest recording. And arq's key does not say who holds the job. So a worker claims jobs
and leaves leases with its id on them in one step, it keeps a heartbeat, and the janitor, which every worker runs, frees
the jobs of those whose heartbeat has stopped. A job in progress that has no lease (a stock arq worker claimed it) is
free after 30 s. The leases of jobs that have ended go with the next claim.

A failover may take Redis back by a moment, so that it has a claim and no longer the job's end: a worker also frees what is
leased to itself and does not run.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Sequence

import msgspec
from redis.exceptions import RedisError

from config.logs import get_logger
from workers.keys import ARQ_IN_PROGRESS, CLAIMED, LEASES, QUEUES, UNLEASED, WORKER
from workers.queue.script import AsyncRedis, Script, write_when_full

HEARTBEAT_SECONDS = 3
_HEARTBEAT_EXPIRES_SECONDS = 15
_UNLEASED_MS = 30_000
_ANSWER_KEPT_SECONDS = 600  # longer than a worker tries to have one
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
    """The leases of one worker process, its heartbeat, and its share of the janitor's work."""

    def __init__(self, redis: AsyncRedis, queues: Sequence[str] = tuple(QUEUES.values())) -> None:
        self.worker_id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._redis = redis
        self._queues = queues
        self._running: set[str] = set()  # claimed and not ended: what this worker's leases should be
        self._ended: list[str] = []
        self._claiming = (
            asyncio.Lock()
        )  # while a claim is under way, Redis may know of leases that this worker does not
        self._claims: Counter[str] = Counter()  # by queue: how many have been answered

    async def claim(self, queue: str, most: int, in_progress_ms: int) -> list[tuple[str, int]]:
        """Claim jobs that are due and that nobody holds, as arq's workers do, each with its lease.

        Args:
            queue: where they wait.
            most: how many to claim, at least one.
            in_progress_ms: milliseconds that a claim lasts, should nobody end or free it.

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
        """A job has ended, well or not: its lease goes with the next claim."""
        self._running.discard(job_id)
        self._ended.append(job_id)

    async def beat(self) -> None:
        """Show that this worker lives."""
        await write_when_full(self._redis, ("SET", WORKER + self.worker_id, "1", "EX", _HEARTBEAT_EXPIRES_SECONDS))

    async def free_dead_workers_jobs(self) -> list[str]:
        """Free every job whose worker is dead, or is this one and does not run it; returns their ids."""
        async with self._claiming:
            own = (self.worker_id, _encoder.encode([*self._running]))
            answer = await _FREE(self._redis, (LEASES, UNLEASED), (_UNLEASED_MS, _HEAD, *own, *self._queues))
        freed = [job_id.decode() for job_id in answer]
        if freed:
            log.warning("freed jobs of dead workers", jobs=freed[:20], count=len(freed))
        return freed

    async def run(self) -> None:
        """Beat and clean until cancelled; an outage of Redis is waited out.

        Behind an outage the heartbeats of all have expired. So nobody is taken for dead before this worker has beaten for
        as long as a heartbeat lasts without trouble, in which all that live have beaten again (decision 10).
        """
        well_since = time.monotonic()
        while True:
            began = time.monotonic()
            try:
                await self.beat()
                if time.monotonic() - began > HEARTBEAT_SECONDS:  # an outage that the client's own patience rode out
                    well_since = time.monotonic()
                if time.monotonic() - well_since >= _HEARTBEAT_EXPIRES_SECONDS:
                    await self.free_dead_workers_jobs()
            except (RedisError, OSError) as error:
                log.warning("heartbeat failed", error=str(error))
                well_since = time.monotonic()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def close(self) -> None:
        """Withdraw the heartbeat: whatever this worker still holds may run elsewhere at once."""
        try:
            await _RELEASE_ALL(self._redis, (LEASES,), (self.worker_id, _encoder.encode(self._ended)))
            await self._redis.delete(WORKER + self.worker_id)
        except (RedisError, OSError):
            pass
