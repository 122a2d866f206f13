"""One worker at a time adds to the chain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio.lock import Lock
from redis.exceptions import ConnectionError as Away

from tests.workers.house import house
from workers.jobs import seals
from workers.keys import SEALING


async def test_the_lock_of_the_chain_outlives_a_moment_without_redis(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reacquire, calls = Lock.reacquire, 0

    async def flaky(lock: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise Away("for a moment")
        return await reacquire(lock)

    monkeypatch.setattr(Lock, "reacquire", flaky)
    monkeypatch.setattr(seals, "_LOCK_SECONDS", 0.9)
    async with house(environment) as runtime, seals._alone(runtime):
        await asyncio.sleep(1.3)
        assert await runtime.redis.exists(SEALING)
