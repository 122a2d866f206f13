"""One writer a recording at a time.

On a store that ignores `If-None-Match` two writers of one recording overwrite each other's objects; and what is erased
must not come back from a job that was half-way through.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from workers.keys import WRITER
from workers.queue.lease import held
from workers.queue.script import AsyncRedis


def sole_writer(redis: AsyncRedis, recording_id: str, wait_seconds: float = 2.0) -> AbstractAsyncContextManager[None]:
    """Be the only one that writes a recording, for as long as the block lasts.

    Should Redis have given the lease to another meanwhile, the block is cancelled.

    Args:
        redis: the client.
        recording_id: Telnyx's id of it.
        wait_seconds: how long to wait for another writer.

    Raises:
        HeldElsewhere: another writer still has it, or has got it meanwhile.
        redis.exceptions.RedisError: Redis is away.
    """
    return held(redis, WRITER + recording_id, f"recording {recording_id}", wait_seconds)
