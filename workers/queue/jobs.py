"""One job: what to do, its id and queue; how it is encoded for arq, and enqueued from inside the workers.

arq's own writer takes three round trips and, by default, pickle, which lets anybody with access to Redis run code in
the workers. Here a job is MessagePack, and the receiver writes it without importing arq. The shape (`t f a k et`) comes
from arq 0.28's `arq.jobs.serialize_job`; a test reads it back with arq's own function.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, TypedDict

import msgspec

from workers.keys import ARQ_JOB, CLOCK_QUEUE, MAIN_QUEUE
from workers.queue.script import AsyncRedis, Script

# arq drops a job as failed when its data has expired: 24 h by default, shorter than an outage may last.
JOB_TTL_MS = 30 * 24 * 3600 * 1000

_LATEST_MS = 32_503_680_000_000  # the year 3000; beyond it arq fails outside the job, which would end the worker
_ENQUEUE = Script(__package__, "enqueue.lua")


class _Written(TypedDict):
    """What arq wants to find under `arq:job:<id>`; anything else is dropped as unreadable before arq looks at it."""

    t: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)] | None
    f: str
    a: list[Any]
    k: dict[str, Any]
    et: Annotated[int, msgspec.Meta(ge=0, le=_LATEST_MS)]


# arq also hands over exceptions, for results that are never kept; as text they do no harm.
_encoder = msgspec.msgpack.Encoder(enc_hook=repr)
_decoder = msgspec.msgpack.Decoder(_Written)


class Job(msgspec.Struct, frozen=True):
    """A job to be enqueued.

    Attributes:
        function: name of the arq function.
        payload: its one argument; must be encodable as MessagePack.
        id: arq's job id; a job with the same id that waits or runs is the same work and is not enqueued again.
        queue: which of the queues.
        delay_ms: milliseconds before it may start.
        merges: whether an event about a job that waits adds its data to the job's payload, and has the job run now.
        only_if_external: with an event, enqueued only if this connection is known to be an external one.
    """

    function: str
    payload: Any
    id: str
    queue: str = MAIN_QUEUE
    delay_ms: int = 0
    merges: bool = False
    only_if_external: str | None = None


def clock_job(function: str, payload: Any, name: str = "") -> Job:
    """A job of scheduled work.

    Its id differs from the id in versions without this queue, so that after a downgrade their job does not wait for it.
    """
    return Job(function, payload, f"{function}:clock:{name}", CLOCK_QUEUE)


def encode_job(job: Job, now_ms: int) -> bytes:
    """The bytes that arq finds under `arq:job:<id>`."""
    return _encoder.encode({"t": None, "f": job.function, "a": [job.payload], "k": {}, "et": now_ms})


def serialize(value: Any) -> bytes:
    """arq's `job_serializer`: MessagePack, never pickle."""
    return _encoder.encode(value)


def deserialize(data: bytes) -> Any:
    """arq's `job_deserializer`.

    Raises:
        msgspec.MsgspecError: it is no job; arq drops it and says so.
    """
    return _decoder.decode(data)


async def enqueue(redis: AsyncRedis, job: Job) -> bool:
    """Enqueue one job.

    Returns:
        True if it is new; False if a job with its id waits or runs already.

    Raises:
        redis.exceptions.RedisError: Redis did not take it.
    """
    data = encode_job(job, time.time_ns() // 1_000_000)
    keys = (ARQ_JOB + job.id, job.queue)
    return bool(await _ENQUEUE(redis, keys, (data, JOB_TTL_MS + job.delay_ms, job.delay_ms, job.id)))
