"""What becomes of an original after its check: it is checked again later, given up, or gone, with a receipt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from archive import layout
from archive.records import DeletionReceipt
from process.logs import get_logger
from text.counts import many
from text.one_line import one_line
from workers.deletion.may_delete import Kept, Stopped
from workers.engine.attempts import DeadLetter
from workers.engine.failing import failure_class_of, memory_seconds, report_failing
from workers.engine.failure_classes import FAILURE_CLASSES, FailureClass
from workers.keys import MAIN_QUEUE
from workers.recordings.requests import DeletionRequest
from workers.runtime import Runtime

log = get_logger()

_AWAY_SECONDS = 30
_BACK_OFF_SECONDS = 10
_ALERT_AFTER = 2


@dataclass(frozen=True)
class Away:
    """A recording that could not be checked, mostly because Telnyx or the store does not answer.

    Attributes:
        folder: of the recording.
        cause: the failure class.
        error: one line.
    """

    folder: str
    cause: FailureClass
    error: str


async def keep(runtime: Runtime, folder: str, kept: Kept) -> None:
    """Log why an original stays and schedule it again; a standing reason takes it off the schedule."""
    log.info("original kept", folder=folder, why=kept.why)
    if kept.seconds is None:
        await runtime.schedule.done(folder)
    else:
        await runtime.schedule.postpone(folder, kept.seconds)


async def all_later(runtime: Runtime, folders: Sequence[str], stopped: Stopped) -> None:
    """Postpone a whole batch, and start no other until then."""
    log.info("originals kept for now", recordings=len(folders), why=str(stopped))
    for folder in folders:
        await runtime.schedule.postpone(folder, stopped.seconds)
    await runtime.schedule.back_off(stopped.seconds)


async def back_off(runtime: Runtime, outcomes: Sequence[object]) -> None:
    """Log in one line what could not be checked; if that is half of the batch, start no other for a while.

    One that fails again and again keeps its original for ever, so status shows it at once, and an alert comes after a while.
    """
    away = [one for one in outcomes if isinstance(one, Away)]
    if not away:
        return
    log.warning("deletions postponed", recordings=len(away), of=len(outcomes), error=away[0].error)
    if 2 * len(away) >= len(outcomes):  # fewer may be the recordings' own fault
        await runtime.schedule.back_off(_BACK_OFF_SECONDS)
    for cause in {one.cause.name: one.cause for one in away}.values():
        of_it = [one for one in away if one.cause.name == cause.name]
        names = [f"delete_originals {one.folder}" for one in of_it]
        since = await runtime.attempts.failing_seconds(names, memory_seconds(cause))
        longest, one = max(zip(since, of_it, strict=True), key=lambda pair: pair[0])
        if longest:  # a single failure alerts nobody
            error = f"{layout.recording_id_of(one.folder)}: {one.error}"
            await report_failing(runtime, "delete_originals", names, cause, error, longest)


async def postpone_for(runtime: Runtime, folder: str, error: Exception) -> Away:
    """Postpone an original that could not be checked or deleted; it is tried again soon."""
    await runtime.schedule.postpone(folder, _AWAY_SECONDS)
    return Away(folder, failure_class_of(error, runtime.settings), one_line(error))


async def ask_later(runtime: Runtime, folder: str, recording_id: str, name: str, error: str) -> None:
    """Postpone an original longer and longer while the same cause lasts: soon at first, as a wrong key is soon fixed."""
    attempts = await runtime.attempts.record(letter_id(recording_id), name, error)
    times = sum(attempt.cause == name for attempt in attempts)
    await runtime.schedule.postpone(folder, FAILURE_CLASSES["not-deleted"].wait_seconds(times))


async def not_deleted(runtime: Runtime, folder: str, recording_id: str, error: str) -> None:
    """Back off from an original that Telnyx does not delete or show, alert a person, and give it up in the end."""
    cause, job_id = FAILURE_CLASSES["not-deleted"], letter_id(recording_id)
    attempts = await runtime.attempts.record(job_id, cause.name, error)
    times, seconds = cause.of(attempts)
    if cause.is_final(times, seconds):
        payload = msgspec.to_builtins(DeletionRequest(folder=folder))
        letter = DeadLetter(job_id, "schedule_again", payload, MAIN_QUEUE, cause.name, error, attempts[-1].at, attempts)
        await runtime.attempts.bury(letter)
        await runtime.schedule.done(folder)
        await runtime.leaving.take_away([recording_id])
        text = f"The deletion of {recording_id} was given up after {many(len(attempts), 'attempt')}: {error} (job {job_id})"
        await runtime.alerts.send("dead-letter", cause.name, text, f"{cause.advice} See `callvault dead-letters list`.")
        return
    await runtime.schedule.postpone(folder, cause.wait_seconds(times))
    if times >= _ALERT_AFTER:
        text = f"Telnyx has not deleted {recording_id} in {many(times, 'attempt')}: {error}."
        await runtime.alerts.send("deletion-refused", "telnyx", text, cause.advice)


def letter_id(recording_id: str) -> str:
    """The id of the deletion of an original among attempts and dead letters."""
    return f"delete_original:{recording_id}"


async def schedule_again(runtime: Runtime, request: DeletionRequest) -> None:
    """The job of a retried dead letter: schedule an original again."""
    await runtime.schedule.add(request.folder, 0)


async def write_receipt(runtime: Runtime, folder: str, receipt: DeletionReceipt) -> None:
    """Write the receipt of an original that we deleted, and remove it from every list.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away; the next turn writes it.
    """
    await runtime.in_thread(runtime.archive.put_receipt, folder, receipt)
    await runtime.announce(layout.receipt_key(folder), receipt)
    await runtime.leaving.has_left(receipt.recording_id, folder)
    await runtime.attempts.done(letter_id(receipt.recording_id), runtime.schedule.removal(folder))
    runtime.history.add("deleted")
    runtime.history.add("deleted_bytes", sum(o.size for o in receipt.objects))
    log.info("original deleted", recording_id=receipt.recording_id)
