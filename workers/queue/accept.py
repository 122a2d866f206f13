"""Acceptance: one round trip that deduplicates an event and enqueues its jobs, shared by concurrent requests.

Requests that arrive while a flush is on its way wait for the next, which carries them all in one call of one
server-side script. A 2xx is answered only after that call has come back, so it means that Redis holds the jobs.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

import msgspec

from workers.keys import (
    ARQ_IN_PROGRESS,
    ARQ_JOB,
    BULK_QUEUE,
    CONNECTION_STATE,
    EVENT,
    INSPECTION,
    REPEATED,
    connection_field,
)
from workers.queue.jobs import JOB_TTL_MS, Job, encode_job
from workers.queue.replicas import Replicas
from workers.queue.room import EVENTS_SHARE, Room
from workers.queue.script import AsyncRedis, Script

# Telnyx is done retrying within about a minute; a day also covers a person who re-sends from the portal. Past it a
# repeated event only costs a job that finds its commit record there.
DEDUPE_SECONDS = 24 * 3600

_SPAN_MS = DEDUPE_SECONDS * 1000 // 2
_BUCKETS = 2**16  # of a span; up to 33 million events in one, each bucket is a set of at most 512 integers
_REPLICA_MS = 500  # two of it, one after the other, are well below the 2 s that Telnyx waits
_MAX_WAITING = 10_000
_MAX_BATCH = 500
_INSPECTION_EVENTS = 500
_INSPECTION_BYTES = 32 * 1024

_ACCEPT = Script(
    __package__,
    "accept.lua",
    uses=("merge_job.lua",),
    EVENT=EVENT,
    ARQ_JOB=ARQ_JOB,
    ARQ_IN_PROGRESS=ARQ_IN_PROGRESS,
    REPEATED=REPEATED,
    CONNECTION_STATE=CONNECTION_STATE,
    INSPECTION=INSPECTION,
    BULK_QUEUE=BULK_QUEUE,
)
_ENQUEUE = Script(__package__, "enqueue.lua")
_ENQUEUE_EVERY = Script(__package__, "enqueue_every.lua")

_Rows = list[tuple[str, str, int, int, str, bool]]
_Told = tuple[tuple[str, str, int, _Rows], list[bytes]]  # an event as the script reads it
_encoder = msgspec.msgpack.Encoder()


class Overloaded(Exception):
    """More events wait for Redis than this process is willing to hold, or than Redis has room for."""


class Acceptor:
    """Hands events and their jobs to Redis; one per process.

    Args:
        redis: the client that writes.
        replicas: those that must have an event too before it counts as accepted; None: the server alone is enough.
        room: what is known of the memory of Redis; None: it alone says when it is full.
    """

    def __init__(self, redis: AsyncRedis, replicas: Replicas | None = None, room: Room | None = None) -> None:
        self._redis = redis
        self._replicas = replicas
        self._room = room
        self._waiting: list[tuple[_Told, asyncio.Future[bool]]] = []
        self._flusher: asyncio.Task[None] | None = None

    async def accept(self, event_id: str, jobs: Sequence[Job], *, keep: bytes = b"") -> bool:
        """Hand one event to Redis.

        Args:
            event_id: what it is deduplicated by.
            jobs: what is to be done about it; may be empty.
            keep: its body, if it is to be kept for inspection; cut at 32 KiB.

        Returns:
            True if it was new, False if it had been accepted before.

        Raises:
            redis.exceptions.RedisError: Redis is away, read-only or out of memory, or its replicas did not confirm in time;
                nothing is promised then.
            Overloaded: too many are waiting already, or the rest of the memory of Redis is the workers'.
        """
        if len(self._waiting) >= _MAX_WAITING:
            raise Overloaded(f"{_MAX_WAITING} events already wait for Redis; Telnyx will retry")
        if self._room is not None and not self._room.is_left:
            raise Overloaded(f"Redis uses more than {EVENTS_SHARE:.0%} of its memory; raise maxmemory or add workers")
        told = _told(event_id, jobs, keep[:_INSPECTION_BYTES], time.time_ns() // 1_000_000)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((told, done))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return await done

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            try:
                accepted = await self._call([told for told, _ in batch])
            except Exception as error:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
            else:
                for (_, done), is_new in zip(batch, accepted, strict=True):
                    if not done.done():
                        done.set_result(is_new == 1)

    async def _call(self, batch: list[_Told]) -> list[int]:
        events = _encoder.encode([event for event, _ in batch])
        data = b"".join(piece for _, pieces in batch for piece in pieces)
        arguments = (_SPAN_MS, JOB_TTL_MS, _INSPECTION_EVENTS, events, data)
        if self._replicas is None:
            return cast(list[int], await _ACCEPT(self._redis, (), arguments))
        return await self._confirmed(self._replicas, arguments)

    async def _confirmed(self, replicas: Replicas, arguments: Sequence[bytes | str | float]) -> list[int]:
        """Write events, and have the replicas confirm them.

        Raises:
            NotReplicated: they did not in time; Telnyx repeats them, and they are asked again.
        """
        address, asked = replicas.address, replicas.count
        answer, confirmed, replication = await _ACCEPT.and_wait(self._redis, (), arguments, asked, _REPLICA_MS)
        replicas.see(replication)
        if asked < replicas.count > confirmed:  # one has joined: the same once more, as if Telnyx had repeated it
            asked = replicas.count
            _, confirmed, replication = await _ACCEPT.and_wait(self._redis, (), arguments, asked, _REPLICA_MS)
            replicas.see(replication)
        await replicas.judge(address, confirmed)
        return cast(list[int], answer)


def _told(event_id: str, jobs: Sequence[Job], keep: bytes, now_ms: int) -> _Told:
    pieces: list[bytes] = [keep]
    rows: _Rows = []
    for job in jobs:
        data = encode_job(job, now_ms)
        pieces.append(data)
        external = connection_field(job.only_if_external) if job.only_if_external else ""
        rows.append((job.queue, job.id, job.delay_ms, len(data), external, job.learns))
    return (*mark_of(event_id), len(keep), rows), pieces


def mark_of(event_id: str) -> tuple[str, str]:
    """The bucket and the integer that say that an event was accepted, both as text; no two of 10^9 events share them."""
    digest = hashlib.blake2b(event_id.encode("utf-8", "surrogatepass"), digest_size=10).digest()
    bucket = int.from_bytes(digest[:2], "big") % _BUCKETS
    return f"{bucket:x}", str(int.from_bytes(digest[2:], "big", signed=True))


async def enqueue(redis: AsyncRedis, job: Job) -> bool:
    """Enqueue one job from inside the workers.

    Returns:
        True if it is new; False if a job with its id waits or runs already.

    Raises:
        redis.exceptions.RedisError: Redis did not take it.
    """
    data = encode_job(job, time.time_ns() // 1_000_000)
    keys = (ARQ_JOB + job.id, job.queue)
    return bool(await _ENQUEUE(redis, keys, (data, JOB_TTL_MS + job.delay_ms, job.delay_ms, job.id)))


async def enqueue_every(redis: AsyncRedis, mark: str, every: timedelta, job: Job) -> bool:
    """Enqueue a job unless it was within the last while; its turn is never used up without the job.

    Args:
        redis: Redis.
        mark: the key that says that it was.
        every: how long a turn lasts.
        job: what is to be done.

    Returns:
        Whether its turn has come.

    Raises:
        redis.exceptions.RedisError: Redis did not take it.
    """
    keys = (mark, ARQ_JOB + job.id, job.queue)
    data = encode_job(job, time.time_ns() // 1_000_000)
    return bool(await _ENQUEUE_EVERY(redis, keys, (int(every.total_seconds() * 1000), data, JOB_TTL_MS, job.id)))
