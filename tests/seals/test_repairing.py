"""A sealed recording whose audio is gone: put back, and every seal holds again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.parts import RunningSandbox, run_callvault
from tests.seals.test_sealing import recordings_of, seal
from tests.workers.runtimes import request_of, runtime_of
from tests.workers.test_archive_recording import folder_of
from workers.jobs.recordings import archive_recording


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
