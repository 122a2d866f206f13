"""A process counts as alive only while it holds its file."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest

from process import alive
from process.tasks import end_tasks


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return alive._folder(tmp_path / "data")


async def test_a_stale_file_does_not_vouch_for_a_process_that_reuses_its_id(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / f"worker-{os.getppid()}").write_text("1.000")  # a live process that is not ours
    assert alive.silences(folder.parent / "data") == {}


async def test_a_process_counts_as_alive_while_it_writes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alive, "_WRITE_SECONDS", 0.02)
    name = f"worker-{os.getpid()}"
    showing = asyncio.create_task(alive.show_alive("worker", folder.parent / "data"))
    for _ in range(3):
        while name not in alive.silences(folder.parent / "data"):
            await asyncio.sleep(0.01)
        assert 0 <= alive.silences(folder.parent / "data")[name] < 20
        (folder / name).unlink()
    await end_tasks([showing])
    assert alive.silences(folder.parent / "data") == {} and list(folder.iterdir()) == []


async def test_a_killed_worker_is_missed_until_another_replaces_it(folder: Path) -> None:
    data = folder.parent / "data"
    folder.mkdir(mode=0o700)
    for name in ("worker-1", "worker-2", "serve-3"):
        (folder / name).write_text("0.001")
    (folder / "worker-4").write_text("1e12")  # from before the machine restarted
    assert alive.killed(data) == ["serve-3", "worker-1", "worker-2"]
    assert (alive.silences(data), alive.killed(folder.parent / "other")) == ({}, [])
    showing = asyncio.create_task(alive.show_alive("worker", data))
    while not alive.silences(data):
        await asyncio.sleep(0.01)
    assert alive.killed(data) == ["serve-3", "worker-2"], "one worker replaces one"
    await end_tasks([showing])
