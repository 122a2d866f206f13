"""The control endpoint, `/_sandbox/…`: make calls, switch on faults, read the books. It is not part of Telnyx's API.

POST calls     {"count": 20, "webhook_url": …, …}   see `Calls`; answers {"recordings": [ids]}
POST faults    {"api_429": 0.1, "seed": 7, …}        see `sandbox/faults.py`; answers all faults
POST event     {"webhook_url": …, "event_type": …, "payload": {…}}
POST connection {"id": …, …}                         change a connection without a request to the API
POST log_messages {"connection_id": …, "count": 100}
POST upload    {"connection_id": …, "status": "error"}       likewise `release`
POST key       {"rotate": true}                      sign webhooks with the next key; answers both public keys
POST clock     {"url_lifetime_seconds": 600, "step_seconds": 0.3}
GET books      every recording ever made: hash, size, deletion, number of downloads
GET requests   the requests to the API
GET pending    number of webhooks under way
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sandbox import tickets
from sandbox.webhooks import Deliverer, Target, recording_payload, texml_recording, transcription_payload
from sandbox.world import Recording, World


@dataclass
class Calls:
    """The calls to make. An option marked (n) applies to every n-th call; 0: to none.

    Attributes:
        count: number of calls; each leaves a recording.
        webhook_url: where their webhooks go; empty: nowhere.
        version: of the webhooks: `2`, `1` or `texml`.
        seconds: length of each call.
        mp3: (n) MP3 instead of WAV.
        mono: (n) one channel.
        transcribed: (n) with a transcription.
        without_id: (n) no recording id in the webhook.
        duplicated: (n) the webhook is sent twice.
        conference: (n) a conference recording.
        both_formats: (n) WAV and MP3.
        silent: (n) the last channel is all zeros.
        wrong_duration: (n) the API reports a duration that does not match the audio.
        started_at: ISO 8601, for past calls, `spread_seconds` apart.
        per_second: calls per second; 0: all at once.
    """

    count: int = 1
    webhook_url: str = ""
    failover_url: str = ""
    version: str = "2"
    seconds: float = 8
    mp3: int = 0
    mono: int = 0
    transcribed: int = 0
    without_id: int = 0
    duplicated: int = 0
    conference: int = 0
    both_formats: int = 0
    silent: int = 0
    wrong_duration: int = 0
    started_at: str = ""
    spread_seconds: float = 1
    per_second: float = 0
    connection_id: str = ""


def _every(n: int, i: int) -> bool:
    return n > 0 and i % n == n - 1


async def make_calls(world: World, deliverer: Deliverer, calls: Calls) -> list[str]:
    """Make calls; returns the ids of their recordings, with the webhooks under way."""
    ids = []
    for i in range(calls.count):
        recording = _call(world, calls, i)
        ids.append(recording.data["id"])
        if _every(calls.transcribed, i):
            transcription = world.add_transcription(recording)
            if calls.started_at:
                world.complete_transcription(transcription)
            asyncio.get_running_loop().call_later(
                world.step_seconds, _transcribed, world, deliverer, calls, recording, transcription
            )
        if calls.webhook_url:
            _announce(world, deliverer, calls, recording, i)
        if calls.per_second:
            await asyncio.sleep(1 / calls.per_second)
        elif i % 50 == 49:
            await asyncio.sleep(0)
    return ids


def _call(world: World, calls: Calls, i: int) -> Recording:
    formats = ("wav", "mp3") if _every(calls.both_formats, i) else ("mp3",) if _every(calls.mp3, i) else ("wav",)
    started = None
    if calls.started_at:
        first = datetime.fromisoformat(calls.started_at)
        first = first if first.tzinfo else first.replace(tzinfo=UTC)
        started = datetime.fromtimestamp(first.timestamp() + i * calls.spread_seconds, UTC)
    return world.add_recording(
        seconds=calls.seconds,
        channels=1 if _every(calls.mono, i) or formats == ("mp3",) else 2,
        formats=formats,
        source="conference" if _every(calls.conference, i) else "call",
        started_at=started,
        silent=_every(calls.silent, i),
        duration_millis=int(calls.seconds * 3000) + 10_000 if _every(calls.wrong_duration, i) else None,
        connection_id=calls.connection_id or None,
    )


def _announce(world: World, deliverer: Deliverer, calls: Calls, recording: Recording, i: int) -> None:
    target = Target(calls.webhook_url, calls.failover_url or None, calls.version)
    if calls.version == "texml":
        deliverer.send(target, "texml", texml_recording(world, recording))
        return
    payload = recording_payload(world, recording)
    if _every(calls.without_id, i):
        for name in ("recording_id", "format", "call_control_id"):
            payload.pop(name, None)
    kind = "conference" if recording.data["source"] == "conference" else "call"
    deliverer.send(target, f"{kind}.recording.saved", payload, twice=_every(calls.duplicated, i))


def _transcribed(
    world: World, deliverer: Deliverer, calls: Calls, recording: Recording, transcription: dict[str, Any]
) -> None:
    if transcription["id"] not in world.transcriptions:
        return
    world.complete_transcription(transcription)
    if calls.webhook_url and calls.version != "texml":
        target = Target(calls.webhook_url, calls.failover_url or None, calls.version)
        payload = transcription_payload(recording, transcription)
        deliverer.send(target, "call.recording.transcription.saved", payload)


def books(world: World) -> dict[str, Any]:
    """Everything that ever existed, to check an archive against."""
    rows = [
        {
            "id": r.data["id"],
            "recording_started_at": r.data["recording_started_at"],
            "channels": r.data["channels"],
            "duration_millis": r.data["duration_millis"],
            "deleted_at": r.deleted_at,
            "audio": {
                f: {"sha256": a.sha256, "size": a.size, "served": r.served.get(f, 0)} for f, a in r.audio.items()
            },
        }
        for r in world.recordings.values()
    ]
    return {
        "recordings": rows,
        "transcriptions": list(world.transcriptions.values()),
        "deleted_transcriptions": list(world.deleted_transcriptions.values()),
        "deliveries": {
            status: sum(d["status"] == status for d in world.deliveries.values()) for status in ("delivered", "failed")
        },
        "misuse": world.misuse,
        "faults": world.faults.as_dict(),
    }


async def control(world: World, deliverer: Deliverer, what: str, body: dict[str, Any]) -> Any:
    """Carry out one command.

    Raises:
        ValueError: the command is not valid; the text says why.
        KeyError: the command does not exist, or a field is missing.
    """
    if what == "calls":
        known = {f.name for f in fields(Calls)}
        if unknown := set(body) - known:
            raise ValueError(
                f"unknown options of calls: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}"
            )
        return {"recordings": await make_calls(world, deliverer, Calls(**body))}
    if what == "faults":
        world.faults.change(body)
        return world.faults.as_dict()
    if what == "clock":
        world.url_lifetime_seconds = float(body.get("url_lifetime_seconds", world.url_lifetime_seconds))
        world.step_seconds = float(body.get("step_seconds", world.step_seconds))
        return {}
    if what == "event":
        target = Target(body["webhook_url"], version=body.get("version", "2"))
        return {"id": deliverer.send(target, body["event_type"], body["payload"])}
    if what == "connection":
        world.connections[body["id"]] |= body
        return world.connections[body["id"]]
    if what == "log_messages":
        for i in range(int(body.get("count", 1))):
            detail = f"Occurrence {i} of a fault."
            world.log(body["connection_id"], body.get("code", "10015"), body.get("title", "Invalid attribute"), detail)
        return {"count": len(world.log_messages)}
    if what == "key":
        if body.get("rotate"):
            world.signing_key = world.next_signing_key
        return world.public_keys()
    if what in ("upload", "release"):
        return _force_status(world, what, body)
    if what == "books":
        return books(world)
    if what == "requests":
        return {"requests": world.requests}
    if what == "pending":
        return {"webhooks": deliverer.pending}
    raise KeyError(what)


def _force_status(world: World, what: str, body: dict[str, Any]) -> dict[str, Any]:
    known = world.uploads if what == "upload" else world.releases
    ticket = known.get(body.get("ticket_id", ""))
    if ticket is None:
        connection_id = body["connection_id"]
        number = next(iter(world.numbers[connection_id].values()))
        if what == "upload":
            address, location = number["civic_address_id"], number["location_id"]
            numbers = [str(number["number_id"])]
            ticket = tickets.add_upload(world, connection_id, numbers, tickets.USAGES, address, location)
        else:
            ticket = tickets.add_release(world, connection_id, "pending", number)
    ticket.ahead.clear()
    tickets.set_status(world, ticket, body["status"])
    return ticket.data
