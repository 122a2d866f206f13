"""A lease and a turn, on a real Valkey: a dead or hanging holder delays no other."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Away

from process.tasks import end_tasks
from workers.engine import lease
from workers.engine.lease import HeldElsewhere, held, take_turn

KEY = "callvault:turn:test"


async def _nothing() -> None:
    pass


class _Flaky:
    """A client of Redis that fails once, on demand."""

    def __init__(self, redis: Any) -> None:
        self._redis, self.fails = redis, False

    async def execute_command(self, *arguments: Any) -> Any:
        if self.fails:
            self.fails = False
            raise Away("for a moment")
        return await self._redis.execute_command(*arguments)


async def test_a_renewal_that_failed_loses_no_lease(async_redis: Any, redis: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(lease, "_LEASE_MS", 900)
    monkeypatch.setattr(lease, "_RENEW_SECONDS", 0.3)
    client = _Flaky(async_redis)
    async with held(client, KEY, "a test", 1):
        client.fails = True
        await asyncio.sleep(1.3)
        assert not client.fails and redis.exists(KEY)
    assert not redis.exists(KEY)


async def test_a_turn_is_one_workers_and_comes_again_when_its_time_is_over(async_redis: Any, redis: Any) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await gate.wait()

    first = asyncio.create_task(take_turn(async_redis, KEY, 60, work))
    await begun.wait()
    assert 0 < await take_turn(async_redis, KEY, 60, _nothing) <= 12
    gate.set()
    assert 50 < await first <= 60
    assert 50 < await take_turn(async_redis, KEY, 60, work) <= 60
    assert 50_000 < redis.pttl(KEY) <= 60_000
    redis.delete(KEY)
    assert await take_turn(async_redis, KEY, 0, work) == 0
    assert not redis.exists(KEY)


async def test_a_stopped_turn_is_given_back_and_a_killed_workers_turn_ends_soon(async_redis: Any, redis: Any) -> None:
    """A killed worker gives nothing back: only its key with a short life remains."""
    begun, gate = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await gate.wait()

    dying = asyncio.create_task(take_turn(async_redis, KEY, 3600, work))
    await begun.wait()
    assert 0 < redis.pttl(KEY) <= 12_000
    await end_tasks([dying])
    assert not redis.exists(KEY)


async def test_a_turn_that_fails_is_not_used_up(async_redis: Any, redis: Any) -> None:
    async def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        await take_turn(async_redis, KEY, 24 * 3600, fail)
    assert 50_000 < redis.pttl(KEY) <= 60_000


async def test_times_written_by_a_clock_ahead_delay_no_worker_and_free_no_live_lease(
    async_redis: Any, redis: Any
) -> None:
    """After the clock is corrected, a key meant for seconds would live for as long as the clock was ahead."""
    redis.set(KEY, "another", px=3_600_000)
    assert 0 < await take_turn(async_redis, KEY, 0, _nothing) <= 60
    assert (redis.get(KEY), redis.pttl(KEY) <= 60_000) == ("another", True)
    redis.set(KEY, "another", px=3_600_000)
    with pytest.raises(HeldElsewhere):
        async with held(async_redis, KEY, "a test", 1):
            pass
    assert (redis.get(KEY), redis.pttl(KEY) <= 12_000) == ("another", True), "a live holder renews it"
    redis.set(KEY, "another", px=3_600_000)
    assert await take_turn(async_redis, KEY, 24 * 3600, _nothing) > 3_000, "this turn may wait so long"


async def test_a_worker_without_heartbeats_yields_to_its_successor(
    async_redis: Any, redis: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(lease, "_RENEW_SECONDS", 0.05)

    async def work() -> None:
        redis.set(KEY, "another", px=5_000)
        await asyncio.sleep(60)

    started = time.monotonic()
    with pytest.raises(HeldElsewhere):
        await take_turn(async_redis, KEY, 60, work)
    assert time.monotonic() - started < 20
    assert redis.get(KEY) == "another"
