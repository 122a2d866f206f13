"""Damage is a state: jobs report it, a register in the archive keeps it, and a check that finds the object intact clears it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from redis.exceptions import RedisError

from archive import layout
from archive.problems import Problem
from archive.proof import Missing
from archive.records import Damage, WrongObject
from archive.register import look, read_register, record_damage
from archive.stores.store import StoreError
from process.logs import get_logger
from text.times import format_instant, parse_instant, utc_now
from workers.damage.damaged import DamagedObjects, KnownDamage
from workers.queue.script import AsyncRedis, server_now, server_seconds
from workers.runtime import Runtime

log = get_logger()

# Kinds of problems that mean a damaged object; the others are about days, or about unknown states.
REGISTERED = ("damaged", "missing", "seal-altered", "gap", "signature", "erasure")
_SOONEST_SECONDS, _LATEST_SECONDS = 60.0, 3600.0
_MOST_LOOKS = 20  # of a turn


def found_in(problem: Problem, by: str) -> KnownDamage:
    """A problem as a row of the register."""
    state = "missing" if problem.kind in ("missing", "gap") else "damaged"
    return KnownDamage(state, problem.what, by, format_instant(utc_now()))


async def report_wrong(redis: AsyncRedis, error: WrongObject, by: str) -> None:
    """Report an object that a job found damaged; the job sends its own alert.

    Raises:
        redis.exceptions.RedisError: Redis does not answer.
    """
    state = "missing" if isinstance(error, Missing) else "damaged"
    found = KnownDamage(state, error.what, by, format_instant(await server_now(redis)))
    await DamagedObjects(redis).report(error.key, found)


async def report_problems(redis: AsyncRedis, problems: Iterable[Problem], by: str) -> int:
    """Report what a verification found; returns how many objects were not known to be damaged.

    Raises:
        redis.exceptions.RedisError: Redis does not answer.
    """
    reported = DamagedObjects(redis)
    return sum([await reported.report(p.key, found_in(p, by)) for p in problems if p.kind in REGISTERED])


async def known_damage(runtime: Runtime) -> dict[str, KnownDamage]:
    """The known damage by key: from the register in the archive, and from Redis what was reported since, if it answers.

    Raises:
        StoreError: the archive cannot be asked now.
    """
    register = await runtime.in_thread(read_register, runtime.archive)
    wrong = {key: _found(row) for key, row in register.items() if row.state != "whole"}
    with suppress(RedisError, OSError):
        reported = await DamagedObjects(runtime.redis).all()
        wrong |= {key: found for key, found in reported.items() if not found.number}
    return wrong


async def keep_register(runtime: Runtime) -> None:
    """Write reports into the register, copy the register to Redis, and check its objects again.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away; the next turn continues.
    """
    damaged = DamagedObjects(runtime.redis)
    now = await server_seconds(runtime.redis)
    register = await runtime.in_thread(read_register, runtime.archive)
    reported = await damaged.all()
    for key, row in register.items():
        if row.state != "whole" and key not in reported:
            reported[key] = _found(row)
            await damaged.replace(key, None, reported[key])
    for key, found in reported.items():
        last = register.get(key)
        if found.number and last is not None and last.state == "whole":
            await damaged.look_soon(key)  # another worker cleared it and was stopped; or somebody made that up
        elif not found.number:
            try:
                reported[key] = await _record_damage(runtime, damaged, key, found)
            except StoreError as error:  # its row waits; the others are written down
                log.warning("damage not recorded yet", key=key, error=str(error))
    await damaged.mark_compared(now)
    looks = 0
    for key, found in reported.items():
        wait = min(_LATEST_SECONDS, max(_SOONEST_SECONDS, _age_seconds(found, now) / 4))
        if looks < _MOST_LOOKS and await damaged.is_time_to_look(key, wait):
            looks += 1
            await _look_again(runtime, damaged, key, found)


def _age_seconds(found: KnownDamage, now: float) -> float:
    try:
        return now - parse_instant(found.at).timestamp()
    except ValueError:  # of a row that cannot be read, or that somebody made up
        return 0.0


def _found(row: Damage) -> KnownDamage:
    return KnownDamage(row.state, row.what, row.found_by, row.at, row.number)


async def _record_damage(runtime: Runtime, damaged: DamagedObjects, key: str, found: KnownDamage) -> KnownDamage:
    state = "missing" if found.state == "missing" else "damaged"
    row = await runtime.in_thread(record_damage, runtime.archive, key, state, found.what, found.found_by, found.at)
    if row.number == found.number:
        return found
    await runtime.announce(layout.damage_key(key, row.number), row)
    log.error("damage recorded", key=key, state=state, what=found.what, found_by=found.found_by)
    if found.found_by in ("verify", "get", "page"):  # jobs send their own, with what it means for them
        advice = "Run `callvault status`: it lists each damaged object and what to do. See docs/runbook.md."
        await runtime.alerts.send("archive-damaged", key, f"{key}: {found.what} (found by {found.found_by}).", advice)
    # Last: until then, a worker that is stopped leaves all of it to the next.
    await damaged.replace(key, found, _found(row))
    return _found(row)


async def _look_again(runtime: Runtime, damaged: DamagedObjects, key: str, found: KnownDamage) -> None:
    """Clear an object that is intact; one that cannot be checked now stays as it is."""
    try:
        if await runtime.in_thread(look, runtime.archive, key) is not None:
            await _record_damage(runtime, damaged, key, found)  # unless it stands there still
            return
    except (StoreError, ValueError) as error:  # the second: a key that no store has, which somebody made up
        log.warning("damage not checked again", key=key, error=str(error))
        return
    at = format_instant(runtime.clock.now())
    row = await runtime.in_thread(record_damage, runtime.archive, key, "whole", "", "register", at)
    await runtime.announce(layout.damage_key(key, row.number), row)
    log.warning("whole again", key=key, was=found.what)
    text = f"{key} is intact again. The problem was: {found.what}."
    await runtime.alerts.send("archive-repaired", key, text, "Find out what damaged it.")
    await damaged.replace(key, found, None)  # last, as above; what was found since the look began stays
