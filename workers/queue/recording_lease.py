"""One writer a recording at a time: a lease in Redis that is renewed while its work lasts, and ends soon after its worker.

On a store that ignores `If-None-Match` two writers of one recording overwrite each other's objects; and what is erased
must not come back from a job that was half-way through.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from config.logs import get_logger
from config.tasks import end_tasks
from workers.keys import WRITER
from workers.queue.script import AsyncRedis, Script

_LASTS_MS = 12_000  # shorter than a heartbeat: a dead worker's job finds its recording free when it runs elsewhere
_RENEWED_EVERY_SECONDS = 3
_ASKED_EVERY_SECONDS = 0.1

log = get_logger()

# KEYS: the lease. ARGV: token, milliseconds. Returns 1 if it is ours now. One that Redis has lost meanwhile is taken again.
_HOLD = Script("""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""")

# KEYS: the lease. ARGV: token.
_LEAVE = Script("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1")


class HeldElsewhere(Exception):
    """Another job, or a command, works on this recording. It is no failure to wait for it."""


@asynccontextmanager
async def sole_writer(redis: AsyncRedis, recording_id: str, wait_seconds: float = 2.0) -> AsyncIterator[None]:
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
    key, token = WRITER + recording_id, secrets.token_hex(8)
    waits_until = time.monotonic() + wait_seconds
    while not await _HOLD(redis, (key,), (token, _LASTS_MS)):
        if time.monotonic() >= waits_until:
            raise HeldElsewhere(f"another job works on recording {recording_id}")
        await asyncio.sleep(_ASKED_EVERY_SECONDS)
    writer, is_lost, is_over = asyncio.current_task(), False, False

    async def renew() -> None:
        nonlocal is_lost
        while True:
            await asyncio.sleep(_RENEWED_EVERY_SECONDS)
            try:
                if await _HOLD(redis, (key,), (token, _LASTS_MS)):
                    continue
            except (RedisError, OSError) as error:
                log.warning("a writer's lease could not be renewed", recording_id=recording_id, error=str(error))
                continue
            is_lost = True
            if writer is not None and not is_over:
                writer.cancel()
            return

    renewing = asyncio.create_task(renew())
    try:
        yield
    except asyncio.CancelledError:
        if is_lost and writer is not None and writer.uncancel() == 0:
            raise HeldElsewhere(f"another job has taken recording {recording_id}") from None
        raise
    finally:
        is_over = True
        await end_tasks([renewing])
        try:
            await _LEAVE(redis, (key,), (token,))
        except (RedisError, OSError):
            pass  # it ends by itself
