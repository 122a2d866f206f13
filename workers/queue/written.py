"""What workers have written into the archive lately: a bounded stream for catalogues, and the days to be sealed.

Redis hears of both after the object is in the archive, and before the job that wrote it ends; what a crash leaves untold, the
job's next run tells. Lost with Redis, both are found again from the archive.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import date
from typing import Any

from workers.keys import UNSEALED, UNSEALED_WHY, WRITTEN, WRITTEN_EPOCH
from workers.queue.script import AsyncRedis, write_when_full

STREAM_LENGTH = 20_000
_LARGEST_BYTES = 16 * 1024


async def announce(redis: AsyncRedis, key: str, data: bytes, day: date | None, sealable_at: float) -> None:
    """Tell of a record that has been written.

    Args:
        redis: Redis.
        key: of the object.
        data: its bytes; of a large one nothing is sent, and it is read from the archive by whoever wants it.
        day: that it lies under; None for a seal.
        sealable_at: seconds since the epoch, when the day can be sealed at the earliest.
    """
    fields = ("key", key, *(("data", data) if len(data) <= _LARGEST_BYTES else ()))
    unsealed = [] if day is None else [("ZADD", UNSEALED, "NX", sealable_at, day.isoformat())]
    await write_when_full(
        redis,
        ("SET", WRITTEN_EPOCH, secrets.token_hex(8), "NX"),
        ("XADD", WRITTEN, "MAXLEN", "~", STREAM_LENGTH, "*", *fields),
        *unsealed,
    )


class UnsealedDays:
    """The days that hold something no seal lists, and why they wait."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    async def add(self, day: date, try_at: float, why: str | None = None) -> None:
        """Put a day on the list, or back on it, to be tried at an instant (seconds since the epoch).

        Args:
            day: UTC.
            try_at: when.
            why: why it could not be sealed though its time had come; None: its time has not come.
        """
        member = day.isoformat()
        reason = ("HDEL", UNSEALED_WHY, member) if why is None else ("HSET", UNSEALED_WHY, member, why)
        await write_when_full(self._redis, ("ZADD", UNSEALED, try_at, member), reason)

    async def add_missing(self, days: Sequence[date], try_at: float) -> None:
        """Put days on the list that are not on it; those that are keep their time and their reason."""
        await write_when_full(self._redis, *(("ZADD", UNSEALED, "NX", try_at, day.isoformat()) for day in days))

    async def take(self, day: date) -> None:
        """Take a day off before it is sealed, so that what is written meanwhile puts it back."""
        await self._redis.zrem(UNSEALED, day.isoformat())

    async def sealed(self, day: date) -> None:
        """It no longer waits."""
        await self._redis.hdel(UNSEALED_WHY, day.isoformat())

    async def due(self, now: float, count: int) -> list[date]:
        """Those whose time has come, the oldest day first."""
        found = await self._redis.zrangebyscore(UNSEALED, "-inf", now, start=0, num=count)
        return sorted(day for member in found if (day := _day(member)) is not None)

    async def overdue(self, now: float) -> dict[date, str]:
        """The days whose time has come (now is in seconds since the epoch), and why each waits; the oldest first."""
        return {day: why or "waits for its turn" for day, (at, why) in (await self.all()).items() if why or at <= now}

    async def all(self) -> dict[date, tuple[float, str | None]]:
        """Every day on the list: when it is tried next (seconds since the epoch), and why it could not be sealed."""
        rows: list[Any] = await self._redis.zrange(UNSEALED, 0, -1, withscores=True)
        reasons = (await self._redis.hgetall(UNSEALED_WHY)).items()
        why = {day: text.decode("utf-8", "replace") for member, text in reasons if (day := _day(member)) is not None}
        listed = {day: score for member, score in rows if (day := _day(member)) is not None}
        return {day: (listed[day], why.get(day)) for day in sorted(listed)}


def _day(member: bytes) -> date | None:
    """A day of the list; None for anything else, which is left aside."""
    try:
        return date.fromisoformat(member.decode())
    except ValueError:
        return None
