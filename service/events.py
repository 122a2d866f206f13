"""Parse the envelopes that Telnyx sends into an `Event`: API v2, API v1 and TeXML forms.

Sources: developers.telnyx.com/docs/voice/programmable-voice/voice-api-webhooks (v2: `data`, `meta`), the same page's
other form (`metadata.event`), the v1 pages (flat, underscores), and the callbacks of the API reference (TeXML).
Every field of a payload is optional: the documents, the SDK and the real webhooks differ.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from workers.recordings.routing import Event

_LONGEST_ID = 200
_MOST_FORM_FIELDS = 200
_TYPE = re.compile(r"[a-z0-9_]{1,64}(\.[a-z0-9_]{1,64}){0,6}")

# API v1 writes types with underscores and calls a saved recording by another name.
_V1_TYPES = {
    "recording_saved": "call.recording.saved",
    "call_recording_saved": "call.recording.saved",
    "recording_error": "call.recording.error",
    "call_recording_error": "call.recording.error",
    "recording_transcription_saved": "call.recording.transcription.saved",
    "call_recording_transcription_saved": "call.recording.transcription.saved",
    "conference_recording_saved": "conference.recording.saved",
}


class Unparseable(Exception):
    """The body does not parse as its content type."""


def parse_json(body: bytes) -> Event | None:
    """The event in a JSON body; None if the JSON is not one of the envelopes.

    Raises:
        Unparseable: the body is not JSON.
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unparseable("the body is not JSON") from None
    if not isinstance(document, dict):
        return None
    metadata = document.get("metadata")
    for envelope in (document.get("data"), metadata.get("event") if isinstance(metadata, dict) else None, document):
        if isinstance(envelope, dict) and isinstance(envelope.get("event_type"), str):
            return _event(envelope)
    return None


def _event(envelope: dict[str, Any]) -> Event | None:
    event_id = envelope.get("id") or envelope.get("webhook_id")
    payload = envelope.get("payload")
    event_type = envelope["event_type"].lower()
    event_type = _V1_TYPES.get(event_type, event_type)
    if not isinstance(event_id, str) or not 0 < len(event_id) <= _LONGEST_ID or not isinstance(payload, dict):
        return None
    return Event(event_id, event_type if _TYPE.fullmatch(event_type) else "", payload)


def parse_form(body: bytes) -> Event | None:
    """The event in a TeXML form; None if it is another kind of form.

    TeXML has no event ids. The id and status of the recording or transcription serve as one.

    Raises:
        Unparseable: the body is not a form.
    """
    try:
        fields = dict(
            parse_qsl(
                body.decode("utf-8"),
                keep_blank_values=True,
                strict_parsing=True,
                max_num_fields=_MOST_FORM_FIELDS,
            )
        )
    except (UnicodeDecodeError, ValueError):
        raise Unparseable("the body is not a form") from None
    for name, event_type in (("Transcription", "texml.transcription"), ("Recording", "texml.recording")):
        sid, status = fields.get(f"{name}Sid", ""), fields.get(f"{name}Status", "")
        if sid and status and len(sid) + len(status) <= _LONGEST_ID:
            return Event(f"{sid}:{status}", event_type, fields)
    return None
