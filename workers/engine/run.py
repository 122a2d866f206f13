"""How every job runs: read its payload, classify its failure by the table of failure classes, remember its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from redis.exceptions import RedisError

from archive.records import WrongObject
from process.logs import bound_fields, get_logger
from process.tracing import span
from text.counts import many
from text.one_line import one_line
from workers.damage.damage import report_wrong
from workers.engine.attempts import DeadLetter
from workers.engine.failing import failure_class_of, report_failing
from workers.engine.first_run import note_run
from workers.engine.lease import HeldElsewhere
from workers.engine.worker import Function, Retry, again_in, func, leave_to_newer
from workers.keys import MAIN_QUEUE
from workers.queue.history import FAILED
from workers.recordings.requests import VERSION, payload_version
from workers.runtime import Runtime

P = TypeVar("P", bound=msgspec.Struct)

log = get_logger()

LONGEST_SECONDS = 12 * 3600  # Telnyx records up to 12 h; arq itself would drop the job past its own limit
_UNWRITTEN_WAIT_SECONDS = 10
_HELD_WAIT_SECONDS = 2
_LONGEST_HELD_WAIT_SECONDS = 30  # a long download must not have each further event of it ask Telnyx every few seconds
_LONGEST_ERROR = 1_000
_LEAST_ATTEMPTS = 3  # attempts before a repeated failure is reported


def job(
    function: Callable[[Runtime, P], Awaitable[None]], payload_type: type[P], queue: str, *, needs_archive: bool = True
) -> Function:
    """Make the arq function of a job. It runs only while Redis belongs to the archive, unless it needs no archive.

    The table of failure classes decides about an error: retry after a wait, or give up with a dead letter. arq's own count
    of tries is not used, because it also counts throttling, outages and dead workers.
    """
    name = function.__name__

    async def run(ctx: dict[str, Any], payload: Any) -> None:
        runtime: Runtime = ctx["runtime"]
        fields = payload if isinstance(payload, dict) else {}
        ids = {"job_id": ctx["job_id"]} | {k: fields[k] for k in ("event_id", "recording_id") if fields.get(k)}
        note_run(ctx["job_try"])
        with bound_fields(**ids):
            if (version := payload_version(payload)) > VERSION:
                raise await leave_to_newer(runtime.redis, f"{name} of version {version}")
            try:
                async with asyncio.timeout(LONGEST_SECONDS):
                    if needs_archive:
                        await runtime.assert_bound()
                    with span(name, fields.get("trace"), **ids):
                        await function(runtime, msgspec.convert(payload, payload_type))
            except Retry:  # not a failure: the job itself says when to run again
                raise
            except HeldElsewhere as busy:  # not a failure: another job has the recording
                log.debug("waits for another writer", function=name, why=str(busy))
                wait = min(_LONGEST_HELD_WAIT_SECONDS, _HELD_WAIT_SECONDS * 2 ** min(ctx["job_try"] - 1, 10))
                raise await again_in(runtime.redis, wait) from busy
            except Exception as error:
                try:
                    await _failed(runtime, ctx["job_id"], name, payload, queue, error)
                except (RedisError, OSError) as trouble:  # away or full: no job is given up without a record
                    log.warning("failed attempt could not be recorded", error=f"{type(trouble).__name__}: {trouble}")
                    raise await again_in(runtime.redis, _UNWRITTEN_WAIT_SECONDS) from trouble
            else:
                if queue == MAIN_QUEUE:  # no webhook waits for what reconcile or a backfill enqueued
                    runtime.history.observe(f"job:{name}", time.time() - ctx["enqueue_time"].timestamp())
                with suppress(RedisError, OSError):  # the job is done anyway; a reconcile ends its dead letter
                    if await runtime.attempts.done(ctx["job_id"]):
                        log.info("dead letter ended", function=name)

    run.__qualname__ = name
    return func(run, name=name)


async def _failed(runtime: Runtime, job_id: str, function: str, payload: Any, queue: str, error: Exception) -> None:
    """Record a failed attempt, then retry the job or give it up.

    Raises:
        Retry: the job runs again after the wait of its failure class.
    """
    cause = failure_class_of(error, runtime.settings)
    what = f"{type(error).__name__}: {one_line(error)}" if cause.name == "unexpected" else one_line(error)
    line = what[:_LONGEST_ERROR]
    attempts = await runtime.attempts.record(job_id, cause.name, line)
    runtime.history.add(FAILED + cause.name)
    times, seconds = cause.of(attempts)
    if not cause.is_final(times, seconds):
        if cause.is_never_given_up and times >= _LEAST_ATTEMPTS and seconds >= cause.quiet_seconds:
            await report_failing(runtime, function, [job_id], cause, line, seconds)
        wait = cause.wait_seconds(times)
        if lines := runtime.throttle.count((function, cause.name)) if cause.is_never_given_up else 1:
            fields = {"error": line, "again_in_seconds": round(wait, 2), "times": lines}
            log.warning("job failed", function=function, cause=cause.name, **fields)
        raise await again_in(runtime.redis, wait) from error
    at = attempts[-1].at
    if isinstance(error, WrongObject):
        await report_wrong(runtime.redis, error, "job")
    await runtime.attempts.bury(DeadLetter(job_id, function, payload, queue, cause.name, line, at, attempts))
    log.error("job given up", function=function, cause=cause.name, error=line, exc_info=cause.name == "unexpected")
    text = f"{function} was given up after {many(len(attempts), 'attempt')}: {line} (job {job_id})"
    await runtime.alerts.send("dead-letter", cause.name, text, f"{cause.advice} See `callvault dead-letters list`.")
