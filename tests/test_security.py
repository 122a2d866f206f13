"""Attacks that no other test tries; docs/security.md names the test of each threat."""

from __future__ import annotations

import json
import pickle
import re
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.processes import callvault, receiver, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.webhooks import Signer, event
from tests.workers.steps import ask, assert_archived

ROOT = Path(__file__).parent.parent
SECRETS = {
    "CALLVAULT_OPS_TOKEN": "secret-of-the-ops-pages",
    "CALLVAULT_ALERT_URLS": "json://user:secret-of-an-alert@127.0.0.1:1/",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-bucket",
}


def test_every_threat_has_its_test() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text())
    assert len(named) > 15
    for path, test in named:
        assert f"def {test}(" in (ROOT / path).read_text(), f"{path}::{test}"


def test_a_connection_that_trickles_or_stays_silent_is_closed(redis_url: str, tmp_path: Path) -> None:
    with receiver({"REDIS_URL": redis_url, "CALLVAULT_DATA": str(tmp_path)}) as (_, serve):
        silent, slow, second = (socket.create_connection(("127.0.0.1", serve.port)) for _ in range(3))
        started = time.monotonic()
        slow.sendall(b"POST /webhooks/telnyx HTTP/1.1\r\n")
        second.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        second.settimeout(5)
        assert b"200 OK" in second.recv(4096)
        second.sendall(b"GET /healthz HTTP/1.1\r\nX-A")
        closed: set[socket.socket] = set()
        for connection in (silent, slow, second):
            connection.settimeout(0.05)
        while len(closed) < 3 and time.monotonic() - started < 20:
            for connection in {silent, slow, second} - closed:
                try:
                    if connection is slow:
                        connection.sendall(b"a")
                    if connection.recv(1024) == b"":
                        closed.add(connection)
                except TimeoutError:
                    pass
                except OSError:
                    closed.add(connection)
            time.sleep(0.2)
        assert len(closed) == 3
        assert 8 < time.monotonic() - started < 15
        assert httpx.get(serve.url + "/healthz", trust_env=False).status_code == 200
        for connection in (silent, slow, second):
            connection.close()


def test_logs_show_no_secrets_and_outside_input_starts_no_line(
    sandbox: RunningSandbox, environment: dict[str, str], tmp_path: Path
) -> None:
    signer = Signer()
    settings = environment | SECRETS | {"TELNYX_PUBLIC_KEY": signer.public_key, "CALLVAULT_LOG_LEVEL": "debug"}
    secrets = [*SECRETS.values(), "secret-of-an-alert", sandbox.world.api_key]
    evil = 'x\n{"event": "forged", "level": "critical"}\r\x1b[31m\u2028'
    with (
        callvault(["worker"], settings, "worker ready") as worker,
        receiver(settings) as (client, serve),
    ):
        body = event("call.recording.error", evil, recording_id=evil, connection_id=evil, reason=evil)
        assert client.post("/webhooks/telnyx", content=body, headers=signer.headers(body)).status_code == 200
        recording = event("call.recording.saved", "e2", recording_id="../../" + evil)
        client.post("/webhooks/telnyx", content=recording, headers=signer.headers(recording))
        client.post(
            "/webhooks/telnyx", content=b"{}", headers={"telnyx-timestamp": evil.encode("ascii", "ignore").hex()}
        )
        client.post("/ops/sign-in", data={"name": evil, "token": evil})
        client.get("/ops/recordings", params={"q": evil}, headers={"Authorization": "Bearer " + "wrong" * 5})
        wait_for(lambda: "job failed" in worker.output and "sign-in refused" in serve.output, 30)
        output = worker.output + serve.output
    for line in output.splitlines():
        if not line.startswith("INFO:"):
            assert json.loads(line).get("event") != "forged", line
    assert "\x1b[31m" not in output
    for secret in secrets:
        assert secret not in output
    wrong = run_callvault(["doctor"], settings | {"REDIS_URL": "redis://:secret-of-redis@127.0.0.1:1/0"})
    assert wrong.returncode != 0
    assert "secret-of" not in wrong.stdout + wrong.stderr


@pytest.mark.parametrize(
    "made", [b"\x80\x04", b"\xff" * 200, b"\xc1", b""], ids=["pickle", "noise", "reserved", "empty"]
)
async def test_a_poisoned_payload_in_redis_runs_nothing_and_stops_nothing(
    made: bytes,
    sandbox: RunningSandbox,
    environment: dict[str, str],
    redis: Any,
    async_redis: Any,
    tmp_path: Path,
    archive_folder: Path,
) -> None:
    proof = tmp_path / "it-ran"

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (proof,))

    payload = pickle.dumps(Bomb()) if made == b"\x80\x04" else made
    redis.set("arq:job:poison", payload)
    redis.zadd("arq:queue", {"poison": 1})
    recording = sandbox.world.add_recording(seconds=0.5)
    with callvault(["worker"], environment, "worker ready") as worker:
        wait_for(lambda: redis.zscore("arq:queue", "poison") is None, 60)
        await ask(async_redis, recording)
        assert_archived(archive_folder, recording)
        assert not worker.has_ended
    assert not proof.exists()
