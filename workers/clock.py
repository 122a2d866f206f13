"""What runs by the clock: THE table of turns. One worker at a time takes a turn, timed by the clock of the Redis server.

A turn is not a job: it waits in no queue behind the work that it watches, and a long turn delays no other. If its worker dies,
another takes it within seconds. To add one: a row here. A turn starts anything that takes minutes as a job (`clock_job`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

from redis.exceptions import RedisError

from process.logs import get_logger
from workers.access.move import move_access_log
from workers.connections.log_messages import mirror_log_messages
from workers.connections.media import archive_media
from workers.connections.names import refresh_names
from workers.connections.watch import look_for_drift, refresh_operator_connect, watch_connections
from workers.damage.damage import keep_register
from workers.deletion.cases import watch_cases
from workers.deletion.deletion import refresh_pause, start_deletions
from workers.engine.failing import alert_turn_failing
from workers.engine.lease import take_turn
from workers.keys import TURN
from workers.queue.backlog import backlog
from workers.queue.binding import AnotherArchive
from workers.reconcile.reconcile import start_reconciles
from workers.retention.watch import watch_rules
from workers.runtime import Runtime
from workers.seals.signing import complete_seals
from workers.seals.unsealed import start_seals
from workers.seals.witness import send_head

log = get_logger()

_LEAST_SECONDS = 0.2
_FAILED_SECONDS = 2.0


@dataclass(frozen=True)
class Turn:
    """A row of the table.

    Attributes:
        function: what the turn does; its name is the turn's.
        every_seconds: from one start to the next.
        longest_seconds: the limit after which it is cancelled; it starts again at its next time.
        needs_archive: whether it runs only while Redis belongs to the archive.
    """

    function: Callable[[Runtime], Awaitable[object]]
    every_seconds: float
    longest_seconds: float = 60
    needs_archive: bool = True


async def watch_backlog(runtime: Runtime) -> None:
    """Alert when jobs wait too long or Redis is nearly full."""
    limit = runtime.settings.queue_age_limit.total_seconds()
    for what, text in (await backlog(runtime.redis, limit)).items():
        advice = (
            "Add workers (`callvault worker --processes 4`). The metric `callvault_oldest_job_seconds` shows the wait."
        )
        await runtime.alerts.send("pressure", what, f"{text[0].upper()}{text[1:]}.", advice)


async def witness_seals(runtime: Runtime) -> None:
    """Send the head of the seals to the witnesses, once a day."""
    urls = [url.get_secret_value() for url in runtime.settings.witness_urls]
    await send_head(runtime.redis, urls, runtime.alerts)


_HOUR = 3600
TURNS = (
    Turn(start_deletions, 2),
    Turn(refresh_pause, 30),
    Turn(start_reconciles, 10),  # starts those that are due, as jobs
    Turn(start_seals, 5),  # starts the seals that are due, as jobs
    Turn(keep_register, 30, _HOUR),
    Turn(watch_backlog, 30, needs_archive=False),
    Turn(witness_seals, 60, _HOUR),  # a witness that hangs is asked several times before an alert
    Turn(complete_seals, 10, _HOUR),
    Turn(mirror_log_messages, 60, _HOUR),
    Turn(move_access_log, 60, _HOUR),
    Turn(watch_rules, 60),
    Turn(watch_cases, 60),
    Turn(watch_connections, 60, _HOUR, needs_archive=False),
    Turn(archive_media, 60, _HOUR),
    Turn(refresh_names, 600, needs_archive=False),
    Turn(refresh_operator_connect, 60, needs_archive=False),
    Turn(look_for_drift, 60, _HOUR, needs_archive=False),
)


def run_clock(runtime: Runtime) -> list[asyncio.Task[None]]:
    """Start to take turns; the caller ends the tasks with `end_tasks`, and another worker takes an unfinished turn at once.

    They are not in a task group, which would cancel each only once.
    """
    return run_turns(runtime, TURNS)


def run_turns(runtime: Runtime, turns: Iterable[Turn]) -> list[asyncio.Task[None]]:
    """The same with turns of another table: `callvault worker --dispose` takes its own and no other."""
    return [asyncio.create_task(_run(runtime, turn)) for turn in turns]


async def _run(runtime: Runtime, turn: Turn) -> None:
    name = turn.function.__name__

    async def work() -> None:
        async with asyncio.timeout(turn.longest_seconds):
            if turn.needs_archive:
                await runtime.assert_bound()
            await turn.function(runtime)

    while True:
        seconds = _FAILED_SECONDS
        try:
            seconds = await take_turn(runtime.redis, TURN + name, turn.every_seconds, work)
        except AnotherArchive:
            pass  # `watch_binding` alerts, once
        except Exception as error:
            if times := runtime.throttle.count(type(error).__name__):
                log.warning("turn failed", what=name, error=f"{type(error).__name__}: {error}", times=times)
            with suppress(RedisError, OSError):
                await alert_turn_failing(runtime, name, error, turn.longest_seconds)
        await asyncio.sleep(max(seconds, _LEAST_SECONDS))
