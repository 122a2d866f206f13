"""Counts of what happened: for charts of an hour, a day and a month; for metrics, since Redis started.

Each process counts and writes every two seconds, all in one round trip. If Redis loses the counts, the charts are empty and the
metrics start again at zero, as counters in Prometheus may.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Mapping
from math import isfinite

from redis.exceptions import RedisError

from workers.keys import COUNTED, COUNTS, HISTORY, LAST
from workers.queue.script import AsyncRedis, Script, server_seconds

HOUR = (60, 60)  # seconds of a step, steps
DAY = (600, 144)
MONTH = (3600, 31 * 24)  # by hours, so that they add up to days in any time zone
_SPANS_KEPT = {HOUR: 2, DAY: 2, MONTH: 1}  # twice, to compare with the span before

_FLUSH_SECONDS = 2
_BOUNDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, float("inf"))  # seconds
_LONGEST_SECONDS = _BOUNDS[-2]
_COUNTED_SECONDS = 7 * 24 * 3600  # for which Redis remembers what it has of a process

ARCHIVED = "archived"
FAILED = "failed:"  # + failure class: attempts that failed
_KEPT_COUNTS = (
    ARCHIVED,
    "archived_bytes",
    "deleted",
    "deleted_bytes",
    "disposed",
    "disposed_bytes",
)  # and those that start with `FAILED`

_COUNT = Script(__package__, "count.lua")


class History:
    """The counts of one process."""

    def __init__(self, redis: AsyncRedis) -> None:
        self._redis = redis
        self._counts: Counter[str] = Counter()  # since the last write
        self._since_start: Counter[str] = Counter()  # those that metrics show
        self._written: Counter[str] = Counter()  # of these
        self._counted = COUNTED + secrets.token_hex(8)

    def add(self, name: str, count: int = 1) -> None:
        """Count something under one of a few fixed names."""
        self._counts[name] += count
        if name in _KEPT_COUNTS or name.startswith(FAILED):
            self._since_start[name] += count

    def observe(self, name: str, seconds: float) -> None:
        """Count a duration in its bucket."""
        self.add(f"{name}<{next(bound for bound in _BOUNDS if seconds <= bound)}")

    async def flush(self) -> None:
        """Write the new counts; keep them for the next time if Redis is away."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        since_start = self._since_start.copy()
        try:
            now = await server_seconds(self._redis)
            async with self._redis.pipeline(transaction=False) as pipe:
                for (step, steps), spans in _SPANS_KEPT.items():
                    key = _key(step, int(now // step))
                    for name, count in counts.items():
                        pipe.hincrby(key, name, count)
                    pipe.expire(key, step * (spans * steps + 2))
                if since_start:
                    rows = [word for name, n in since_start.items() for word in (name, self._written[name], n)]
                    pipe.eval(_COUNT.text, 2, COUNTS, self._counted, _COUNTED_SECONDS, *rows)
                if ARCHIVED in counts:
                    pipe.hset(LAST, ARCHIVED, now)
                await pipe.execute()
        except (RedisError, OSError):
            self._counts += counts
        else:
            self._written = since_start

    async def run(self) -> None:
        """Write every two seconds until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await self.flush()


async def read_history(redis: AsyncRedis, span: tuple[int, int], now: float) -> list[dict[str, int]]:
    """The counts of each step of a span, the oldest first.

    Args:
        redis: Redis.
        span: `HOUR`, `DAY` or `MONTH`.
        now: seconds since the epoch.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    step, steps = span
    last = int(now // step)
    async with redis.pipeline(transaction=False) as pipe:
        for index in range(last - steps + 1, last + 1):
            pipe.hgetall(_key(step, index))
        rows = await pipe.execute()
    return [{name.decode(): int(count) for name, count in row.items()} for row in rows]


def quantile(counts: Mapping[str, int], name: str, share: float) -> float | None:
    """The quantile of observed durations, in seconds: the bound of a bucket; None without durations.

    The last bucket has no bound, so for durations in it the answer is the longest bound, which they exceeded.
    """
    buckets = sorted((float(key.partition("<")[2]), n) for key, n in counts.items() if key.startswith(f"{name}<"))
    left = share * sum(n for _, n in buckets)
    for bound, n in buckets:
        left -= n
        if left <= 0:
            return bound if isfinite(bound) else _LONGEST_SECONDS
    return None


def _key(step: int, index: int) -> str:
    return f"{HISTORY}{step}:{index}"
