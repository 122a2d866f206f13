"""A worker's parts in the test's own process, so that a job is called and what it did is seen."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from config.settings import load_settings
from sandbox.world import Recording
from tests.parts import CLEAN
from workers.jobs.payloads import RecordingRequest
from workers.runtime import Runtime, open_runtime


@asynccontextmanager
async def runtime_of(environment: dict[str, str], redis: Any, **settings: str) -> AsyncIterator[Runtime]:
    """The parts of a worker with this environment, and more settings by their names in it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - CLEAN.keys():
            patch.delenv(name)
        for name, value in (environment | settings).items():
            patch.setenv(name, value)
        runtime = open_runtime(load_settings(), redis)
        try:
            yield runtime
        finally:
            await runtime.close()


def request_of(recording: Recording, event_id: str | None = "event-1", **fields: Any) -> RecordingRequest:
    """What a webhook that names a recording asks for."""
    started_at = recording.data["recording_started_at"]
    return RecordingRequest(
        **{"recording_id": recording.data["id"], "event_id": event_id, "started_at": started_at} | fields
    )
