"""Announce decisions about recordings that were written while Redis was away.

They are in force, but catalogues do not show them, and no seal would list a copy beside a recording whose day is sealed. Nor
does a reconcile, which skips sealed days, find an original that was freed.
"""

from __future__ import annotations

from collections.abc import Collection

from archive import layout
from archive.archive import Archive
from archive.decision_records import Decision
from archive.decisions import read_decisions
from workers.deletion.decisions import announce_copy
from workers.deletion.kept import schedule_unless_kept
from workers.deletion.whereabouts import find_recording
from workers.keys import DECISIONS_ANNOUNCED
from workers.queue.jobs import enqueue
from workers.queue.script import write_when_full
from workers.recordings.requests import find_unsealed_job
from workers.runtime import Runtime

_AT_ONCE = 1_000


async def announce_decisions(runtime: Runtime) -> None:
    """Announce each decision that this Redis does not know, and schedule the original of one that nothing keeps any more.

    If Redis knows none yet, and there are some, the archive is listed for unsealed days and originals.

    One whose recording cannot be looked for now waits for the next reconcile.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away.
    """
    known = {name.decode("utf-8", "replace") for name in await runtime.redis.hkeys(DECISIONS_ANNOUNCED)}
    is_first = "" not in known
    found = await runtime.in_thread(_keys, runtime.archive, () if is_first else known)
    if is_first:
        if found:  # else nothing was released, and a full Redis, which takes no job, is not in the way
            await enqueue(runtime.redis, find_unsealed_job())
        names = [*found, ""]  # the mark last: what was interrupted begins anew
        for i in range(0, len(names), _AT_ONCE):
            rows = (("HSET", DECISIONS_ANNOUNCED, name, "1") for name in names[i : i + _AT_ONCE])
            await write_when_full(runtime.redis, *rows)
        return
    for name, key in found.items():
        decision = (await runtime.in_thread(read_decisions, runtime.archive, [key]))[name]
        if not isinstance(decision, Decision) or decision.id != name:  # verify reports it
            continue
        there = await find_recording(runtime, decision.subject)
        if there.folder is None and there.unknown:
            continue
        if there.folder is not None and there.gone is None and there.erased is None:
            await schedule_unless_kept(runtime, [there.folder])  # a release or an approval may have freed it
        await announce_copy(runtime, decision, there.folder)


def _keys(archive: Archive, known: Collection[str]) -> dict[str, str]:
    """The keys of the decisions about recordings that are not known, by the id of the decision; blocks.

    It lists the decisions of all times, since no key tells when one was written; only those to announce stay in memory.
    """
    listed = ((layout.name_of(stored.key), stored.key) for stored in archive.store.list(layout.RECORDING_DECISIONS))
    return {name: key for name, key in listed if name not in known}
