"""Wait for deletions that were under way when a person decided otherwise, and report which had left."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from redis.exceptions import RedisError

from archive.records import UnreadableRecord
from archive.stores.store import StoreError
from text.one_line import one_line
from workers.deletion.decided import Decided
from workers.deletion.duties import other_units
from workers.deletion.may_delete import LONGEST_QUESTION_SECONDS
from workers.deletion.schedule import Leaving
from workers.deletion.whereabouts import is_at_telnyx
from workers.runtime import Runtime

NO_REDIS = "whether a deletion or an erasure was under way (Redis does not answer; run the command again once it does)"
_LOOK_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 180.0
_OTHER_UNITS_SECONDS = 2 * LONGEST_QUESTION_SECONDS  # what another unit has asked about by then has left or will not


async def what_left_before(runtime: Runtime, connection_id: str | None, since: float | None) -> Decided:
    """What was deleted before the decision, as far as it can be seen; the decision is in force anyway."""
    if since is None:
        return Decided(unknown=(NO_REDIS,))
    try:
        return await _what_left(runtime, connection_id, since)
    except (RedisError, OSError, StoreError, UnreadableRecord) as error:
        return Decided(unknown=(f"whether a deletion was under way ({one_line(error)})",))


async def _what_left(runtime: Runtime, connection_id: str | None, since: float) -> Decided:
    """Wait for the deletions under way; returns the originals deleted since an instant, of one connection or of all."""
    every = {id_: row for id_, row in (await runtime.leaving.all()).items() if not row.is_over}
    rows = {id_: row for id_, row in every.items() if await _may_be_of(runtime, row, connection_id)}
    under_way = await wait_for(runtime, set(rows))
    left = await _those_of(runtime, await runtime.leaving.left_since(since), connection_id)
    for id_, row in rows.items():  # a turn that died before its receipt
        if row.folder and id_ not in left and id_ not in under_way:
            is_there = await is_at_telnyx(runtime, id_)
            if is_there is None:
                under_way.add(id_)
            elif not is_there:
                left[id_] = row.folder
    transcriptions = await _those_of(runtime, await runtime.leaving.transcriptions_left(), connection_id)
    stay = [id_ for id_ in transcriptions if id_ not in left and await is_at_telnyx(runtime, id_) is not False]
    return Decided(left=tuple(left), under_way=tuple(under_way), transcriptions=tuple(stay))


async def _may_be_of(runtime: Runtime, row: Leaving, connection_id: str | None) -> bool:
    """Whether a deletion under way is of a connection; if that cannot be read, it counts as one."""
    if not row.folder or connection_id is None:
        return True
    try:
        record = await runtime.in_thread(runtime.archive.commit_record, row.folder)
    except (StoreError, UnreadableRecord):
        return True
    return record is None or str(record.recording.get("connection_id")) == connection_id


async def _those_of(runtime: Runtime, folders: Mapping[str, str], connection_id: str | None) -> dict[str, str]:
    return {id_: folder for id_, folder in folders.items() if await _is_of(runtime, folder, connection_id)}


async def _is_of(runtime: Runtime, folder: str, connection_id: str | None) -> bool:
    if connection_id is None:
        return True
    record = await runtime.in_thread(runtime.archive.commit_record, folder)
    return record is not None and str(record.recording.get("connection_id")) == connection_id


async def wait_for(runtime: Runtime, recording_ids: set[str]) -> set[str]:
    """Wait for the results of deletions that were under way; returns those whose result is still unknown."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    others = await other_units(runtime)
    waiting = await runtime.leaving.under_way(recording_ids)
    while waiting and loop.time() - began < _LONGEST_WAIT_SECONDS:
        await asyncio.sleep(_LOOK_SECONDS)
        waiting = await runtime.leaving.under_way(waiting)
    if others:  # what they are about cannot be seen from here
        await asyncio.sleep(max(0.0, _OTHER_UNITS_SECONDS - (loop.time() - began)))
    return waiting
