"""nginx as a Telnyx faster than anything measured: recordings as JSON, their audio as one WAV file."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.processes import free_port, program, running, serves_http
from lab.webhooks import ENDED, STARTED
from sandbox.audio import Audio, make_wav

_BYTES_PER_SECOND = 32_000  # 8 kHz, 16 bit, two channels


@contextmanager
def nginx(folder: Path, locations: Callable[[int], str] = lambda _: "autoindex on;") -> Iterator[str]:
    """Serve a folder; gives the address.

    Args:
        folder: what it serves.
        locations: further lines of its `server` block, by its port.
    """
    port = free_port()
    state = folder / ".nginx"
    state.mkdir(exist_ok=True)
    temporary = "".join(
        f"{kind}_temp_path {state}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = f"""
    worker_processes 1; pid {state}/pid; error_log {state}/error.log; daemon off;
    user root;
    events {{ worker_connections 1024; }}
    http {{ access_log off; sendfile on; keepalive_requests 1000000; {temporary}
      types {{ application/json json; audio/wav wav; }} default_type application/json;
      server {{ listen 127.0.0.1:{port} backlog=1024; root {folder}; {locations(port)} }} }}
    """
    (state / "conf").write_text(config)
    command = [program("nginx", "nginx-light"), "-p", str(state), "-c", str(state / "conf")]
    with running(command, lambda: serves_http(port)):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def origin_of_everything(folder: Path, size_bytes: int) -> Iterator[str]:
    """Serve a recording of this size under every id; gives the address."""
    (folder / "audio").mkdir(parents=True)
    audio = _write_audio(folder / "audio" / "one.wav", size_bytes)
    nothing = '{"data":[],"meta":{"total_pages":1,"page_number":1}}'

    def locations(port: int) -> str:
        answer = json.dumps({"data": _recording("$1", audio, f"http://127.0.0.1:{port}/audio/one.wav")})
        one = f"location ~ ^/v2/recordings/([-0-9a-f]+)$ {{ return 200 '{answer}'; }}"
        return f"{one} location /v2/ {{ return 200 '{nothing}'; }}"

    with nginx(folder, locations) as address:
        yield address


def lay_out(folder: Path, base_url: str, count: int, size_bytes: int) -> list[str]:
    """Lay out recordings of this size in a folder that nginx serves; returns their ids."""
    (folder / "v2" / "recordings").mkdir(parents=True, exist_ok=True)
    (folder / "audio").mkdir(exist_ok=True)
    made = folder / f"one-{size_bytes}.wav"
    audio = _write_audio(made, size_bytes)
    ids = []
    for i in range(count):
        recording_id = str(uuid.UUID(int=(size_bytes << 64) + i))
        data = _recording(recording_id, audio, f"{base_url}/audio/{recording_id}.wav")
        (folder / "v2" / "recordings" / recording_id).write_text(json.dumps({"data": data}))
        os.link(made, folder / "audio" / f"{recording_id}.wav")
        ids.append(recording_id)
    return ids


def _write_audio(path: Path, size_bytes: int) -> Audio:
    audio = make_wav("benchmark", size_bytes / _BYTES_PER_SECOND, 2)
    with path.open("wb") as file:
        for chunk in audio.read(0, audio.size):
            file.write(chunk)
    return audio


def _recording(recording_id: str, audio: Audio, url: str) -> dict[str, Any]:
    return {
        "id": recording_id,
        "record_type": "recording",
        "connection_id": "1700000000000000000",
        "call_leg_id": recording_id,
        "call_session_id": recording_id,
        "channels": "dual",
        "created_at": STARTED,
        "recording_started_at": STARTED,
        "recording_ended_at": ENDED,
        "duration_millis": audio.duration_ms,
        "from": "+13125550100",
        "to": "+14155550100",
        "status": "completed",
        "download_urls": {"wav": url},
    }
