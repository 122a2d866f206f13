"""The due list: what is claimed stays claimed while it is worked on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Away

from tests.workers.house import house
from workers.queue import due


async def test_a_claim_outlives_a_moment_without_redis(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    extend, calls = due._EXTEND, 0

    async def flaky(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise Away("for a moment")
        return await extend(*arguments)

    monkeypatch.setattr(due, "_EXTEND", flaky)
    monkeypatch.setattr(due, "_CLAIM_SECONDS", 0.9)
    async with house(environment) as runtime:
        await runtime.due.schedule("a/", 0)
        while not (claimed := await runtime.due.claim(1)):
            await asyncio.sleep(0.01)
        async with runtime.due.kept(claimed):
            await asyncio.sleep(1.2)
            assert await runtime.due.claim(1) == []
