"""What Redis knows of deletions: which originals wait for theirs, whether it is paused, and which deletions are in progress.

If Redis loses the schedule, reconcile rebuilds it from the archive. A claimed entry stays in it with a later time, so a worker
that dies loses none. All times are the server's: a worker with a wrong clock deletes nothing early.

A deletion is registered as in progress before the last checks, and removed when its outcome is known. So a hold and a deletion
always see each other: a hold is written before its writer reads this list, and a deletion is registered here before it looks for
holds.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import msgspec
from redis.exceptions import RedisError

from archive.hold import Hold
from workers.engine.lease import renewed
from workers.keys import (
    DELETIONS_BACK_OFF,
    DELETIONS_DUE,
    DELETIONS_PAUSED,
    DELETIONS_PAUSED_BY,
    LEAVING,
    LEAVING_ALIVE,
    LEFT,
    LEFT_TRANSCRIPTIONS,
)
from workers.queue.script import AsyncRedis, Script, server_seconds, write_when_full

_CLAIM_SECONDS = 60

_CLAIM = Script(__package__, "claim_due.lua")
_EXTEND = Script(__package__, "extend_claims.lua")
_SCHEDULE = Script(__package__, "schedule.lua")
_ALIVE_SECONDS = 15
_REMEMBERED_SECONDS = 3600

_REMEMBER = Script(__package__, "remember_deleted.lua")


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
        times = await self.times(folders)
        return [folder for folder in folders if folder not in times]

    async def times(self, folders: Sequence[str]) -> dict[str, float]:
        """When some folders are due, in seconds since the epoch; those that are not listed are left out."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for folder in folders:
                pipe.zscore(DELETIONS_DUE, folder)
            scores = await pipe.execute()
        return {folder: score for folder, score in zip(folders, scores, strict=True) if score is not None}

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
        await self._redis.execute_command(*self.removal(folder))

    def removal(self, folder: str) -> tuple[str, ...]:
        """The command that removes a folder, for whoever sends others with it."""
        return "ZREM", DELETIONS_DUE, folder

    async def count(self) -> int:
        """How many entries there are."""
        return int(await self._redis.zcard(DELETIONS_DUE))

    async def count_due(self) -> int:
        """How many are due."""
        return int(await self._redis.zcount(DELETIONS_DUE, "-inf", await server_seconds(self._redis)))

    async def entries(self, count: int = 100) -> list[DueDeletion]:
        """The first entries, soonest first; a count of 0: all."""
        rows = await self._redis.zrange(DELETIONS_DUE, 0, count - 1, withscores=True)
        return [DueDeletion(member.decode(), score) for member, score in rows]

    async def entries_after(self, last: DueDeletion, count: int) -> list[DueDeletion]:
        """The entries after one that was the last of a page, soonest first, also if it has been removed or postponed since."""
        least, begin, found = (last.due_at, last.folder.encode()), 0, list[DueDeletion]()
        while len(found) < count:
            rows = await self._redis.zrangebyscore(
                DELETIONS_DUE, repr(last.due_at), "+inf", start=begin, num=count, withscores=True
            )
            # Redis orders those that are due at the same time by their bytes.
            found += [DueDeletion(member.decode(), score) for member, score in rows if (score, member) > least]
            begin += len(rows)
            if len(rows) < count:
                break
        return found[:count]


class Leaving(msgspec.Struct, frozen=True):
    """An original whose deletion is under way.

    Attributes:
        folder: the recording's folder in the archive.
        token: the turn that deletes it.
        seen_at: when Telnyx had it, ISO 8601.
        asked_at: when the worker sent the deletion to Telnyx; None: not yet.
        is_over: whether the turn has ended and the original is still at Telnyx; a later turn may try again.
        key: fingerprint of the API key under which Telnyx had it; empty if unknown.
    """

    folder: str
    token: str
    seen_at: str
    asked_at: str | None = None
    is_over: bool = False
    key: str = ""


class LeavingOriginals:
    """The deletions under way of one Redis, by recording id."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[str]:
        """Keep a turn of deletion marked as alive while the block runs; yields its token."""
        token = secrets.token_hex(8)
        sign = ("SET", LEAVING_ALIVE + token, "1", "EX", _ALIVE_SECONDS)

        await write_when_full(self._redis, sign)
        try:
            async with renewed(lambda: write_when_full(self._redis, sign), _ALIVE_SECONDS / 3, "a turn of deletion"):
                yield token
        finally:
            with suppress(RedisError, OSError):  # it expires
                await self._redis.delete(LEAVING_ALIVE + token)

    async def put(self, rows: Mapping[str, Leaving]) -> None:
        """Register or update some, by recording id."""
        puts = (("HSET", LEAVING, id_, msgspec.json.encode(row)) for id_, row in rows.items())
        await write_when_full(self._redis, *puts)

    async def take_away(self, recording_ids: Iterable[str]) -> None:
        """Remove those whose outcome is known."""
        if ids := list(recording_ids):
            await self._redis.hdel(LEAVING, *ids)

    async def has_left(self, recording_id: str, folder: str) -> None:
        """Record for an hour that Callvault deleted an original, and remove it here."""
        keys = (LEFT, LEFT_TRANSCRIPTIONS, LEAVING)
        await _REMEMBER(self._redis, keys, (recording_id, folder, _REMEMBERED_SECONDS))

    async def transcription_leaves(self, recording_id: str, folder: str) -> None:
        """Record for an hour that the deletion of a transcription is about to be sent."""
        await _REMEMBER(self._redis, (LEFT_TRANSCRIPTIONS,), (recording_id, folder, _REMEMBERED_SECONDS))

    async def left_since(self, instant: float) -> dict[str, str]:
        """The originals deleted since an instant of the server's clock, in seconds: folders by recording id."""
        return _folders(await self._redis.zrangebyscore(LEFT, instant, "+inf"))

    async def transcriptions_left(self) -> dict[str, str]:
        """Recordings of which only a transcription was deleted in the last hour: folders by id."""
        return _folders(await self._redis.zrange(LEFT_TRANSCRIPTIONS, 0, -1))

    async def of(self, recording_id: str) -> Leaving | None:
        """The deletion of one original; None if it is not under way."""
        return _read(await self._redis.hget(LEAVING, recording_id))

    async def all(self) -> dict[str, Leaving]:
        """All deletions under way, by recording id."""
        rows = ((id_.decode(), _read(data)) for id_, data in (await self._redis.hgetall(LEAVING)).items())
        return {id_: row for id_, row in rows if row is not None}

    async def under_way(self, recording_ids: Iterable[str]) -> set[str]:
        """Those of some originals that a living turn deletes, and whose outcome it does not know yet."""
        if not (ids := list(recording_ids)):
            return set()
        rows = zip(ids, map(_read, await self._redis.hmget(LEAVING, ids)), strict=True)
        tokens = {id_: row.token for id_, row in rows if row is not None and not row.is_over}
        if not tokens:
            return set()
        alive = await self._redis.mget([LEAVING_ALIVE + token for token in tokens.values()])
        return {id_ for id_, sign in zip(tokens, alive, strict=True) if sign is not None}


def _read(data: bytes | None) -> Leaving | None:
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Leaving)
    except msgspec.MsgspecError:  # from another version; Telnyx knows whether it is gone
        return Leaving("", "", "", None)


def _folders(rows: list[bytes]) -> dict[str, str]:
    return dict(row.decode().partition(" ")[::2] for row in rows)
