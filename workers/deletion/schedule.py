"""The deletion schedule: which originals to delete at Telnyx, and when. Also the pause of deletion.

If Redis loses it, reconcile rebuilds it from the archive. A claimed entry stays in it with a later time, so a worker
that dies loses none. All times are the server's: a worker with a wrong clock deletes nothing early.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import msgspec

from archive.hold import Hold
from workers.engine.lease import renewed
from workers.keys import DELETIONS_BACK_OFF, DELETIONS_DUE, DELETIONS_PAUSED, DELETIONS_PAUSED_BY
from workers.queue.script import AsyncRedis, Script, server_seconds, write_when_full

_CLAIM_SECONDS = 60

_CLAIM = Script(__package__, "claim_due.lua")
_EXTEND = Script(__package__, "extend_claims.lua")
_SCHEDULE = Script(__package__, "schedule.lua")


@dataclass(frozen=True)
class DueDeletion:
    """An entry of the deletion schedule.

    Attributes:
        folder: the recording's folder in the archive.
        due_at: seconds since the epoch.
    """

    folder: str
    due_at: float = 0.0


class DeletionSchedule:
    """The deletion schedule of one Redis."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    async def add(self, folder: str, after_seconds: float) -> bool:
        """Add a recording's folder, due after some seconds; an entry that exists keeps its time.

        Returns:
            Whether it was added.
        """
        return bool(await _SCHEDULE(self._redis, (DELETIONS_DUE,), ("NX", after_seconds, folder)))

    async def unlisted(self, folders: Sequence[str]) -> list[str]:
        """Those of some folders that are not listed."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for folder in folders:
                pipe.zscore(DELETIONS_DUE, folder)
            scores = await pipe.execute()
        return [folder for folder, score in zip(folders, scores, strict=True) if score is None]

    async def hasten(self, folder: str, after_seconds: float) -> None:
        """Make a folder due after at most some seconds; add it if it is missing."""
        await _SCHEDULE(self._redis, (DELETIONS_DUE,), ("LT", after_seconds, folder))

    async def claim(self, count: int) -> list[str]:
        """Claim up to `count` folders that are due; they are due again in a minute unless done, postponed or kept."""
        found = await _CLAIM(self._redis, (DELETIONS_DUE,), (count, _CLAIM_SECONDS))
        return [member.decode() for member in found]

    @asynccontextmanager
    async def kept(self, folders: Sequence[str]) -> AsyncIterator[None]:
        """Keep claimed folders claimed while the block runs; if the worker dies, they are due again within a minute."""

        async def extend() -> None:
            await _EXTEND(self._redis, (DELETIONS_DUE,), (_CLAIM_SECONDS, *folders))

        async with renewed(extend, _CLAIM_SECONDS / 3, "a batch of deletions"):
            yield

    async def show_pause(self, why: str | None, by: str = "", at: str = "") -> None:
        """Publish the pause in Redis, or remove it. The archive holds the decision that counts.

        Args:
            why: the reason; None: deletion is not paused.
            by: who paused it; empty if unknown.
            at: when, ISO 8601, UTC; empty if unknown.
        """
        if why is None:
            await self._redis.delete(DELETIONS_PAUSED, DELETIONS_PAUSED_BY)
            return
        row = msgspec.json.encode(Hold(why, by, at))
        await write_when_full(self._redis, ("SET", DELETIONS_PAUSED, why), ("SET", DELETIONS_PAUSED_BY, row))

    async def paused(self) -> str | None:
        """Why deletion is paused; None if it is not."""
        held = await self.pause()
        return None if held is None else held.why

    async def pause(self) -> Hold | None:
        """The pause: why, by whom and since when; None if deletion is not paused."""
        why, row = await self._redis.mget(DELETIONS_PAUSED, DELETIONS_PAUSED_BY)
        if why is None:
            return None
        with suppress(msgspec.MsgspecError):
            held = msgspec.json.decode(row or b"", type=Hold)
            if held.why == why.decode():  # else a worker of another version wrote only one of the two
                return held
        return Hold(why.decode())

    async def back_off(self, seconds: float) -> None:
        """Stop all deletions for a while, because the store or Telnyx does not answer."""
        await write_when_full(self._redis, ("SET", DELETIONS_BACK_OFF, "1", "PX", int(seconds * 1000)))

    async def may_go_on(self) -> bool:
        """Whether deletion is neither paused nor backing off."""
        return not await self._redis.exists(DELETIONS_PAUSED, DELETIONS_BACK_OFF)

    async def postpone(self, folder: str, seconds: float) -> None:
        """Make a claimed folder due later."""
        await _SCHEDULE(self._redis, (DELETIONS_DUE,), ("XX", seconds, folder))

    async def done(self, folder: str) -> None:
        """Remove a folder."""
        await self._redis.zrem(DELETIONS_DUE, folder)

    async def count(self) -> int:
        """How many entries there are."""
        return int(await self._redis.zcard(DELETIONS_DUE))

    async def count_due(self) -> int:
        """How many are due."""
        return int(await self._redis.zcount(DELETIONS_DUE, "-inf", await server_seconds(self._redis)))

    async def entries(self, count: int = 100) -> list[DueDeletion]:
        """The first entries, soonest first."""
        rows = await self._redis.zrange(DELETIONS_DUE, 0, count - 1, withscores=True)
        return [DueDeletion(member.decode(), score) for member, score in rows]
