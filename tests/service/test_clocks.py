"""A receiver with a wrong clock answers signed webhooks with 503, not with 401."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from lab.clock import Clock
from lab.processes import receiver, wait_for
from lab.webhooks import Signer, event
from workers.keys import ALERTS

_AHEAD_SECONDS = 400
SAVED = event("call.recording.saved", "event-1", recording_id="recording-1")


def test_a_good_signature_under_a_wrong_clock_gets_a_503_and_an_alert(
    redis_url: str, redis: Any, tmp_path: Path
) -> None:
    clock, signer = Clock(tmp_path, "receiver", _AHEAD_SECONDS), Signer()
    environment = {"REDIS_URL": redis_url, "TELNYX_PUBLIC_KEY": signer.public_key} | clock.environment
    with receiver(environment, answer_seconds=5) as (client, serve):

        def post(timestamp: float, by: Signer = signer) -> int:
            headers = by.headers(SAVED, int(timestamp))
            return client.post("/webhooks/telnyx", content=SAVED, headers=headers).status_code

        assert [post(time.time()) for _ in range(3)] == [503] * 3
        (alert,) = [msgspec.json.decode(row) for row in redis.lrange(ALERTS, 0, -1)]
        assert alert["kind"] == "clocks-differ" and "6m40s" in alert["text"]
        assert not redis.exists("arq:queue")
        assert post(time.time(), Signer()) == 401, "an unsigned webhook is always refused"
        clock.move(0)
        wait_for(lambda: post(time.time()) == 200, what="the right time")
        assert post(time.time() - _AHEAD_SECONDS) == 401, "an old one, by two clocks"
        assert not serve.has_ended
