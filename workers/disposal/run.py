"""One run of disposal: find what is past its term, stop if that is too much, ask everything anew for each, dispose of it.

A second run continues an interrupted one. Each day is finished, with its rows for query engines, before it is remembered as
looked at.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from datetime import date, datetime, timedelta
from functools import partial
from typing import NamedTuple

from archive import kinds, layout
from archive.access import AccessLine
from archive.archive import Archive
from archive.dispose import NotSealed, dispose, prepare
from archive.proof import Damaged
from archive.records import UnreadableRecord
from archive.removal_records import ErasedObject
from archive.retention import Term
from archive.signatures import SealKeys
from archive.stores.store import StoreError, StoreRefused
from process.logs import get_logger
from text.errors import UserError
from text.one_line import one_line
from text.times import format_instant, utc_now
from workers.catalogue.forget import assert_can_forget, forget_disposed
from workers.damage.damage import report_wrong
from workers.disposal.days import Candidate, Day, Terms, look_at_day, read_seen, remember, under
from workers.disposal.lines import Lines
from workers.disposal.may_dispose import (
    Kept,
    NotNow,
    Stopped,
    ask_anew,
    ask_of_all,
    held_by_settings,
    last_question,
    read_standing,
)
from workers.disposal.report import Gone, Left, Report, tell
from workers.disposal.stop import Counted, count_disposed, count_until, why_stopped
from workers.engine.lease import HeldElsewhere, held
from workers.engine.telnyx_clock import TelnyxClock
from workers.keys import DISPOSAL_DAYS, DISPOSING
from workers.recordings.writing import sole_writer
from workers.runtime import Runtime
from workers.seals.chain import read_chain
from workers.seals.signing import open_seal_keys

log = get_logger()

_AT_ONCE = 4
_MOST_FAILURES = 5  # of the store, one after the other, that end a run
_LEASE_WAIT_SECONDS = 5.0
_NOTHING_SEALED_FOR = timedelta(days=30)
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 60.0, 24 * 3600.0


class _Pending(NamedTuple):
    """A day with something to do: under which rules and seals it was found, how many would go, and their size."""

    day: date
    under: str
    recordings: int
    size_bytes: int


class _Retry(NamedTuple):
    """A day of which something stays: when it is due again, after which wait, and how many recordings it has."""

    under: str
    at: float
    wait: float
    recordings: int


class Disposer:
    """Disposes of recordings, run after run.

    Args:
        runtime: the worker's parts.
        by: who disposes, for records and the access log.
        is_dry: find and ask, and dispose of nothing.
        hours: whether it keeps to the hours of `CALLVAULT_DISPOSE_HOURS`.
        show: called with the report so far, after each day that was looked at and each recording.

    Attributes:
        idle: set while no run is under way.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        by: str = "",
        is_dry: bool = False,
        hours: bool = True,
        show: Callable[[Report], None] = lambda _: None,
    ) -> None:
        self._runtime = runtime
        self._show = show
        self._by = by or f"worker on {socket.gethostname()}"
        self._is_dry = is_dry
        self._keeps_hours = hours
        self._clock = TelnyxClock()
        self._is_leaving = False
        self.idle = asyncio.Event()
        self.idle.set()
        self._retries: dict[date, _Retry] = {}
        self._failures = 0  # of the store, one after the other
        self._next = 0.0  # when the rate allows the next recording
        self._keys: SealKeys | None = None
        self._lines = Lines(runtime, self._by, "worker" if hours else "command")

    async def run(self) -> Report:
        """Look at every day that is due, and dispose of what is past its term.

        Returns:
            What was done; `stopped` says why the run ended early.

        Raises:
            HeldElsewhere: another process disposes of recordings now.
            StoreError, redis.exceptions.RedisError: one of them is away.
        """
        report = Report()
        self.idle.clear()
        try:
            if self._is_dry:
                await self._run(report)
            else:
                async with held(self._runtime.redis, DISPOSING, "disposal", _LEASE_WAIT_SECONDS):
                    await self._run(report)
        except Stopped as stopped:
            report.stopped, report.is_meant = str(stopped), isinstance(stopped, NotNow)
        finally:
            self.idle.set()
        if not self._is_dry:
            await tell(self._runtime, report)
        return report

    def leave(self) -> None:
        """Begin with no further recording: the run under way finishes what it has begun, and the rows of its day."""
        self._is_leaving = True

    async def _run(self, report: Report) -> None:
        self._assert_may_begin()
        applied, now = await ask_of_all(self._runtime, self._clock)
        if not applied:
            raise Stopped("no retention rules are applied; `callvault retention apply` applies them")
        await self._assert_can_record(now)
        standing = await self._runtime.in_thread(
            read_standing, self._runtime.archive, await held_by_settings(self._runtime)
        )
        number = applied[-1].number
        terms = Terms(applied, await count_until(self._runtime, number, now), standing)
        days = await self._look(terms, report)
        would_go = Counted(
            recordings=sum(one.recordings for one in days),
            size_bytes=sum(one.size_bytes for one in days),
            of=report.of,
            rules_number=number,
            until=terms.now,
        )
        report.stop = await why_stopped(self._runtime, would_go, is_dry=self._is_dry)
        if report.stop is not None and not self._is_dry:
            return
        for one in days:
            await self._dispose_of_day(one, terms, report)

    async def _look(self, terms: Terms, report: Report) -> list[_Pending]:
        """The days with something to do; each other is remembered at once. What is found is looked at again in its turn."""
        runtime, found = self._runtime, list[_Pending]()
        seen = await read_seen(runtime.redis)
        for day in sorted(runtime.chain.days):
            links = runtime.chain.of_day(day)
            if not any(link.seal.recordings for link in links):
                continue
            name, known = under(terms.applied, links), seen.get(day)
            is_same = known is not None and known.under == name
            if known is not None and is_same and (known.next_at is None or known.next_at > terms.now):
                report.of += known.recordings
                continue
            retry = self._retries.get(day)
            if retry is not None and retry.under == name and retry.at > time.monotonic():
                report.of += retry.recordings
                continue
            one = await self._look_at(day, terms)
            report.of += one.recordings
            report.past_term += len(one.candidates)
            self._show(report)
            if one.candidates or one.unsealed or one.unreadable or one.undone or (one.has_gone and not is_same):
                going = [candidate for candidate in one.candidates if not candidate.is_kept]
                found.append(_Pending(day, name, len(going), sum(candidate.size_bytes for candidate in going)))
            elif not self._is_dry:
                await remember(runtime.redis, one, name)
        return found

    async def _look_at(self, day: date, terms: Terms) -> Day:
        try:
            links = self._runtime.chain.of_day(day)
            return await self._runtime.in_thread(look_at_day, self._runtime.archive, day, links, terms)
        except UnreadableRecord as error:
            raise Stopped(f"a manifest cannot be read: {error}; run `callvault verify --seals`") from None

    async def _dispose_of_day(self, pending: _Pending, terms: Terms, report: Report) -> None:
        runtime, day = self._runtime, await self._look_at(pending.day, terms)
        if not self._is_dry:
            await runtime.in_thread(_assert_can_forget_rows, runtime.archive, day.day)
            await runtime.redis.hdel(DISPOSAL_DAYS, day.day.isoformat())
            for key, record in day.unsealed.items():  # an interrupted run may not have announced them
                await runtime.announce(key, record)
        before, gone = len(report.left), len(report.gone)
        for error in day.unreadable:
            recording_id = kinds.place_of(error.key).recording_id
            report.left.append(Left(recording_id, "damaged", f"{error}; run `callvault verify`"))
        report.left += [Left(recording_id, "undone", why) for recording_id, why in day.undone.items()]
        try:
            await self._dispose_of_each(day, pending.recordings, report)
        finally:
            if not self._is_dry and (day.has_gone or len(report.gone) > gone):
                await runtime.in_thread(forget_disposed, runtime.archive, day.day)
        if self._is_dry:
            return
        if len(report.left) == before:
            self._retries.pop(day.day, None)
            await remember(runtime.redis, day, pending.under)
            return
        last = self._retries.get(day.day)
        wait = min(max(2 * last.wait if last else 0.0, _FIRST_RETRY_SECONDS), _LONGEST_RETRY_SECONDS)
        self._retries[day.day] = _Retry(pending.under, time.monotonic() + wait, wait, day.recordings)

    async def _dispose_of_each(self, day: Day, most: int, report: Report) -> None:
        """Dispose of the candidates of a day, a few at once; the first error ends it once the others are done.

        No more go than the run has counted, if the terms of others have ended since.
        """
        going = [one for one in day.candidates if not one.is_kept]
        kept = [one for one in day.candidates if one.is_kept]
        waiting, failed = [*kept, *reversed(going[:most])], list[Exception]()
        report.left += [
            Left(layout.recording_id_of(one.folder), "busy", "its term ended during this run") for one in going[most:]
        ]

        async def work() -> None:
            while waiting and not failed:
                try:
                    await self._dispose_of(waiting.pop(), day, report)
                except Exception as error:
                    failed.append(error)

        await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
        if failed:
            raise failed[0]

    async def _dispose_of(self, candidate: Candidate, day: Day, report: Report) -> None:
        """Dispose of what is due of one recording, or report why it stays.

        Raises:
            Stopped: nothing may be disposed of now, or the credentials may not delete.
            StoreError, redis.exceptions.RedisError: one of them is away.
        """
        self._assert_may_begin()
        await self._wait_for_rate()
        recording_id = layout.recording_id_of(candidate.folder)
        lease = nullcontext() if self._is_dry else sole_writer(self._runtime.redis, recording_id)
        try:
            async with lease:
                for due in candidate.due:
                    await ask_anew(self._runtime, self._clock, candidate.folder, due, day.sealed)
                    report.gone.append(await self._go(candidate, due, day))
                    self._show(report)
            self._failures = 0
        except StoreRefused:
            raise
        except StoreError as error:  # one recording that fails again and again must not keep the others
            self._failures += 1
            report.left.append(Left(recording_id, "failed", one_line(error)))
            if self._failures >= _MOST_FAILURES:
                self._failures = 0
                raise
        except HeldElsewhere:
            report.left.append(Left(recording_id, "busy", "another job works on it"))
        except Kept as kept:
            report.left.append(Left(recording_id, kept.kind, str(kept)))
        except NotSealed as kept:
            report.left.append(Left(recording_id, "not-sealed", str(kept)))
        except (Damaged, UnreadableRecord) as error:
            if not self._is_dry:
                await report_wrong(self._runtime.redis, error, "disposal")
            report.left.append(Left(recording_id, "damaged", f"{error}; run `callvault verify --seals`"))

    async def _go(self, candidate: Candidate, due: Term, day: Day) -> Gone:
        runtime, recording_id = self._runtime, layout.recording_id_of(candidate.folder)
        prepared = await runtime.in_thread(prepare, runtime.archive, candidate.folder, due, day.sealed)
        await runtime.in_thread(_refuse_locked, runtime.archive, [*prepared.rows])
        gone = _gone(recording_id, due, prepared.rows.values())
        if self._is_dry:
            return gone
        line = await self._lines.begin(recording_id, due)
        ask = last_question(runtime, self._clock, candidate.folder, due, day.sealed)
        work = partial(dispose, ask=ask, keys=self._keys)
        try:
            records = await runtime.in_thread(work, runtime.archive, prepared, due, self._by)
        except StoreRefused as error:
            await self._refused(recording_id, line, error)
            raise Stopped(f"the store refuses to delete: {error}") from None
        except Exception as error:
            await self._lines.fail(line, error)
            raise
        for key, record in records.items():
            await runtime.announce(key, record)
        if due is candidate.due[0]:
            await count_disposed(runtime.redis, utc_now().date())
        runtime.history.add("disposed")
        runtime.history.add("disposed_bytes", gone.size_bytes)
        log.info("disposed of", recording_id=recording_id, rule=due.rule, rules=due.number, goes=" ".join(due.goes))
        return gone

    async def _refused(self, recording_id: str, line: AccessLine, error: StoreRefused) -> None:
        await self._lines.fail(line, error)
        text = f"The store refuses to delete objects of recording {recording_id}, which is past its term: {error}."
        advice = "Give this process credentials that may delete (`CALLVAULT_DISPOSE_CREDENTIALS`); it then continues by itself."
        await self._runtime.alerts.send("disposal-stopped", "store", text, advice)

    async def _assert_can_record(self, now: float) -> None:
        """Check that this process can leave all the evidence that a disposal needs."""
        chain = await self._chain()
        if not chain:
            raise NotNow("no day is sealed yet")
        last = max(chain)
        if datetime.fromtimestamp(now, utc_now().tzinfo).date() - last > _NOTHING_SEALED_FOR:
            why = f"the last sealed day is {last}, so either sealing has stopped or the clocks are wrong"
            raise Stopped(f"{why}; run `callvault status`")
        if self._runtime.settings.seal_key is not None:
            self._keys = open_seal_keys(self._runtime.settings)
            return
        if await self._runtime.in_thread(_is_signed, self._runtime.archive, len(self._runtime.chain.links)):
            raise Stopped(
                "seals are signed; set CALLVAULT_SEAL_KEY for this process too, so that it signs what it records"
            )

    async def _chain(self) -> set[date]:
        try:
            chain = await read_chain(self._runtime)
        except UnreadableRecord as error:
            raise Stopped(f"the chain of seals cannot be read: {error}; run `callvault verify --seals`") from None
        self._runtime.chain.become(chain)
        return chain.days

    def _assert_may_begin(self) -> None:
        if self._is_leaving:
            raise NotNow("the process is asked to stop")
        hours = self._runtime.settings.dispose_hours
        if self._keeps_hours and hours is not None and not hours.holds(utc_now().hour):
            raise NotNow(f"outside the hours {hours} UTC (CALLVAULT_DISPOSE_HOURS)")

    async def _wait_for_rate(self) -> None:
        if self._is_dry:
            return
        now = time.monotonic()
        at = max(self._next, now)
        self._next = at + 3600 / self._runtime.settings.dispose_per_hour
        await asyncio.sleep(at - now)


def _is_signed(archive: Archive, last: int) -> bool:
    """Whether the last seal is signed, or the one before it: a worker signs a seal just after it has written it."""
    return any(archive.store.stat(layout.seal_key(number, "sig")) is not None for number in {last, max(last - 1, 1)})


def _assert_can_forget_rows(archive: Archive, day: date) -> None:
    """Check that the rows of a day can be rewritten; blocks.

    Raises:
        Stopped: they cannot.
        StoreError: the store is away.
    """
    try:
        assert_can_forget(archive, day)
    except StoreError:
        raise
    except UserError as error:
        raise Stopped(str(error)) from None


def _refuse_locked(archive: Archive, keys: Iterable[str]) -> None:
    now = utc_now()
    for key in keys:
        until = archive.store.locked_until(key)
        if until is not None and until > now:
            raise Kept("locked", f"{key}: the store locks it until {format_instant(until)}")


def _gone(recording_id: str, due: Term, objects: Collection[ErasedObject]) -> Gone:
    size = sum(one.size for one in objects)
    return Gone(recording_id, due.rule, due.number, due.goes, due.stays == "metadata", len(objects), size)
