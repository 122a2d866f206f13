"""A small sealed archive whose recordings are past their terms, and the parts of a process that disposes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import load_settings
from lab.servers import RunningSandbox
from tests.seals.small import SmallArchive
from text.times import utc_now
from workers.runtime import Runtime, open_runtime

FIRST_DAYS = (11, 9, 7, 5)  # how many days ago the days with recordings are, two recordings each


@pytest.fixture
def small(tmp_path: Path) -> SmallArchive:
    """Eight recordings with receipts; the applied rule keeps everything for a day, and then only commit records."""
    one = SmallArchive(tmp_path / "small")
    for days in FIRST_DAYS:
        for name in ("one", "two"):
            one.receipt(one.folder(days, f"{days}-{name}"), utc_now())
    one.rules()
    return one


def settings_for(sandbox: RunningSandbox, redis_url: str, url: str, data: Path) -> dict[str, str]:
    """The environment of a process on an archive."""
    own = {"REDIS_URL": redis_url, "CALLVAULT_ARCHIVE_URL": url, "CALLVAULT_DATA": str(data)}
    return sandbox.environment | own | {"CALLVAULT_DISPOSE_PER_HOUR": "1000000"}


@pytest.fixture
def environment(sandbox: RunningSandbox, redis_url: str, small: SmallArchive, tmp_path: Path) -> dict[str, str]:
    return settings_for(sandbox, redis_url, small.root.as_uri(), tmp_path / "data")


@pytest.fixture
async def runtime(
    environment: dict[str, str], async_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Runtime]:
    """The parts of a process that disposes."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = open_runtime(load_settings(), async_redis, needs_telnyx=False)
    yield made
    await made.close()
