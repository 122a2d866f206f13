"""Recordings, their transcriptions and their downloads (families 5.7 and 5.8 of the API)."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from sandbox.api import Call, page, route
from sandbox.errors import ApiError, invalid, not_found
from sandbox.world import Recording, World, now, text_of

_SAME = ("conference_id", "connection_id", "call_control_id", "call_leg_id", "call_session_id", "from", "to")
_SPANS = {"created_at": "created_at", "start_time": "recording_started_at", "end_time": "recording_ended_at"}


def sign_download(world: World, recording_id: str, audio_format: str, expires: int) -> str:
    """The signature of a download address."""
    text = f"{recording_id}.{audio_format}:{expires}".encode()
    return hmac.new(world.url_secret, text, hashlib.sha256).hexdigest()


def download_urls(world: World, recording: Recording) -> dict[str, str]:
    """Fresh presigned addresses of a recording's audio, by format."""
    urls = {}
    for audio_format in recording.audio:
        lifetime = -1.0 if world.faults.strikes("download_expired") else world.url_lifetime_seconds
        expires = int((time.time() + lifetime) * 1000)
        signature = sign_download(world, recording.data["id"], audio_format, expires)
        query = urlencode({"X-Amz-Expires": expires, "X-Amz-Signature": signature})
        urls[audio_format] = f"{world.base_url}/_downloads/{recording.data['id']}.{audio_format}?{query}"
    return urls


def show(world: World, recording: Recording) -> dict[str, Any]:
    """A recording as the API shows it."""
    return recording.data | {"download_urls": download_urls(world, recording)}


def _find(world: World, recording_id: str) -> Recording:
    recording = world.recordings.get(recording_id)
    if recording is None or recording.deleted_at is not None or recording.visible_from > now():
        raise not_found()
    return recording


def within(value: str | None, span: Any, pointer: str) -> bool:
    """Whether an instant lies in a span of `gte` and `lte`, both inclusive."""
    if not isinstance(span, dict):
        raise invalid(pointer, "Use [gte] or [lte].")
    text = (value or "").rstrip("Z")
    low, high = span.get("gte", ""), span.get("lte", "")
    # 2026-11-25T10:00:00Z and 2026-11-25T10:00:00.000000Z are the same instant, and a bare day is its midnight.
    return (not low or text >= _padded(low)) and (not high or text <= _padded(high))


def _padded(text: str) -> str:
    text = text.rstrip("Z").removesuffix("+00:00")
    template = "0000-00-00T00:00:00.000000"
    return text + template[len(text) :]


@route("GET /recordings")
def list_recordings(world: World, call: Call) -> Any:
    """List, newest first."""
    found: Sequence[Recording] = world.live_recordings()
    for name in _SAME:
        if (value := call.filter(name)) is not None:
            found = [r for r in found if r.data[name] == value]
    for name, of in _SPANS.items():
        if (span := call.filter(name)) is not None:
            found = [r for r in found if within(r.data[of], span, f"filter[{name}]")]
    listed = page(call, found)
    listed["data"] = [show(world, recording) for recording in listed["data"]]
    return listed


@route("GET /recordings/{recording_id}")
def retrieve_recording(world: World, call: Call) -> Any:
    """Retrieve one."""
    return {"data": show(world, _find(world, call.path["recording_id"]))}


@route("DELETE /recordings/{recording_id}")
def delete_recording(world: World, call: Call) -> Any:
    """Delete one, with its transcriptions."""
    recording = _find(world, call.path["recording_id"])
    answer = {"data": show(world, recording)}
    _refuse(world, recording)
    if not world.faults.strikes("delete_ignores"):
        _delete(world, recording)
    return answer


def _refuse(world: World, *recordings: Recording) -> None:
    ids = {recording.data["id"] for recording in recordings}
    if ids & world.undeletable or world.faults.strikes("delete_refused"):
        raise ApiError(403, "10010", "Authorization failed", "You do not have permission to delete recordings.")


