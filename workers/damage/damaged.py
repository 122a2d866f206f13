"""Known damage, as a copy in Redis of the register in the archive. The register is the source of truth.

Every part that finds damage reports it here, even without write access to the archive. A worker then writes it there.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from workers.keys import DAMAGED, DAMAGED_KNOWN, DAMAGED_LOOKED
from workers.queue.script import AsyncRedis, Script, write_when_full
from workers.queue.state import read_state

_REPLACE = Script(__package__, "replace_field.lua")


class KnownDamage(msgspec.Struct, frozen=True):
    """A damaged or missing object.

    Attributes:
        state: `damaged` or `missing`.
        what: one line.
        found_by: what found it, see `records.Damage`.
        at: ISO 8601, UTC.
        number: the number of its row in the archive's register; 0: not written yet.
        told_again_at: when it was last reported again; a check that began earlier does not clear it.
    """

    state: str
    what: str
    found_by: str
    at: str
    number: int = 0
    told_again_at: str | msgspec.UnsetType = msgspec.UNSET


class DamagedObjects:
    """The known damage of one Redis."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    async def report(self, key: str, found: KnownDamage) -> bool:
        """Report an object; returns False if it is known. The next turn checks it either way.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        row = msgspec.json.encode(found)
        while True:
            commands = (("DEL", DAMAGED_LOOKED + key), ("HSETNX", DAMAGED, key, row))
            if (await write_when_full(self._redis, *commands))[1]:
                return True
            # A check under way may have found the object whole before this: the row must differ from the one that it read.
            known = await self._redis.hget(DAMAGED, key)
            if known is not None and await _REPLACE(
                self._redis, (DAMAGED,), (key, known, _reported_again(known, found))
            ):
                return False

    async def all(self) -> dict[str, KnownDamage]:
        """All known damage, by key.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        return await read_state(self._redis, DAMAGED, KnownDamage)

    async def compared_at(self) -> float | None:
        """When this copy was last compared with the register, in seconds since the epoch; None: never."""
        at = await self._redis.get(DAMAGED_KNOWN)
        return None if at is None else float(at)

    async def replace(self, key: str, old: KnownDamage | None, new: KnownDamage | None) -> bool:
        """Replace a row, unless it has changed since it was read. None stands for no row. Returns whether it did."""
        rows = ["" if row is None else msgspec.json.encode(row) for row in (old, new)]
        return bool(await _REPLACE(self._redis, (DAMAGED,), (key, *rows)))

    async def mark_compared(self, now: float) -> None:
        """Record that this copy agrees with the register."""
        await write_when_full(self._redis, ("SET", DAMAGED_KNOWN, now))

    async def is_time_to_look(self, key: str, seconds: float) -> bool:
        """Whether to check an object now; True for one caller in each period of so many seconds."""
        mark = ("SET", DAMAGED_LOOKED + key, "1", "NX", "PX", int(seconds * 1000))
        return (await write_when_full(self._redis, mark))[0] is not None

    async def look_soon(self, key: str) -> None:
        """Have the next turn check an object."""
        await self._redis.delete(DAMAGED_LOOKED + key)


def _reported_again(row: bytes, found: KnownDamage) -> bytes:
    """The known row with the time of this report; an unreadable row is replaced."""
    try:
        known = msgspec.json.decode(row, type=KnownDamage)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.encode(found)
    return msgspec.json.encode(replace(known, told_again_at=found.at))
