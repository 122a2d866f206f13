"""How each condition of the table in `workers/conditions.py` is detected; `known_conditions` asks all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import msgspec

from config.settings import Settings
from text.counts import many
from text.times import end_of_day, format_duration, format_instant, format_moment
from workers.acknowledged import Acknowledgement, acknowledged
from workers.conditions import Condition, condition
from workers.damage.damaged import DamagedObjects, KnownDamage
from workers.deletion.schedule import DeletionSchedule
from workers.disposal.looked import read_looked
from workers.engine.attempts import Attempts
from workers.engine.failure_classes import FAILURE_CLASSES, advice_of
from workers.keys import (
    CASES_WRONG,
    CLOCKS,
    DISPOSAL_STOPPED,
    LIVE_DUTIES,
    NO_WORKER,
    QUEUES,
    RETENTION_DIFFERS,
    RETENTION_UNREADABLE,
    WORKER_ENDED,
)
from workers.queue.backlog import EVENTS_SHARE, backlog, used_share
from workers.queue.script import AsyncRedis, server_seconds
from workers.running import Running, differing_settings, living_workers, read_running, versions
from workers.seals.waiting import UnsealedDays

_SEAL_SLACK_SECONDS = 3600  # a day is on the list of those that wait for some time before each seal
_DISPOSAL_SLACK_SECONDS = 3600
_REGISTER_OLD_SECONDS = 300
_MOST_DAMAGED = 1_000  # are listed one by one
_MOST_READ = 200  # dead letters, to know the oldest: `/readyz` asks too
_OF_THE_ARCHIVE = ("archive-away",)  # Redis does not know of it


@dataclass(frozen=True)
class _Moment:
    """What every look needs, asked once.

    Attributes:
        now: seconds since the epoch, by the server's clock.
        alive: ids of the workers that live.
        running: the receivers and workers that live, with what each runs with.
    """

    redis: AsyncRedis
    settings: Settings
    now: float
    alive: set[str]
    running: Sequence[Running]


Look = Callable[[_Moment], Awaitable[list[Condition]]]


async def _no_worker(at: _Moment) -> list[Condition]:
    """A service that never had a worker and has no work is not broken; waiting jobs, or a receiver's note, show that it is."""
    if at.alive:
        return []
    since, ended = await at.redis.mget(NO_WORKER, WORKER_ENDED)
    waiting = sum([await at.redis.zcard(queue) for queue in QUEUES.values()])
    if since is None and ended is None and not waiting and not await at.redis.exists(LIVE_DUTIES):
        return []
    began = None if since is None else float(since)
    length = "" if began is None else f" for {format_duration(max(0.0, at.now - began))}"
    jobs = "no job waits" if not waiting else many(waiting, "job waits", "jobs wait")
    why = "" if ended is None else f". The last worker ended: {ended.decode('utf-8', 'replace')}"
    what = f"nothing is archived, deleted or sealed{length}; {jobs}{why}"
    return [condition("no-worker", what, since=None if began is None else _instant(began))]


def _damage(key: str, one: KnownDamage, archive_address: str) -> Condition:
    from archive.problems import advice_for  # it imports every kind of record, which a receiver does without

    what = f"{key}: {one.what} (found by {one.found_by}, {format_moment(one.at)})"
    advice = f"{advice_for(key, one.state, archive_address)}. This line disappears once the object is intact"
    return condition("damaged", what, key, advice, one.at)


async def _damaged(at: _Moment) -> list[Condition]:
    damaged = DamagedObjects(at.redis)
    known = sorted((await damaged.all()).items())
    found = [_damage(key, one, at.settings.archive_address) for key, one in known[:_MOST_DAMAGED]]
    if (more := len(known) - _MOST_DAMAGED) > 0:
        found.append(condition("damaged", many(more, "more object, not listed here", "more objects, not listed here")))
    compared_at = await damaged.compared_at()
    if not at.alive:
        return found  # `no-worker` says it already
    if compared_at is None or at.now - compared_at > _REGISTER_OLD_SECONDS:
        since = "" if compared_at is None else f" for {format_duration(at.now - compared_at)}"
        what = f"no worker has read the archive's list of damaged objects{since}"
        found.append(condition("not-known", what))
    return found


async def _jobs_fail(at: _Moment) -> list[Condition]:
    failing = await Attempts(at.redis).failing(FAILURE_CLASSES)
    return [condition("jobs-fail", f"{cause}: {error}", cause, advice_of(cause)) for cause, error in failing.items()]


async def _clocks(at: _Moment) -> list[Condition]:
    ahead_by = {worker.decode(): float(ahead) for worker, ahead in (await at.redis.hgetall(CLOCKS)).items()}
    return [
        condition(
            "clocks",
            f"the clock of worker {worker} is {format_duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} Redis'",
            worker,
        )
        for worker, ahead in sorted(ahead_by.items())
        if worker in at.alive
    ]


async def _full(at: _Moment) -> list[Condition]:
    share = used_share(await at.redis.info("memory"))
    return [condition("redis-full", f"{share:.0%} of its memory is used")] if share > EVENTS_SHARE else []


