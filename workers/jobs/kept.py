"""What keeps an original whatever its time, for people who look. What counts is asked again before each request that deletes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from redis.exceptions import RedisError

from workers.archive import layout
from workers.archive.archive import Archive
from workers.archive.decisions import decisions_on, findings_of, held_connections
from workers.archive.records import Duties, UnreadableRecord
from workers.hold import Hold
from workers.jobs.damage import known_damage
from workers.jobs.duties import own_duties, stated_duties, strictest, workers_duties
from workers.jobs.may_delete import Rules, pause_of, why_kept
from workers.queue.damaged import KnownDamage
from workers.runtime import Runtime

_SETTING = "a worker or unit of this archive has deletion turned off (CALLVAULT_DELETE_ORIGINALS)"
_AT_ONCE = 16


@dataclass(frozen=True)
class _Standing:
    """What stands for all originals just now.

    Attributes:
        pause: of deletion, if it is paused.
        damage: what is known to be wrong with objects of the archive, by the folder of their recording.
    """

    rules: Rules
    pause: Hold | None
    damage: Mapping[str, str]


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
    pause = await runtime.in_thread(pause_of, runtime.archive)
    rules = Rules(await duties_of_workers(runtime), 0.0, connections, frozenset())
    return _Standing(rules, pause, _by_folder(await known_damage(runtime)))


def _by_folder(damage: Mapping[str, KnownDamage]) -> dict[str, str]:
    places = ((layout.recording_of(key), key, found.what) for key, found in sorted(damage.items(), reverse=True))
    return {layout.recording_folder(p[0], p[1]): f"damaged: {key}: {what}" for p, key, what in places if p is not None}


async def duties_of_workers(runtime: Runtime) -> Duties:
    """What the workers are set to do, as `workers_duties` says; with Redis away, what the archive states of it."""
    try:
        return await workers_duties(runtime)
    except (RedisError, OSError):
        stated = await runtime.in_thread(stated_duties, runtime.archive)
        return strictest([one for one in stated.values() if not one.retired] or [own_duties(runtime.settings)])


def _of(archive: Archive, standing: _Standing, folder: str) -> str | None:
    damage = standing.damage.get(folder)
    try:
        record = archive.commit_record(folder)
        if record is None:
            return damage
        decisions = decisions_on(archive, folder)
        findings = findings_of(archive.versions(folder), record)
    except UnreadableRecord as error:
        return f"damaged: {error}; run `callvault verify`"
    kept = why_kept(standing.rules, record, decisions, findings)
    whys = [*([kept.why] if kept is not None and kept.seconds is None else []), *([damage] if damage else [])]
    if whys:
        return "; ".join(whys)
    if standing.pause is not None:
        return f"deletion is paused: {standing.pause}"
    return None if standing.rules.duties.delete_originals == "verified" else _SETTING
