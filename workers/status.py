"""The status that `callvault status` and the ops pages show, from Redis and the chain of seals."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, date, datetime

import msgspec

from archive.hold import Hold
from archive.records import UnreadableRecord
from archive.seals import Chain
from archive.stores.store import StoreError
from text.counts import many
from text.times import end_of_day, format_instant, parse_instant
from workers.conditions import Condition, condition
from workers.deletion.duties import workers_duties
from workers.engine.failure_classes import FAILURE_CLASSES
from workers.keys import QUEUES
from workers.looks import known_conditions
from workers.queue.backlog import oldest_waiting_seconds
from workers.queue.script import server_seconds
from workers.running import Difference, Running, differences, read_running
from workers.runtime import Runtime
from workers.seals.chain import known_chain, remembered_chain
from workers.seals.waiting import UnsealedDays

_ARCHIVE_SECONDS = 5


class QueueStatus(msgspec.Struct, frozen=True):
    """A queue: how many jobs wait or run, how many of them are for later, and how long the oldest due one has waited."""

    jobs: int
    later: int
    oldest_seconds: float


class DeletionStatus(msgspec.Struct, frozen=True):
    """Deletion of originals: what the workers are set to, how many are on the list, and if it is paused, why.

    Attributes:
        mode: `never`, `verified`, or `unknown` while the archive cannot be read.
        paused_by: who paused it; None if it is not paused or if that is unknown.
        paused_at: since when, ISO 8601, UTC; None if it is not paused or if that is unknown.
    """

    mode: str
    due: int
    paused: str | None
    paused_by: str | None
    paused_at: str | None


class OverdueDay(msgspec.Struct, frozen=True):
    """A day whose time to be sealed has come, why it waits, and for how long it has been over."""

    day: str
    why: str
    over_for_seconds: int


class SealStatus(msgspec.Struct, frozen=True):
    """The chain of seals: how many, the last, and the days that hold what none lists yet.

    Attributes:
        days_open: how many days hold what no seal lists yet.
        overdue: those of them whose time has come.
        next_at: when the time of the next of the others comes, ISO 8601, UTC; None: there is no other.
    """

    count: int
    last_day: str | None
    last_sealed_at: str | None
    days_open: int
    overdue: list[OverdueDay]
    next_at: str | None


class Status(msgspec.Struct, frozen=True):
    """The status of the service.

    Attributes:
        archive_problem: why the archive could not be read; None if it answered.
        conditions: all that is wrong, the worst first; every other surface shows the same.
        failing: failure classes of jobs that fail repeatedly and are retried, each with the last error.
        processes: the receivers and workers that live, with the settings of each.
        differs_here: where the settings of this process differ from those of the workers.
    """

    archive_url: str
    archive_problem: str | None
    conditions: list[Condition]
    queues: dict[str, QueueStatus]
    pressure: list[str]
    failing: dict[str, str]
    dead_letters: int
    deletions: DeletionStatus
    seals: SealStatus
    processes: list[Running]
    differs_here: list[Difference]

    @property
    def needs_a_person(self) -> bool:
        """Whether a person must act."""
        return bool(self.conditions)


def open_days(count: int, due: int, next_at: str | None) -> str:
    """The line of `callvault status` and `callvault seal` about days with objects that no seal lists yet.

    Args:
        count: the number of such days.
        due: how many of them are due.
        next_at: as `SealStatus` has it.
    """
    if not count:
        return "no day waits for a seal"
    words = many(count, "day waits for its seal", "days wait for their seals")
    if due:
        return words + (", due now" if count == due else f", {due} of them due now")
    when = "" if next_at is None else f"due at {parse_instant(next_at):%Y-%m-%d %H:%M} UTC"
    return f"{words}, {'' if count == 1 else 'the first '}{when}"


def next_of(days: Mapping[date, tuple[float, str | None]], now: float) -> str | None:
    """When the time of the next day comes, of those that `UnsealedDays.all` gives; None: it has come for all."""
    times = [at for at, why in days.values() if not why and at > now]
    return format_instant(datetime.fromtimestamp(min(times), UTC)) if times else None


async def read_status(runtime: Runtime) -> Status:
    """Read the whole status; an archive that does not answer within five seconds is one of the conditions.

    Raises:
        redis.exceptions.RedisError: Redis does not answer.
    """
    redis, settings = runtime.redis, runtime.settings
    now = await server_seconds(redis)
    chain, problem = Chain(runtime.archive), None
    mode = "unknown"
    try:
        async with asyncio.timeout(_ARCHIVE_SECONDS):
            await runtime.in_thread(runtime.archive.assert_identity)
            mode = (await workers_duties(runtime)).delete_originals
            chain = await known_chain(runtime)
    except TimeoutError:
        problem = f"does not answer within {_ARCHIVE_SECONDS} s"
    except (StoreError, UnreadableRecord) as error:
        problem = str(error)
    if problem is not None:
        chain = await remembered_chain(runtime)  # the problem says that this may be outdated
    away = [] if problem is None else [condition("archive-away", problem)]
    conditions = await known_conditions(redis, settings, away)
    last = chain.links[-1].seal if chain.links else None
    waiting = UnsealedDays(redis)
    days = await waiting.all()
    running = await read_running(redis)
    return Status(
        archive_url=settings.archive_address,
        archive_problem=problem,
        conditions=conditions,
        queues={
            name: QueueStatus(
                await redis.zcard(key),
                await redis.zcount(key, f"({now * 1000}", "+inf"),
                round(await oldest_waiting_seconds(redis, key), 1),
            )
            for name, key in QUEUES.items()
        },
        failing=await runtime.attempts.failing(FAILURE_CLASSES),
        pressure=[one.what for one in conditions if one.kind == "pressure"],
        dead_letters=await runtime.attempts.count(),
        deletions=_deletions(mode, await runtime.schedule.count(), await runtime.schedule.pause()),
        seals=SealStatus(
            count=len(chain.links),
            last_day=last.day if last else None,
            last_sealed_at=last.sealed_at if last else None,
            days_open=len(days),
            next_at=next_of(days, now),
            overdue=[
                OverdueDay(day.isoformat(), why, round(now - end_of_day(day).timestamp()))
                for day, why in (await waiting.overdue(now)).items()
            ],
        ),
        processes=running,
        differs_here=differences(settings, running),
    )


def _deletions(mode: str, due: int, pause: Hold | None) -> DeletionStatus:
    if pause is None:
        return DeletionStatus(mode, due, None, None, None)
    return DeletionStatus(mode, due, pause.why, pause.by or None, pause.at or None)