async def _backlog(at: _Moment) -> list[Condition]:
    found = await backlog(at.redis, at.settings.queue_age_limit.total_seconds())
    return [condition("pressure", text, about) for about, text in found.items()]


async def _dead_letters(at: _Moment) -> list[Condition]:
    letters = Attempts(at.redis)
    if not (count := await letters.count()):
        return []
    first = next(iter(await letters.letters()), None) if count <= _MOST_READ else None
    return [condition("dead-letters", str(count), since=None if first is None else first.died_at)]


async def _deletion_paused(at: _Moment) -> list[Condition]:
    pause = await DeletionSchedule(at.redis).pause()
    return [] if pause is None else [condition("paused", str(pause), since=pause.at or None)]


async def _disposal_stopped(at: _Moment) -> list[Condition]:
    from workers.disposal.stop import read_stop  # it imports every kind of record, which a receiver does without

    if not await at.redis.exists(DISPOSAL_STOPPED):
        return []
    stop = await read_stop(at.redis)
    return [] if stop is None or stop.is_approved else [condition("disposal-stopped", stop.sentence, since=stop.at)]


async def _disposal_waits(at: _Moment) -> list[Condition]:
    if (looked := await read_looked(at.redis)) is None:
        return []
    if at.now - looked.at > _DISPOSAL_SLACK_SECONDS:
        what = f"`callvault worker --dispose` has not looked for {format_duration(at.now - looked.at)}"
        return [condition("disposal-waits", what, since=_instant(looked.at))]
    if looked.since is None or at.now - looked.since <= _DISPOSAL_SLACK_SECONDS:
        return []
    return [condition("disposal-waits", str(looked.waits), since=_instant(looked.since))]


async def _unsealed(at: _Moment) -> list[Condition]:
    latest = at.now - at.settings.seal_after.total_seconds() - _SEAL_SLACK_SECONDS
    waiting = {
        d: why
        for d, why in (await UnsealedDays(at.redis).overdue(at.now)).items()
        if end_of_day(d).timestamp() < latest
    }
    if not waiting:
        return []
    first = min(waiting)
    return [
        condition(
            "unsealed",
            f"{len(waiting)}, {first.isoformat()} first: {waiting[first]}",
            first.isoformat(),
            since=_due(at, first),
        )
    ]


def _due(at: _Moment, day: date) -> str:
    return format_instant(end_of_day(day) + at.settings.seal_after)


def _instant(seconds: float) -> str:
    return format_instant(datetime.fromtimestamp(seconds, UTC))


async def _cases(at: _Moment) -> list[Condition]:
    note = await at.redis.get(CASES_WRONG)
    return [] if note is None else [condition("cases-wrong", note.decode("utf-8", "replace"))]


async def _retention(at: _Moment) -> list[Condition]:
    kinds = ("retention-unreadable", "retention-differs")
    notes = await at.redis.mget(RETENTION_UNREADABLE, RETENTION_DIFFERS)
    return [
        condition(kind, note.decode("utf-8", "replace"))
        for kind, note in zip(kinds, notes, strict=True)
        if note is not None
    ]


async def _settings_differ(at: _Moment) -> list[Condition]:
    found = differing_settings(at.running)
    return [
        condition("settings-differ", f"{name} is {_counted(values, 'worker')}", name) for name, values in found.items()
    ]


async def _versions_differ(at: _Moment) -> list[Condition]:
    found = versions(at.running)
    return [] if len(found) < 2 else [condition("versions-differ", _counted(found, "process", "processes"))]


def _counted(values: Mapping[str, int], noun: str, nouns: str = "") -> str:
    return " and ".join(f"{value} in {many(count, noun, nouns)}" for value, count in values.items())


# The worst first.
_LOOKS: Sequence[Look] = (
    _full,
    _no_worker,
    _damaged,
    _jobs_fail,
    _clocks,
    _backlog,
    _dead_letters,
    _deletion_paused,
    _disposal_stopped,
    _disposal_waits,
    _unsealed,
    _cases,
    _retention,
    _settings_differ,
    _versions_differ,
)


async def known_conditions(
    redis: AsyncRedis, settings: Settings, of_the_archive: Sequence[Condition] | None = None
) -> list[Condition]:
    """All conditions, the worst first, each with who has seen it; notes on what is over are removed.

    Args:
        redis: Redis.
        settings: of the caller.
        of_the_archive: what is wrong with the archive, which Redis does not know; None: the caller did not look.

    Raises:
        redis.exceptions.RedisError: Redis does not answer, a condition of its own: `condition("redis-away")`.
    """
    now, alive, running = await server_seconds(redis), await living_workers(redis), await read_running(redis)
    at = _Moment(redis, settings, now, alive, running)
    found = [*(of_the_archive or ()), *[one for look in _LOOKS for one in await look(at)]]
    not_asked = _OF_THE_ARCHIVE if of_the_archive is None else ()
    notes = await acknowledged(redis, {one.id: one.what for one in found}, now, not_asked)
    return [_with_note(one, notes.get(one.id)) for one in found]


def _with_note(one: Condition, note: Acknowledgement | None) -> Condition:
    return one if note is None else msgspec.structs.replace(one, seen_by=note.by, seen_at=_instant(note.at))
