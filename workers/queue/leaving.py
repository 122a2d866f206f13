"""Which originals are being deleted just now: put here before the last questions are asked, taken away when the end is known.

So whoever places a hold knows what came before it: the hold is written first, then looked for here; a deletion is put here first,
then looks for holds. One of the two always sees the other.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress

import msgspec
from redis.exceptions import RedisError

from config.tasks import end_tasks
from workers.keys import LEAVING, LEAVING_ALIVE, LEFT, LEFT_TRANSCRIPTIONS
from workers.queue.script import AsyncRedis, Script, write_when_full

_ALIVE_SECONDS = 15
_REMEMBERED_SECONDS = 3600

_REMEMBER = Script(__package__, "remember_deleted.lua")


class Leaving(msgspec.Struct, frozen=True):
    """An original whose deletion is under way.

    Attributes:
        folder: of its recording in the archive.
        token: of the turn that deletes it.
        seen_at: when Telnyx had it, ISO 8601.
        asked_at: when Telnyx was asked to delete it; None: it has not been yet.
        is_over: whether the turn has seen that it is still there; it may ask again in a later one.
        key: fingerprint of the API key under which Telnyx had it; empty: not known.
    """

    folder: str
    token: str
    seen_at: str
    asked_at: str | None = None
    is_over: bool = False
    key: str = ""


class LeavingOriginals:
    """The originals that are being deleted, by recording id; of one Redis."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[str]:
        """A turn of deletion that shows that it lives; gives its token."""
        token = secrets.token_hex(8)
        sign = ("SET", LEAVING_ALIVE + token, "1", "EX", _ALIVE_SECONDS)

        async def beat() -> None:
            while True:
                await asyncio.sleep(_ALIVE_SECONDS / 3)
                with suppress(RedisError, OSError):  # the next beat
                    await write_when_full(self._redis, sign)

        await write_when_full(self._redis, sign)
        beating = asyncio.create_task(beat())
        try:
            yield token
        finally:
            await end_tasks([beating])
            with suppress(RedisError, OSError):  # it expires
                await self._redis.delete(LEAVING_ALIVE + token)

    async def put(self, rows: Mapping[str, Leaving]) -> None:
        """Put some here, or change what is said of them, by recording id."""
        puts = (("HSET", LEAVING, id_, msgspec.json.encode(row)) for id_, row in rows.items())
        await write_when_full(self._redis, *puts)

    async def take_away(self, recording_ids: Iterable[str]) -> None:
        """The end of these is known."""
        if ids := list(recording_ids):
            await self._redis.hdel(LEAVING, *ids)

    async def has_left(self, recording_id: str, folder: str) -> None:
        """An original is gone, deleted by us: it is remembered for an hour, and is not under way any more."""
        await _REMEMBER(self._redis, (LEFT,), (recording_id, folder, _REMEMBERED_SECONDS))
        await self._redis.zrem(LEFT_TRANSCRIPTIONS, f"{recording_id} {folder}")
        await self.take_away([recording_id])

    async def transcription_leaves(self, recording_id: str, folder: str) -> None:
        """The deletion of a transcription is about to be sent: it is remembered for an hour."""
        await _REMEMBER(self._redis, (LEFT_TRANSCRIPTIONS,), (recording_id, folder, _REMEMBERED_SECONDS))

    async def left_since(self, instant: float) -> dict[str, str]:
        """The originals that have left since an instant of the server's clock, in seconds: folders by recording id."""
        return _folders(await self._redis.zrangebyscore(LEFT, instant, "+inf"))

    async def transcriptions_left(self) -> dict[str, str]:
        """Recordings that have not left, but a transcription of which was asked to in the last hour: folders by id."""
        return _folders(await self._redis.zrange(LEFT_TRANSCRIPTIONS, 0, -1))

    async def of(self, recording_id: str) -> Leaving | None:
        """What is said of one; None if it is not here."""
        return _read(await self._redis.hget(LEAVING, recording_id))

    async def all(self) -> dict[str, Leaving]:
        """All that are here, by recording id."""
        rows = ((id_.decode(), _read(data)) for id_, data in (await self._redis.hgetall(LEAVING)).items())
        return {id_: row for id_, row in rows if row is not None}

    async def under_way(self, recording_ids: Iterable[str]) -> set[str]:
        """Of some originals, those under way: a living turn has put them here and does not know their end yet."""
        found = set()
        for recording_id in recording_ids:
            row = await self.of(recording_id)
            if row is not None and not row.is_over and await self._redis.exists(LEAVING_ALIVE + row.token):
                found.add(recording_id)
        return found


def _read(data: bytes | None) -> Leaving | None:
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Leaving)
    except msgspec.MsgspecError:  # of another version; whether it left is found out at Telnyx
        return Leaving("", "", "", None)


def _folders(rows: list[bytes]) -> dict[str, str]:
    return dict(row.decode().partition(" ")[::2] for row in rows)
