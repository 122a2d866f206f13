"""The deletion schedule: a claim holds while its deletion runs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Away

from lab.worker import own_runtime
from workers.deletion import schedule
from workers.deletion.schedule import DeletionSchedule


async def test_a_claim_outlives_a_moment_without_redis(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    extend, calls = schedule._EXTEND, 0

    async def flaky(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise Away("for a moment")
        return await extend(*arguments)

    monkeypatch.setattr(schedule, "_EXTEND", flaky)
    monkeypatch.setattr(schedule, "_CLAIM_SECONDS", 0.9)
    async with own_runtime(environment) as runtime:
        await runtime.schedule.add("a/", 0)
        while not (claimed := await runtime.schedule.claim(1)):
            await asyncio.sleep(0.01)
        async with runtime.schedule.kept(claimed):
            await asyncio.sleep(1.2)
            assert await runtime.schedule.claim(1) == []


async def test_a_claimed_deletion_returns_to_the_schedule_unless_it_is_done(async_redis: Any) -> None:
    deletions = DeletionSchedule(async_redis)
    await deletions.add("a/", -5)
    await deletions.add("a/", 500)  # entries stay as they are
    await deletions.add("b/", -4)
    await deletions.add("later/", 100)
    assert await deletions.claim(1) == ["a/"]
    assert await deletions.claim(10) == ["b/"]
    assert await deletions.claim(10) == []
    await deletions.done("b/")
    await deletions.postpone("a/", -1)
    await deletions.postpone("b/", -1)
    assert await deletions.claim(10) == ["a/"]
    assert await deletions.count() == 2


async def test_a_released_original_does_not_wait_for_an_earlier_postponement(async_redis: Any) -> None:
    deletions = DeletionSchedule(async_redis)
    await deletions.add("later/", 3_600)
    await deletions.hasten("later/", -1)
    await deletions.hasten("new/", -1)
    assert sorted(await deletions.claim(10)) == ["later/", "new/"]
    await deletions.hasten("later/", 3_600)
    assert (await deletions.entries())[-1].due_at < time.time() + 100, "never later than it was"
