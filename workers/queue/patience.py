"""How long a call of Redis is tried again: for one span of time, however deep the client nests its tries."""

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
    """Tries again until a span of time is over.

    redis-py tries a command again, within that the connection that it needs, within that the question whether the connection
    is sound, and each by a count of its own: twenty tries each are six minutes where a server ends while a command is under
    way, and hours where it hangs. Here all of one call have the span of the outermost.

    Args:
        seconds: from the first try of a call to the beginning of its last.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(ExponentialBackoff(cap=1, base=0.05), -1)
        self._seconds = seconds

    async def call_with_retry(self, do: Callable[[], Awaitable[T]], fail: Callable[[RedisError], Awaitable[Any]]) -> T:
        """Call `do` until it does not fail, or the time is over; `fail` is called behind each failure.

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
