"""Removes exports of the pages after their end, and has those made that no job makes. Each worker does so for its own place.

It is not a turn of the clock (`workers/clock.py`), which one worker takes for all: two machines may have a place each.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

from redis.exceptions import RedisError

from archive.records import UnreadableRecord
from archive.stores.store import StoreError
from process.logs import get_logger
from text.one_line import one_line
from text.times import format_instant, utc_now
from workers.engine.lease import HeldElsewhere, take_turn
from workers.export.place import (
    FORGOTTEN_AFTER,
    GIVEN_UP_AFTER,
    SHOWN_AFTER_FAILING,
    End,
    Exports,
    asked_at,
    open_exports,
)
from workers.keys import TURN
from workers.queue.binding import AnotherArchive
from workers.queue.jobs import enqueue
from workers.recordings.requests import export_job
from workers.runtime import Runtime

_EVERY_SECONDS = 30
_FAILED_SECONDS = 60

log = get_logger()


class Keeper:
    """Looks after the place of exports of one worker.

    Args:
        runtime: the worker's parts.

    Attributes:
        place: the id of the place; None: this worker sees none yet.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._exports: Exports | None = None
        self.place: str | None = None

    async def run(self) -> None:
        """Look after the place until cancelled, through outages."""
        while True:
            seconds: float = _FAILED_SECONDS
            try:
                seconds = await self._look()
            except AnotherArchive:
                pass  # `watch_binding` alerts
            except (StoreError, UnreadableRecord, RedisError, OSError, HeldElsewhere) as error:
                if times := self._runtime.throttle.count(f"exports {type(error).__name__}"):
                    log.warning("exports of the pages are not looked after", error=one_line(error), times=times)
            await asyncio.sleep(max(1.0, seconds))

    async def _look(self) -> float:
        """Look once, unless another worker does; returns for how many seconds there is nothing to do."""
        runtime = self._runtime
        if self._exports is None:
            self._exports = await runtime.in_thread(open_exports, runtime.settings, runtime.archive)
        self.place = await runtime.in_thread(self._exports.known_id)
        look = partial(look_after, runtime, self._exports)
        return await take_turn(runtime.redis, f"{TURN}keep_exports:{self.place}", _EVERY_SECONDS, look)


async def look_after(runtime: Runtime, exports: Exports) -> None:
    """Remove what is over, and enqueue the jobs of what has not ended.

    Raises:
        StoreError: the place does not answer, or refuses to remove.
        redis.exceptions.RedisError: Redis does not answer.
    """
    await runtime.assert_bound()
    for export_id in await runtime.in_thread(_clean, exports):
        await enqueue(runtime.redis, export_job(export_id, exports.known_id()))


def _clean(exports: Exports) -> list[str]:
    """Remove what is over; returns the ids of the exports that have still to be made."""
    with suppress(StoreError):
        exports.store.remove_orphans()
    return [export_id for export_id in exports.ids() if _clean_one(exports, export_id)]


def _clean_one(exports: Exports, export_id: str) -> bool:
    """Remove what is over of an export; returns whether it has still to be made."""
    now, at = utc_now(), asked_at(export_id)
    if at is None:
        return False
    if now - at > FORGOTTEN_AFTER:  # also what cannot be read
        _remove(exports, export_id)
        return False
    export = exports.readable(export_id)
    if export is None:
        return False
    if export.is_over:
        _remove(exports, export_id)
        return False
    if export.end is not None:
        for stored in list(exports.objects(export_id)):
            if "/bundle-" in stored.key and stored.key != export.end.key:
                exports.store.erase(stored.key)
        return False
    if now - at > GIVEN_UP_AFTER:
        why = "no worker has made it within three days; ask again"
        exports.end(export_id, End("failed", format_instant(now), format_instant(now + SHOWN_AFTER_FAILING), why=why))
        return False
    return True


def _remove(exports: Exports, export_id: str) -> None:
    """Remove an export: the bundle first, what says that it is over last, so that a stop in between leaves that."""
    keys = [stored.key for stored in exports.objects(export_id)]
    for key in sorted(keys, key=lambda key: (key.endswith(("/end.json", "/revoked.json")), "/bundle-" not in key)):
        exports.store.erase(key)
    log.info("export removed", export=export_id)
