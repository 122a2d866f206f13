"""THE table of what can be wrong with the service, and how to detect it: one answer for every surface.

`callvault status`, the doctor, the ops pages and their API, `/readyz` and the metrics show what `known_conditions` finds, and
decide nothing themselves. To add a condition: a row here and a look; then `make docs`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import msgspec

from config.settings import Settings
from text.counts import many
from text.times import end_of_day, format_duration, format_instant, format_moment
from workers.acknowledged import Acknowledgement, acknowledged
from workers.alerts.kinds import Severity
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
    WORKER,
    WORKER_ENDED,
)
from workers.queue.backlog import EVENTS_SHARE, backlog, used_share
from workers.queue.script import AsyncRedis, server_seconds
from workers.running import Running, differing_settings, read_running, versions
from workers.seals.waiting import UnsealedDays

_SEAL_SLACK_SECONDS = 3600  # a day is on the list of those that wait for some time before each seal
_DISPOSAL_SLACK_SECONDS = 3600
_REGISTER_OLD_SECONDS = 300
_MOST_DAMAGED = 1_000  # are listed one by one
_MOST_READ = 200  # dead letters, to know the oldest: `/readyz` asks too


class Condition(msgspec.Struct, frozen=True):
    """Something that is wrong now.

    Attributes:
        kind: a row of `CONDITIONS`.
        severity: as there.
        about: the object, day, failure class or machine; empty if it is about the whole service.
        what: the details, shown after the heading of its kind.
        advice: what to do.
        since: since when, ISO 8601, UTC; None if unknown.
        seen_by: who has seen it (`acknowledged.py`); None: nobody has said so. `seen_at`: when, ISO 8601, UTC.
    """

    kind: str
    severity: Severity
    about: str
    what: str
    advice: str
    since: str | None = None
    seen_by: str | None = None
    seen_at: str | None = None

    @property
    def id(self) -> str:
        """What tells it from all others of now."""
        return f"{self.kind} {self.about}".rstrip()

    @property
    def seen(self) -> str:
        """Who has seen it and when, as a text; empty: nobody has said so."""
        return f"seen by {self.seen_by} at {format_moment(self.seen_at or '')}" if self.seen_by else ""

    @property
    def heading(self) -> str:
        """The heading of its kind."""
        return CONDITIONS[self.kind].heading

    @property
    def sentence(self) -> str:
        """The heading and the details; the meaning of its kind where there are no details."""
        meaning = CONDITIONS[self.kind].meaning
        return meaning[0].upper() + meaning[1:] if self.what == meaning else f"{self.heading}: {self.what}"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        severity: `critical`: a promise is broken, or may be soon; `warning`: something waits for a person.
        heading: a few words; the details of a condition follow it.
        meaning: what it means for the service.
        advice: what to do, unless the condition itself has better advice.
    """

    severity: Severity
    heading: str
    meaning: str
    advice: str


