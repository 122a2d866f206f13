"""One run of `callvault backfill`: compare past days, queue what is missing, wait for the workers, report."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import msgspec

from cli.accessed import logged_change
from cli.backfilled import Backfilled
from cli.console import open_console, print_json
from cli.interrupt import Interrupted, stop_if_cancelled
from cli.progress import progress
from cli.resume import StateFile
from config.settings import Settings
from text.counts import many
from text.sizes import format_size
from text.times import format_duration, format_instant
from workers.engine.one_by_one import Failure
from workers.keys import BULK_QUEUE
from workers.queue.script import server_now, server_seconds
from workers.reconcile.comparison import Tally
from workers.reconcile.reconcile import Days, reconcile_days
from workers.runtime import Runtime, runtime_at

_STATE_DAYS = 30
_SOON_SECONDS = 600  # a job waits longer only for a recording that Telnyx has not finished
_MANY = 1_000  # jobs past which they are listed once a second
_NO_WORKER = "queued; no worker runs: start `callvault worker`"


class _State(Tally):
    """The state that a backfill resumes from.

    Attributes:
        begun_at: when it began, by the clock of Redis, which also dates dead letters; empty: unknown.
        archived_bytes: of audio that workers archived for it.
        cursor: up to where it has read the change feed.
    """

    begun_at: str = ""
    archived_bytes: int = 0
    cursor: str = ""


class _Counts(NamedTuple):
    """Recordings and transcriptions, counted apart."""

    recordings: int = 0
    transcriptions: int = 0

    @classmethod
    def of_jobs(cls, job_ids: Iterable[bytes]) -> _Counts:
        """Count jobs by their ids."""
        names = Counter(job_id.partition(b":")[0] for job_id in job_ids)
        return cls(names[b"archive_recording"], names[b"archive_transcription"])

    def without(self, *others: _Counts) -> _Counts:
        """Less what others have of each, and never below zero."""
        return _Counts(*(max(0, count - sum(less)) for count, *less in zip(self, *others, strict=True)))

    def __str__(self) -> str:
        return f"{many(self.recordings, 'recording')}, {many(self.transcriptions, 'transcription')}"


_NONE = _Counts()


@dataclass(frozen=True)
class _Ends:
    """Jobs that are not done.

    Attributes:
        given_up: dead letters of all backfills.
        given_up_now: those since this backfill began.
        left: jobs that workers retry much later, because Telnyx has not finished the recording.
    """

    given_up: int = 0
    given_up_now: _Counts = _NONE
    left: _Counts = _NONE


class Backfill:
    """Compares the days of a span, both included, and waits for the jobs that this queues."""

    def __init__(
        self,
        settings: Settings,
        since: date,
        until: date,
        connection_id: str | None,
        dry_run: bool,
    ) -> None:
        self._settings = settings
        self._since, self._until = since, until
        self._connection_id = connection_id
        self._dry_run = dry_run
        self._console = open_console(stderr=True)
        self._started = time.monotonic()
        self._is_stopped = False
        self._failed: list[Failure] = []
        self._tally = _State()
        self._done: Backfilled | None = None

    async def run(self, redis_url: str, as_json: bool) -> int:
        """Run to the end, or until Ctrl-C or SIGTERM cancels it; returns the exit status."""
        ends = _Ends()
        try:
            async with runtime_at(self._settings, redis_url) as runtime:
                if self._dry_run:
                    ends = await self._run(runtime)
                else:
                    of = f" of connection {self._connection_id}" if self._connection_id else ""
                    about = f"{self._since} to {self._until}{of}"
                    async with logged_change(runtime, "backfill", about=about):
                        ends = await self._run(runtime)
        except asyncio.CancelledError:
            self._is_stopped = True
        if as_json or self._tally.found or not self._is_stopped:
            self._print(self._tally, ends, as_json)
        if self._is_stopped:
            raise Interrupted(self._what_stands())
        return 1 if ends.given_up or self._failed or self._tally.unreadable else 0

    def _what_stands(self) -> str:
        if self._dry_run:
            return "it changed nothing; run the same command again"
        through = f"compared through {self._tally.through}" if self._tally.through else "no day was compared to its end"
        return f"{through}; run the same command again to continue. Workers finish the queued jobs"

    async def _run(self, runtime: Runtime) -> _Ends:
        """Compare the days, then wait for the jobs that this queued."""
        settings, span = self._settings, f"{self._since} {self._until} {self._connection_id}"
        identity = await runtime.in_thread(lambda: runtime.archive.identity)
        self._tally.begun_at = format_instant(await server_now(runtime.redis))
        file = StateFile(
            settings.data_folder,
            "backfill",
            f"{settings.telnyx_base_url} {settings.archive_address} {span}",
            self._tally,
            _STATE_DAYS,
            archive_id=identity.id,
            start_over="remove this file to start over",
        )
        if self._dry_run:
            await self._reconcile(runtime, self._tally, lambda _: None)
            return _Ends()
        self._tally = file.load()
        if self._tally.through:
            self._console.print(f"Resuming after {self._tally.through}.")
        tally = self._tally
        done = Backfilled(runtime, tally.begun_at, tally.cursor, tally.archived_bytes)

        def save(_: Tally) -> None:
            tally.archived_bytes, tally.cursor = done.size, done.cursor
            file.save(tally)

        following = asyncio.create_task(done.follow())
        try:
            self._done = done
            await self._reconcile(runtime, tally, save)
            ends = await self._wait(runtime, tally, done)
        finally:
            while not following.done():  # a connection that times out at this moment hides the cancellation
                following.cancel()
                await asyncio.wait({following}, timeout=0.5)
            tally.archived_bytes = done.size
        if not self._failed:  # else the same command continues at the first day that could not be compared
            file.forget()
        return ends

    async def _reconcile(self, runtime: Runtime, tally: Tally, save: Callable[[Tally], None]) -> None:
        with progress(self._console, days=(self._until - self._since).days + 1) as show:
            what = Days(self._since, self._until, "backfill", self._connection_id, dry_run=self._dry_run)
            self._failed = await reconcile_days(runtime, what, tally, lambda tally: self._show(tally, show), save)

    def _show(self, tally: Tally, show: Callable[..., None]) -> None:
        stop_if_cancelled()
        days = (date.fromisoformat(tally.through) - self._since).days + 1 if tally.through else 0
        rate = tally.found / max(time.monotonic() - self._started, 0.001)
        note = f"found {_found(tally)} ({rate:,.0f}/s); missing {_missing(tally)} (about {format_size(tally.bytes)})"
        if self._done is not None:
            note += f"; queued {_queued(tally)}; archived {format_size(self._done.size)}"
            if tally.queued and not self._done.has_worker:
                note = f"{_NO_WORKER}; {note}"
        show(note, days=days)

    async def _wait(self, runtime: Runtime, tally: _State, done: Backfilled) -> _Ends:
        """Wait for the workers to finish the queued jobs."""
        # If this run queued nothing, the queue holds only jobs of the workers' own schedule.
        await done.look()
        left = await self._wait_for_jobs(runtime, _queued(tally), done) if tally.queued else _NONE
        await done.look()
        letters = [
            one
            for one in await runtime.attempts.letters()
            if isinstance(one.payload, dict) and one.payload.get("found_by") == "backfill"
        ]
        now = _Counts.of_jobs(one.job_id.encode() for one in letters if one.died_at >= tally.begun_at)
        return _Ends(len(letters), now, left)

    async def _wait_for_jobs(self, runtime: Runtime, queued: _Counts, done: Backfilled) -> _Counts:
        """Wait until all jobs that are due soon have ended; returns how many are left for later."""
        with progress(self._console, **{kind: count for kind, count in queued._asdict().items() if count}) as show:
            while True:
                until = int((await server_seconds(runtime.redis) + _SOON_SECONDS) * 1000)
                if not (waiting := await runtime.redis.zrangebyscore(BULK_QUEUE, "-inf", until)):
                    return _Counts.of_jobs(await runtime.redis.zrangebyscore(BULK_QUEUE, until, "+inf"))
                stop_if_cancelled()
                counts = queued.without(_Counts.of_jobs(waiting))._asdict()
                note = f"archived {format_size(done.size)}" if done.has_worker else _NO_WORKER
                show(note, **{kind: count for kind, count in counts.items() if getattr(queued, kind)})
                await asyncio.sleep(0.1 if len(waiting) < _MANY else 1)

    def _print(self, tally: _State, ends: _Ends, as_json: bool) -> None:
        given_up, left, queued = ends.given_up, sum(ends.left), _queued(tally)
        is_done = not self._dry_run and not self._is_stopped
        done = queued.without(ends.given_up_now, ends.left) if is_done else _NONE
        if as_json:
            report = {name: value for name, value in msgspec.structs.asdict(tally).items() if name != "cursor"}
            report |= {"done": sum(done), "given_up": given_up, "left": left, "dry_run": self._dry_run}
            report["stopped"] = self._is_stopped
            report |= {"found_recordings": _found(tally).recordings, "missing_recordings": _missing(tally).recordings}
            report |= {f"queued_{kind}": count for kind, count in queued._asdict().items()}
            report |= {f"done_{kind}": count for kind, count in done._asdict().items()}
            report["not_compared"] = [f"{one.kind}, {one.name}: {one.error}" for one in self._failed]
            print_json(report)
            return
        size, length = format_size(tally.bytes), format_duration(tally.seconds)
        lines = [
            f"found at Telnyx     {_found(tally)}",
            f"not in the archive  {_missing(tally)}",
            f"missing audio       {length}, about {size}" if tally.seconds else "missing audio       none",
        ]
        if not self._dry_run:
            lines += [f"queued              {queued}", f"done                {done}"]
            lines += [f"archived audio      {format_size(tally.archived_bytes)}"]
            lines += [f"deletions scheduled {tally.scheduled}"]
        if left:
            lines.append(f"left for later      {left}  (Telnyx has not finished them; the workers retry)")
        if given_up:
            lines.append(f"failed for good     {given_up}  (see `callvault dead-letters list`)")
        if tally.unreadable:
            lines.append(f"unreadable rows     {tally.unreadable}  (see the log)")
        lines += [f"not compared        {one.kind}, {one.name}: {one.error}" for one in self._failed]
        sys.stdout.write("\n".join(lines) + "\n")


def _found(tally: Tally) -> _Counts:
    return _Counts(tally.found - tally.found_transcriptions, tally.found_transcriptions)


def _missing(tally: Tally) -> _Counts:
    return _Counts(tally.missing - tally.missing_transcriptions, tally.missing_transcriptions)


def _queued(tally: Tally) -> _Counts:
    return _Counts(tally.queued - tally.queued_transcriptions, tally.queued_transcriptions)
