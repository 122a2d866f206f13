"""Accepted events are remembered for at least a day, in a few bytes each."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis as sync_redis

from lab.clock import Clock, SkewedServer
from workers.engine.connect import connect_worker
from workers.keys import EVENT
from workers.queue import accept
from workers.queue.accept import Acceptor, mark_of
from workers.queue.script import server_seconds

_HOUR = 3600


async def test_an_event_is_remembered_for_a_day_whatever_the_hour_and_not_for_two(tmp_path: Path) -> None:
    clock = Clock(tmp_path, "redis")
    server = SkewedServer(tmp_path / "data", clock)
    server.start()
    try:
        client = connect_worker(server.url)
        began = await server_seconds(client)

        async def move(hours: float) -> None:
            clock.move(int(hours * _HOUR))
            while not hours * _HOUR - 60 < await server_seconds(client) - began < hours * _HOUR + 60:
                await asyncio.sleep(0.02)

        acceptor = Acceptor(client)
        for hour in range(0, 24, 5):
            await move(hour)
            assert await acceptor.accept(f"event of {hour}", [])
        for hour in range(0, 24, 5):
            await move(hour + 23.5)
            assert not await acceptor.accept(f"event of {hour}", [])
        await move(24 + 23.5 + 37)
        assert await acceptor.accept("event of 20", [])
        with sync_redis.Redis.from_url(server.url) as direct:
            assert len(list(direct.scan_iter(f"{EVENT}*"))) == 1, "the others are forgotten"
        await client.aclose()
    finally:
        server.stop()


async def test_ten_thousand_events_are_remembered_in_some_bytes_each(
    async_redis: Any, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "_BUCKETS", 64)  # as full as they are at seven million events in half a day
    acceptor, events = Acceptor(async_redis), [f"0ccc7b54-4df3-4bca-a65a-3da1ecc7{n:04x}" for n in range(10_000)]
    for first in range(0, len(events), 5_000):
        assert all(await asyncio.gather(*(acceptor.accept(one, []) for one in events[first : first + 5_000])))
    assert not any(await asyncio.gather(*(acceptor.accept(one, []) for one in events[:5_000])))
    keys = list(redis.scan_iter(f"{EVENT}*"))
    assert sum(redis.memory_usage(key) for key in keys) / len(events) < 12
    assert all(24 * _HOUR < redis.ttl(key) <= 36 * _HOUR for key in keys)


def test_marks_differ() -> None:
    assert len({mark_of(f"event-{n}") for n in range(100_000)}) == 100_000
    assert mark_of("\ud800") != mark_of("?")
