"""Deletions in progress: an original is registered before the last checks, and removed when its outcome is known.

So a hold and a deletion always see each other: a hold is written before its writer reads this list, and a deletion is
registered here before it looks for holds.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

import msgspec
from redis.exceptions import RedisError

from workers.engine.lease import renewed
from workers.keys import LEAVING, LEAVING_ALIVE, LEFT, LEFT_TRANSCRIPTIONS
from workers.queue.script import AsyncRedis, Script, write_when_full

_ALIVE_SECONDS = 15
_REMEMBERED_SECONDS = 3600

_REMEMBER = Script(__package__, "remember_deleted.lua")


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
        await _REMEMBER(self._redis, (LEFT,), (recording_id, folder, _REMEMBERED_SECONDS))
        await self._redis.zrem(LEFT_TRANSCRIPTIONS, f"{recording_id} {folder}")
        await self.take_away([recording_id])

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
