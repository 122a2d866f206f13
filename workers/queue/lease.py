"""A lease: the right of one to do something while all others leave it, kept in Redis by the server's clock.

It is renewed while its work lasts, given back at the end, and ends by itself twelve seconds after its holder died or hung. So
nothing waits long for a dead worker, and a worker's own clock counts for nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from config.logs import get_logger
from config.tasks import end_tasks
from workers.queue.script import AsyncRedis, Script

_LASTS_MS = 12_000  # shorter than a heartbeat: a dead worker's job finds its lease free when it runs elsewhere
_RENEWED_EVERY_SECONDS = 3
_ASKED_EVERY_SECONDS = 0.1
_FAILED_AGAIN_SECONDS = 60.0

log = get_logger()

_TAKE = Script(__package__, "take_lease.lua")
_RELEASE = Script(__package__, "release_lease.lua")


class HeldElsewhere(Exception):
    """Another worker, or a command, has the lease. It is no failure to wait for it."""


class _Lease:
    def __init__(self, redis: AsyncRedis, key: str, what: str, rests_seconds: float = 0.0) -> None:
        self._redis, self._key, self._what = redis, key, what
        self._most_ms = max(_LASTS_MS, int(rests_seconds * 1000))
        self._token = secrets.token_hex(8)

    async def take(self) -> float:
        """Take it; returns 0 if it is ours, else for how many seconds it is another's unless that one renews it."""
        return int(await _TAKE(self._redis, (self._key,), (self._token, _LASTS_MS, self._most_ms))) / 1000

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renew it while the block lasts. Should Redis have given it to another meanwhile, the block is cancelled.

        Raises:
            HeldElsewhere: another has got it meanwhile.
        """
        holder, is_lost, is_over = asyncio.current_task(), False, False

        async def renew() -> None:
            nonlocal is_lost
            while True:
                await asyncio.sleep(_RENEWED_EVERY_SECONDS)
                try:
                    if not await self.take():
                        continue
                except (RedisError, OSError) as error:
                    log.warning("lease could not be renewed", of=self._what, error=str(error))
                    continue
                is_lost = True
                if holder is not None and not is_over:
                    holder.cancel()
                return

        renewing = asyncio.create_task(renew())
        try:
            yield
        except asyncio.CancelledError:
            if is_lost and holder is not None and holder.uncancel() == 0:
                raise HeldElsewhere(f"another job took the lease of {self._what}") from None
            raise
        finally:
            is_over = True
            await end_tasks([renewing])

    async def leave(self, rests_seconds: float = 0.0) -> None:
        """Give it back; nobody may take it for some seconds more."""
        try:
            await _RELEASE(self._redis, (self._key,), (self._token, max(0, int(rests_seconds * 1000))))
        except (RedisError, OSError):
            pass  # it ends by itself


@asynccontextmanager
async def held(redis: AsyncRedis, key: str, what: str, wait_seconds: float) -> AsyncIterator[None]:
    """Hold a lease for as long as the block lasts.

    Should Redis have given it to another meanwhile, the block is cancelled.

    Args:
        redis: the client.
        key: of the lease.
        what: it is about, for the error.
        wait_seconds: how long to wait for another holder.

    Raises:
        HeldElsewhere: another still has it, or has got it meanwhile.
        redis.exceptions.RedisError: Redis is away.
    """
    lease, waits_until = _Lease(redis, key, what), time.monotonic() + wait_seconds
    while await lease.take():
        if time.monotonic() >= waits_until:
            raise HeldElsewhere(f"another job holds the lease of {what}")
        await asyncio.sleep(_ASKED_EVERY_SECONDS)
    try:
        async with lease.kept():
            yield
    finally:
        await lease.leave()


async def take_turn(redis: AsyncRedis, key: str, every_seconds: float, work: Callable[[], Awaitable[object]]) -> float:
    """Do something now and then, once for all workers: unless it is being done, or was within the last while.

    What dies with its worker is done by another twelve seconds later, what is cancelled at once, what fails within a minute.

    Args:
        redis: the client.
        key: of the turn.
        every_seconds: from the beginning of one turn to the next.
        work: what is to be done; its turn is used up only when it returns.

    Returns:
        For how many seconds there is nothing more to do.

    Raises:
        HeldElsewhere: another worker has taken the turn over, as this one was not heard of.
        redis.exceptions.RedisError: Redis is away.
        Exception: whatever the work raises.
    """
    lease = _Lease(redis, key, key, max(every_seconds, _FAILED_AGAIN_SECONDS))
    if seconds := await lease.take():
        return seconds
    began, rests = time.monotonic(), 0.0
    try:
        async with lease.kept():
            await work()
        rests = every_seconds - (time.monotonic() - began)
    except Exception:
        rests = min(every_seconds, _FAILED_AGAIN_SECONDS)
        raise
    finally:
        await lease.leave(rests)
    return max(0.0, rests)
