"""One run of disposal: find what is past its term, stop if that is too much, ask everything anew for each, dispose of it.

A second run continues an interrupted one. Each day is finished, with its rows for query engines, before it is remembered as
looked at.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from functools import partial

from archive import layout
from archive.access import AccessLine, new_line
from archive.archive import Archive
from archive.dispose import Done, Due, Locked, NotSealed, dispose, prepare
from archive.proof import Damaged
from archive.records import AppliedRules, ErasedObject, UnreadableRecord, WrongObject
from archive.signatures import SealKeys
from archive.stores.store import StoreError, StoreRefused
from process.logs import get_logger
from text.errors import UserError
from text.one_line import one_line
from text.times import utc_now
from workers.access.log import AccessLog, NotWritten
from workers.catalogue.forget import assert_can_forget, forget_disposed
from workers.damage.damage import report_wrong
from workers.deletion.may_delete import Stopped as TooSlow
from workers.deletion.may_delete import assert_fresh, moment
from workers.disposal.days import Candidate, Day, look_at_day, read_seen, remember, under
from workers.disposal.may_dispose import Kept, Stopped, TelnyxClock, ask_anew, ask_of_all
from workers.disposal.report import Gone, Left, Report, tell
from workers.disposal.stop import count_disposed, why_stopped
from workers.engine.lease import HeldElsewhere, held
from workers.keys import DISPOSAL_DAYS, DISPOSING
from workers.recordings.writing import sole_writer
from workers.runtime import Runtime
from workers.seals.chain import read_chain
from workers.seals.signing import open_seal_keys

log = get_logger()

_AT_ONCE = 4
_LEASE_WAIT_SECONDS = 5.0
_NOTHING_SEALED_FOR = timedelta(days=30)
_FIRST_RETRY_SECONDS, _LONGEST_RETRY_SECONDS = 60.0, 24 * 3600.0


class Disposer:
    """Disposes of recordings, run after run.

    Args:
        runtime: the worker's parts.
        by: who disposes, for records and the access log.
        is_dry: find and ask, and dispose of nothing.
        hours: whether it keeps to the hours of `CALLVAULT_DISPOSE_HOURS`.

    Attributes:
        idle: set while no run is under way.
    """

    def __init__(self, runtime: Runtime, *, by: str = "", is_dry: bool = False, hours: bool = True) -> None:
        self._runtime = runtime
        self._by = by or f"worker on {socket.gethostname()}"
        self._is_dry = is_dry
        self._keeps_hours = hours
        self._clock = TelnyxClock()
        self._is_leaving = False
        self.idle = asyncio.Event()
        self.idle.set()
        self._retries: dict[date, tuple[float, float]] = {}  # when a day is due again, and the wait before that
        self._next = 0.0  # when the rate allows the next recording
        self._keys: SealKeys | None = None
        self._log = AccessLog(runtime.redis, self._own_archive, self._own_id)

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
            async with held(self._runtime.redis, DISPOSING, "disposal", _LEASE_WAIT_SECONDS):
                await self._run(report)
        except Stopped as stopped:
            report.stopped = str(stopped)
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
        days = await self._look(applied, now, report)
        found = [one for day in days for one in day.candidates]
        report.past_term = len(found)
        report.stop = await why_stopped(
            self._runtime,
            recordings=len(found),
            size_bytes=sum(one.size_bytes for one in found),
            of=report.of,
            rules_number=applied[-1].number,
            today=utc_now().date(),
        )
        if report.stop is not None and not self._is_dry:
            return
        for day in days:
            await self._dispose_of_day(day, under(applied, self._runtime.chain.of_day(day.day)), report)

    async def _look(self, applied: Sequence[AppliedRules], now: float, report: Report) -> list[Day]:
        """The days that are due: those with something to do; each other is remembered at once."""
        runtime, found = self._runtime, []
        seen = await read_seen(runtime.redis)
        for day in sorted(runtime.chain.days):
            links = runtime.chain.of_day(day)
            if not any(link.seal.recordings for link in links):
                continue
            name, known = under(applied, links), seen.get(day)
            is_same = known is not None and known.under == name
            if known is not None and is_same and (known.next_at is None or known.next_at > now):
                report.of += known.recordings
                continue
            one = await runtime.in_thread(look_at_day, runtime.archive, day, links, applied, now)
            report.of += one.recordings
            for error in one.unreadable:
                report.left.append(Left(layout.recording_id_of(error.key.rpartition("/")[0]), "damaged", str(error)))
            if not one.candidates and not one.unsealed and (is_same or not one.has_gone):
                if not self._is_dry:
                    await remember(runtime.redis, one, name)
                continue
            if self._is_dry or self._retries.get(day, (0.0, 0.0))[0] <= time.monotonic():
                found.append(one)
        return found

    async def _dispose_of_day(self, day: Day, name: str, report: Report) -> None:
        runtime = self._runtime
        if not self._is_dry:
            await runtime.in_thread(assert_can_forget_rows, runtime.archive, day.day)
            await runtime.redis.hdel(DISPOSAL_DAYS, day.day.isoformat())
            for key, record in day.unsealed.items():  # an interrupted run may not have announced them
                await runtime.announce(key, record)
        before = len(report.left)
        try:
            await self._dispose_of_each(day, report)
        finally:
            if not self._is_dry and (day.has_gone or report.gone or day.unsealed):
                await runtime.in_thread(forget_disposed, runtime.archive, day.day)
        if self._is_dry:
            return
        if len(report.left) == before:
            self._retries.pop(day.day, None)
            await remember(runtime.redis, day, name)
            return
        _, wait = self._retries.get(day.day, (0.0, 0.0))
        wait = min(max(2 * wait, _FIRST_RETRY_SECONDS), _LONGEST_RETRY_SECONDS)
        self._retries[day.day] = time.monotonic() + wait, wait

    async def _dispose_of_each(self, day: Day, report: Report) -> None:
        """Dispose of the candidates of a day, a few at once; the first error ends it once the others are done."""
        waiting, failed = list(reversed(day.candidates)), list[Exception]()

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
        try:
            async with sole_writer(self._runtime.redis, recording_id):
                for due in candidate.due:
                    await ask_anew(self._runtime, self._clock, candidate.folder, due)
                    gone = await self._go(candidate, due, day)
                    report.gone.append(gone)
        except HeldElsewhere:
            report.left.append(Left(recording_id, "busy", "another job works on it"))
        except Kept as kept:
            report.left.append(Left(recording_id, kept.kind, str(kept)))
        except NotSealed as kept:
            report.left.append(Left(recording_id, "not-sealed", str(kept)))
        except Locked as locked:
            report.left.append(Left(recording_id, "locked", str(locked)))
        except (Damaged, UnreadableRecord) as error:
            await self._report_damage(error)
            report.left.append(Left(recording_id, "damaged", f"{error}; run `callvault verify --seals`"))

    async def _go(self, candidate: Candidate, due: Due, day: Day) -> Gone:
        runtime, recording_id = self._runtime, layout.recording_id_of(candidate.folder)
        prepared = await runtime.in_thread(prepare, runtime.archive, candidate.folder, due, day.sealed)
        await runtime.in_thread(_refuse_locked, runtime.archive, [*prepared.rows])
        if self._is_dry:
            return _gone(recording_id, due, [*prepared.rows.values()])
        line = await self._write_line(recording_id, due)
        loop = asyncio.get_running_loop()

        def last_question() -> None:
            """Everything once more, since hashing may take minutes; and the answers must be seconds old."""
            began = moment()
            asking = ask_anew(runtime, self._clock, candidate.folder, due)
            asyncio.run_coroutine_threadsafe(asking, loop).result()
            try:
                assert_fresh(began)
            except TooSlow as slow:
                raise Stopped(str(slow).replace("deletion", "disposal")) from None

        work = partial(dispose, ask=last_question, keys=self._keys)
        try:
            done: Done = await runtime.in_thread(work, runtime.archive, prepared, due, self._by)
        except StoreRefused as error:
            await self._refused(recording_id, line, error)
            raise Stopped(f"the store refuses to delete: {error}") from None
        except Exception as error:
            await self._write_failed(line, error)
            raise
        for key, record in done.records.items():
            await runtime.announce(key, record)
        if due is candidate.due[0]:
            await count_disposed(runtime.redis, utc_now().date())
        runtime.history.add("disposed")
        runtime.history.add("disposed_bytes", sum(one.size for one in done.objects))
        log.info(
            "disposed of", recording_id=recording_id, rule=due.rule, rules=due.rules_number, goes=" ".join(due.goes)
        )
        return _gone(recording_id, due, done.objects)

    async def _refused(self, recording_id: str, line: AccessLine, error: StoreRefused) -> None:
        await self._write_failed(line, error)
        text = f"The store refuses to delete objects of recording {recording_id}, which is past its term: {error}."
        advice = "Give this process credentials that may delete (`CALLVAULT_DISPOSE_CREDENTIALS`); it then continues by itself."
        await self._runtime.alerts.send("disposal-stopped", "store", text, advice)

    async def _write_line(self, recording_id: str, due: Due) -> AccessLine:
        why = f"rule {due.rule} of applied rules {due.rules_number}: {due.why}"
        how = "worker" if self._keeps_hours else "command"
        line = new_line("dispose", self._by, how, socket.gethostname(), [recording_id], why=why)
        try:
            await self._log.write(line)
        except NotWritten as error:
            raise Stopped(str(error)) from None
        return line

    async def _write_failed(self, line: AccessLine, error: Exception) -> None:
        """Say in the access log that a disposal was not done, or not to its end; the first line stands in any case."""
        failed = new_line(
            "failed", line.who, line.how, line.address, line.recordings, of=line.id, error=one_line(error)
        )
        with suppress(NotWritten):
            await self._log.write(failed)

    async def _assert_can_record(self, now: float) -> None:
        """Check that this process can leave all the evidence that a disposal needs."""
        chain = await self._chain()
        if not chain:
            raise Stopped("no day is sealed yet")
        last = max(chain)
        if datetime.fromtimestamp(now, utc_now().tzinfo).date() - last > _NOTHING_SEALED_FOR:
            why = f"the last sealed day is {last}, so either sealing has stopped or the clocks are wrong"
            raise Stopped(f"{why}; run `callvault status`")
        if self._runtime.settings.seal_key is not None:
            self._keys = open_seal_keys(self._runtime.settings)
            return
        sequence = len(self._runtime.chain.links)
        if (
            await self._runtime.in_thread(self._runtime.archive.store.stat, layout.seal_key(sequence, "sig"))
            is not None
        ):
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
            raise Stopped("the process is asked to stop")
        hours = self._runtime.settings.dispose_hours
        if self._keeps_hours and hours is not None and not hours.holds(utc_now().hour):
            raise Stopped(f"outside the hours {hours} UTC (CALLVAULT_DISPOSE_HOURS)")

    async def _wait_for_rate(self) -> None:
        if self._is_dry:
            return
        now = time.monotonic()
        at = max(self._next, now)
        self._next = at + 3600 / self._runtime.settings.dispose_per_hour
        await asyncio.sleep(at - now)

    async def _report_damage(self, error: WrongObject) -> None:
        if not self._is_dry:
            await report_wrong(self._runtime.redis, error, "disposal")

    async def _own_archive(self) -> Archive:
        return self._runtime.archive

    def _own_id(self) -> str:
        return self._runtime.archive.identity.id if self._runtime.archive.is_known else ""


def assert_can_forget_rows(archive: Archive, day: date) -> None:
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
            raise Locked(key, until)


def _gone(recording_id: str, due: Due, objects: Sequence[ErasedObject]) -> Gone:
    size = sum(one.size for one in objects)
    return Gone(recording_id, due.rule, due.rules_number, due.goes, due.keeps_record, len(objects), size)
