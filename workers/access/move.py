"""Moves the lines of the access log from Redis into the archive: once a minute, in batches, the same object at each try."""

from __future__ import annotations

from datetime import datetime, timedelta

from archive import kinds, layout
from archive.access import new_writer, put_lines
from archive.archive import ArchiveConflict
from process.logs import get_logger
from text.times import parse_instant
from workers.access.unusual import notice_unusual
from workers.access.waiting import Batch, finish_batch, take_batch
from workers.queue.script import server_now
from workers.runtime import Runtime, sealable_at
from workers.seals.waiting import UnsealedDays

log = get_logger()

_MOST_BATCHES = 500  # a million lines
_ON_ITS_WAY = timedelta(hours=1)  # as `verify --seals` allows


async def move_access_log(runtime: Runtime) -> None:
    """Write all waiting lines into the archive.

    Raises:
        StoreError: the archive did not take them now; they stay in Redis.
        redis.exceptions.RedisError: Redis is away.
    """
    for _ in range(_MOST_BATCHES):
        if not await _move_one(runtime):
            return


async def _move_one(runtime: Runtime) -> bool:
    """Move one batch; returns whether there was one."""
    redis, archive, archive_id = runtime.redis, runtime.archive, runtime.archive.identity.id
    now = await server_now(redis)
    key = layout.access_log_key(now, new_writer())
    batch = await take_batch(redis, archive_id, key)
    if batch is None:
        return False
    if _is_old(batch, now) and await runtime.in_thread(archive.store.stat, batch.key) is None:
        # Its day may be sealed by now: it gets a new instant, and lies under the day of that.
        batch = await take_batch(redis, archive_id, key, batch.key) or batch
    try:
        await runtime.in_thread(put_lines, archive, batch.key, batch.lines)
    except ArchiveConflict:
        log.error("an object of the access log holds other lines; they get a key of their own", key=batch.key)
        batch = await take_batch(redis, archive_id, key, batch.key) or batch
        await runtime.in_thread(put_lines, archive, batch.key, batch.lines)
    if (day := layout.day_of(batch.key)) is not None:
        await UnsealedDays(redis).add_missing([day], sealable_at(runtime.settings, day))
    await notice_unusual(runtime, batch, now)
    await finish_batch(redis, archive_id, batch.key)
    return True


def _is_old(batch: Batch, now: datetime) -> bool:
    """Whether a batch got its key so long ago that its day may have been sealed since."""
    names = kinds.place_of(batch.key).names
    return not names or now - parse_instant(names[0]) > _ON_ITS_WAY
