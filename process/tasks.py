"""Ending tasks of the event loop, for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_SECONDS = 0.2
_TRIES = 100


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended, for 20 seconds at most; what they return or raise is dropped.

    Once is not enough: before Python 3.12, `asyncio.wait_for` loses a cancellation that comes when what it waits for
    is just done (CPython issue bpo-37658), and the Redis client sends every command through it.
    """
    left = {task for task in tasks if not task.done()}
    for _ in range(_TRIES):
        if not left:
            return
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=_AGAIN_SECONDS)
        for task in ended:
            if not task.cancelled():
                task.exception()  # looked at, so that the loop does not report it as never retrieved
