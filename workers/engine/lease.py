"""A lease: one holder may do something, and nobody else, by the clock of the Redis server.

The holder renews the lease while it works and releases it at the end. If the holder dies or hangs, the lease expires after
twelve seconds. So nothing waits long for a dead worker, and a worker's own clock does not matter.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from redis.exceptions import RedisError

from process.logs import get_logger
from process.tasks import end_tasks
from workers.queue.script import AsyncRedis, Script

_LEASE_MS = 12_000  # shorter than a heartbeat: the lease is free again when a dead worker's job runs elsewhere
_RENEW_SECONDS = 3
_POLL_SECONDS = 0.1
_RETRY_SECONDS = 60.0

log = get_logger()

_TAKE = Script(__package__, "take_lease.lua")
_RELEASE = Script(__package__, "release_lease.lua")


class HeldElsewhere(Exception):
    """Another worker or a command holds the lease. The caller waits; nothing has failed."""


@asynccontextmanager
async def renewed(renew: Callable[[], Awaitable[object]], every_seconds: float, what: str) -> AsyncIterator[None]:
    """Renew a claim periodically while the block runs. While Redis is away, try again each time.

    Args:
        renew: writes the claim to Redis again.
        every_seconds: a third of the claim's lifetime or less, so that one failure does not end it.
        what: the name of the claim, for the log.
    """

    async def loop() -> None:
        while True:
            try:
                await renew()
            except (RedisError, OSError) as error:
                log.warning("lease could not be renewed", of=what, error=str(error))
            await asyncio.sleep(every_seconds)

    tasks: list[asyncio.Task[None]] = []
    # Most blocks end before the first renewal: a timer costs less than a task that is cancelled.
    first = asyncio.get_running_loop().call_later(every_seconds, lambda: tasks.append(asyncio.create_task(loop())))
    try:
        yield
    finally:
        first.cancel()
        await end_tasks(tasks)


class _Lease:
    def __init__(self, redis: AsyncRedis, key: str, what: str, rest_seconds: float = 0.0) -> None:
        self._redis, self._key, self._what = redis, key, what
        self._longest_ms = max(_LEASE_MS, int(rest_seconds * 1000))
        self._token = secrets.token_hex(8)

    async def take(self) -> float:
        """Take or renew the lease; returns 0 if it is ours, else for how many seconds another holds it."""
        return int(await _TAKE(self._redis, (self._key,), (self._token, _LEASE_MS, self._longest_ms))) / 1000

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renew the lease while the block runs. If another holder takes it, the block is cancelled.

        Raises:
            HeldElsewhere: another holder took it.
        """
        holder, is_lost, is_over = asyncio.current_task(), False, False

        async def renew() -> None:
            nonlocal is_lost
            if is_lost or not await self.take():
                return
            is_lost = True
            if holder is not None and not is_over:
                holder.cancel()

        async with renewed(renew, _RENEW_SECONDS, self._what):
            try:
                yield
            except asyncio.CancelledError:
                if is_lost and holder is not None and holder.uncancel() == 0:
                    raise HeldElsewhere(f"another job took the lease of {self._what}") from None
                raise
            finally:
                is_over = True

    async def release(self, rest_seconds: float = 0.0) -> None:
        """Release the lease; nobody can take it during the rest."""
        with suppress(RedisError, OSError):  # it expires
            await _RELEASE(self._redis, (self._key,), (self._token, max(0, int(rest_seconds * 1000))))


@asynccontextmanager
async def held(redis: AsyncRedis, key: str, what: str, wait_seconds: float) -> AsyncIterator[None]:
    """Hold a lease while the block runs. If another holder takes it, the block is cancelled.

    Args:
        redis: the client.
        key: the key of the lease.
        what: the name of the thing, for errors.
        wait_seconds: how long to wait for another holder.

    Raises:
        HeldElsewhere: another holder keeps it, or took it.
        redis.exceptions.RedisError: Redis is away.
    """
    lease, waits_until = _Lease(redis, key, what), time.monotonic() + wait_seconds
    while await lease.take():
        if time.monotonic() >= waits_until:
            raise HeldElsewhere(f"another job holds the lease of {what}")
        await asyncio.sleep(_POLL_SECONDS)
    try:
        async with lease.kept():
            yield
    finally:
        await lease.release()


async def take_turn(redis: AsyncRedis, key: str, every_seconds: float, work: Callable[[], Awaitable[object]]) -> float:
    """Do periodic work on one worker at a time, unless it is running or its period is not over.

    If the worker dies, another takes over after twelve seconds. Cancelled work runs again at once, failed work within a minute.

    Args:
        redis: the client.
        key: the key of the lease.
        every_seconds: from the start of one turn to the start of the next.
        work: the work; the period begins only if it returns.

    Returns:
        For how many seconds there is nothing to do.

    Raises:
        HeldElsewhere: another worker took over, because this one did not renew its lease.
        redis.exceptions.RedisError: Redis is away.
        Exception: whatever the work raises.
    """
    lease = _Lease(redis, key, key, max(every_seconds, _RETRY_SECONDS))
    if seconds := await lease.take():
        return seconds
    began, rest = time.monotonic(), 0.0
    try:
        async with lease.kept():
            await work()
        rest = every_seconds - (time.monotonic() - began)
    except Exception:
        rest = min(every_seconds, _RETRY_SECONDS)
        raise
    finally:
        await lease.release(rest)
    return max(0.0, rest)
