"""Repaired audio and versions under seals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.processes import run_callvault
from lab.servers import RunningSandbox
from lab.worker import runtime_of
from sandbox.audio import make_wav
from sandbox.world import now, text_of
from tests.seals.scripts import VERIFY_ARCHIVE, run_script
from tests.seals.test_sealing import recordings_of, seal
from tests.workers.steps import folder_of, request_of
from workers.recordings.archive_recording import archive_recording


@pytest.mark.parametrize("source", ["Telnyx", "a file"])
async def test_every_seal_holds_again_after_a_repair(
    source: str,
    sandbox: RunningSandbox,
    environment: dict[str, str],
    async_redis: Any,
    archive_folder: Path,
    tmp_path: Path,
) -> None:
    (recording,) = recordings_of(sandbox, 5, 1)
    async with runtime_of(environment, async_redis) as runtime:
        await archive_recording(runtime, request_of(recording))
    day = recording.data["recording_started_at"][:10]
    assert seal(environment, day)[0] == 0
    path = folder_of(archive_folder, recording) / "audio.wav"
    (tmp_path / "copy.wav").write_bytes(path.read_bytes())
    path.unlink()
    damaged = run_callvault(["verify", "--seals", "--json"], environment)
    assert {problem["kind"] for problem in json.loads(damaged.stdout)["problems"]} == {"missing"}
    from_file = ["--from", str(tmp_path / "copy.wav")] if source == "a file" else []
    repaired = run_callvault(["repair", recording.data["id"], *from_file], environment)
    assert repaired.returncode == 0, repaired.stderr
    verified = run_callvault(["verify", "--seals", "--deep", "--json"], environment)
    assert (verified.returncode, json.loads(verified.stdout)["problems"]) == (0, [])


async def test_a_version_is_sealed_with_its_day_and_verified_by_both_verifiers(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path
) -> None:
    (recording,) = recordings_of(sandbox, 5, 1)
    async with runtime_of(environment, async_redis) as runtime:
        await archive_recording(runtime, request_of(recording))
        recording.audio["wav"] = make_wav("other", 0.2, 1)
        await archive_recording(runtime, request_of(recording, "event-2"))
        recording.data["updated_at"] = text_of(now())
        await archive_recording(runtime, request_of(recording, "event-3"))
    assert len(list(archive_folder.rglob("versions/*/recording.json"))) == 2
    assert seal(environment, recording.data["recording_started_at"][:10])[0] == 0
    verified = run_callvault(["verify", "--seals", "--deep", "--json"], environment)
    assert (verified.returncode, json.loads(verified.stdout)["problems"]) == (0, [])
    alone = run_script(VERIFY_ARCHIVE, str(archive_folder))
    assert alone.returncode == 0, alone.stdout
