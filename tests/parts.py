"""Real parts for tests: processes of `callvault`, a sandbox served in a thread, a Valkey, and a signer of webhooks."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import httpx
import pytest
import uvicorn
from nacl.signing import SigningKey

from cli.main import app
from sandbox.app import create_app
from sandbox.control import books
from sandbox.world import World
from tests.forks import Forks
from workers.archive.identity import make_identity, read_identity
from workers.archive.records import Identity
from workers.archive.stores.store import Store, StoreMissing, open_store

CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("CALLVAULT_", "TELNYX_", "REDIS_", "AWS_"))}
HERE = Path(__file__).parent.parent
FORKS = Forks(CLEAN)
LEAST_USER, LEAST_PASSWORD = "callvault", "p%40ss"  # as an address writes them; the password is "p@ss"


def least_rights() -> list[str]:
    """What the user of Redis may do, as `deploy/redis/users.acl` grants it: rules of ACL SETUSER."""
    line = (Path(__file__).parent.parent / "deploy" / "redis" / "users.acl").read_text()
    return [rule for rule in line.split()[2:] if not rule.startswith(">")]


def wait_for(is_true: Callable[[], Any], seconds: float = 30, what: str = "it") -> Any:
    """Wait until something is true; fails the test if it does not become so."""
    deadline = time.monotonic() + seconds
    while True:
        value = is_true()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {seconds:g}s")
        time.sleep(0.02)


def free_port() -> int:
    """A port that is free, and that no outgoing connection takes before its server does: below the system's own choice."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)  # tests seed the common one alike
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class CallvaultProcess:
    """A running `callvault …`, its output gathered."""

    def __init__(self, arguments: list[str], environment: dict[str, str], cwd: Path | None = None) -> None:
        read, write = os.pipe()
        with Path(os.devnull).open("rb") as nothing, os.fdopen(write, "wb") as out:
            environment = {**CLEAN, **environment}
            self.process = FORKS.start(arguments, environment, str(cwd or HERE), nothing, out, out)
        self._output = os.fdopen(read, "rb")
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._output:
            for line in self._output:
                self._lines.append(line.decode("utf-8", "replace"))

    @property
    def output(self) -> str:
        return "".join(self._lines)

    def wait_for_output(self, text: str, seconds: float = 30) -> None:
        wait_for(lambda: text in self.output or self.process.poll() is not None, seconds, f"output {text!r}")
        assert text in self.output, self.output

    def stop(self, how: int = signal.SIGTERM, seconds: float = 40) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"did not end; output:\n{self.output}") from None
        self._reader.join(5)
        return status


@contextmanager
def callvault(arguments: list[str], environment: dict[str, str], ready: str = "") -> Iterator[CallvaultProcess]:
    process = CallvaultProcess(arguments, environment)
    try:
        if ready:
            process.wait_for_output(ready)
        yield process
    finally:
        if process.process.poll() is None:
            process.stop(signal.SIGKILL)


@contextmanager
def receiver(environment: dict[str, str]) -> Iterator[tuple[httpx.Client, CallvaultProcess]]:
    """A receiver process, and a client of it; with a key of its own unless the environment has one."""
    port = free_port()
    environment = {"TELNYX_PUBLIC_KEY": Signer().public_key} | environment
    with (
        callvault(["serve", "--port", str(port)], environment, "Uvicorn running") as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        yield client, process


def run_callvault(
    arguments: list[str], environment: dict[str, str] | None = None, seconds: float = 60, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `callvault …` to its end."""
    with TemporaryFile() as typed, TemporaryFile() as out, TemporaryFile() as err:
        typed.write((stdin or "").encode())
        typed.seek(0)
        process = FORKS.start(arguments, {**CLEAN, **(environment or {})}, str(HERE), typed, out, err)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        said, told = (read_back(stream) for stream in (out, err))
    return subprocess.CompletedProcess(["callvault", *arguments], status, said, told)


def read_back(stream: IO[bytes]) -> str:
    """What was written to a file, with the ends of lines that Python reads."""
    stream.seek(0)
    return stream.read().decode().replace("\r\n", "\n")


def make_archive(place: str | Path | Store) -> Identity:
    """Make an archive at a URL, in a folder or in an open store, as `callvault init` does; one that is there stays."""
    if isinstance(place, Path):
        place = place.as_uri()
    store = open_store(place) if isinstance(place, str) else place
    with suppress(StoreMissing):
        if (found := read_identity(store)) is not None:
            return found
    store.make_place()
    return make_identity(store, by="tests")


class HttpServer(ThreadingHTTPServer):
    """A server in a thread on a free port; a client that hangs up is not worth a stack trace."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


def callvault_here(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit status and standard output of a command, run in a thread of this process: where its start is not the matter."""

    def run() -> tuple[int, str]:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
            for name in os.environ.keys() - CLEAN.keys():
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            status = app(arguments, standalone_mode=False)
            return int(status or 0), out.getvalue()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


class RunningSandbox:
    """A sandbox served over HTTP from a thread of the test, so that a test sees its world."""

    def __init__(self, world: World) -> None:
        self.world = world
        # asyncio sets TCP_NODELAY only where the protocol is named; without it each request of a kept connection waits 40 ms.
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(512)
        world.base_url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # connections cut on purpose are no errors
        config = uvicorn.Config(create_app(world), http="httptools", ws="none", log_config=None, access_log=False)
        config.timeout_graceful_shutdown = 1
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        wait_for(lambda: self._server.started, what="the sandbox's start")

    def _run(self) -> None:
        asyncio.run(self._server.serve([self._socket]))

    @property
    def base_url(self) -> str:
        return self.world.base_url + "/v2"

    @property
    def public_key(self) -> str:
        return self.world.public_keys()["public_key"]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "TELNYX_BASE_URL": self.base_url,
            "TELNYX_API_KEY": self.world.api_key,
            "TELNYX_PUBLIC_KEY": self.public_key,
        }

    def control(self, what: str, **body: Any) -> Any:
        answer = httpx.post(f"{self.world.base_url}/_sandbox/{what}", json=body, timeout=60, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def books(self) -> dict[str, Any]:
        return books(self.world)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._socket.close()


class Signer:
    """Signs webhooks as Telnyx does."""

    def __init__(self) -> None:
        self.key = SigningKey.generate()
        self.public_key = base64.b64encode(self.key.verify_key.encode()).decode()

    def headers(self, body: bytes, timestamp: int | None = None) -> dict[str, str]:
        text = str(int(time.time()) if timestamp is None else timestamp)
        signature = self.key.sign(text.encode() + b"|" + body).signature
        return {
            "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
            "telnyx-timestamp": text,
            "content-type": "application/json",
        }


def event(event_type: str, event_id: str, **payload: Any) -> bytes:
    """A body of API v2."""
    data = {
        "record_type": "event",
        "event_type": event_type,
        "id": event_id,
        "occurred_at": "2026-11-25T10:00:00.000000Z",
        "payload": payload,
    }
    return json.dumps({"data": data, "meta": {"attempt": 1, "delivered_to": "http://here"}}).encode()
