"""What workers archive for a backfill while it runs, from the change feed; and whether there are workers at all."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec
from redis.exceptions import RedisError

from archive import layout
from text.times import parse_instant
from workers.keys import WRITTEN
from workers.queue.change_feed import STREAM_LENGTH
from workers.running import living_workers
from workers.runtime import Runtime

_EVERY_SECONDS = 1.0
_BATCH = 500


class _Object(msgspec.Struct):
    size: int


class _Record(msgspec.Struct):
    """What matters here of a commit record."""

    found_by: str
    archived_at: str
    objects: list[_Object]


class Backfilled:
    """Counts the audio that workers have archived for backfills.

    The feed is bounded: what it has dropped while no backfill was running is not counted.

    Args:
        runtime: the parts of this process.
        begun_at: since when to count, ISO 8601 by the clock of Redis.
        cursor: where an earlier run stopped reading; empty: at `begun_at`.
        size: bytes that an earlier run counted.

    Attributes:
        size: bytes of archived audio.
        cursor: the last entry of the feed that was read.
        has_worker: whether a worker was alive at the last look.
    """

    def __init__(self, runtime: Runtime, begun_at: str, cursor: str = "", size: int = 0) -> None:
        self.size = size
        self.cursor = cursor or f"{int(parse_instant(begun_at).timestamp() * 1000)}-0"
        self.has_worker = True
        self._runtime = runtime
        self._begun_at = begun_at
        self._seen: dict[str, None] = {}  # a job that runs again announces its record again
        self._one_at_a_time = asyncio.Lock()

    async def look(self) -> None:
        """Read what is new.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        redis = self._runtime.redis
        async with self._one_at_a_time:
            self.has_worker = bool(await living_workers(redis))
            while entries := await redis.xrange(WRITTEN, min=f"({self.cursor}", count=_BATCH):
                sizes = [await self._size(fields[b"key"].decode(), fields.get(b"data")) for _, fields in entries]
                self.size, self.cursor = self.size + sum(sizes), entries[-1][0].decode()

    async def _size(self, key: str, data: bytes | None) -> int:
        """The bytes that a written record adds."""
        found = layout.recording_of(key)
        if found is None or found[2] != "recording.json" or key in self._seen:
            return 0
        if data is None:  # it was too large for the feed
            data = await self._runtime.in_thread(self._runtime.archive.read_small, key)
        try:
            record = msgspec.json.decode(data or b"", type=_Record)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return 0  # `verify` reports it
        if record.found_by != "backfill" or record.archived_at < self._begun_at:
            return 0
        self._seen[key] = None
        if len(self._seen) > STREAM_LENGTH:
            del self._seen[next(iter(self._seen))]
        return sum(one.size for one in record.objects)

    async def follow(self) -> None:
        """Look every second until cancelled; a Redis that is away is asked again."""
        while True:
            with suppress(RedisError, OSError):
                await self.look()
            await asyncio.sleep(_EVERY_SECONDS)
