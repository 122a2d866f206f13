"""Webhooks: events in the envelopes of API v2, API v1 and TeXML, signed, delivered with retries and failover.

A URL is tried twice, then the failover URL; 408, 429, 5xx and silence are tried again, other answers are final. What
was delivered and what failed is remembered, for `GET /webhook_deliveries`.
"""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx

from sandbox.api import dumps
from sandbox.recordings import download_urls
from sandbox.world import Recording, World, now, text_of

TIMEOUT_SECONDS = 2.0
_WAITS_SECONDS = (0.0, 0.25, 1.0, 3.0, 8.0, 15.0, 20.0)
_MOST_AT_ONCE = 64
_MOST_REMEMBERED = 20_000


@dataclass(frozen=True)
class Target:
    """Where webhooks go.

    Attributes:
        version: `2`, `1` or `texml`.
    """

    url: str
    failover_url: str | None = None
    version: str = "2"


def recording_payload(world: World, recording: Recording) -> dict[str, Any]:
    """The payload of `call.recording.saved` or `conference.recording.saved`."""
    data = recording.data
    payload = {
        "call_control_id": data["call_control_id"],
        "call_leg_id": data["call_leg_id"],
        "call_session_id": data["call_session_id"],
        "channels": data["channels"],
        "client_state": None,
        "connection_id": data["connection_id"],
        "format": next(iter(recording.audio)),
        "public_recording_urls": {},
        "recording_ended_at": data["recording_ended_at"],
        "recording_id": data["id"],
        "recording_started_at": data["recording_started_at"],
        "recording_urls": download_urls(world, recording),
    }
    if data["source"] == "conference":
        payload["conference_id"] = data["conference_id"]
        del payload["call_leg_id"]
    elif world.faults.strikes("webhook_without_id"):
        for name in ("recording_id", "format", "call_control_id"):
            del payload[name]
    return payload


def transcription_payload(recording: Recording, transcription: dict[str, Any]) -> dict[str, Any]:
    """The payload of `call.recording.transcription.saved`."""
    same = ("call_control_id", "call_leg_id", "call_session_id", "connection_id")
    return {name: recording.data[name] for name in same} | {
        "calling_party_type": "pstn",
        "client_state": None,
        "recording_id": recording.data["id"],
        "recording_transcription_id": transcription["id"],
        "status": "completed",
        "transcription_text": transcription["transcription_text"],
    }


def texml_recording(world: World, recording: Recording) -> dict[str, Any]:
    """The form of a TeXML recording callback."""
    data = recording.data
    return {
        "AccountSid": world.account_id,
        "CallSid": data["call_control_id"],
        "CallSidLegacy": data["call_control_id"],
        "ConnectionId": data["connection_id"],
        "RecordingChannels": "2" if data["channels"] == "dual" else "1",
        "RecordingDuration": str(round(data["duration_millis"] / 1000)),
        "RecordingSid": data["id"],
        "RecordingSource": data["initiated_by"],
        "RecordingStatus": "completed",
        "RecordingUrl": next(iter(download_urls(world, recording).values())),
    }


class Deliverer:
    """Sends webhooks in the background."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._http = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)
        self._gate = asyncio.Semaphore(_MOST_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def sign(self, body: bytes) -> dict[str, str]:
        """The headers of a body that is signed now."""
        text = str(int(time.time()))
        signature = self._world.signing_key.sign(text.encode() + b"|" + body).signature
        return {
            "Telnyx-Signature-Ed25519": base64.b64encode(signature).decode(),
            "Telnyx-Timestamp": text,
            "User-Agent": "telnyx-webhooks",
        }

    def send(self, target: Target, event_type: str, payload: dict[str, Any], *, twice: bool = False) -> str:
        """Deliver an event in the background; returns its id."""
        event = {
            "record_type": "event",
            "event_type": event_type,
            "id": self._world.new_uuid(),
            "occurred_at": text_of(now()),
            "payload": payload,
        }
        copies = 2 if twice or self._world.faults.strikes("webhook_duplicate") else 1
        for _ in range(copies):
            task = asyncio.create_task(self._deliver(target, event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return str(event["id"])

    @property
    def pending(self) -> int:
        """How many deliveries are under way."""
        return len(self._tasks)

    async def close(self) -> None:
        """Stop delivering."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()

    def _body(self, target: Target, event: dict[str, Any], attempt: int, url: str) -> tuple[bytes, str]:
        if target.version == "texml":
            return urlencode(event["payload"]).encode(), "application/x-www-form-urlencoded"
        if target.version == "1":
            names = {"call.recording.saved": "recording_saved"}
            flat = {
                "record_type": "event",
                "webhook_id": event["id"],
                "event_type": names.get(event["event_type"], event["event_type"].replace(".", "_")),
                "created_at": event["occurred_at"],
                "payload": event["payload"],
            }
            return dumps(flat), "application/json"
        return dumps({"data": event, "meta": {"attempt": attempt, "delivered_to": url}}), "application/json"

    async def _deliver(self, target: Target, event: dict[str, Any]) -> None:
        faults = self._world.faults
        if faults.webhook_delay_seconds:
            await asyncio.sleep(self._world.rng.uniform(0, faults.webhook_delay_seconds))
        started = text_of(now())
        attempts: list[dict[str, Any]] = []
        delivered = False
        if not faults.strikes("webhook_lost"):
            urls = [target.url, target.url] + [target.failover_url or target.url] * (len(_WAITS_SECONDS) - 2)
            for number, (wait, url) in enumerate(zip(_WAITS_SECONDS, urls, strict=True), 1):
                await asyncio.sleep(wait)
                status, attempt = await self._attempt(target, event, number, url)
                attempts.insert(0, attempt)
                delivered = 200 <= status < 300
                if delivered or (400 <= status < 500 and status not in (408, 429)):
                    break
        delivery = {
            "id": self._world.new_uuid(),
            "user_id": self._world.account_id,
            "record_type": "webhook_delivery",
            "status": "delivered" if delivered else "failed",
            "started_at": started,
            "finished_at": text_of(now()),
            "webhook": event,
            "attempts": attempts,
        }
        self._world.deliveries[str(delivery["id"])] = delivery
        while len(self._world.deliveries) > _MOST_REMEMBERED:
            self._world.deliveries.pop(next(iter(self._world.deliveries)))

    async def _attempt(
        self, target: Target, event: dict[str, Any], number: int, url: str
    ) -> tuple[int, dict[str, Any]]:
        body, content_type = self._body(target, event, number, url)
        headers = self.sign(body) | {"Content-Type": content_type}
        started, status, text = text_of(now()), 0, ""
        async with self._gate:
            try:
                answer = await self._http.post(url, content=body, headers=headers)
                status, text = answer.status_code, answer.text[:10_240]
            except httpx.HTTPError:
                pass
        good = 200 <= status < 300
        return status, {
            "status": "delivered" if good else "failed",
            "started_at": started,
            "finished_at": text_of(now()),
            "errors": [] if good else [status or 10008],
            "http": {
                "request": {"url": url, "headers": []},
                "response": {"status": status, "headers": [], "body": text},
            },
        }
