"""A receiver listens before it has imported itself, and a request that comes meanwhile waits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from lab.processes import Process, free_port, serves_http, wait_for
from lab.webhooks import Signer, event
from workers.queue.embedded import EmbeddedServer

SAVED = event("call.recording.saved", "event-1", recording_id="recording-1", call_leg_id="leg-1")

# `callvault serve` where one module takes two seconds to import, and may not be importable.
_SLOW = """
import sys, time

module, state, port = sys.argv[1:]

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            time.sleep(2)
            if state == "broken":
                raise ImportError(f"{name} is broken")

sys.meta_path.insert(0, Slow())
from cli.main import main
sys.argv[1:] = ["serve", "--port", port]
main()
"""

# What the first answer needs: the modules that are imported when the server would start.
_PROGRAM = """
import json, sys, uvicorn
def run(server, *_):
    server.started = True
    print(json.dumps(sorted(sys.modules)))
uvicorn.Server.run = run
from cli.main import main
sys.argv[1:] = ["serve"]
main()
"""


@contextmanager
def starting(module: str, state: str, signer: Signer, url: str, folder: Path) -> Iterator[tuple[Process, httpx.Client]]:
    """A receiver that answers `/healthz` and still imports a module."""
    port = free_port()
    environment = {"REDIS_URL": url, "TELNYX_PUBLIC_KEY": signer.public_key, "CALLVAULT_DATA": str(folder)}
    with Process([sys.executable, "-P", "-c", _SLOW, module, state, str(port)], environment) as process:
        wait_for(lambda: serves_http(port, "/healthz"), 30, "the first answer")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
            yield process, client


def post(client: httpx.Client, signer: Signer) -> httpx.Response:
    return client.post("/webhooks/telnyx", content=SAVED, headers=signer.headers(SAVED))


def test_a_webhook_that_comes_during_the_start_waits_until_redis_has_it(
    valkey: EmbeddedServer, redis: Any, tmp_path: Path
) -> None:
    signer = Signer()
    with (
        starting("service.app", "whole", signer, valkey.url, tmp_path) as (process, client),
        ThreadPoolExecutor(1) as threads,
    ):
        answer = threads.submit(post, client, signer)
        assert not redis.exists("arq:queue") and not answer.done()
        assert answer.result(20).status_code == 200
        assert redis.zrange("arq:queue", 0, -1) == ["archive_recording:recording-1"]
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/ops").status_code == 200
        assert process.stop() == 0


@pytest.mark.parametrize("module", ["service.webhooks", "workers.queue.accept"])
def test_a_receiver_with_a_broken_module_accepts_nothing_and_ends(
    module: str, valkey: EmbeddedServer, redis: Any, tmp_path: Path
) -> None:
    signer = Signer()
    with starting(module, "broken", signer, valkey.url, tmp_path) as (process, client):
        assert post(client, signer).status_code == 503
        wait_for(lambda: process.has_ended, 20, "its end")
        assert process.stop() == 1
        assert f"internal error: ImportError: {module} is broken" in process.output
    assert not redis.exists("arq:queue")


@pytest.mark.parametrize("module", ["service.ops.site", "jinja2"])
def test_a_receiver_with_a_broken_page_does_not_look_healthy(
    module: str, valkey: EmbeddedServer, redis: Any, tmp_path: Path
) -> None:
    with starting(module, "broken", Signer(), valkey.url, tmp_path) as (process, client):
        wait_for(lambda: process.has_ended, 20, "its end")
        assert process.stop() == 1
        assert f"internal error: ImportError: {module} is broken" in process.output
        with pytest.raises(httpx.ConnectError):
            client.get("/healthz")


def test_the_first_answer_needs_neither_redis_nor_the_pages(tmp_path: Path) -> None:
    environment = {
        "REDIS_URL": "redis://127.0.0.1:1",
        "TELNYX_PUBLIC_KEY": Signer().public_key,
        "CALLVAULT_DATA": str(tmp_path),
    }
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60, env=environment
    )
    found = set(json.loads(ran.stdout))
    late = {"arq", "httpx", "jinja2", "nacl", "prometheus_client", "redis", "starlette.applications", "structlog"}
    late |= {"service.app", "service.webhooks", "service.ops.site", "workers.conditions", "workers.catalogue.catalogue"}
    assert not found & late
