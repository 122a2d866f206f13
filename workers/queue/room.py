"""Whether Redis has room for more events. Receivers stop at 90% of its memory and leave the rest to workers.

Telnyx retries an event that gets a 503; if the retries fail too, the next reconcile finds the recording. A Redis that is
completely full would also refuse the workers that make room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from workers.queue.script import AsyncRedis

EVENTS_SHARE = 0.9  # of its memory
_LOOK_SECONDS = 0.25  # eight thousand events a second are 2 MB until the next look
_FAR_SHARE, _FAR_LOOK_SECONDS = 0.5, 1.0  # below this share, fewer polls are enough


def used_share(memory: Mapping[str, Any]) -> float:
    """The share of its memory limit that a server uses, from the section `memory` of INFO; 0 without a limit."""
    most = memory.get("maxmemory") or 0
    used = memory.get("used_memory", 0) - memory.get("mem_not_counted_for_evict", 0)
    return used / most if most else 0.0


class Room:
    """What a receiver knows about the memory of its Redis.

    Attributes:
        is_left: whether there is room for more events, as last seen.
    """

    def __init__(self, redis: AsyncRedis) -> None:
        self.is_left = True
        self._redis = redis

    async def watch(self) -> None:
        """Poll four times a second until cancelled; once a second while more than half of the memory is free."""
        while True:
            seconds = _LOOK_SECONDS
            try:
                share = used_share(await self._redis.info("memory"))
            except (RedisError, OSError):
                pass  # accepting events fails too, with the reason
            else:
                self.is_left = share <= EVENTS_SHARE
                seconds = _FAR_LOOK_SECONDS if share < _FAR_SHARE else _LOOK_SECONDS
            await asyncio.sleep(seconds)
