"""What keeps originals for a standing reason, such as the holds in force: for people who look, and for reconcile, which does not
schedule them again.

Workers ask the rule (`may_delete.py`) again before each request that deletes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

import msgspec

from archive import layout
from archive.archive import Archive
from archive.cases import Case, facts_of, facts_without_record, holding, open_cases
from archive.decisions import all_holds, decisions_about, decisions_on, findings_of, standing_holds
from archive.hold import Hold
from archive.layout import Scope
from archive.records import CommitRecord, UnreadableRecord
from archive.stores.store import StoreError
from workers.damage.damage import known_damage
from workers.damage.damaged import KnownDamage
from workers.deletion.duties import stated_duties, workers_duties
from workers.deletion.may_delete import Rules, rules_under, why_kept
from workers.deletion.outcomes import letter_id
from workers.keys import DEAD_LETTERS
from workers.runtime import Runtime

_SETTING = "CALLVAULT_HOLD_CONNECTIONS"
_AT_ONCE = 16


class Holding(msgspec.Struct, frozen=True):
    """A hold in force, and what it holds.

    Attributes:
        scope: `recording`, `connection`, `case`, or `everything` (deletion is paused).
        subject: the id of the recording, connection or case; empty for everything.
        why: the reason that was given.
        by: who placed it, or the worker whose setting it is; empty where that is not known.
        at: since when, ISO 8601, UTC; likewise.
        decided: whether a person decided it, so that a release lifts it, or the closing of a case; else a setting of a
            worker holds.
        name: of a case.
    """

    scope: Scope | Literal["case"]
    subject: str
    why: str
    by: str
    at: str
    decided: bool = True
    name: str = ""

    @property
    def what(self) -> str:
        """What it holds, or the case that holds."""
        if self.scope == "everything":
            return "everything (deletion is paused)"
        return f'case "{self.name}" ({self.subject})' if self.name else f"{self.scope} {self.subject}"

    def __str__(self) -> str:
        return str(Hold(self.why, self.by, self.at))


def standing(archive: Archive) -> list[Holding]:
    """All holds in force, oldest first within each scope; blocks.

    Holds that a version before 2 wrote lie with their recordings alone, and are not among them.

    Raises:
        UnreadableRecord: what workers are set to cannot be read.
        StoreError: the archive cannot be asked now.
    """
    found = [_holding(scope, subject, hold) for scope, subject, hold in all_holds(archive)]
    found += [*_of_settings(archive), *map(_of_case, open_cases(archive))]
    scopes = ("everything", "case", "connection", "recording")
    return sorted(found, key=lambda one: (scopes.index(one.scope), one.at, one.subject))


def holds_on(archive: Archive, folder: str, connection_id: str | None) -> list[Holding]:
    """The holds in force on one recording: its own, those of its connection, and the cases that it is in; blocks.

    Raises:
        UnreadableRecord, StoreError: as `standing`.
    """
    recording_id, own = layout.recording_id_of(folder), standing_holds(decisions_on(archive, folder))
    found = [_holding("recording", recording_id, hold) for hold in own.values()]
    if connection_id is not None:
        shared = standing_holds(decisions_about(archive, "connection", connection_id))
        found += [_holding("connection", connection_id, hold) for hold in shared.values()]
        found += [one for one in _of_settings(archive) if one.subject == connection_id]
    return [*found, *map(_of_case, cases_on(archive, folder))]


def cases_on(archive: Archive, folder: str) -> list[Case]:
    """The open cases that hold one recording, by its commit record, or that it could belong to without one; blocks.

    Raises:
        StoreError: the archive cannot be asked now.
    """
    if not (cases := open_cases(archive)):
        return []
    try:
        record = archive.commit_record(folder)
    except UnreadableRecord:
        record = None
    return holding(cases, facts_without_record(folder) if record is None else facts_of(record))


def _of_case(case: Case) -> Holding:
    if case.problem is not None:
        return Holding("case", case.id, f"it cannot be read, so it may hold every recording: {case.problem}", "", "")
    return Holding("case", case.id, case.why, case.opened_by, case.opened_at, name=case.name)


def _holding(scope: Scope, subject: str, hold: Hold) -> Holding:
    return Holding(scope, subject, hold.why, hold.by, hold.at)


def _of_settings(archive: Archive) -> Iterator[Holding]:
    for duties in stated_duties(archive).values():
        for connection_id in duties.hold_connections if not duties.retired else ():
            yield Holding("connection", connection_id, _SETTING, duties.by, duties.at, decided=False)


@dataclass(frozen=True)
class _Standing:
    """What applies to all originals just now.

    Attributes:
        damage: the known damage of objects, by the folder of their recording.
    """

    rules: Rules
    damage: Mapping[str, str]


async def what_keeps(runtime: Runtime, folder: str) -> str | None:
    """What keeps one original; None if only time or the seal of its day does, or if it has no commit record.

    Raises:
        StoreError, UnreadableRecord: the archive cannot be read now.
    """
    return (await what_keeps_each(runtime, [folder])).get(folder)


async def what_keeps_each(runtime: Runtime, folders: Iterable[str]) -> dict[str, str]:
    """What keeps each of some originals, by their folders; those that nothing keeps are left out.

    Raises:
        StoreError, UnreadableRecord: the archive cannot be read now.
    """
    standing = await _read_standing(runtime)
    return await _each(runtime, folders, lambda folder: _what_keeps(runtime.archive, standing, folder))


async def schedule_unless_kept(runtime: Runtime, folders: Sequence[str]) -> int:
    """Schedule the deletion of originals, except of those that a standing reason keeps; returns how many are new.

    A deletion turn would take those off the schedule again. The decision that ends the reason schedules them, or the next
    reconcile does. A pause keeps nothing off the schedule: no turn looks at it meanwhile. A reason that cannot be read keeps
    nothing off it either, and does not stop reconcile: a turn keeps the original, and reports what it cannot read.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    if runtime.settings.delete_originals != "verified" or not folders:
        return 0
    if not (new := await runtime.schedule.unlisted(folders)):
        return 0
    standing: _Standing | None = None
    with suppress(UnreadableRecord, StoreError):
        standing = await _read_standing(runtime)
    if standing is not None and standing.rules.is_turned_off:
        return 0
    given_up = await runtime.redis.hmget(DEAD_LETTERS, [letter_id(layout.recording_id_of(folder)) for folder in new])
    new = [folder for folder, letter in zip(new, given_up, strict=True) if letter is None]
    kept = {} if standing is None else await _each(runtime, new, partial(_known_to_keep, runtime.archive, standing))
    grace = runtime.settings.delete_after.total_seconds()
    return sum([await runtime.schedule.add(folder, grace) for folder in new if folder not in kept])


