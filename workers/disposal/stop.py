"""Disposal stops itself where more would go than a share of the archive, until a person approves exactly that.

The approval is a decision in the archive, and names the stop. Without Redis, the stop is forgotten, and so is its approval: the
next run stops again and asks anew. While a stop stands, runs look at what was past its term when it was counted: terms end every
second in a large archive, and what ended later was approved by nobody.
"""

from __future__ import annotations

import math
import secrets
import sys
from datetime import date
from typing import NamedTuple

import msgspec

from archive.archive import Archive
from archive.decision_records import Decision
from archive.decisions import decisions_about, is_approved, new_id, put_decision
from text.counts import many
from text.times import format_instant, utc_now
from workers.keys import DISPOSAL_STOPPED, DISPOSED_TODAY
from workers.queue.script import AsyncRedis, read_json, write_when_full
from workers.runtime import Runtime

LEAST_RECORDINGS = 10  # so many may always go in a day: a share of a small archive is less than one recording
_A_DAY_SECONDS = 24 * 3600.0
_TWO_DAYS_SECONDS = 2 * 24 * 3600


class Stop(msgspec.Struct, frozen=True):
    """What disposal would dispose of, and may not without an approval.

    Attributes:
        id: random; the approval names it.
        recordings: that would go, and `size_bytes` of their objects.
        of: how many recordings the archive has.
        most: how many may go in a day, and gone: how many had gone on that day before.
        rules_number: of the last applied rules.
        at: since when, ISO 8601, UTC.
        until: the time of the count, in seconds since the epoch: it counts the terms that had ended then.
        is_approved: whether the job has found an approval of it, for display; the archive has the approval itself.
    """

    id: str
    recordings: int
    size_bytes: int
    of: int
    most: int
    gone: int
    rules_number: int
    at: str
    until: float = 0.0
    is_approved: bool = False

    @property
    def sentence(self) -> str:
        """What would go, in one line."""
        counts = f"{many(self.recordings, 'recording is', 'recordings are')} past the term of applied rules {self.rules_number}"
        return f"{counts}, of {self.of} in sealed days; {self.most} may go in a day (CALLVAULT_DISPOSE_STOP_PERCENT)"


async def read_stop(redis: AsyncRedis) -> Stop | None:
    """The stop that waits for an approval, or goes on with one; None without a stop.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    return await read_json(redis, DISPOSAL_STOPPED, Stop)


def most_in_a_day(percent: float, recordings: int) -> int:
    """How many recordings may be disposed of in a day without an approval; with 100 percent, any number."""
    if percent >= 100:
        return sys.maxsize
    return max(LEAST_RECORDINGS, math.floor(recordings * percent / 100))


class Counted(NamedTuple):
    """What a run would dispose of: how many recordings, their size, how many the archive has, under which rules, as of when."""

    recordings: int
    size_bytes: int
    of: int
    rules_number: int
    until: float


async def count_until(runtime: Runtime, rules_number: int, now: float) -> float:
    """As of when a run looks at terms: now, or when the stop that stands was counted.

    A stop that nobody has approved is counted anew after a day.

    Args:
        runtime: the worker's parts.
        rules_number: of the last applied rules.
        now: seconds since the epoch.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them does not answer.
    """
    known = await read_stop(runtime.redis)
    if known is None or known.rules_number != rules_number:
        return now
    if now - known.until > _A_DAY_SECONDS and not await runtime.in_thread(is_stop_approved, runtime.archive, known):
        return now
    return min(now, known.until)


async def why_stopped(runtime: Runtime, would_go: Counted, *, is_dry: bool = False) -> Stop | None:
    """Whether more would go than may; None if this may go.

    Args:
        runtime: the worker's parts.
        would_go: what the run has counted.
        is_dry: remember nothing.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them does not answer.
    """
    redis, today = runtime.redis, utc_now().date()
    gone = int(await redis.get(DISPOSED_TODAY + today.isoformat()) or 0)
    most = most_in_a_day(runtime.settings.dispose_stop_percent, would_go.of)
    known = await read_stop(redis)
    if not would_go.recordings or gone + would_go.recordings <= most:
        if known is not None and not is_dry:
            await redis.delete(DISPOSAL_STOPPED)
        return None
    if (
        known is not None
        and known.rules_number == would_go.rules_number
        and would_go.until <= known.until
        and gone + would_go.recordings <= known.gone + known.recordings
    ):
        if not await runtime.in_thread(is_stop_approved, runtime.archive, known):
            return known
        if not is_dry:
            await _remember(redis, msgspec.structs.replace(known, is_approved=True))
        return None
    stop = Stop(
        id=secrets.token_hex(8),
        recordings=would_go.recordings,
        size_bytes=would_go.size_bytes,
        of=would_go.of,
        most=most,
        gone=gone,
        rules_number=would_go.rules_number,
        at=format_instant(utc_now()),
        until=would_go.until,
    )
    if not is_dry:
        await _remember(redis, stop)
    return stop


async def _remember(redis: AsyncRedis, stop: Stop) -> None:
    await write_when_full(redis, ("SET", DISPOSAL_STOPPED, msgspec.json.encode(stop)))


async def count_disposed(redis: AsyncRedis, today: date) -> None:
    """Count a recording of which something was disposed of.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    key = DISPOSED_TODAY + today.isoformat()
    await write_when_full(redis, ("INCR", key), ("EXPIRE", key, _TWO_DAYS_SECONDS))


def is_stop_approved(archive: Archive, stop: Stop) -> bool:
    """Whether a person approved exactly this; blocks.

    Raises:
        StoreError: the store does not answer.
    """
    return is_approved(decisions_about(archive, "everything"), [_finding(stop)])


def approve(archive: Archive, stop: Stop, why: str, by: str) -> None:
    """Record that a person approved what the stop names; blocks.

    Raises:
        StoreError: the store did not take it.
    """
    at = format_instant(utc_now())
    findings = [_finding(stop)]
    put_decision(
        archive,
        Decision(
            id=new_id(), decision="approve", scope="everything", subject="", why=why, by=by, at=at, findings=findings
        ),
    )


def _finding(stop: Stop) -> str:
    return f"disposal {stop.id}: {many(stop.recordings, 'recording')}"
