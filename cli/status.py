"""`callvault status`: how things stand, from Redis and the chain of seals."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from config.settings import Settings
from config.times import end_of_day, format_duration
from workers.jobs.chain import read_chain
from workers.keys import BULK_QUEUE, MAIN_QUEUE
from workers.queue.attempts import Attempts
from workers.queue.connect import connect_worker
from workers.queue.pressure import oldest_waiting_seconds, pressure
from workers.queue.script import server_seconds
from workers.queue.written import UnsealedDays
from workers.runtime import open_runtime

_DAYS_SHOWN = 10


def run(settings: Settings, url: str, *, as_json: bool) -> int:
    """Say it; returns the exit status: 1 if something waits for a person."""
    found = asyncio.run(_look(settings, url))
    needs_a_person = bool(found["dead_letters"] or found["deletions"]["paused"] or found["pressure"])
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        _tell(found)
    return 1 if needs_a_person else 0


async def _look(settings: Settings, url: str) -> dict[str, Any]:
    redis = connect_worker(url, connections=4)
    runtime = open_runtime(settings, redis)
    try:
        now = await server_seconds(redis)
        queues = {
            name: {"jobs": await redis.zcard(key), "oldest_seconds": round(await oldest_waiting_seconds(redis, key), 1)}
            for name, key in (("main", MAIN_QUEUE), ("bulk", BULK_QUEUE))
        }
        chain = await read_chain(runtime)
        last = chain.links[-1].seal if chain.links else None
        waiting = UnsealedDays(redis)
        overdue = [
            {"day": day.isoformat(), "why": why, "over_for_seconds": round(now - end_of_day(day).timestamp())}
            for day, why in (await waiting.overdue(now)).items()
        ]
        return {
            "archive_url": settings.archive_address,
            "queues": queues,
            "pressure": await pressure(redis, settings.queue_age_limit.total_seconds()),
            "dead_letters": await Attempts(redis).count(),
            "deletions": {
                "mode": settings.delete_originals,
                "due": await runtime.due.count(),
                "paused": await runtime.due.paused(),
            },
            "seals": {
                "count": len(chain.links),
                "last_day": last.day if last else None,
                "last_sealed_at": last.sealed_at if last else None,
                "days_open": len(await waiting.all()),
                "overdue": overdue,
            },
        }
    finally:
        await runtime.close()
        await redis.aclose()


def _tell(found: dict[str, Any]) -> None:
    lines = [("archive", found["archive_url"])]
    for name, queue in found["queues"].items():
        oldest = f", the oldest for {format_duration(queue['oldest_seconds'])}" if queue["oldest_seconds"] else ""
        lines.append((f"{name} queue", f"{queue['jobs']} jobs wait or run{oldest}"))
    lines += [("pressure", text) for text in found["pressure"]]
    letters = found["dead_letters"]
    lines.append(("dead letters", f"{letters}; see `callvault dead-letters list`" if letters else "none"))
    deletions = found["deletions"]
    state = f"paused: {deletions['paused']}" if deletions["paused"] else deletions["mode"]
    lines.append(("deletion", f"{state}; {deletions['due']} originals on the list"))
    seals = found["seals"]
    last = f", the last of {seals['last_day']} at {seals['last_sealed_at']}" if seals["count"] else ""
    lines.append(("seals", f"{seals['count']}{last}; {seals['days_open']} days open"))
    overdue = seals["overdue"]
    for row in overdue[:_DAYS_SHOWN]:
        lines.append(("  waits", f"{row['day']}, over for {format_duration(row['over_for_seconds'])}: {row['why']}"))
    if len(overdue) > _DAYS_SHOWN:
        lines.append(("", f"and {len(overdue) - _DAYS_SHOWN} days more"))
    width = max(len(name) for name, _ in lines) + 2
    sys.stdout.write("".join(f"{name:<{width}}{text}\n" for name, text in lines))
