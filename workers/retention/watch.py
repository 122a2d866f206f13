"""Notice that the file of retention rules differs from the rules in force, or that these cannot be read: for every surface.

A worker compares them every minute and notes the result in Redis, where the conditions (`workers/looks.py`) read it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from archive import layout
from archive.archive import Archive
from archive.records import UnreadableRecord
from archive.retention import read_applied
from text.times import utc_now
from workers.keys import RETENTION_DIFFERS, RETENTION_NUMBER, RETENTION_UNREADABLE
from workers.queue.script import AsyncRedis, write_when_full
from workers.retention.apply import as_applied, changes
from workers.retention.file import BadRules, read_rules_file
from workers.runtime import Runtime

_NOTED_SECONDS = 3600  # a note ends with the workers that know the file


class RulesState(msgspec.Struct, frozen=True):
    """What there is to say about the rules.

    Attributes:
        number: of the rules in force; 0: none are.
        unreadable: why they cannot be read; None: they can.
        differs: how the file differs from them, or why it cannot be used; None: it does not, or there is no file.
    """

    number: int
    unreadable: str | None = None
    differs: str | None = None


def state_of_rules(archive: Archive, path: Path | None) -> RulesState:
    """Compare the rules in force with a file; blocks.

    Args:
        archive: the archive.
        path: the file; None: only check that the rules in force can be read.

    Raises:
        StoreError: the archive does not answer.
    """
    try:
        applied = read_applied(archive)
    except UnreadableRecord as error:
        return RulesState(0, unreadable=str(error))
    number = len(applied)
    if path is None:
        return RulesState(number)
    try:
        file = read_rules_file(path)
    except BadRules as error:
        return RulesState(number, differs=f"{error}; the rules in force do not change")
    if file.is_applied(applied):
        return RulesState(number)
    if not applied:
        return RulesState(
            number, differs=f"the rules of {path.name} were never applied, so everything is kept for ever"
        )
    names = [
        one.name.removesuffix("_seconds") for one in changes(applied[-1], as_applied(file, applied, "", utc_now()))
    ]
    return RulesState(number, differs=f"{path.name} differs from rules {number} in force: {', '.join(names)}")


async def why_missing(redis: AsyncRedis, number: int) -> str | None:
    """Why the last rules are missing in the archive, as after a restore of an old copy: those before them may keep less.

    Redis remembers the last number that was seen.

    Args:
        redis: Redis.
        number: of the last rules that the archive has now; 0: it has none.

    Returns:
        One line; None: none are missing that Redis knows of.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    last = int(await redis.get(RETENTION_NUMBER) or 0)
    if number > last:
        await write_when_full(redis, ("SET", RETENTION_NUMBER, str(number)))
    return f"{layout.retention_key(last)}: missing; it was in the archive before" if number < last else None


async def watch_rules(runtime: Runtime) -> None:
    """Compare the rules in force with `CALLVAULT_RETENTION_FILE`, and note in Redis what is to say.

    A worker that has no such file leaves the note of those that have it.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away.
    """
    path = runtime.settings.retention_file
    state = await runtime.in_thread(state_of_rules, runtime.archive, path)
    if state.unreadable is None:
        state = msgspec.structs.replace(state, unreadable=await why_missing(runtime.redis, state.number))
    notes = {RETENTION_UNREADABLE: state.unreadable}
    if path is not None and state.unreadable is None:
        notes[RETENTION_DIFFERS] = state.differs
    for key, text in notes.items():
        if text is None:
            await runtime.redis.delete(key)
        else:
            await write_when_full(runtime.redis, ("SET", key, text, "EX", str(_NOTED_SECONDS)))