CONDITIONS: dict[str, Row] = {
    "redis-away": Row(
        "critical",
        "Redis does not answer",
        "Redis does not answer: receivers refuse webhooks, no job runs, and the state of the service is unknown",
        "check that Redis runs and that REDIS_URL is right; run `callvault doctor`",
    ),
    "archive-away": Row(
        "critical",
        "The archive",
        "the archive does not answer, or this Redis belongs to another archive: nothing is archived, and its state is unknown",
        "run `callvault doctor` to check the store; waiting jobs continue by themselves",
    ),
    "redis-full": Row(
        "critical",
        "Redis is full",
        "Redis uses more than 90% of its memory: Telnyx gets a 503 for webhooks and retries; workers continue and free memory",
        "give Redis more memory (`maxmemory`) or add workers; the next reconcile finds the events that were refused",
    ),
    "no-worker": Row(
        "critical",
        "No worker runs",
        "no worker runs: receivers accept events, but nothing is archived, deleted or sealed",
        "start one with `callvault worker`; the log of the last one says why it ended",
    ),
    "damaged": Row(
        "critical",
        "Damaged",
        "an object of the archive is damaged or missing; Callvault does not delete its original at Telnyx",
        "missing audio: `callvault repair ID`, or `--from FILE` from a copy. Changed audio: move the file out of the archive, "
        "then repair it the same way. Anything else: restore it from a copy. The alert clears once the object is intact",
    ),
    "not-known": Row(
        "warning",
        "Damage unknown",
        "no worker has read the archive's list of damaged objects lately, so new damage would not show here",
        "check that a worker runs and that the archive answers; workers read the list every 30 seconds",
    ),
    "jobs-fail": Row(
        "critical",
        "Jobs fail and are retried",
        "jobs, or deletions of originals, fail repeatedly and are retried; nothing is lost",
        "fix the cause; the jobs then continue by themselves",
    ),
    "clocks": Row(
        "critical",
        "Clocks differ",
        "a worker's clock and the clock of Redis differ by more than a minute: this worker deletes and seals nothing",
        "synchronize both with NTP; the worker then continues by itself",
    ),
    "pressure": Row(
        "warning",
        "Backlog",
        "jobs wait too long, or Redis is nearly full",
        "add workers (`callvault worker --processes 4`) or memory for Redis",
    ),
    "dead-letters": Row(
        "warning",
        "Dead letters",
        "jobs failed for good and wait for a person",
        "run `callvault dead-letters list` to see why and what to do",
    ),
    "paused": Row(
        "warning",
        "Deletion is paused",
        "deletion of originals is paused, by a person or by Callvault itself",
        "settle the reason it gives, then run `callvault deletions resume`",
    ),
    "disposal-stopped": Row(
        "critical",
        "Disposal stopped itself",
        "more recordings are past their terms than may go in a day, so none goes until a person approves it",
        "check the rules and `callvault retention dispose --dry-run`; if all of it may go, run `callvault retention approve "
        "--why ...`; if not, apply other rules",
    ),
    "disposal-waits": Row(
        "warning",
        "Disposal waits",
        "the process that disposes of recordings has ended, or waits for something, so what is past its term stays",
        "run `callvault retention dispose --dry-run`, which says what it waits for, and look whether `callvault worker "
        "--dispose` runs; if nobody should dispose of recordings any more, this line ends by itself after 30 days",
    ),
    "unsealed": Row(
        "warning",
        "Days waiting for their seal",
        "days wait too long for their seal",
        "fix what each day waits for; the page Evidence says it of each",
    ),
    "cases-wrong": Row(
        "critical",
        "Cases",
        "a case cannot be read, so it holds every recording, or it is missing, so it holds none",
        "restore the object from a copy of the archive; or close the case (`callvault cases close ID --why ...`), or open "
        "it again",
    ),
    "retention-unreadable": Row(
        "warning",
        "Retention rules cannot be read",
        "the retention rules in the archive cannot be read, so nothing may be disposed of",
        "restore the object from a copy of the archive; run `callvault verify`",
    ),
    "retention-differs": Row(
        "warning",
        "Retention rules not applied",
        "the file of retention rules differs from the rules in force, which count until somebody applies the file",
        "run `callvault retention plan` to see what the file means, then `callvault retention apply`, or mend the file",
    ),
    "settings-differ": Row(
        "warning",
        "Workers have different settings",
        "workers have different settings, so what happens depends on which of them takes a job",
        "give all workers the same settings and restart them; `callvault status --json` lists what each runs with",
    ),
    "versions-differ": Row(
        "warning",
        "Versions differ",
        "receivers and workers run different versions of Callvault",
        "finish the upgrade: restart the processes that run the other version; `callvault status --json` lists them",
    ),
}


def condition(kind: str, what: str = "", about: str = "", advice: str = "", since: str | None = None) -> Condition:
    """A condition of a kind; its row gives the texts that are left out."""
    row = CONDITIONS[kind]
    return Condition(kind, row.severity, about, what or row.meaning, advice or row.advice, since)


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


async def living_workers(redis: AsyncRedis) -> set[str]:
    """The ids of the workers with a heartbeat; a dead worker disappears within 15 seconds."""
    ids = [worker.decode() for worker in await redis.hkeys(LIVE_DUTIES)]
    if not ids:
        return set()
    beats = await redis.mget([WORKER + worker for worker in ids])
    return {worker for worker, beat in zip(ids, beats, strict=True) if beat is not None}
