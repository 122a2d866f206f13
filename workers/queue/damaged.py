"""What is known to be damaged, as Redis has it for whoever shows it. The register in the archive counts; this is its copy.

Whoever finds something tells it here, also those who may not write into the archive; a worker writes it down there.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from workers.keys import DAMAGED, DAMAGED_KNOWN, DAMAGED_LOOKED
from workers.queue.script import AsyncRedis, Script, write_when_full
from workers.queue.state import read_state

_REPLACE = Script(__package__, "replace_field.lua")


class KnownDamage(msgspec.Struct, frozen=True):
    """What is wrong with an object.

    Attributes:
        state: `damaged` or `missing`.
        what: one line.
        found_by: who looked, see `records.Damage`.
        at: ISO 8601, UTC.
        number: of its row in the archive's register; 0: not written down yet.
        told_again_at: when somebody found it once more; a look that began before that does not clear it.
    """

    state: str
    what: str
    found_by: str
    at: str
    number: int = 0
    told_again_at: str | msgspec.UnsetType = msgspec.UNSET


class DamagedObjects:
    """The objects that are known to be damaged, of one Redis."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    async def tell(self, key: str, found: KnownDamage) -> bool:
        """Tell of an object; False if it is known. It is looked at with the next turn either way.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        row = msgspec.json.encode(found)
        while True:
            commands = (("DEL", DAMAGED_LOOKED + key), ("HSETNX", DAMAGED, key, row))
            if (await write_when_full(self._redis, *commands))[1]:
                return True
            # A look that is under way may have found it whole before this: its row must be another than that look has read.
            known = await self._redis.hget(DAMAGED, key)
            if known is not None and await _REPLACE(self._redis, (DAMAGED,), (key, known, _told_again(known, found))):
                return False

    async def all(self) -> dict[str, KnownDamage]:
        """All that are known, by key.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        return await read_state(self._redis, DAMAGED, KnownDamage)

    async def known_at(self) -> float | None:
        """When this was last held against the archive's register; seconds since the epoch, None if it never was."""
        at = await self._redis.get(DAMAGED_KNOWN)
        return None if at is None else float(at)

    async def replace(self, key: str, old: KnownDamage | None, new: KnownDamage | None) -> bool:
        """Put a row in the place of the one that was read, None: of none, or by none; False if it is another by now."""
        rows = ["" if row is None else msgspec.json.encode(row) for row in (old, new)]
        return bool(await _REPLACE(self._redis, (DAMAGED,), (key, *rows)))

    async def hold_against(self, now: float) -> None:
        """Remember that it says what the archive's register says."""
        await write_when_full(self._redis, ("SET", DAMAGED_KNOWN, now))

    async def is_time_to_look(self, key: str, seconds: float) -> bool:
        """Whether it is time to look at an object again, and if so, have the next time come after so many seconds."""
        mark = ("SET", DAMAGED_LOOKED + key, "1", "NX", "PX", int(seconds * 1000))
        return (await write_when_full(self._redis, mark))[0] is not None

    async def look_soon(self, key: str) -> None:
        """Have an object be looked at with the next turn."""
        await self._redis.delete(DAMAGED_LOOKED + key)


def _told_again(row: bytes, found: KnownDamage) -> bytes:
    """What is known already, told once more; a row that cannot be read gives way."""
    try:
        known = msgspec.json.decode(row, type=KnownDamage)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.encode(found)
    return msgspec.json.encode(replace(known, told_again_at=found.at))
