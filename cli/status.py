"""`callvault status`: how things stand, from Redis and the chain of seals."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys

import msgspec

from config.counts import many
from config.settings import Settings
from config.times import format_duration
from workers.hold import Hold
from workers.runtime import runtime_at
from workers.status import Status, open_days, read_status

_DAYS_SHOWN = 10
_SHOWN = 10  # of each kind of what is wrong


def run(settings: Settings, url: str, *, as_json: bool) -> int:
    """Say it; returns the exit status: 1 if something waits for a person."""
    found = asyncio.run(_look(settings, url))
    if as_json:
        sys.stdout.write(json.dumps(msgspec.to_builtins(found)) + "\n")
    else:
        _tell(found)
    return 1 if found.needs_a_person else 0


async def _look(settings: Settings, url: str) -> Status:
    async with runtime_at(settings, url, needs_telnyx=False, needs_archive=False) as runtime:
        return await read_status(runtime)


def _tell(found: Status) -> None:
    lines = [("archive", found.archive_url)]
    for _, group in itertools.groupby(found.conditions, key=lambda one: one.kind):
        same = list(group)
        for advice, alike in itertools.groupby(same[:_SHOWN], key=lambda one: one.advice):
            lines += [(one.kind.replace("-", " "), one.what) for one in alike]
            lines.append(("", advice))
        if len(same) > _SHOWN:
            lines.append(("", f"and {len(same) - _SHOWN} more; `--json` lists all"))
    for name, queue in found.queues.items():
        oldest = f", the oldest for {format_duration(queue.oldest_seconds)}" if queue.oldest_seconds else ""
        later = f", {queue.later} of them later" if queue.later else ""
        jobs = many(queue.jobs, "job waits or runs", "jobs wait or run")
        lines.append((f"{name} queue", f"{jobs}{later}{oldest}"))
    letters = found.dead_letters
    if not letters:
        lines.append(("dead letters", "none"))
    deletions = found.deletions
    pause = Hold(deletions.paused or "", deletions.paused_by or "", deletions.paused_at or "")
    state = deletions.mode if deletions.paused is None else f"paused: {pause}"
    lines.append(("deletion", f"{state}; {many(deletions.due, 'original')} on the list"))
    seals = found.seals
    last = f", the last of {seals.last_day} at {seals.last_sealed_at}" if seals.count else ""
    days = open_days(seals.days_open, len(seals.overdue), seals.next_at)
    lines.append(("seals", f"{seals.count}{last}; {days}"))
    overdue = seals.overdue
    for row in overdue[:_DAYS_SHOWN]:
        lines.append(("  waits", f"{row.day}, over for {format_duration(row.over_for_seconds)}: {row.why}"))
    if len(overdue) > _DAYS_SHOWN:
        lines.append(("", f"and {many(len(overdue) - _DAYS_SHOWN, 'more day')}"))
    width = max(len(name) for name, _ in lines) + 2
    sys.stdout.write("".join(f"{name:<{width}}{text}\n" for name, text in lines))
