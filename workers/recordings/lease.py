"""One writer per recording at a time.

On a store that ignores `If-None-Match`, two writers of one recording would overwrite each other's objects. And a job that
runs during an erasure must not bring erased objects back.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from workers.engine.lease import held
from workers.keys import WRITER
from workers.queue.script import AsyncRedis


def sole_writer(redis: AsyncRedis, recording_id: str, wait_seconds: float = 2.0) -> AbstractAsyncContextManager[None]:
    """Hold the lease to write a recording while the block runs. If another writer takes it, the block is cancelled.

    Args:
        redis: the client.
        recording_id: its id at Telnyx.
        wait_seconds: how long to wait for another writer.

    Raises:
        HeldElsewhere: another writer keeps it, or took it.
        redis.exceptions.RedisError: Redis is away.
    """
    return held(redis, WRITER + recording_id, f"recording {recording_id}", wait_seconds)
