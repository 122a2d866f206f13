"""Reads the access log for people: the archive, and the lines that Redis still holds."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from redis.exceptions import RedisError

from archive.archive import Archive
from archive.stores.store import StoreError
from text.one_line import one_line
from workers.access.index import AccessIndex
from workers.access.waiting import Held, held_lines
from workers.queue.script import AsyncRedis

_LISTED_SECONDS = 30.0  # before the archive is listed again for what no worker moved there


class _Listed(NamedTuple):
    """When the archive was listed, by the monotonic clock, and what a worker had moved there last by then."""

    at: float
    moved: bytes | None

    def stands(self, now: float, held: Held) -> bool:
        """Whether the archive has no more lines than then, but for those that come there another way."""
        return self.moved == held.moved and now - self.at < _LISTED_SECONDS


class AccessReader:
    """Keeps an index current for many readers; one per process.

    The lines in Redis are read each time. The archive is listed once a worker has moved lines there, and else twice a minute:
    a few lines come there another way, such as from a receiver while Redis is away.
    """

    def __init__(self, index: AccessIndex) -> None:
        self.index = index
        self._reading = asyncio.Lock()
        self._listed: _Listed | None = None

    async def bring_up_to_date(self, archive: Archive, redis: AsyncRedis) -> str | None:
        """Take in what is new; see the function of this name."""
        async with self._reading:
            held, note = await _held(archive, redis)
            now, listed = time.monotonic(), self._listed
            if held is not None and listed is not None and listed.stands(now, held):
                await asyncio.to_thread(self.index.add_waiting, archive, held.lines)
                return None
            self._listed = None
            failed = await _refresh(self.index, archive, held)
            if failed is None and held is not None:
                self._listed = _Listed(now, held.moved)
            return _joined(note, failed)


async def bring_up_to_date(index: AccessIndex, archive: Archive, redis: AsyncRedis | None) -> str | None:
    """Take in what is new; what cannot be read now is named, and the rest is taken in.

    Args:
        index: the index.
        archive: the archive.
        redis: the client; None if no Redis is known here.

    Returns:
        What may be missing, in one sentence; None if nothing is.

    Raises:
        UserError: the index cannot be used now.
    """
    held, note = await _held(archive, redis)
    return _joined(note, await _refresh(index, archive, held))


async def _held(archive: Archive, redis: AsyncRedis | None) -> tuple[Held | None, str | None]:
    """What Redis holds; None, and what may be missing for that, if it cannot be read."""
    if redis is None or not archive.is_known:
        return Held([], None), None
    try:
        return await held_lines(redis, archive.identity.id), None
    except (RedisError, OSError) as error:
        return None, f"The lines of the last minute may be missing: {one_line(error)}."


async def _refresh(index: AccessIndex, archive: Archive, held: Held | None) -> str | None:
    try:
        await asyncio.to_thread(index.refresh, archive, held.lines if held is not None else ())
    except StoreError as error:
        return f"The latest lines may be missing, because the archive does not answer: {error}."
    return None


def _joined(*notes: str | None) -> str | None:
    return " ".join(note for note in notes if note is not None) or None
