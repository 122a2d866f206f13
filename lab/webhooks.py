"""Webhooks as Telnyx sends them: events, and the signer of their bodies."""

from __future__ import annotations

import base64
import itertools
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey

from text.times import format_instant, utc_now

# When the calls of benchmarks began and ended, just now: an event and Telnyx' own answer say the same.
_ENDED_AT = utc_now()
STARTED, ENDED = (format_instant(_ENDED_AT - timedelta(seconds=ago)) for ago in (33, 0))

_numbers = itertools.count()


class Signer:
    """Signs webhooks as Telnyx does."""

    def __init__(self) -> None:
        self.key = SigningKey.generate()
        self.public_key = base64.b64encode(self.key.verify_key.encode()).decode()

    def headers(self, body: bytes, timestamp: int | None = None) -> dict[str, str]:
        """The headers of a webhook with this body."""
        text = str(int(time.time()) if timestamp is None else timestamp)
        signature = self.key.sign(text.encode() + b"|" + body).signature
        return {
            "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
            "telnyx-timestamp": text,
            "content-type": "application/json",
        }


def event(event_type: str, event_id: str, **payload: Any) -> bytes:
    """A body of API v2."""
    data = {
        "record_type": "event",
        "event_type": event_type,
        "id": event_id,
        "occurred_at": "2026-11-25T10:00:00.000000Z",
        "payload": payload,
    }
    return json.dumps({"data": data, "meta": {"attempt": 1, "delivered_to": "http://here"}}).encode()


def signed(
    signer: Signer, recording_ids: Sequence[str] | None, count: int, event_type: str = "call.recording.saved"
) -> Iterator[tuple[dict[str, str], bytes]]:
    """Headers and bodies of different events about recordings, 1 KB each."""
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
            "recording_started_at": STARTED,
            "recording_ended_at": ENDED,
            "recording_urls": {"wav": "https://s3.amazonaws.com/telephony-recorder-prod/" + "y" * 380},
            "public_recording_urls": {},
        }
        body = event(event_type, str(uuid.UUID(int=(run << 64) + (1 << 40) + i)), **payload)
        yield signer.headers(body, now), body


def write_for_wrk(path: Path, signer: Signer, count: int) -> None:
    """Write a file of events for `bench/webhooks.lua`."""
    with path.open("wb") as file:
        for headers, body in signed(signer, None, count):
            line = (headers["telnyx-timestamp"], headers["telnyx-signature-ed25519"])
            file.write("\t".join(line).encode() + b"\t" + body + b"\n")
