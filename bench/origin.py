"""A folder that nginx serves as Telnyx: recordings as static JSON, their audio as one WAV file under many names."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

from sandbox.audio import make_wav

_BYTES_PER_SECOND = 32_000  # 8 kHz, 16 bit, two channels


def lay_out(folder: Path, base_url: str, count: int, size_bytes: int) -> list[str]:
    """Lay out recordings of a size; returns their ids."""
    (folder / "v2" / "recordings").mkdir(parents=True, exist_ok=True)
    (folder / "audio").mkdir(exist_ok=True)
    seconds = size_bytes / _BYTES_PER_SECOND
    made = folder / f"one-{size_bytes}.wav"
    with made.open("wb") as file:
        audio = make_wav("benchmark", seconds, 2)
        for chunk in audio.read(0, audio.size):
            file.write(chunk)
    ids = []
    for i in range(count):
        recording_id = str(uuid.UUID(int=(size_bytes << 64) + i))
        data = {
            "id": recording_id,
            "record_type": "recording",
            "connection_id": "1700000000000000000",
            "call_leg_id": recording_id,
            "call_session_id": recording_id,
            "channels": "dual",
            "created_at": "2026-11-20T10:00:00.000000Z",
            "recording_started_at": "2026-11-20T10:00:00.000000Z",
            "recording_ended_at": "2026-11-20T10:00:33.000000Z",
            "duration_millis": audio.duration_ms,
            "from": "+13125550100",
            "to": "+14155550100",
            "status": "completed",
            "download_urls": {"wav": f"{base_url}/audio/{recording_id}.wav"},
        }
        (folder / "v2" / "recordings" / recording_id).write_text(json.dumps({"data": data}))
        os.link(made, folder / "audio" / f"{recording_id}.wav")
        ids.append(recording_id)
    return ids
