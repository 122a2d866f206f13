"""How seals are made: what is compared, what is signed, what is passed over. In one process, on a real Redis and sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.settings import load_settings
from config.times import end_of_day, utc_now
from sandbox.world import Recording
from tests.parts import RunningSandbox
from tests.workers.test_archive_recording import folder_of
from workers.archive import layout
from workers.archive.records import UnreadableRecord
from workers.jobs.chain import is_sealed
from workers.jobs.payloads import RecordingRequest
from workers.jobs.recordings import archive_recording
from workers.jobs.seals import seal
from workers.runtime import Runtime, open_runtime


def ago(days: int) -> date:
    return (utc_now() - timedelta(days=days)).date()


def recordings_of(sandbox: RunningSandbox, day: date, count: int) -> list[Recording]:
    noon = end_of_day(day) - timedelta(hours=12)
    return [
        sandbox.world.add_recording(seconds=0.1, channels=1, started_at=noon + timedelta(seconds=i))
        for i in range(count)
    ]


async def archive(runtime: Runtime, recordings: list[Recording]) -> None:
    requests = [RecordingRequest(recording_id=one.data["id"]) for one in recordings]
    await asyncio.gather(*(archive_recording(runtime, request) for request in requests))


def key_of(folder: Path, archive_folder: Path) -> str:
    return str(folder.relative_to(archive_folder)) + "/"


@pytest.fixture
async def runtime(
    environment: dict[str, str], async_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Runtime]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = open_runtime(load_settings(), async_redis)
    yield made
    await made.close()


async def test_whether_a_seal_lists_a_recording_is_known_exactly(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    first, late = recordings_of(sandbox, ago(5), 2)
    await archive(runtime, [first])
    sandbox.world.recordings.pop(late.data["id"])
    folders = [key_of(folder_of(archive_folder, one), archive_folder) for one in (first, late)]
    assert [await is_sealed(runtime, one) for one in folders] == [False, False]
    assert await seal(runtime, ago(5))
    assert [await is_sealed(runtime, one) for one in folders] == [True, False]
    sandbox.world.recordings[late.data["id"]] = late
    await archive(runtime, [late])
    assert [await is_sealed(runtime, one) for one in folders] == [True, False], "archived, and in no seal yet"
    assert await seal(runtime, ago(5), by_hand=True)
    assert [await is_sealed(runtime, one) for one in folders] == [True, True]


async def test_a_manifest_that_is_not_the_one_of_its_seal_lists_nothing(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    (one,) = recordings_of(sandbox, ago(5), 1)
    await archive(runtime, [one])
    assert await seal(runtime, ago(5))
    manifest = archive_folder / layout.seal_key(1, "sha256")
    manifest.write_bytes(manifest.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(UnreadableRecord, match="not the manifest that seal 1 tells of"):
        await is_sealed(runtime, key_of(folder_of(archive_folder, one), archive_folder))
