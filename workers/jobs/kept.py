"""What keeps an original whatever its time, for people who look. What counts is asked again before each request that deletes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from redis.exceptions import RedisError

from workers.archive import layout
from workers.archive.archive import Archive
from workers.archive.decisions import decisions_about, findings_of, held_connections, read_decisions
from workers.archive.records import Duties, UnreadableRecord
from workers.jobs.duties import own_duties, stated_duties, strictest, workers_duties
from workers.jobs.may_delete import Rules, why_kept, why_paused
from workers.runtime import Runtime

_SETTING = "a worker or unit that serves this archive is set to delete nothing (CALLVAULT_DELETE_ORIGINALS)"
_AT_ONCE = 16


@dataclass(frozen=True)
class _Standing:
    """What stands for all originals just now: the rules, and why deletion is paused."""

    rules: Rules
    paused: str | None


async def what_keeps(runtime: Runtime, folder: str) -> str | None:
    """What keeps one original; None: nothing but its time and the seal of its day, or there is no commit record.

    Raises:
        StoreError, UnreadableRecord: the archive cannot be asked now.
    """
    standing = await _stands(runtime)
    return await runtime.in_thread(_of, runtime.archive, standing, folder)


async def what_keeps_each(runtime: Runtime, folders: Iterable[str]) -> dict[str, str]:
    """What keeps each of some originals, by their folders; what nothing keeps is not in it.

    Raises:
        StoreError, UnreadableRecord: the archive cannot be asked now.
    """
    standing = await _stands(runtime)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def of(folder: str) -> tuple[str, str | None]:
        async with gate:
            return folder, await runtime.in_thread(_of, runtime.archive, standing, folder)

    return {folder: why for folder, why in await asyncio.gather(*map(of, folders)) if why is not None}


async def _stands(runtime: Runtime) -> _Standing:
    connections = await runtime.in_thread(held_connections, runtime.archive)
    paused = await runtime.in_thread(why_paused, runtime.archive)
    return _Standing(Rules(await duties_of_workers(runtime), 0.0, connections, frozenset()), paused)


async def duties_of_workers(runtime: Runtime) -> Duties:
    """What the workers are set to do, as `workers_duties` says; with Redis away, what the archive states of it."""
    try:
        return await workers_duties(runtime)
    except (RedisError, OSError):
        stated = await runtime.in_thread(stated_duties, runtime.archive)
        return strictest([one for one in stated.values() if not one.retired] or [own_duties(runtime.settings)])


def _of(archive: Archive, standing: _Standing, folder: str) -> str | None:
    try:
        record = archive.commit_record(folder)
        if record is None:
            return None
        about = decisions_about(archive, "recording", layout.recording_id_of(folder))
        beside = read_decisions(archive, archive.keys_of(f"{folder}decisions/"))
        findings = findings_of(archive.versions(folder), record)
    except UnreadableRecord as error:
        return f"{error}; run `callvault verify`"
    kept = why_kept(standing.rules, record, {**beside, **about}, findings)
    if kept is not None and kept.seconds is None:
        return kept.why
    if standing.paused is not None:
        return f"deletion is paused: {standing.paused}"
    return None if standing.rules.duties.delete_originals == "verified" else _SETTING
