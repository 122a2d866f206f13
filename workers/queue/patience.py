"""How long a call to Redis is retried: one time limit, however deep the client nests its retries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

T = TypeVar("T")

_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)


class Patience(Retry):
    """Retries until a time limit.

    redis-py retries a command, within that its connection, and within that the health check of the connection, each by a count
    of its own. Twenty tries each take six minutes if the server stops during a command, and hours if it hangs. Here all
    retries of one call share the time limit of the outermost.

    Args:
        seconds: from the first try of a call to the start of its last.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(ExponentialBackoff(cap=1, base=0.05), -1)
        self._seconds = seconds

    async def call_with_retry(self, do: Callable[[], Awaitable[T]], fail: Callable[[RedisError], Awaitable[Any]]) -> T:
        """Call `do` until it succeeds or the time is over; call `fail` after each failure.

        Raises:
            Exception: what `do` raised last.
        """
        loop = asyncio.get_running_loop()
        outer = _ends_at.get()
        ends_at = loop.time() + self._seconds if outer is None else outer
        token = _ends_at.set(ends_at)
        failures = 0
        try:
            while True:
                try:
                    return await do()
                except self._supported_errors as error:
                    failures += 1
                    await fail(error)
                    pause = self._backoff.compute(failures)
                    if loop.time() + pause > ends_at:
                        raise
                await asyncio.sleep(pause)
        finally:
            _ends_at.reset(token)
