"""The days that wait for a seal, as Redis lists them; `unsealed.py` lists again what a lost Redis does not know."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from workers.keys import UNSEALED, UNSEALED_WHY
from workers.queue.script import AsyncRedis, write_when_full


class UnsealedDays:
    """The days that hold something that no seal lists, and why they wait."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis

    async def add(self, day: date, try_at: float, why: str | None = None) -> None:
        """Add a day, or change when it is tried next.

        Args:
            day: UTC.
            try_at: when to try, in seconds since the epoch.
            why: why it could not be sealed although it was due; None: it was not due.
        """
        member = day.isoformat()
        reason = ("HDEL", UNSEALED_WHY, member) if why is None else ("HSET", UNSEALED_WHY, member, why)
        await write_when_full(self._redis, ("ZADD", UNSEALED, try_at, member), reason)

    async def add_missing(self, days: Sequence[date], try_at: float) -> None:
        """Add days; those that are listed keep their time and reason."""
        await write_when_full(self._redis, *(("ZADD", UNSEALED, "NX", try_at, day.isoformat()) for day in days))

    async def take(self, day: date) -> None:
        """Remove a day before it is sealed, so that a write meanwhile adds it again."""
        await self._redis.zrem(UNSEALED, day.isoformat())

    async def sealed(self, day: date) -> None:
        """Forget why a day waited."""
        await self._redis.hdel(UNSEALED_WHY, day.isoformat())

    async def due(self, now: float, count: int) -> list[date]:
        """The due days, the oldest first."""
        found = await self._redis.zrangebyscore(UNSEALED, "-inf", now, start=0, num=count)
        return sorted(day for member in found if (day := _day(member)) is not None)

    async def overdue(self, now: float) -> dict[date, str]:
        """The days that are due (now is in seconds since the epoch), and why each waits; the oldest first."""
        return {day: why or "waits for its turn" for day, (at, why) in (await self.all()).items() if why or at <= now}

    async def all(self) -> dict[date, tuple[float, str | None]]:
        """Every listed day: when it is tried next (seconds since the epoch), and why it could not be sealed."""
        rows: list[Any] = await self._redis.zrange(UNSEALED, 0, -1, withscores=True)
        reasons = (await self._redis.hgetall(UNSEALED_WHY)).items()
        why = {day: text.decode("utf-8", "replace") for member, text in reasons if (day := _day(member)) is not None}
        listed = {day: score for member, score in rows if (day := _day(member)) is not None}
        return {day: (listed[day], why.get(day)) for day in sorted(listed)}


def _day(member: bytes) -> date | None:
    """A listed day; None for anything else."""
    try:
        return date.fromisoformat(member.decode())
    except ValueError:
        return None
