"""Whether Redis has room for more events: receivers stop a good while before its memory is out, and leave the rest to workers.

An event that is answered 503 comes again, and is found by the next sweep if it does not. A Redis that is full to the brim also
refuses workers what they need to make room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from workers.queue.script import AsyncRedis

EVENTS_SHARE = 0.9  # of its memory
_LOOK_SECONDS = 0.25  # eight thousand events a second are 2 MB until the next look
_FAR_SHARE, _FAR_LOOK_SECONDS = 0.5, 1.0  # below it the end is far, and who does nothing costs nothing


def used_share(memory: Mapping[str, Any]) -> float:
    """How much of what it may use a server uses, from the section `memory` of its INFO; 0 where no limit is set."""
    most = memory.get("maxmemory") or 0
    used = memory.get("used_memory", 0) - memory.get("mem_not_counted_for_evict", 0)
    return used / most if most else 0.0


class Room:
    """What a receiver knows of the memory of its Redis.

    Attributes:
        is_left: whether there is room for more events, as last seen.
    """

    def __init__(self, redis: AsyncRedis) -> None:
        self.is_left = True
        self._redis = redis

    async def watch(self) -> None:
        """Look four times a second until cancelled, and once a second while most of the memory is free."""
        while True:
            seconds = _LOOK_SECONDS
            try:
                share = used_share(await self._redis.info("memory"))
            except (RedisError, OSError):
                pass  # what is asked of it meanwhile fails too, and says so
            else:
                self.is_left = share <= EVENTS_SHARE
                seconds = _FAR_LOOK_SECONDS if share < _FAR_SHARE else _LOOK_SECONDS
            await asyncio.sleep(seconds)
