"""Any body, header or event gets an answer and never our own error; senders choose no job's name or size."""

from __future__ import annotations

import json
import math
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lab.webhooks import Signer
from service.events import Unparseable, parse_form, parse_json
from service.signature import SignatureRefused, Signatures
from tests.fuzz.values import DEEP, documents, like, texts
from workers.queue.jobs import encode_job
from workers.recordings.routing import ROUTES, Event, jobs_of, mirror_jobs

SIGNER = Signer()
FIELDS = (
    "recording_id", "call_leg_id", "call_session_id", "call_control_id", "conference_id", "recording_started_at",
    "recording_ended_at", "start_time", "end_time", "recording_urls", "recording_transcription_id", "connection_id",
    "reason", "result", "failure_cause", "RecordingSid", "RecordingStatus", "TranscriptionSid", "TranscriptionStatus",
)  # fmt: skip


def _look(event: Event | None) -> None:
    if event is None:
        return
    assert 0 < len(event.id) <= 200
    for job in (*(jobs_of(event) or ()), *mirror_jobs(event)):
        assert job.function in ("archive_recording", "archive_transcription", "report_fault", "mirror_log_messages")
        assert len(encode_job(job, 0)) < 128 * 1024


@given(st.binary(max_size=500))
@example(DEEP)
@example(b'{"data":' + DEEP)
@example(b'{"data": {"event_type": "a", "id": "\\ud800", "payload": {}}}')
def test_any_body_parses_to_an_event_or_to_nothing(body: bytes) -> None:
    for parse in (parse_json, parse_form):
        try:
            _look(parse(body))
        except Unparseable:
            pass


@given(
    envelope=st.sampled_from(("v2", "other", "v1")),
    event_type=st.one_of(st.sampled_from(sorted(ROUTES)), texts),
    event_id=st.one_of(texts, documents),
    payload=st.one_of(like(*FIELDS), documents),
)
def test_any_envelope_parses_to_an_event_or_to_nothing(
    envelope: str, event_type: str, event_id: Any, payload: Any
) -> None:
    inner = {"event_type": event_type, "id": event_id, "payload": payload, "record_type": "event"}
    wrapped = {"v2": {"data": inner}, "other": {"metadata": {"event": inner}}, "v1": inner}[envelope]
    body = json.dumps(wrapped, allow_nan=True).encode("utf-8", "surrogatepass")
    try:
        _look(parse_json(body))
    except Unparseable:  # NaN is not JSON, nor is a lone surrogate
        pass


def test_the_first_field_that_is_an_instant_is_the_time() -> None:
    payload = {"recording_id": "r", "recording_started_at": "soon", "start_time": "2026-11-25T10:00:00Z"}
    (job,) = jobs_of(Event("e", "call.recording.saved", payload)) or ()
    assert (job.payload.started_at, job.payload.ended_at) == ("2026-11-25T10:00:00Z", None)


@given(st.dictionaries(st.one_of(st.sampled_from(FIELDS), texts), texts, max_size=8))
def test_any_form_parses_to_an_event_or_to_nothing(fields: dict[str, str]) -> None:
    body = "&".join(f"{quote_plus(k, errors='replace')}={quote_plus(v, errors='replace')}" for k, v in fields.items())
    try:
        _look(parse_form(body.encode()))
    except Unparseable:
        pass


@given(st.one_of(st.none(), texts), st.one_of(st.none(), texts), st.binary(max_size=50))
def test_every_unsigned_body_is_refused(timestamp: str | None, signature: str | None, body: bytes) -> None:
    with pytest.raises(SignatureRefused):
        Signatures([SIGNER.public_key]).verify(timestamp, signature, body, 1_800_000_000.0)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_a_signature_is_good_for_five_minutes_around_its_time_and_no_longer(skew: float) -> None:
    now = 1_800_000_000
    headers = SIGNER.headers(b"{}", now)
    arguments = (headers["telnyx-timestamp"], headers["telnyx-signature-ed25519"], b"{}", now + skew)
    if math.fabs(skew) <= 300:
        Signatures([SIGNER.public_key]).verify(*arguments)
    else:
        with pytest.raises(SignatureRefused):
            Signatures([SIGNER.public_key]).verify(*arguments)
