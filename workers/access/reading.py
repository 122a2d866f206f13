"""Reads the access log for people: the archive, and the lines that Redis still holds."""

from __future__ import annotations

import asyncio

from redis.exceptions import RedisError

from archive.archive import Archive
from archive.stores.store import StoreError
from text.one_line import one_line
from workers.access.index import AccessIndex
from workers.access.waiting import waiting_lines
from workers.queue.script import AsyncRedis


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
    waiting, notes = [], []
    try:
        waiting = await waiting_lines(redis, archive.identity.id) if redis is not None and archive.is_known else []
    except (RedisError, OSError) as error:
        notes.append(f"The lines of the last minute may be missing: {one_line(error)}.")
    try:
        await asyncio.to_thread(index.refresh, archive, waiting)
    except StoreError as error:
        notes.append(f"The latest lines may be missing, because the archive does not answer: {error}.")
    return " ".join(notes) or None
