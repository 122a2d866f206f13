"""The due list: which recordings' originals are to be deleted at Telnyx, and when.

Lost with Redis, it is rebuilt by reconcile from the archive. Whoever claims an entry leaves it in the list with a
later time, so that a worker that dies with it loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import msgspec
from redis.exceptions import RedisError

from config.tasks import end_tasks
from workers.hold import Hold
from workers.keys import DELETIONS_BACK_OFF, DELETIONS_DUE, DELETIONS_PAUSED, DELETIONS_PAUSED_BY, PAUSE_LOOKED
from workers.queue.script import AsyncRedis, Script, server_seconds, write_when_full

_CLAIM_SECONDS = 60

# All instants are the server's: a worker with a wrong clock deletes nothing before its time.

_CLAIM = Script(__package__, "claim_due.lua")
_EXTEND = Script(__package__, "extend_claims.lua")
_SCHEDULE = Script(__package__, "schedule.lua")


@dataclass(frozen=True)
class DueDeletion:
    """An entry of the list.

    Attributes:
        folder: the recording's folder in the archive.
        due_at: seconds since the epoch.
    """

    folder: str
    due_at: float = 0.0


class DueList:
    """The due list of one Redis."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    async def schedule(self, folder: str, after_seconds: float) -> bool:
        """Add a recording's folder, due after some seconds; one that is listed stays as it is.

        Returns:
            Whether it was added.
        """
        return bool(await _SCHEDULE(self._redis, (DELETIONS_DUE,), ("NX", after_seconds, folder)))

    async def hasten(self, folder: str, after_seconds: float) -> None:
        """Have a folder due after some seconds at the latest, whether it is listed or not."""
        await _SCHEDULE(self._redis, (DELETIONS_DUE,), ("LT", after_seconds, folder))

    async def claim(self, count: int) -> list[str]:
        """Take up to `count` folders that are due; they come back in a minute unless `done`, postponed or kept."""
        found = await _CLAIM(self._redis, (DELETIONS_DUE,), (count, _CLAIM_SECONDS))
        return [member.decode() for member in found]

    @asynccontextmanager
    async def kept(self, folders: Sequence[str]) -> AsyncIterator[None]:
        """Keep claimed folders claimed while they are worked on; those of a worker that dies come back soon."""

        async def extend() -> None:
            while True:
                await asyncio.sleep(_CLAIM_SECONDS / 3)
                with suppress(RedisError, OSError):  # the next one; two may be missed before a claim ends
                    await _EXTEND(self._redis, (DELETIONS_DUE,), (_CLAIM_SECONDS, *folders))

        extending = asyncio.create_task(extend())
        try:
            yield
        finally:
            await end_tasks([extending])

    async def show_pause(self, why: str | None, by: str = "", at: str = "") -> None:
        """Tell whoever reads Redis of a pause, or with None that there is no pause; what counts is in the archive.

        Args:
            why: the reason that was given.
            by: who paused; empty where that is not known.
            at: when, ISO 8601, UTC; likewise.
        """
        if why is None:
            await self._redis.delete(DELETIONS_PAUSED, DELETIONS_PAUSED_BY)
            return
        row = msgspec.json.encode(Hold(why, by, at))
        await write_when_full(self._redis, ("SET", DELETIONS_PAUSED, why), ("SET", DELETIONS_PAUSED_BY, row))

    async def is_time_to_look(self, every_seconds: float) -> bool:
        """Whether it is time to look in the archive for a pause; only the first to ask within so many seconds gets True."""
        mark = ("SET", PAUSE_LOOKED, "1", "NX", "PX", int(every_seconds * 1000))
        return (await write_when_full(self._redis, mark))[0] is not None

    async def paused(self) -> str | None:
        """Why deletion is paused; None if it is not."""
        held = await self.pause()
        return None if held is None else held.why

    async def pause(self) -> Hold | None:
        """The pause of deletion: why, by whom and since when; None if it is not paused."""
        why, row = await self._redis.mget(DELETIONS_PAUSED, DELETIONS_PAUSED_BY)
        if why is None:
            return None
        with suppress(msgspec.MsgspecError):
            held = msgspec.json.decode(row or b"", type=Hold)
            if held.why == why.decode():  # else a worker of another version has written the one and not the other
                return held
        return Hold(why.decode())

    async def back_off(self, seconds: float) -> None:
        """Have nobody go on for a while: what deletions need does not answer."""
        await write_when_full(self._redis, ("SET", DELETIONS_BACK_OFF, "1", "PX", int(seconds * 1000)))

    async def may_go_on(self) -> bool:
        """Whether deletion is neither paused by anyone nor backs off from what does not answer."""
        return not await self._redis.exists(DELETIONS_PAUSED, DELETIONS_BACK_OFF)

    async def postpone(self, folder: str, seconds: float) -> None:
        """Have a claimed folder come back later."""
        await _SCHEDULE(self._redis, (DELETIONS_DUE,), ("XX", seconds, folder))

    async def done(self, folder: str) -> None:
        """Take a folder off the list."""
        await self._redis.zrem(DELETIONS_DUE, folder)

    async def count(self) -> int:
        """How many are listed."""
        return int(await self._redis.zcard(DELETIONS_DUE))

    async def count_due(self) -> int:
        """How many could be claimed now."""
        return int(await self._redis.zcount(DELETIONS_DUE, "-inf", await server_seconds(self._redis)))

    async def entries(self, count: int = 100) -> list[DueDeletion]:
        """The first of the list, soonest first."""
        rows = await self._redis.zrange(DELETIONS_DUE, 0, count - 1, withscores=True)
        return [DueDeletion(member.decode(), score) for member, score in rows]
