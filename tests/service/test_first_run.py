"""The first run: while the archive is empty, the overview shows how its first recording comes."""

from __future__ import annotations

import time
from typing import Any

from lab.processes import callvault, receiver, wait_for
from lab.servers import RunningSandbox
from workers.keys import HISTORY

_EMPTY = "The archive has no recording yet"


def test_an_empty_archive_shows_the_way_to_its_first_recording_and_then_no_more(
    environment: dict[str, str], sandbox: RunningSandbox
) -> None:
    for _ in range(3):
        sandbox.world.add_recording(seconds=1)
    with receiver(environment) as (client, serve):
        page = client.get("/ops").text
        assert _EMPTY in page
        assert f"{serve.url}/webhooks/telnyx</code>" in page
        assert "No webhook has come in the last 24 hours." in page
        assert "Telnyx has 3 recordings." in page
        assert "callvault backfill --since 365d" in page
        assert f"{sandbox.world.base_url}/_sandbox/calls" in page
        first = client.get("/api/overview").json()["first_run"]
        assert (first["webhook_at"], first["at_telnyx"]["recordings"], first["days"]) == (None, 3, 30)
        sandbox.control("calls", count=1, webhook_url=f"{serve.url}/webhooks/telnyx")
        wait_for(lambda: "and was accepted" in client.get("/ops").text, 20, "the webhook")
        assert _EMPTY in client.get("/ops").text
        with callvault(["worker"], environment, "worker ready"):
            wait_for(lambda: _EMPTY not in client.get("/ops").text, 30, "the first recording")
        assert client.get("/api/overview").json()["first_run"] is None


def test_an_address_that_telnyx_cannot_use_is_named(environment: dict[str, str], redis: Any) -> None:
    settings = environment | {
        "TELNYX_BASE_URL": "https://telnyx.invalid/v2",
        "CALLVAULT_OPS_TOKEN": "a-token-for-tests",
    }
    signed = {"Authorization": "Bearer a-token-for-tests"}
    with receiver(settings) as (client, _):
        page = client.get("/ops", headers=signed, timeout=30).text
        assert "Telnyx cannot use it" in page and "https://your.host/webhooks/telnyx" in page
        assert "_sandbox" not in page, "no sandbox is offered to a real account"
        assert "Callvault could not ask Telnyx" in page or "Telnyx did not answer" in page
        there = {"Host": "calls.example.com", "X-Forwarded-Proto": "https"}
        page = client.get("/ops", headers=signed | there, timeout=30).text
        assert "https://calls.example.com/webhooks/telnyx</code>" in page
        assert "Telnyx cannot use it" not in page


def test_webhooks_that_are_refused_are_named_as_such(environment: dict[str, str], redis: Any) -> None:
    redis.hset(f"{HISTORY}60:{int(time.time() // 60) - 2}", mapping={"webhook:signature": 4})
    with receiver(environment) as (client, _):
        page = client.get("/ops").text
        assert "the receiver refuses them: signature" in page and "callvault doctor" in page


def test_what_telnyx_reports_of_its_last_webhook_is_shown(environment: dict[str, str], sandbox: RunningSandbox) -> None:
    with receiver(environment) as (client, serve):
        sandbox.control("calls", count=1, webhook_url=f"{serve.url}/webhooks/telynx")
        wait_for(lambda: sandbox.world.deliveries, 30, "the delivery is given up")
        page = client.get("/ops").text
        assert "its last webhook was not delivered" in page and "the answer was 404" in page
        assert f"to <code>{serve.url}/webhooks/telynx</code>" in page
