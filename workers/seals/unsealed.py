"""Which days to seal, and when their jobs start.

A job that writes to the archive puts the day on a list in Redis (`waiting.py`). The list may be lost
or old, so nothing depends on it alone. Workers compute the days that must have a seal from the chain and the clock, and
after each start or failover of Redis they list the archive for days with an object that no seal lists.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import partial

from archive import layout
from archive.archive import Archive
from archive.records import UnreadableRecord
from archive.seals import Chain, days_to_seal, sealed_keys
from archive.stores.store import StoredObject
from text.times import utc_now
from workers.engine.lease import take_turn
from workers.keys import UNSEALED_KNOWN, UNSEALED_RECKONED
from workers.queue.jobs import enqueue
from workers.queue.script import server_seconds, start_of, write_when_full
from workers.reconcile.archived_days import without_receipt
from workers.recordings.requests import FindUnsealedRequest, find_unsealed_job, seal_job
from workers.runtime import Runtime, sealable_at
from workers.seals.chain import read_chain
from workers.seals.waiting import UnsealedDays

_AT_ONCE = 20
_RECKON_EVERY_SECONDS = 60
_SCHEDULED_AT_ONCE = 100


async def start_seals(runtime: Runtime) -> None:
    """Enqueue a job for each day that is due; after a start of Redis, also one that finds unsealed days.

    Seals have their own queue: a bulk download may take hours, and the deletions of a day wait for its seal. A day that is
    not whole yet stays on the list and is tried again, at growing intervals.
    """
    redis = runtime.redis
    known = await redis.get(UNSEALED_KNOWN)
    if known is None or known.decode("utf-8", "replace") != await start_of(redis):
        await enqueue(redis, find_unsealed_job())
    for day in await UnsealedDays(redis).due(await server_seconds(redis), _AT_ONCE):
        await enqueue(redis, seal_job(day))
    await take_turn(redis, UNSEALED_RECKONED, _RECKON_EVERY_SECONDS, partial(_list_days_without_a_seal, runtime))


async def _list_days_without_a_seal(runtime: Runtime) -> None:
    with suppress(UnreadableRecord):  # the job of each listed day then reports why it cannot be sealed
        days = await days_without_a_seal(runtime)
        await UnsealedDays(runtime.redis).add_missing(days, await server_seconds(runtime.redis))


async def days_without_a_seal(runtime: Runtime) -> list[date]:
    """The days that must have a seal by now and have none, from the chain and the clocks alone.

    Raises:
        UnreadableRecord: a seal cannot be read.
        StoreError: the store cannot be read now.
    """
    now = min(await server_seconds(runtime.redis), utc_now().timestamp())
    last = datetime.fromtimestamp(now, UTC).date()
    while sealable_at(runtime.settings, last) > now:
        last -= timedelta(days=1)
    days = days_to_seal(await runtime.in_thread(lambda: runtime.archive.identity), last)
    # Even without such days: this compares the chain with the archive each minute.
    sealed = (await read_chain(runtime)).days
    return [day for day in days if day not in sealed]


async def find_unsealed(runtime: Runtime, _: FindUnsealedRequest) -> None:
    """The job after each start of Redis: list the archive for what a lost or older Redis does not know.

    It puts every day with an unsealed object on the list. If deletion is on, it also schedules the original of every
    committed recording that has no receipt and was not found gone.

    Raises:
        StoreError: the store cannot be listed now.
    """
    start = await start_of(runtime.redis)
    days = UnsealedDays(runtime.redis)
    try:
        chain = await read_chain(runtime)
    except UnreadableRecord:  # every day goes on the list, and each job then reports why it cannot be sealed
        chain = Chain(runtime.archive)
    unsealed, deletes = _Unlisted(runtime.archive, chain), runtime.settings.delete_originals == "verified"
    folders = unsealed.walk()
    while batch := await runtime.in_thread(lambda: list(itertools.islice(folders, _SCHEDULED_AT_ONCE))):
        for folder in batch if deletes else ():
            await runtime.schedule.add(folder, runtime.settings.delete_after.total_seconds())
    for day in await runtime.in_thread(unsealed.days):
        await days.add(day, sealable_at(runtime.settings, day))
    await write_when_full(runtime.redis, ("SET", UNSEALED_KNOWN, start))


class _Unlisted:
    """One listing of the archive: unsealed days, and recordings whose originals may be at Telnyx."""

    def __init__(self, archive: Archive, chain: Chain) -> None:
        self._archive = archive
        self._chain = chain
        self._found = set[date]()
        # Of days with seals: how many keys, and their hashes in one number.
        self._listed: dict[date, tuple[int, int]] = {}

    def walk(self) -> Iterator[str]:
        """List every key; yields the folders that are committed, have no receipt and were not found gone."""
        for folder in layout.DAY_FOLDERS:
            objects = map(self._look, self._archive.store.list(f"{folder}/"))
            yield from without_receipt(objects)

    def _look(self, stored: StoredObject) -> StoredObject:
        if (day := layout.day_of(stored.key)) is not None and day not in self._found:
            if not self._chain.of_day(day):
                self._found.add(day)
            else:
                count, total = self._listed.get(day, (0, 0))
                self._listed[day] = (count + 1, total ^ hash(stored.key))
        return stored

    def days(self) -> list[date]:
        """The days that hold a key no manifest lists, once all has been walked; reads every manifest."""
        for day, known in self._listed.items():
            count, total = 0, 0
            with suppress(UnreadableRecord):  # what was counted until then differs
                for key in sealed_keys(self._archive, self._chain.of_day(day)):
                    count, total = count + 1, total ^ hash(key)
            if (count, total) != known:
                self._found.add(day)
        return sorted(self._found)
