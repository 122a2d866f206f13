"""The page of the quarantine: what a real receiver put there, and how it is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from lab.processes import wait_for
from lab.webhooks import Signer
from tests.workers.steps import pages
from text.times import parse_instant, utc_now
from workers.keys import INSPECTION, INSPECTION_NOTES

NUMBER, SIP = "+13125550100", "sip:bob@example.com"


def post(client: httpx.Client, signer: Signer, body: bytes, content_type: str = "application/json") -> None:
    headers = {**signer.headers(body), "Content-Type": content_type}
    assert client.post("/webhooks/telnyx", content=body, headers=headers).status_code == 200


def event(event_type: str, event_id: str, **payload: Any) -> bytes:
    return json.dumps({"data": {"event_type": event_type, "id": event_id, "payload": payload}}).encode()


@pytest.mark.parametrize("is_masked", [False, True])
def test_each_webhook_is_listed_with_its_reason_and_its_content(
    is_masked: bool, tmp_path: Path, redis_url: str, redis: Any
) -> None:
    signer = Signer()
    settings = {"TELNYX_PUBLIC_KEY": signer.public_key, "CALLVAULT_OPS_MASK_NUMBERS": str(is_masked).lower()}
    with pages(settings, tmp_path, redis_url) as (client, _):
        post(client, signer, event("call.hangup", "e-1", to=NUMBER, leg="428c31b6-7af4-4bcb-b7f5-501312345678"))
        post(client, signer, event("call.recording.saved", "e-2", note="<script>alert(1)</script>"))
        post(client, signer, event("call.hangup", "e-3", filler="x" * 50_000))
        post(client, signer, b'{"id":"1","event":"session.started"}')
        form = urlencode({"From": NUMBER, "To": SIP, "Status": "x"}).encode()
        post(client, signer, form, "application/x-www-form-urlencoded")
        shapeless, other, long, unnamed, unknown = client.get("/api/quarantine").raise_for_status().json()["webhooks"]
        assert (unknown["event_id"], unknown["event_type"]) == ("e-1", "call.hangup")
        assert unknown["why"] == "Callvault does nothing with events of type call.hangup"
        assert abs((parse_instant(unknown["at"]) - utc_now()).total_seconds()) < 60
        assert '"leg": "428c31b6-7af4-4bcb-b7f5-501312345678"' in unknown["content"], "an id is no number"
        assert unnamed["why"] == "it does not name its recording or transcription"
        assert (long["is_cut"], len(long["content"]), long["size_bytes"] > 50_000) == (True, 32 * 1024, True)
        assert (other["event_id"], other["event_type"]) == ("", "")
        assert shapeless["why"] == other["why"] == "it has none of the shapes of a Telnyx event"
        for one in (unknown, shapeless):
            assert (NUMBER in one["content"]) != is_masked, one["content"]
        assert shapeless["content"].splitlines()[1] == f"To={'sip:***@example.com' if is_masked else SIP}"
        page = client.get("/ops/quarantine").text
        assert "&lt;script&gt;alert(1)" in page and "<script>alert" not in page
        assert (NUMBER in page) != is_masked
        assert len(page) < 20_000, "a long content is cut"
        wait_for(
            lambda: '<a href="/ops/quarantine">kept</a>' in client.get("/ops").text, 30, "the count on the overview"
        )


def test_nobody_gets_a_link_to_a_recording_out_of_the_quarantine(tmp_path: Path, redis_url: str, redis: Any) -> None:
    """Whoever may see the quarantine may not hear recordings, and the link leaves no line in the access log."""
    signer, link = Signer(), "https://s3.amazonaws.com/telephony/one.wav?X-Amz-Signature=5ec2e7"
    with pages({"TELNYX_PUBLIC_KEY": signer.public_key}, tmp_path, redis_url) as (client, _):
        saved = event("call.recording.saved", "e-1", recording_urls={"wav": link}, note=f"see {link}, or call")
        post(client, signer, saved)
        post(client, signer, saved.replace(b"/", rb"\/").replace(b"e-1", b"e-2"))
        form = urlencode({"RecordingUrl": link, "Status": "x"}).encode()
        post(client, signer, form, "application/x-www-form-urlencoded")
        found = client.get("/api/quarantine").raise_for_status().json()["webhooks"]
        assert len(found) == 3 and all("s3.amazonaws.com/***" in one["content"] for one in found)
        assert "or call" in found[1]["content"] and "Status=x" in found[0]["content"]
        for text in (client.get("/ops/quarantine").text, client.get("/api/quarantine").text):
            assert "5ec2e7" not in text and "one.wav" not in text


def test_webhooks_of_an_earlier_version_have_no_note(tmp_path: Path, redis_url: str, redis: Any) -> None:
    redis.lpush(INSPECTION, b'{"data":{"event_type":"call.hangup"}}', b"\xff not text")
    redis.lpush(INSPECTION_NOTES, "garbled")
    with pages({}, tmp_path, redis_url) as (client, _):
        found = client.get("/api/quarantine").json()["webhooks"]
        assert [one["why"] for one in found] == [None, None] and found[0]["content"] == "\ufffd not text"
        assert "noted no reason" in client.get("/ops/quarantine").text


def test_the_quarantine_has_pages_and_may_be_empty(tmp_path: Path, redis_url: str, redis: Any) -> None:
    with pages({}, tmp_path, redis_url) as (client, _):
        assert "Nothing is in quarantine." in client.get("/ops/quarantine").text
        redis.lpush(INSPECTION, *(f"body {n}" for n in range(45)))
        shown: list[str] = []
        after: int | None = 0
        while after is not None:
            found = client.get("/api/quarantine", params={"after": str(after)}).json()
            shown += [one["content"] for one in found["webhooks"]]
            after = found["after"]
        assert shown == [f"body {n}" for n in reversed(range(45))]
        for wrong in ("-1", "x", "5000"):
            assert client.get("/api/quarantine", params={"after": wrong}).status_code == 400
