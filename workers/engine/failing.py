"""What a failure means: the class of each error, and a report of what fails again and again and is retried without end.

Apart from the table of classes, which receivers read too and which imports no SDK.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from redis.exceptions import RedisError

from archive.archive import ArchiveConflict
from archive.proof import Damaged
from archive.records import UnreadableRecord
from archive.stores.store import StoreCold, StoreError, StoreRefused
from config.settings import Settings
from telnyx_api.downloads import AddressAway, DownloadFailed, ForbiddenAddress, NotAudio
from telnyx_api.errors import (
    BadRequest,
    ConnectionFailed,
    Forbidden,
    Invalid,
    NotFound,
    RateLimited,
    StatusError,
    Unauthorized,
    Unsettled,
)
from text.one_line import one_line
from text.times import format_duration
from workers.engine.failure_classes import FAILURE_CLASSES, FailureClass, InProgress, NotFinished, NotYet
from workers.keys import TURN_ALERTED
from workers.queue.binding import AnotherArchive
from workers.queue.script import write_when_full
from workers.runtime import Runtime

_ASKED_FOR_AT_LEAST = 50  # times; twice as often is as much as is remembered of a job, and it would never be given up

# The first row whose errors fit; more special before more general.
_ERRORS: tuple[tuple[str, tuple[type[BaseException], ...]], ...] = (
    ("not-there-yet", (NotYet, NotFound)),
    ("not-yet", (NotFinished,)),
    ("in-progress", (InProgress,)),
    ("throttled", (RateLimited,)),
    ("cold", (StoreCold,)),
    ("refused", (Unauthorized, Forbidden, StoreRefused, AnotherArchive)),
    ("not-audio", (NotAudio,)),
    ("forbidden-address", (ForbiddenAddress,)),
    ("rejected", (Invalid, BadRequest)),
    ("outage", (AddressAway,)),
    ("download", (DownloadFailed,)),
    ("conflict", (ArchiveConflict, UnreadableRecord)),
    ("damaged", (Damaged,)),
    ("outage", (ConnectionFailed, Unsettled, StatusError, StoreError, RedisError, OSError)),
)
_SHORTEST_MEMORY_SECONDS = 600.0
# A class in which jobs are given up at once has no wait; a deletion that fails in it is tried again all the same.
_SHORTEST_SHOWN_SECONDS = 120.0
_TURN_ALERTED_SECONDS = 24 * 3600
_ONE_FOR_ALL = ("outage", "throttled")  # whatever meets them: one alert


def failure_class_of(error: BaseException, settings: Settings) -> FailureClass:
    """The failure class of an error, with the user's settings for it."""
    name = next((name for name, kinds in _ERRORS if isinstance(error, kinds)), "unexpected")
    cause = FAILURE_CLASSES[name]
    if name == "not-there-yet":
        wait = settings.not_found_wait.total_seconds()
        longest = max(cause.longest_wait_seconds, wait / _ASKED_FOR_AT_LEAST)
        return replace(cause, give_up_seconds=wait, longest_wait_seconds=longest)
    return cause


def memory_seconds(cause: FailureClass) -> float:
    """How long a failure is remembered: past the next attempt, and not much longer."""
    return max(2 * cause.longest_wait_seconds, _SHORTEST_MEMORY_SECONDS)


async def report_failing(
    runtime: Runtime, what: str, names: Sequence[str], cause: FailureClass, error: str, seconds: float
) -> None:
    """Show a failure in status and metrics, and alert once it has lasted for `CALLVAULT_QUEUE_AGE_LIMIT`.

    Args:
        runtime: the worker's parts.
        what: the job, as the log calls it.
        names: which of them: their ids.
        cause: its failure class.
        error: one line.
        seconds: for how long.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    shown_seconds = max(2 * cause.longest_wait_seconds, _SHORTEST_SHOWN_SECONDS)
    await runtime.attempts.record_failing(names, cause.name, error, shown_seconds)
    if seconds >= runtime.settings.queue_age_limit.total_seconds():
        text = f"{what} has failed for {format_duration(seconds)}: {error}."
        group = cause.name if cause.name in _ONE_FOR_ALL else f"{cause.name} {what}"
        await runtime.alerts.send("jobs-fail", group, text, cause.advice)


async def alert_turn_failing(runtime: Runtime, what: str, error: Exception, longest_seconds: float) -> None:
    """Alert about a turn of the clock that has failed for a while, once a day for each.

    Args:
        runtime: the worker's parts.
        what: the turn's name.
        error: what it failed with.
        longest_seconds: that a turn takes before it is given up; its next failure may be so far away.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    (seconds,) = await runtime.attempts.failing_seconds([what], longest_seconds + _SHORTEST_MEMORY_SECONDS)
    if seconds < runtime.settings.queue_age_limit.total_seconds():
        return
    mark = ("SET", TURN_ALERTED + what, "1", "NX", "EX", _TURN_ALERTED_SECONDS)
    (is_new,) = await write_when_full(runtime.redis, mark)
    if is_new is not None:
        text = f"{what} has failed for {format_duration(seconds)}: {one_line(error)}."
        await runtime.alerts.send("turn-fails", what, text, failure_class_of(error, runtime.settings).advice)
