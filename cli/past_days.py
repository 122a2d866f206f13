"""One run of `callvault backfill`: compare past days, queue what is missing, wait for the workers, report."""

from __future__ import annotations

import asyncio
import json as json_module
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import msgspec

from cli.console import open_console
from cli.progress import progress
from cli.resume import StateFile
from config.settings import Settings
from text.counts import many
from text.sizes import format_size
from text.times import format_duration, format_instant
from workers.conditions import living_workers
from workers.engine.one_by_one import Failure
from workers.keys import BULK_QUEUE
from workers.queue.script import server_now, server_seconds
from workers.reconcile.comparison import Tally
from workers.reconcile.reconcile import Days, reconcile_days
from workers.runtime import Runtime, runtime_at

_STATE_DAYS = 30
_SOON_SECONDS = 600  # a job waits longer only for a recording that Telnyx has not finished


class _Stopped(Exception):
    pass


class _State(Tally):
    """The state that a backfill resumes from.

    Attributes:
        begun_at: when it began, by the clock of Redis, which also dates dead letters; empty: unknown.
    """

    begun_at: str = ""


@dataclass(frozen=True)
class _Ends:
    """Jobs that are not done.

    Attributes:
        given_up: dead letters of all backfills.
        given_up_now: dead letters since this backfill began.
        left: jobs that workers retry much later, because Telnyx has not finished the recording.
    """

    given_up: int = 0
    given_up_now: int = 0
    left: int = 0


class Backfill:
    """Compares the days of a span, both included, and waits for the jobs that this queues."""

    def __init__(
        self,
        settings: Settings,
        since: date,
        until: date,
        connection_id: str | None,
        dry_run: bool,
        asked_to_stop: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._since, self._until = since, until
        self._connection_id = connection_id
        self._dry_run = dry_run
        self._asked_to_stop = asked_to_stop
        self._console = open_console(stderr=True)
        self._started = time.monotonic()
        self._is_stopped = False
        self._failed: list[Failure] = []
        self._tally = _State()

    async def run(self, redis_url: str, as_json: bool) -> int:
        """Run to the end, or until the person stops it; returns the exit status."""
        ends = _Ends()
        try:
            async with runtime_at(self._settings, redis_url) as runtime:
                ends = await self._run(runtime)
        except _Stopped:
            self._console.print("Stopped. Run the same command to continue. Workers finish the queued jobs.")
            self._is_stopped = True
        self._print(self._tally, ends, as_json)
        return 1 if ends.given_up or self._failed or self._tally.unreadable or self._is_stopped else 0

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
        await self._reconcile(runtime, self._tally, lambda _: file.save(self._tally))
        ends = await self._wait(runtime, self._tally)
        if not self._failed:  # else the same command continues at the first day that could not be compared
            file.forget()
        return ends

    async def _reconcile(self, runtime: Runtime, tally: Tally, save: Callable[[Tally], None]) -> None:
        with progress(self._console, days=(self._until - self._since).days + 1) as show:
            what = Days(self._since, self._until, "backfill", self._connection_id, dry_run=self._dry_run)
            self._failed = await reconcile_days(runtime, what, tally, lambda tally: self._show(tally, show), save)

    def _show(self, tally: Tally, show: Callable[..., None]) -> None:
        if self._asked_to_stop():
            raise _Stopped
        days = (date.fromisoformat(tally.through) - self._since).days + 1 if tally.through else 0
        rate = tally.found / max(time.monotonic() - self._started, 0.001)
        found = _apart(tally.found, tally.found_transcriptions)
        note = f"found {found}; missing {tally.missing}, queued {tally.queued}, {rate:,.0f}/s"
        show(note, days=days)

    async def _wait(self, runtime: Runtime, tally: _State) -> _Ends:
        """Wait for the workers to finish the queued jobs."""
        left = 0
        with progress(self._console, done=tally.queued) as show:
            # If this run queued nothing, the queue holds only jobs of the workers' own schedule.
            while tally.queued:
                until = int((await server_seconds(runtime.redis) + _SOON_SECONDS) * 1000)
                if (waiting := await runtime.redis.zcount(BULK_QUEUE, "-inf", until)) == 0:
                    later = await runtime.redis.zrangebyscore(BULK_QUEUE, until, "+inf")
                    left = sum(job_id.startswith(b"archive_") for job_id in later)
                    break
                if self._asked_to_stop():
                    raise _Stopped
                note = "" if await living_workers(runtime.redis) else "no worker is running; start `callvault worker`"
                show(note, done=max(0, tally.queued - waiting))
                await asyncio.sleep(0.1)
        letters = [
            one
            for one in await runtime.attempts.letters()
            if isinstance(one.payload, dict) and one.payload.get("found_by") == "backfill"
        ]
        return _Ends(len(letters), sum(one.died_at >= tally.begun_at for one in letters), left)

    def _print(self, tally: _State, ends: _Ends, as_json: bool) -> None:
        given_up, left = ends.given_up, ends.left
        done = 0 if self._dry_run or self._is_stopped else max(0, tally.queued - ends.given_up_now - left)
        if as_json:
            report = msgspec.structs.asdict(tally)
            report |= {"done": done, "given_up": given_up, "left": left, "dry_run": self._dry_run}
            report["found_recordings"] = tally.found - tally.found_transcriptions
            report["missing_recordings"] = tally.missing - tally.missing_transcriptions
            report["not_compared"] = [f"{one.kind}, {one.name}: {one.error}" for one in self._failed]
            sys.stdout.write(json_module.dumps(report) + "\n")
            return
        size, length = format_size(tally.bytes), format_duration(tally.seconds)
        lines = [
            f"found at Telnyx     {_apart(tally.found, tally.found_transcriptions)}",
            f"not in the archive  {_apart(tally.missing, tally.missing_transcriptions)}",
            f"missing audio       {length}, about {size}" if tally.seconds else "missing audio       none",
        ]
        if not self._dry_run:
            lines += [f"queued              {tally.queued}", f"done                {done}"]
            lines += [f"deletions scheduled {tally.scheduled}"]
        if left:
            lines.append(f"left for later      {left}  (Telnyx has not finished them; the workers retry)")
        if given_up:
            lines.append(f"failed for good     {given_up}  (see `callvault dead-letters list`)")
        if tally.unreadable:
            lines.append(f"unreadable rows     {tally.unreadable}  (see the log)")
        lines += [f"not compared        {one.kind}, {one.name}: {one.error}" for one in self._failed]
        sys.stdout.write("\n".join(lines) + "\n")


def _apart(both: int, transcriptions: int) -> str:
    return f"{many(both - transcriptions, 'recording')}, {many(transcriptions, 'transcription')}"
