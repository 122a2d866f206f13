"""Which replicas must confirm an event before the receiver answers 200, and when none is needed (decision 9).

If the primary dies, Sentinel may promote any replica. So every connected replica must confirm an event. If none has been
connected for a while, the primary alone is enough.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import RedisError

from process.logs import get_logger
from text.counts import many
from workers.queue.script import AsyncRedis, Script

# How long events wait for a lost replica. Longer than a new primary needs to get its first one, and short enough that a
# webhook still arrives while Telnyx retries it, for a minute.
MISSED_SECONDS = 15
_SILENT_SECONDS = 5  # a replica confirms every second; one that is silent for longer no longer counts as connected
_LOOK_SECONDS = 1
_WAIT_MS = 500  # twice in a row is well below the 2 s that Telnyx waits
_REPORT_EVERY_SECONDS = 900

log = get_logger()


class NotReplicated(RedisError):
    """Redis has the event, and a replica did not confirm it in time. Telnyx retries."""


class Replicas:
    """What a receiver knows about the replicas of its Redis.

    Attributes:
        count: how many are connected, as last seen; each must confirm a write.
    """

    def __init__(self, redis: AsyncRedis) -> None:
        self.count = 1
        self._redis = redis
        self._pool: SentinelConnectionPool = redis.connection_pool
        self._known = 1  # how many were connected lately; a receiver that starts assumes one
        self._known_at = time.monotonic()
        self._is_alone, self._reported_at = False, -math.inf

    @property
    def address(self) -> Any:
        """Host and port of the primary that the client writes to."""
        return self._pool.master_address

    def see(self, replication: Mapping[str, Any]) -> None:
        """Update the counts from the section `replication` of INFO."""
        rows = [value for key, value in replication.items() if key.startswith("slave") and isinstance(value, dict)]
        self.count = sum(row.get("state") == "online" and int(row.get("lag", 0)) <= _SILENT_SECONDS for row in rows)
        now = time.monotonic()
        if self.count >= self._known or now - self._known_at >= MISSED_SECONDS:
            self._known, self._known_at = self.count, now
        if self.count and self._is_alone:
            self._is_alone, self._reported_at = False, -math.inf
            log.info("Redis has a replica again")

    async def assert_survives(self, address: Any, confirmed: int) -> None:
        """Check that a write survives the loss of the primary.

        Args:
            address: of the primary before the write.
            confirmed: how many replicas have the write.

        Raises:
            NotReplicated: it may not survive.
        """
        if confirmed < self.count:
            raise NotReplicated(f"{confirmed} of {many(self.count, 'replica')} of Redis confirmed the event in time")
        if 0 < self._known == self.count:
            return
        if self.count == 0 < self._known:
            raise NotReplicated("Redis has just lost its last replica")
        if address is None or address != self.address or not await self._is_primary(address):
            raise NotReplicated(
                "a replica of Redis is missing, and most Sentinels do not name this server as the primary"
            )
        self._is_alone = self.count == 0

    async def confirmed(self, redis: AsyncRedis, script: Script, arguments: Sequence[bytes | str | float]) -> Any:
        """Run a script without keys, wait for the replicas to confirm what it wrote, and return its answer.

        Raises:
            NotReplicated: they did not confirm in time.
            redis.exceptions.RedisError: as `Script.and_wait`.
        """
        address, asked = self.address, self.count
        answer, confirmed, replication = await script.and_wait(redis, (), arguments, asked, _WAIT_MS)
        self.see(replication)
        if asked < self.count > confirmed:  # a replica has joined: write again, as if the request had come again
            asked = self.count
            _, confirmed, replication = await script.and_wait(redis, (), arguments, asked, _WAIT_MS)
            self.see(replication)
        await self.assert_survives(address, confirmed)
        return answer

    async def _is_primary(self, address: Any) -> bool:
        """Whether most Sentinels name a server as the primary, and none knows a successor or a failover under way."""
        manager, name, agreeing = self._pool.sentinel_manager, self._pool.service_name, 0
        asked = (sentinel.sentinel_masters() for sentinel in manager.sentinels)
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            state = answer.get(name) if isinstance(answer, dict) else None
            if state is None:
                continue  # it does not answer
            if (state["ip"], state["port"]) != tuple(address) or "failover_in_progress" in state["flags"]:
                return False
            agreeing += not (state["is_sdown"] or state["is_odown"])
        return 2 * agreeing > len(manager.sentinels)

    async def watch(self, report: Callable[[], Awaitable[None]]) -> None:
        """Watch the primary and its replicas every second, until cancelled.

        Args:
            report: called when events are accepted without a replica, and then every 15 minutes.
        """
        while True:
            try:
                await self._pool.get_master_address()  # a change closes the connections to the former primary
                self.see(await self._redis.info("replication"))
            except (RedisError, OSError):
                pass  # the receiver answers 503 meanwhile, with the reason
            if self._is_alone and time.monotonic() - self._reported_at > _REPORT_EVERY_SECONDS:
                self._reported_at = time.monotonic()
                await report()
            await asyncio.sleep(_LOOK_SECONDS)
