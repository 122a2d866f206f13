"""A playback that cannot finish logs one line with the recording and no stack trace."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from lab.processes import receiver, wait_for
from tests.seals.small import SmallArchive


def test_playback_of_damaged_audio_is_cut_off_with_one_log_line(redis_url: str, tmp_path: Path) -> None:
    small = SmallArchive(tmp_path / "archive", {"id": "ab" * 16})
    key = small.folder(11, "11-one") + "audio.wav"
    small.write(key, (small.root / key).read_bytes()[:-1] + b"?")
    environment = {"REDIS_URL": redis_url, "CALLVAULT_ARCHIVE_URL": small.root.as_uri(), "TELNYX_API_KEY": "KEY"}
    environment |= {"TELNYX_BASE_URL": "http://127.0.0.1:9/v2", "CALLVAULT_DATA": str(tmp_path / "data")}
    with receiver(environment) as (client, process):
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/ops/recordings/11-one/audio.wav")
        wait_for(lambda: "11-one" in process.output)
        assert client.get("/ops/recordings/11-one/audio.wav").status_code == 409, "nothing of it is sent after that"
    lines = [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]
    errors = [line for line in lines if line["level"] == "error"]
    assert [(e["event"], e["recording_id"]) for e in errors] == [("playback cut off", "11-one")], process.output
    assert "Traceback" not in process.output and "SHA-256" in errors[0]["error"]
