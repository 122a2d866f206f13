"""The parts of a worker in this process: archive recordings, and delete what is due."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from config.settings import Settings, load_settings
from lab.processes import as_in_a_process, free_port
from sandbox.world import Recording
from workers.deletion.deletion import delete_originals
from workers.engine.connect import connect_command, connect_worker
from workers.keys import DELETIONS_BACK_OFF, DELETIONS_DUE
from workers.recordings.archive_recording import archive_recording
from workers.recordings.requests import DeletionTurn, RecordingRequest
from workers.runtime import Runtime, open_runtime


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings that a process with this environment would have."""
    with as_in_a_process(environment):
        return load_settings()


@asynccontextmanager
async def runtime_of(environment: Mapping[str, str], redis: Any, **settings: str) -> AsyncIterator[Runtime]:
    """The parts of a worker with this environment and further settings, on a client of Redis."""
    runtime = open_runtime(settings_of({**environment, **settings}), redis)
    try:
        yield runtime
    finally:
        await runtime.close()


@asynccontextmanager
async def own_runtime(environment: Mapping[str, str]) -> AsyncIterator[Runtime]:
    """The same with its own client of Redis, for tests with several workers or people."""
    redis = connect_worker(environment["REDIS_URL"])
    try:
        async with runtime_of(environment, redis) as runtime:
            yield runtime
    finally:
        await redis.aclose()


@asynccontextmanager
async def without_redis(environment: Mapping[str, str]) -> AsyncIterator[Runtime]:
    """The parts of a person's command while Redis is away."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    redis = await connect_command(url, needs_redis=False)
    try:
        async with runtime_of({**environment, "REDIS_URL": url}, redis) as runtime:
            yield runtime
    finally:
        await redis.aclose()


async def archive(runtime: Runtime, *recordings: Recording) -> None:
    """Archive recordings, as their webhooks' jobs do."""
    for recording in recordings:
        await archive_recording(runtime, RecordingRequest(recording_id=recording.data["id"]))


async def delete_what_is_due(runtime: Runtime) -> None:
    """Run a turn of deletion in which every scheduled original is due."""
    await runtime.redis.delete(DELETIONS_BACK_OFF)
    listed = await runtime.redis.zrange(DELETIONS_DUE, 0, -1)
    if listed:
        await runtime.redis.zadd(DELETIONS_DUE, dict.fromkeys(listed, 0))
    await delete_originals(runtime, DeletionTurn())
