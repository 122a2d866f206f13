"""`reconcile`: compare the account's recordings and transcriptions with the archive, and enqueue what is missing.

It recovers lost webhooks, whatever lost them, and a lost Redis. It walks days of `created_at` one by one, each in spans that
fit one page (`telnyx_api/spans.py`), and lists the archive by day. Memory holds hashes of four days, eight bytes each,
whatever the account's age. A reconcile or a count waits while the bulk queue is full.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial

import msgspec

from archive.records import FoundBy, UnreadableRecord
from process.logs import get_logger
from telnyx_api.models import Recording, RecordingTranscription
from telnyx_api.operations import RecordingFilter
from telnyx_api.pages import LARGEST_PAGE
from text.counts import many
from text.times import format_instant
from workers.damage.damage import report_wrong
from workers.deletion.kept import schedule_unless_kept
from workers.engine.lease import take_turn
from workers.engine.one_by_one import Failure, OneByOne
from workers.keys import BULK_QUEUE, LAST, RECONCILED
from workers.queue.accept import DEDUPE_SECONDS, Acceptor
from workers.queue.jobs import enqueue
from workers.queue.script import server_now, server_seconds, write_when_full
from workers.reconcile.archived_days import ArchivedDays
from workers.reconcile.comparison import OF_ONE_LIST, Comparison, Tally, recordings_of, transcriptions_of, window
from workers.reconcile.dead_letters import end_done_letters
from workers.reconcile.decisions import announce_decisions
from workers.reconcile.unreadable import readable
from workers.recordings.requests import CountRequest, ReconcileRequest, count_job, reconcile_job
from workers.recordings.routing import Event, jobs_of
from workers.runtime import Runtime
from workers.seals.chain import read_chain

log = get_logger()

_FULL = 2_000  # jobs of the bulk queue past which reconcile waits
_FULL_WAIT_SECONDS = 0.5
_ASK_EVERY = 100
_COUNT_EVERY = timedelta(days=7)


async def reconcile(runtime: Runtime, request: ReconcileRequest) -> None:
    """The job: compare a span of days, enqueue what is missing, replay what Telnyx failed to deliver.

    Raises:
        TelnyxError, StoreError: one of them is away, or nothing could be compared; the job runs again.
    """
    since, until = date.fromisoformat(request.since), date.fromisoformat(request.until)
    tally, failed = Tally(), list[Failure]()

    async def walk() -> None:
        skip = await _sealed_days(runtime)
        failed.extend(await reconcile_days(runtime, Days(since, until, "reconcile", skip=skip), tally))

    async def replay() -> None:
        try:
            await replay_failed_deliveries(runtime, since, tally)
        except OF_ONE_LIST as error:
            failed.append(Failure("webhook deliveries", f"since {since}", error))

    errors = await _each_of(walk, replay, partial(end_done_letters, runtime), partial(announce_decisions, runtime))
    for what in dict.fromkeys(one.kind for one in failed):
        days = [one for one in failed if one.kind == what]
        text = f"Telnyx cannot list {what} ({days[0].name}): {days[0].error}"
        text += f"; nor those of {many(len(days) - 1, 'more day')}" if len(days) > 1 else ""
        advice = "The other days were compared. The next reconcile tries this again. See docs/runbook.md."
        await runtime.alerts.send("not-compared", what, f"{text}.", advice)
    if errors:
        raise errors[0]
    if not failed:
        await write_when_full(runtime.redis, ("HSET", LAST, "reconciled", await server_seconds(runtime.redis)))
    log.info("reconciled", since=request.since, until=request.until, **msgspec.structs.asdict(tally))


async def _each_of(*steps: Callable[[], Awaitable[object]]) -> list[Exception]:
    """Run all of some independent steps; returns their errors in order."""
    errors: list[Exception] = []
    for step in steps:
        try:
            await step()
        except Exception as error:
            errors.append(error)
    return errors


@dataclass(frozen=True)
class Days:
    """Which days to compare, and how.

    Attributes:
        since: the first day of `created_at`.
        until: the last day, inclusive.
        found_by: what the commit records will say.
        connection_id: only recordings of this connection.
        skip: days not to compare.
        dry_run: enqueue and schedule nothing.
    """

    since: date
    until: date
    found_by: FoundBy
    connection_id: str | None = None
    skip: Collection[date] = ()
    dry_run: bool = False

    def days(self, through: str) -> Iterator[date]:
        """The days to compare, the latest last; those up to `through` (ISO 8601, may be empty) are done."""
        begin = max(self.since, date.fromisoformat(through) + timedelta(days=1)) if through else self.since
        for i in range((self.until - begin).days + 1):
            if (day := begin + timedelta(days=i)) not in self.skip:
                yield day


async def reconcile_days(
    runtime: Runtime,
    what: Days,
    tally: Tally,
    show: Callable[[Tally], None] = lambda _: None,
    save: Callable[[Tally], None] = lambda _: None,
) -> list[Failure]:
    """Compare days one after the other. A day that Telnyx cannot list does not stop the others.

    Args:
        runtime: the worker's parts.
        what: which days, and how.
        tally: counted on; one with `through` begins after that day.
        show: called now and then.
        save: called after each day, up to the first that could not be compared: a backfill continues from there.

    Returns:
        What could not be compared.

    Raises:
        TelnyxError: Telnyx does not answer, or can list nothing of what was asked for.
        StoreError: the archive does not answer.
    """
    comparison = Comparison(runtime, tally, what.found_by, dry_run=what.dry_run, schedules=not what.dry_run)
    wait_for_room = _room(runtime, tally, show)

    async def answers(kind: str) -> None:
        """Check whether Telnyx can list a kind at all, whatever fails for single days."""
        telnyx = runtime.telnyx
        await telnyx.count((telnyx.recordings if kind == "recordings" else telnyx.recording_transcriptions).list)

    lists = OneByOne(*OF_ONE_LIST, answers=answers)

    async def room(is_transcription: bool = False) -> None:
        tally.found += 1
        tally.found_transcriptions += is_transcription
        await wait_for_room()

    for day in what.days(tally.through):
        if not what.dry_run:
            await _schedule_deletions(runtime, comparison.archived, day, tally)
        async with lists.of("recordings", f"{day}"):
            await comparison.of_recordings(recordings_of(runtime, day, day, what.connection_id), room=room)
        # Transcriptions do not name their connection.
        if what.connection_id is None and lists.is_worth_it("transcriptions"):
            async with lists.of("transcriptions", f"{day}", must=False):
                await comparison.of_transcriptions(transcriptions_of(runtime, day, day), day, room=partial(room, True))
        if not lists.failed:
            tally.through = day.isoformat()
            save(tally)
    lists.raise_if_nothing_was_done()
    return lists.failed


def _room(
    runtime: Runtime, tally: Tally, show: Callable[[Tally], None] = lambda _: None
) -> Callable[[], Awaitable[None]]:
    """What a comparison calls after each row: it shows the progress and, now and then, waits while the bulk queue is full."""
    asked_at = tally.queued

    async def room() -> None:
        nonlocal asked_at
        show(tally)
        if tally.queued - asked_at >= _ASK_EVERY:
            asked_at = tally.queued
            while await runtime.redis.zcard(BULK_QUEUE) > _FULL:
                await asyncio.sleep(_FULL_WAIT_SECONDS)
                show(tally)

    return room


class Missing(msgspec.Struct, frozen=True):
    """What the archive lacks of a day.

    Attributes:
        count: recordings and transcriptions.
        recordings: ids of the missing recordings, a thousand at most.
        transcriptions: the missing transcriptions as Telnyx lists them, a thousand at most.
    """

    count: int
    recordings: list[str]
    transcriptions: list[RecordingTranscription]


async def missing_of(runtime: Runtime, day: date) -> Missing:
    """How much of a day the archive lacks; all of it is enqueued.

    It compares what was created on the day, and what was created on the next day and began on this one. A transcription that
    Telnyx has not finished does not count; a further seal lists it later. Nor does a recording or transcription with a record
    that it is not archived (`workers/reconcile/not_archived.py`, `not_transcribed.py`).

    Raises:
        Inconclusive: the lists may be incomplete; what they show is enqueued.
        TelnyxError, StoreError: one of them is away.
    """
    # A day that waits for its seal is compared every few seconds, and what is given up is tried again by the hour.
    comparison = Comparison(runtime, Tally(), "reconcile", retries_letters=False)
    for created in (day, day + timedelta(days=1)):

        def is_of_the_day(recording: Recording, created: date = created) -> bool:
            return created == day or _began_on(recording, day)

        await comparison.of_recordings(recordings_of(runtime, created, created), is_of_the_day)
        await comparison.of_transcriptions(transcriptions_of(runtime, created, created), created, _is_completed)
    if comparison.unreadable is not None:
        raise comparison.unreadable
    return Missing(comparison.tally.missing, comparison.missing_recordings, comparison.missing_transcriptions)


def _is_completed(transcription: RecordingTranscription) -> bool:
    return transcription.status == "completed"


def _began_on(recording: Recording, day: date) -> bool:
    try:
        return recording.dated.date() == day
    except ValueError:
        return False


async def count_sealed(runtime: Runtime, _: CountRequest) -> None:
    """Compare all that Telnyx has of the sealed days with the archive.

    It enqueues what the archive lacks, transcriptions too, and asks again for what has a record that it is not archived. It
    schedules the deletion of what is archived, even if a record says that the original is gone. The sealed days are listed as
    one window, so days of which Telnyx has nothing cost nothing.

    Raises:
        TelnyxError, StoreError: one of them is away; the next turn begins anew.
    """
    sealed = await _sealed_days(runtime)
    if not sealed:
        return
    first, last, tally = min(sealed), max(sealed), Tally()
    comparison = Comparison(runtime, tally, "reconcile", schedules=True, asks_for_not_archived=True)
    room = _room(runtime, tally)
    errors = await _each_of(
        lambda: comparison.of_recordings(recordings_of(runtime, first, last), room=room),
        lambda: comparison.of_transcriptions(transcriptions_of(runtime, first, last), first, _is_completed, room),
    )
    if tally.missing:
        log.warning(
            "sealed days were incomplete", since=first.isoformat(), until=last.isoformat(), missing=tally.missing
        )
    if errors:
        raise errors[0]


async def _sealed_days(runtime: Runtime) -> set[date]:
    """The days that need no further comparison; an empty set while a seal cannot be read."""
    try:
        return (await read_chain(runtime)).days
    except UnreadableRecord as error:
        await report_wrong(runtime.redis, error, "sweep")
        advice = "Run `callvault verify --seals`. Until the seal is readable, reconcile compares every day with Telnyx."
        await runtime.alerts.send("archive-damaged", "seals", f"A seal cannot be read: {error}.", advice)
        return set()


async def _schedule_deletions(runtime: Runtime, archived: ArchivedDays, day: date, tally: Tally) -> None:
    """Schedule the originals of a day that are committed and have no receipt: still at Telnyx, or deleted without a receipt.

    The comparison of the day then knows what the archive holds from the same listing.
    """
    if runtime.settings.delete_originals != "verified":
        return
    folders = archived.walk(day)
    while batch := await runtime.in_thread(lambda: list(itertools.islice(folders, _ASK_EVERY))):
        tally.scheduled += await schedule_unless_kept(runtime, batch)


async def replay_failed_deliveries(runtime: Runtime, since: date, tally: Tally) -> None:
    """Replay the deliveries that Telnyx failed to make since a day through the table of events, deduplicated like any event.

    It goes no further back than events are remembered: older ones were replayed before, and the lists show their recordings.
    """
    remembered = await server_now(runtime.redis) - timedelta(seconds=DEDUPE_SECONDS)
    first = format_instant(max(window(since)[0], remembered))
    acceptor = Acceptor(runtime.redis)
    listed = runtime.telnyx.webhook_deliveries.list(
        filter={"status": {"eq": "failed"}, "started_at": {"gte": first}}, page_size=LARGEST_PAGE
    )
    async for delivery in readable(runtime, listed):
        event = delivery.webhook
        if event is None or not event.id or not event.event_type:
            continue
        jobs = jobs_of(Event(event.id, event.event_type, event.payload or {}))
        if jobs and await acceptor.accept(event.id, jobs):
            tally.replayed += 1


async def count_at_telnyx(runtime: Runtime, day: date) -> int | None:
    """How many recordings Telnyx has of a UTC day; None if its answer has no count.

    Raises:
        TelnyxError: it cannot be asked now.
    """
    first, last = map(format_instant, window(day))
    wanted: RecordingFilter = {"created_at": {"gte": first, "lte": last}}
    return await runtime.telnyx.count(runtime.telnyx.recordings.list, filter=wanted)


async def start_reconciles(runtime: Runtime) -> None:
    """Enqueue the reconciles that are due; the first worker that asks does it, and after a lost Redis all are due.

    The clock of Redis decides which days: a worker with a wrong clock would compare others.
    """
    today, settings = (await server_now(runtime.redis)).date(), runtime.settings
    recent = reconcile_job("recent", today - settings.reconcile_recent, today)
    open_ = reconcile_job("open", today - settings.reconcile_open, today)
    for name, every, job in (
        ("recent", settings.reconcile_every, recent),
        ("open", settings.reconcile_open_every, open_),
        ("sealed", _COUNT_EVERY, count_job()),
    ):
        await take_turn(runtime.redis, RECONCILED + name, every.total_seconds(), partial(enqueue, runtime.redis, job))
