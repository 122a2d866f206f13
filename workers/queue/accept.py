"""Accept events: one round trip deduplicates an event and enqueues its jobs, shared by concurrent requests.

Requests that arrive during a flush wait for the next one, which sends them all in one call of one script. The receiver
answers 2xx only after that call, so a 2xx means that Redis holds the jobs.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from typing import cast

import msgspec

from workers.keys import (
    ARQ_IN_PROGRESS,
    ARQ_JOB,
    BULK_QUEUE,
    CONNECTION_STATE,
    EVENT,
    INSPECTION,
    INSPECTION_NOTES,
    REPEATED,
    connection_field,
)
from workers.queue.backlog import EVENTS_SHARE, Room
from workers.queue.jobs import JOB_TTL_MS, Job, encode_job
from workers.queue.quarantine import LARGEST_KEPT_BYTES, MOST_KEPT
from workers.queue.replicas import Replicas
from workers.queue.script import AsyncRedis, Script

# Telnyx retries for about a minute; a day also covers a person who re-sends from the portal. A later repetition only
# costs a job that finds the commit record.
DEDUPE_SECONDS = 24 * 3600

_SPAN_MS = DEDUPE_SECONDS * 1000 // 2
_BUCKETS = 2**16  # of a span; up to 33 million events in one, each bucket is a set of at most 512 integers
_MAX_WAITING = 10_000
_MAX_BATCH = 500

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
    INSPECTION_NOTES=INSPECTION_NOTES,
    BULK_QUEUE=BULK_QUEUE,
)

_Rows = list[tuple[str, str, int, int, str, bool]]
_Event = tuple[tuple[str, str, int, _Rows, str], list[bytes]]  # an event as `accept.lua` reads it, and its bytes
_encoder = msgspec.msgpack.Encoder()


class Overloaded(Exception):
    """Too many events wait for Redis, or its memory is nearly full. Telnyx gets a 503 and retries."""


class Acceptor:
    """Hands events and their jobs to Redis; one per process.

    Args:
        redis: the client that writes.
        replicas: the replicas that must confirm an event; None: the server alone is enough.
        room: watches the memory of Redis; None: Redis itself refuses events when it is full.
    """

    def __init__(self, redis: AsyncRedis, replicas: Replicas | None = None, room: Room | None = None) -> None:
        self._redis = redis
        self._replicas = replicas
        self._room = room
        self._waiting: list[tuple[_Event, asyncio.Future[bool]]] = []
        self._flusher: asyncio.Task[None] | None = None

    async def accept(self, event_id: str, jobs: Sequence[Job], *, keep: bytes = b"", note: bytes = b"") -> bool:
        """Hand one event to Redis.

        Args:
            event_id: identifies repetitions of the event.
            jobs: its jobs; may be empty.
            keep: its body, to be put into quarantine; cut at 32 KiB.
            note: on this body, as `quarantine.note_on` writes it.

        Returns:
            True if the event is new, False if it was accepted before.

        Raises:
            redis.exceptions.RedisError: Redis is away, read-only or out of memory, or its replicas did not confirm in time.
                The event may or may not be accepted.
            Overloaded: too many events wait, or the memory that is left is reserved for workers.
        """
        if len(self._waiting) >= _MAX_WAITING:
            raise Overloaded(f"{_MAX_WAITING} events already wait for Redis; Telnyx will retry")
        if self._room is not None and not self._room.is_left:
            raise Overloaded(f"Redis uses more than {EVENTS_SHARE:.0%} of its memory; raise maxmemory or add workers")
        event = _event_of(event_id, jobs, keep[:LARGEST_KEPT_BYTES], note.decode(), time.time_ns() // 1_000_000)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, done))
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush())
        return await done

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            try:
                accepted = await self._call([event for event, _ in batch])
            except Exception as error:
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
            else:
                for (_, done), is_new in zip(batch, accepted, strict=True):
                    if not done.done():
                        done.set_result(is_new == 1)

    async def _call(self, batch: list[_Event]) -> list[int]:
        events = _encoder.encode([event for event, _ in batch])
        data = b"".join(piece for _, pieces in batch for piece in pieces)
        arguments = (_SPAN_MS, JOB_TTL_MS, MOST_KEPT, events, data)
        if self._replicas is None:
            return cast(list[int], await _ACCEPT(self._redis, (), arguments))
        return cast(list[int], await self._replicas.confirmed(self._redis, _ACCEPT, arguments))


def _event_of(event_id: str, jobs: Sequence[Job], keep: bytes, note: str, now_ms: int) -> _Event:
    pieces: list[bytes] = [keep]
    rows: _Rows = []
    for job in jobs:
        data = encode_job(job, now_ms)
        pieces.append(data)
        external = connection_field(job.only_if_external) if job.only_if_external else ""
        rows.append((job.queue, job.id, job.delay_ms, len(data), external, job.merges))
    return (*mark_of(event_id), len(keep), rows, note), pieces


def mark_of(event_id: str) -> tuple[str, str]:
    """The mark of an accepted event: a bucket and an integer, as text. No two of 10^9 events share one."""
    digest = hashlib.blake2b(event_id.encode("utf-8", "surrogatepass"), digest_size=10).digest()
    bucket = int.from_bytes(digest[:2], "big") % _BUCKETS
    return f"{bucket:x}", str(int.from_bytes(digest[2:], "big", signed=True))
