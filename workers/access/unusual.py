"""Alerts on a person who takes unusually many recordings: a worker counts the lines that it moves into the archive.

So no answer waits for it, and it covers all receivers and commands. Lines that went straight into the archive, as while Redis is
away, are not counted.
"""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter
from datetime import datetime

import msgspec
from redis.exceptions import RedisError

from archive.access import AccessLine, decode_line
from process.logs import get_logger
from text.counts import many
from text.printable import printable
from text.times import parse_instant
from workers.access.waiting import Batch
from workers.keys import ACCESS_COUNTED, TAKEN, TAKEN_ALERTED, TAKEN_BUNDLES
from workers.runtime import Runtime

log = get_logger()

# Lines that say that somebody took a recording, or several: audio, or a list of them.
_TAKES = frozenset({"play", "download", "get", "export"})
_MINUTES = 60
_KEPT_SECONDS = 2 * 3600
_COUNTED_SECONDS = 24 * 3600


async def notice_unusual(runtime: Runtime, batch: Batch, now: datetime) -> None:
    """Count what the lines of a batch say that people took, and alert once an hour on who took too many within one.

    Never raises: it must not hold up the access log.

    Args:
        runtime: of the worker.
        batch: that it has moved; one that is moved again is counted once.
        now: by the clock of the Redis server, which no line is after.
    """
    limit = runtime.settings.unusual_recordings
    if limit is None:
        return
    taken: dict[tuple[str, str, str], list[AccessLine]] = {}
    for data in batch.lines:
        if (line := decode_line(data)) is not None and _number_of(line):
            subject = line.subject if isinstance(line.subject, str) else ""
            taken.setdefault((line.who, line.how, subject), []).append(line)
    try:
        if (
            taken
            and await runtime.redis.get(counted := ACCESS_COUNTED + runtime.archive.identity.id) != batch.key.encode()
        ):
            for person, lines in taken.items():
                name = hashlib.sha256(repr(person).encode()).hexdigest()[:32]
                lines = await _without_ranges(runtime, name, lines)
                minutes = Counter[int]()
                for line in lines:
                    minutes[_minute_of(line, now)] += _number_of(line)
                if minutes:
                    await _count(runtime, name, lines[0], minutes, limit)
            await runtime.redis.set(counted, batch.key, ex=_COUNTED_SECONDS)
    except (RedisError, OSError, ValueError) as error:  # ValueError: what is no number there is nobody's count
        log.warning("what people took could not be counted", error=str(error))


async def _without_ranges(runtime: Runtime, name: str, lines: list[AccessLine]) -> list[AccessLine]:
    """The lines that count: of an export that somebody asks for, and downloads whole, in ranges or again, the first."""
    counted = []
    for line in lines:
        if isinstance(line.about, str) and line.about.startswith("export "):  # both lines name it by its id
            is_new = await runtime.redis.sadd(TAKEN_BUNDLES + name, line.about.partition(",")[0])
            await runtime.redis.expire(TAKEN_BUNDLES + name, _MINUTES * 60)
            if not is_new:
                continue
        counted.append(line)
    return counted


async def _count(runtime: Runtime, name: str, line: AccessLine, minutes: Counter[int], limit: int) -> None:
    async with runtime.redis.pipeline(transaction=True) as pipe:
        for minute, number in minutes.items():
            pipe.hincrby(TAKEN + name, minute, number)
        pipe.expire(TAKEN + name, _KEPT_SECONDS)
        pipe.hgetall(TAKEN + name)
        known = {int(minute): int(number) for minute, number in (await pipe.execute())[-1].items()}
    old = [minute for minute in known if minute <= max(known) - _MINUTES]
    if old:
        await runtime.redis.hdel(TAKEN + name, *old)
    total = sum(number for minute, number in known.items() if minute not in old)
    if total <= limit or await runtime.redis.exists(TAKEN_ALERTED + name):
        return
    who = printable(line.who)
    text = (
        f"{who} ({line.how}, from {line.address}) has played, downloaded or exported {many(total, 'recording')} within an "
        f"hour; CALLVAULT_UNUSUAL_RECORDINGS is {limit}."
    )
    advice = f"Run `callvault access-log --who {shlex.quote(who)} --since 2h` to see what, and ask the person."
    await runtime.alerts.send("unusual-access", f"{line.how} {who}", text, advice)
    await runtime.redis.set(TAKEN_ALERTED + name, "1", ex=_MINUTES * 60)


def _number_of(line: AccessLine) -> int:
    """How many recordings somebody took, as a line says it."""
    if line.what not in _TAKES:
        return 0
    found = 0 if line.found is msgspec.UNSET else line.found
    return max(found, len(line.recordings))


def _minute_of(line: AccessLine, now: datetime) -> int:
    try:
        at = min(parse_instant(line.at), now)
    except ValueError:
        at = now
    return int(at.timestamp() // 60)
