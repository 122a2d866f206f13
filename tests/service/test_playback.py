"""Playback, and the picture of who speaks when: of damaged audio neither, and many viewers read it once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from lab.processes import receiver, wait_for
from tests.audio.build import pcm, wav
from tests.seals.small import SmallArchive


def _environment(redis_url: str, small: SmallArchive, tmp_path: Path) -> dict[str, str]:
    environment = {"REDIS_URL": redis_url, "CALLVAULT_ARCHIVE_URL": small.root.as_uri(), "TELNYX_API_KEY": "KEY"}
    return environment | {"TELNYX_BASE_URL": "http://127.0.0.1:9/v2", "CALLVAULT_DATA": str(tmp_path / "data")}


def test_playback_of_damaged_audio_is_cut_off_with_one_log_line(redis_url: str, tmp_path: Path) -> None:
    small = SmallArchive(tmp_path / "archive", {"id": "ab" * 16})
    key = small.folder(11, "11-one") + "audio.wav"
    small.write(key, (small.root / key).read_bytes()[:-1] + b"?")
    with receiver(_environment(redis_url, small, tmp_path)) as (client, process):
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/ops/recordings/11-one/audio.wav")
        wait_for(lambda: "11-one" in process.output)
        assert client.get("/ops/recordings/11-one/audio.wav").status_code == 409, "nothing of it is sent after that"
    lines = [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]
    errors = [line for line in lines if line["level"] == "error"]
    assert [(e["event"], e["recording_id"]) for e in errors] == [("playback cut off", "11-one")], process.output
    assert "Traceback" not in process.output and "SHA-256" in errors[0]["error"]


def _with_audio(tmp_path: Path, audio: bytes) -> tuple[SmallArchive, str]:
    small = SmallArchive(tmp_path / "archive", {"id": "ab" * 16})
    return small, small.recording(0, "spoken", audio=audio) + "audio.wav"


def test_damaged_audio_has_no_levels_and_its_true_ones_come_after_the_repair(redis_url: str, tmp_path: Path) -> None:
    audio, silence = wav(pcm(3)), wav(bytes(len(pcm(3))))
    small, key = _with_audio(tmp_path, audio)
    small.write(key, silence)
    with receiver(_environment(redis_url, small, tmp_path)) as (client, _):
        answer = client.get("/ops/recordings/spoken/levels.json")
        assert answer.status_code == 409 and "SHA-256" in answer.text, answer.text
        small.write(key, audio)
        assert max(client.get("/ops/recordings/spoken/levels.json").json()["channels"][0]) > 0


def test_many_who_look_at_one_call_have_it_read_once(redis_url: str, tmp_path: Path) -> None:
    audio = wav(pcm(1000))
    small, _ = _with_audio(tmp_path, audio)
    with receiver(_environment(redis_url, small, tmp_path)) as (client, process):

        def read_bytes() -> int:
            return int(Path(f"/proc/{process.pid}/io").read_text().split()[1])

        client.get("/ops/recordings/spoken")
        before = read_bytes()
        with ThreadPoolExecutor(12) as people:
            found = list(people.map(lambda _: client.get("/ops/recordings/spoken/levels.json").json(), range(12)))
        assert found == found[:1] * 12 and found[0]["seconds"] == pytest.approx(1000, abs=2)
        assert read_bytes() - before < 3 * len(audio)
