"""An invalid `erased.json` makes no worker erase anything: write access is no right to delete."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from archive.proof import Damaged
from lab.servers import RunningSandbox
from lab.worker import archive, own_runtime
from tests.workers.steps import folder_of, kinds_of_alerts, request_of
from workers.deletion import decisions
from workers.recordings.archive_recording import archive_recording


def erasure(recording_id: str) -> str:
    fields = {"recording_id": recording_id, "objects": [], "why": "", "by": "", "erased_at": "2026-11-25T10:00:00Z"}
    return json.dumps({"schema": "callvault.erasure/1"} | fields)


@pytest.mark.parametrize("forged", ["unreadable", "of another", "of one on hold", "unsigned"])
async def test_a_worker_erases_nothing_for_an_invalid_erasure(
    forged: str, sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    if forged == "unsigned":
        key = archive_folder.parent / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
        environment = environment | {"CALLVAULT_SEAL_KEY": str(key)}
    async with own_runtime(environment) as runtime:
        await archive(runtime, recording)
        if forged == "of one on hold":
            await decisions.hold(runtime, recording.data["id"], "case 17", "ann")
        folder = folder_of(archive_folder, recording)
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        named = {"unreadable": "{}", "of another": erasure("another")}.get(forged, erasure(recording.data["id"]))
        (folder / "erased.json").write_text(named)
        with pytest.raises(Damaged, match=r"erased\.(json|sig)"):
            await archive_recording(runtime, request_of(recording, "event-2"))
        assert "archive-damaged" in await kinds_of_alerts(runtime)
    assert {path: path.read_bytes() for path in before} == before


async def test_a_forged_erasure_keeps_no_recording_out_of_the_archive_silently(
    sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    folder = folder_of(archive_folder, recording)
    folder.mkdir(parents=True)
    (folder / "erased.json").write_text("{}")
    async with own_runtime(environment) as runtime:
        with pytest.raises(Damaged):
            await archive(runtime, recording)
