"""A worker that deletes, and a recording that it archived."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from lab.servers import RunningSandbox
from lab.worker import archive, runtime_of
from sandbox.world import Recording
from workers.runtime import Runtime


@pytest.fixture
async def runtime(deleting: dict[str, str], async_redis: Any) -> AsyncIterator[Runtime]:
    async with runtime_of(deleting, async_redis) as made:
        yield made


@pytest.fixture
async def recording(sandbox: RunningSandbox, runtime: Runtime) -> Recording:
    made = sandbox.world.add_recording(seconds=1)
    await runtime.assert_bound()
    await archive(runtime, made)
    return made
