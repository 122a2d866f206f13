"""THE table: event type -> jobs. To add one: a row here, and the function that makes its jobs.

It stands here and not beside the receiver because reconcile replays through it what Telnyx failed to deliver.

A type without a row gets a 200, is counted, and goes to quarantine. A type whose row is empty is known and needs no job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from archive.stores.store import lies_in_a_bucket
from text.times import first_instant
from workers.queue.jobs import Job
from workers.recordings.requests import (
    FaultReport,
    RecordingRequest,
    TranscriptionRequest,
    fault_job,
    mirror_job,
    recording_job,
    transcription_job,
)

_LONGEST_VALUE = 2_000


class Event(msgspec.Struct, frozen=True):
    """An event, whatever envelope it came in.

    Attributes:
        id: what it is deduplicated by.
        type: dotted, as API v2 writes it; `texml.recording` and `texml.transcription` for TeXML; empty if unknown.
        payload: the event's own fields.
        trace: the `traceparent` of the span that received it, when traces are made.
    """

    id: str
    type: str
    payload: dict[str, Any]
    trace: str | None = None


def _text(payload: dict[str, Any], *names: str) -> str | None:
    """The first of some fields that holds a text of sensible length."""
    for name in names:
        value = payload.get(name)
        if isinstance(value, str) and 0 < len(value) <= _LONGEST_VALUE:
            return value
    return None


def _instant(payload: dict[str, Any], *names: str) -> str | None:
    """The first of some fields that holds an instant."""
    for name in names:
        text = _text(payload, name)
        if text is not None and first_instant(text) is not None:
            return text
    return None


def _recording_saved(event: Event) -> Sequence[Job] | None:
    payload = event.payload
    request = RecordingRequest(
        event_id=event.id,
        recording_id=_text(payload, "recording_id", "RecordingSid"),
        call_leg_id=_text(payload, "call_leg_id"),
        call_session_id=_text(payload, "call_session_id"),
        call_control_id=_text(payload, "call_control_id"),
        conference_id=_text(payload, "conference_id"),
        started_at=_instant(payload, "recording_started_at", "start_time"),
        ended_at=_instant(payload, "recording_ended_at", "end_time"),
        locations=_locations(payload.get("recording_urls")),
        trace=event.trace,
    )
    is_findable = (
        request.recording_id or request.call_leg_id or request.call_session_id
        or request.conference_id or request.call_control_id
    )  # fmt: skip
    return [recording_job(request)] if is_findable else None


def _locations(urls: Any) -> dict[str, str]:
    """Where custom storage has put the audio. Presigned addresses are left out: they are dead within 10 minutes."""
    if not isinstance(urls, dict):
        return {}
    found = {}
    for audio_format in ("wav", "mp3"):
        url = _text(urls, audio_format)
        if url and lies_in_a_bucket(url):
            found[audio_format] = url
    return found


def _texml_recording(event: Event) -> Sequence[Job] | None:
    return _recording_saved(event) if event.payload.get("RecordingStatus") == "completed" else []


def _transcription_saved(event: Event) -> Sequence[Job] | None:
    transcription_id = _text(event.payload, "recording_transcription_id", "TranscriptionSid")
    if transcription_id is None:
        return None
    request = TranscriptionRequest(
        event_id=event.id,
        transcription_id=transcription_id,
        recording_id=_text(event.payload, "recording_id", "RecordingSid"),
        trace=event.trace,
    )
    return [transcription_job(request)]


def _fault(event: Event) -> Sequence[Job]:
    report = FaultReport(
        event_id=event.id,
        event_type=event.type,
        reason=_text(event.payload, "reason", "result", "failure_cause") or "no reason given",
        connection_id=_text(event.payload, "connection_id"),
        call_leg_id=_text(event.payload, "call_leg_id"),
    )
    return [fault_job(report)]


def _nothing(event: Event) -> Sequence[Job]:
    return []


ROUTES: dict[str, Callable[[Event], Sequence[Job] | None]] = {
    "call.recording.saved": _recording_saved,
    "conference.recording.saved": _recording_saved,
    "call.recording.transcription.saved": _transcription_saved,
    "texml.recording": _texml_recording,
    "texml.transcription": _transcription_saved,
    "call.recording.error": _fault,
    "siprec.failed": _fault,
    "streaming.failed": _fault,
    "call.transcription": _nothing,  # words during the call, not the transcription of a recording
}


def jobs_of(event: Event) -> Sequence[Job] | None:
    """The jobs for an event; None if its type is unknown, or if it does not name its subject."""
    route = ROUTES.get(event.type)
    return None if route is None else route(event)


def why_no_job(event: Event) -> str:
    """Why `jobs_of` found no job for an event that has a shape."""
    if event.type in ROUTES:
        return "it does not name its recording or transcription"
    return f"Callvault does nothing with events of type {event.type}" if event.type else "its type is not one of Telnyx"


def mirror_jobs(event: Event) -> Sequence[Job]:
    """The poll of log messages that follows any event on a connection: an external one may have logged more."""
    connection_id = _text(event.payload, "connection_id")
    return [mirror_job(connection_id)] if connection_id else []
