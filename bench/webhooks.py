"""Signed events of recordings, as files that wrk sends and as lists."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.parts import Signer

_numbers = itertools.count()


def signed(
    signer: Signer, recording_ids: Sequence[str] | None, count: int, event_type: str = "call.recording.saved"
) -> Iterator[tuple[dict[str, str], bytes]]:
    """Headers and bodies, each another event; of about 1 KB, as Telnyx writes them."""
    run = next(_numbers)
    now = int(time.time())
    for i in range(count):
        recording_id = recording_ids[i % len(recording_ids)] if recording_ids else str(uuid.UUID(int=(run << 64) + i))
        payload = {
            "call_control_id": "v3:" + "x" * 60,
            "call_leg_id": str(uuid.UUID(int=i)),
            "call_session_id": str(uuid.UUID(int=i)),
            "client_state": None,
            "connection_id": "1700000000000000000",
            "channels": "dual",
            "format": "wav",
            "recording_id": recording_id,
            "recording_started_at": "2026-11-25T10:00:00.000000Z",
            "recording_ended_at": "2026-11-25T10:00:33.000000Z",
            "recording_urls": {"wav": "https://s3.amazonaws.com/telephony-recorder-prod/" + "y" * 380},
            "public_recording_urls": {},
        }
        data = {
            "record_type": "event",
            "event_type": event_type,
            "id": str(uuid.UUID(int=(run << 64) + (1 << 40) + i)),
            "occurred_at": "2026-11-25T10:00:34.000000Z",
            "payload": payload,
        }
        body = json.dumps({"data": data, "meta": {"attempt": 1, "delivered_to": "https://here/webhooks"}}).encode()
        yield signer.headers(body, now), body


def write_for_wrk(path: Path, signer: Signer, count: int) -> None:
    """A file of events for `webhooks.lua`."""
    with path.open("wb") as file:
        for headers, body in signed(signer, None, count):
            line = (headers["telnyx-timestamp"], headers["telnyx-signature-ed25519"])
            file.write("\t".join(line).encode() + b"\t" + body + b"\n")
