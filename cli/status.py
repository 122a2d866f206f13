"""`callvault status`: queues, deletions, dead letters, seals, and everything that is wrong."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from cli.console import print_json
from cli.options import DataFolder, Json, run_in_service
from text.counts import many
from text.times import format_duration, format_moment

if TYPE_CHECKING:
    from workers.status import Status

_DAYS_SHOWN = 10
_SHOWN = 10  # of each kind of condition


def command(data: DataFolder = None, json: Json = False) -> int:
    """Show queues, deletions, dead letters and seals.

    Exit status 1: something needs your attention.

    Example: callvault status
    """
    from workers.status import read_status

    found = run_in_service(data, read_status, needs_archive=False)
    if json:
        print_json(msgspec.to_builtins(found))
    else:
        _print(found)
    return 1 if found.needs_a_person else 0


def _print(found: Status) -> None:
    from archive.hold import Hold
    from workers.status import open_days

    lines = [("archive", found.archive_url)]
    for _, group in itertools.groupby(found.conditions, key=lambda one: one.kind):
        same = list(group)
        for advice, alike in itertools.groupby(same[:_SHOWN], key=lambda one: one.advice):
            for one in alike:
                lines.append((one.kind.replace("-", " "), one.what))
                lines += [("", one.seen)] if one.seen else []
            lines.append(("", advice))
        if len(same) > _SHOWN:
            lines.append(("", f"and {len(same) - _SHOWN} more; `callvault status --json` lists all"))
    for name, queue in found.queues.items():
        later = f", {queue.later} scheduled for later" if queue.later else ""
        oldest = f", oldest due job waiting {format_duration(queue.oldest_seconds)}" if queue.oldest_seconds else ""
        lines.append((f"{name} queue", f"{many(queue.jobs, 'job')}{later}{oldest}"))
    if not found.dead_letters:  # else they are among the conditions
        lines.append(("dead letters", "none"))
    deletions = found.deletions
    pause = Hold(deletions.paused or "", deletions.paused_by or "", deletions.paused_at or "")
    state = deletions.mode if deletions.paused is None else f"paused: {pause}"
    lines.append(("deletion", f"{state}; {many(deletions.due, 'original')} scheduled"))
    seals = found.seals
    last = ""
    if seals.last_sealed_at is not None:
        last = f", last for {seals.last_day}, sealed {format_moment(seals.last_sealed_at, None)}"
    days = open_days(seals.days_open, len(seals.overdue), seals.next_at)
    lines.append(("seals", f"{seals.count}{last}; {days}"))
    for row in seals.overdue[:_DAYS_SHOWN]:
        since = format_duration(row.over_for_seconds)
        lines.append(("  waiting", f"{row.day}, ended {since} ago: {row.why}"))
    if len(seals.overdue) > _DAYS_SHOWN:
        lines.append(("", f"and {many(len(seals.overdue) - _DAYS_SHOWN, 'more day')}"))
    lines += [(f"{kind}s", _processes(found, kind)) for kind in ("receiver", "worker")]
    lines += [("this shell", one.sentence.removeprefix("this shell ")) for one in found.differs_here]
    width = max(len(name) for name, _ in lines) + 2
    sys.stdout.write("".join(f"{name:<{width}}{text}\n" for name, text in lines))


def _processes(found: Status, kind: str) -> str:
    from workers.running import versions

    same = [one for one in found.processes if one.kind == kind]
    if not same:
        return "none"
    hosts = Counter(one.host for one in same)
    where = ", ".join(f"{count} on {host}" for host, count in hosts.items())
    return f"{where}; Callvault {' and '.join(versions(same))}"
