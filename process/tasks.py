"""End tasks of the event loop reliably."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_SECONDS = 0.2
_TRIES = 100


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they end, for at most 20 seconds, and drop their results and errors.

    One cancellation is not enough: before Python 3.12, `asyncio.wait_for` loses it if its awaitable has just finished
    (CPython issue bpo-37658), and the Redis client sends every command through `wait_for`.
    """
    left = set[asyncio.Task[Any]]()
    for task in tasks:
        if not task.done():
            left.add(task)
        elif not task.cancelled():
            task.exception()  # else asyncio logs an error that nobody asked for
    for _ in range(_TRIES):
        if not left:
            return
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
        for task in ended:
            if not task.cancelled():
                task.exception()  # otherwise asyncio logs that the exception was never retrieved