async def _each(runtime: Runtime, folders: Iterable[str], why: Callable[[str], str | None]) -> dict[str, str]:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def of(folder: str) -> tuple[str, str | None]:
        async with gate:
            return folder, await runtime.in_thread(why, folder)

    return {folder: reason for folder, reason in await asyncio.gather(*map(of, folders)) if reason is not None}


async def _read_standing(runtime: Runtime) -> _Standing:
    return _Standing(await rules_under(runtime, await workers_duties(runtime)), _by_folder(await known_damage(runtime)))


def _by_folder(damage: Mapping[str, KnownDamage]) -> dict[str, str]:
    places = ((layout.recording_of(key), key, found.what) for key, found in sorted(damage.items(), reverse=True))
    return {layout.recording_folder(p[0], p[1]): f"damaged: {key}: {what}" for p, key, what in places if p is not None}


def _what_keeps(archive: Archive, standing: _Standing, folder: str) -> str | None:
    damage = standing.damage.get(folder)
    try:
        record = archive.commit_record(folder)
        if record is None:
            return damage
        why = _standing_reason(archive, standing.rules, folder, record)
    except UnreadableRecord as error:
        return f"damaged: {error}; run `callvault verify`"
    return "; ".join(filter(None, (why, damage))) or standing.rules.why_nothing


def _known_to_keep(archive: Archive, standing: _Standing, folder: str) -> str | None:
    """What keeps an original, as far as it is known. A deletion turn finds and reports what cannot be read.

    Missing audio keeps nothing off the schedule: the turn that finds it has a job fetch it from Telnyx.
    """
    damage = standing.damage.get(folder)
    try:
        record = archive.commit_record(folder)
        if record is None or (damage is not None and not _lacks_audio(archive, folder, record)):
            return damage
        return _standing_reason(archive, standing.rules, folder, record)
    except (UnreadableRecord, StoreError):
        return damage


def _lacks_audio(archive: Archive, folder: str, record: CommitRecord) -> bool:
    named = (known for one in (record, *archive.versions(folder)) for known in one.objects if not known.is_adopted)
    return any(archive.store.stat(known.key) is None for known in named)


def _standing_reason(archive: Archive, rules: Rules, folder: str, record: CommitRecord) -> str | None:
    findings = findings_of(archive.versions(folder), record)
    kept = why_kept(rules, record, decisions_on(archive, folder), findings)
    return None if kept is None or kept.seconds is not None else kept.why