def _delete(world: World, recording: Recording) -> None:
    recording.deleted_at = text_of(now())
    for transcription in list(world.transcriptions.values()):
        if transcription["recording_id"] == recording.data["id"]:
            world.deleted_transcriptions[transcription["id"]] = world.transcriptions.pop(transcription["id"])


@route("POST /recordings/actions/delete")
def delete_recordings(world: World, call: Call) -> Any:
    """Delete several; those that are gone already are passed over, unless all are."""
    ids = call.need("ids", list)
    if not all(isinstance(i, str) and i for i in ids):
        raise invalid("/ids", "The 'ids' parameter must be a list of ids.")
    limit = world.faults.bulk_delete_limit
    if limit and len(ids) > limit:
        raise invalid("/ids", f"At most {limit} ids.")
    found = [r for i in ids if (r := world.recordings.get(i)) is not None and r.deleted_at is None]
    if not found:
        raise not_found()
    _refuse(world, *found)
    for recording in found:
        if not world.faults.strikes("bulk_delete_ignores") and not world.faults.strikes("delete_ignores"):
            _delete(world, recording)
    return {"status": "ok"}


@route("GET /recording_transcriptions")
def list_transcriptions(world: World, call: Call) -> Any:
    """List, newest first."""
    found = sorted(world.transcriptions.values(), key=lambda t: (t["created_at"], t["id"]), reverse=True)
    if (recording_id := call.filter("recording_id")) is not None:
        found = [t for t in found if t["recording_id"] == recording_id]
    if (span := call.filter("created_at")) is not None:
        found = [t for t in found if within(t["created_at"], span, "filter[created_at]")]
    return page(call, found)


@route("GET /recording_transcriptions/{transcription_id}")
def retrieve_transcription(world: World, call: Call) -> Any:
    """Retrieve one."""
    if call.path["transcription_id"] not in world.transcriptions:
        raise not_found()
    return {"data": world.transcriptions[call.path["transcription_id"]]}


@route("DELETE /recording_transcriptions/{transcription_id}")
def delete_transcription(world: World, call: Call) -> Any:
    """Delete one."""
    if call.path["transcription_id"] not in world.transcriptions:
        raise not_found()
    transcription = world.transcriptions.pop(call.path["transcription_id"])
    world.deleted_transcriptions[transcription["id"]] = transcription
    return {"data": transcription}


def find_download(world: World, name: str, query: dict[str, str]) -> tuple[Recording, str]:
    """The recording and format of a download address.

    Raises:
        ApiError: 403, the address is forged or expired; 404, the recording is gone.
    """
    recording_id, _, audio_format = name.rpartition(".")
    expires, signature = query.get("X-Amz-Expires", ""), query.get("X-Amz-Signature", "")
    good = expires.isdigit() and hmac.compare_digest(
        signature, sign_download(world, recording_id, audio_format, int(expires))
    )
    if not good or int(expires) < time.time() * 1000:
        raise ApiError(403, "AccessDenied", "Request has expired")
    recording = world.recordings.get(recording_id)
    if recording is None or recording.deleted_at is not None or audio_format not in recording.audio:
        raise not_found()
    return recording, audio_format


@route("GET /webhook_deliveries")
def list_deliveries(world: World, call: Call) -> Any:
    """List what was delivered and what failed, newest first."""
    found = list(reversed(world.deliveries.values()))
    if statuses := call.filter_list("status", "eq"):
        found = [d for d in found if d["status"] in statuses]
    if types := call.filter_list("event_type"):
        found = [d for d in found if d["webhook"]["event_type"] in types]
    for name in ("started_at", "finished_at"):
        if (span := call.filter(name)) is not None:
            found = [d for d in found if within(d[name], span, f"filter[{name}]")]
    for name in ("webhook", "attempts"):
        if (part := call.filter(name, "contains")) is not None:
            found = [d for d in found if part in str(d[name])]
    return page(call, found)


@route("GET /webhook_deliveries/{delivery_id}")
def retrieve_delivery(world: World, call: Call) -> Any:
    """Retrieve one."""
    if call.path["delivery_id"] not in world.deliveries:
        raise not_found()
    return {"data": world.deliveries[call.path["delivery_id"]]}
