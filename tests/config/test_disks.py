"""The free bytes that receivers and workers publish."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lab.worker import settings_of
from process import disks


async def test_a_disk_that_fails_has_no_value_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disks, "_LOOK_SECONDS", 0.05)
    folder, archive = tmp_path / "data", tmp_path / "archive"
    folder.mkdir()
    archive.symlink_to(folder)
    watched = disks.Disks()
    settings = settings_of({"CALLVAULT_DATA": str(folder), "CALLVAULT_ARCHIVE_URL": archive.as_uri()})
    watching = asyncio.create_task(watched.watch(settings))
    try:
        async with asyncio.timeout(20):
            while set(watched.free) != {"data folder", "archive"}:
                await asyncio.sleep(0.01)
            archive.unlink()
            archive.symlink_to("x" * 1000)  # the system refuses such a name, as it does on a disk that fails
            while "archive" in watched.free:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            assert set(watched.free) == {"data folder"}
    finally:
        watching.cancel()
