"""The receiver: requests/s and p99 of one process under 32 connections, against less and against what users write."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from bench import machine
from bench.pairs import Result, alternate
from bench.webhooks import write_for_wrk
from tests.parts import Signer, free_port

_SECONDS = 4
_EVENTS = 20_000 * _SECONDS
_SCRIPT = Path(__file__).parent / "webhooks.lua"
CELERY = ("celery[redis]==5.6.0", "fastapi", "uvicorn[standard]", "PyNaCl", "requests", "boto3")


class Side:
    """A server under test: pinned to core 0, wrk and Valkey on core 1."""

    def __init__(self, name: str, port: int, redis_url: str, signer: Signer) -> None:
        self.name, self.port = name, port
        self._redis, self._signer = redis_url, signer
        self.p99: list[float] = []

    def rate(self) -> float:
        """One run: requests/s; its p99 (milliseconds) is remembered."""
        with tempfile.TemporaryDirectory() as folder:
            bodies = Path(folder) / "bodies"
            write_for_wrk(bodies, self._signer, _EVENTS)
            with redis.Redis.from_url(self._redis) as client:
                client.flushall()
            os.environ["BODIES"] = str(bodies)
            told = machine.wrk(f"http://127.0.0.1:{self.port}", _SCRIPT, _SECONDS, core=1)
        self.p99.append(told["p99"])
        return told["rate"]


def _uvicorn(python: str, app: str, port: int) -> list[str]:
    options = ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
    return [python, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port), *options]


def _command(name: str, port: int) -> list[str]:
    if name == "callvault":
        return [sys.executable, "-m", "cli.main", "serve", "--port", str(port)]
    python = machine.python_with("celery", *CELERY) if name == "celery_app" else sys.executable
    return _uvicorn(python, f"bench.peers.{name}:app", port)


@contextmanager
def _sides(names: tuple[str, ...]) -> Iterator[dict[str, Side]]:
    signer = Signer()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = stack.enter_context(machine.valkey(core=1))
        environment = {
            "TELNYX_PUBLIC_KEY": signer.public_key,
            "TELNYX_API_KEY": "KEY",
            "REDIS_URL": url,
            "CALLVAULT_DATA": folder,
            "PYTHONPATH": str(machine.ROOT),
        }
        sides = {}
        for name in names:
            port = free_port()
            running = stack.enter_context(machine.process(_command(name, port), environment, core=0))
            deadline = time.monotonic() + 30
            while not machine.answers(port):
                if running.has_ended or time.monotonic() > deadline:
                    raise RuntimeError(f"{name}: {running.output}")
                time.sleep(0.05)
            sides[name] = Side(name, port, url, signer)
        yield sides


def run() -> Iterator[Result]:
    """Measure, one row after the other."""
    command = f"wrk -t1 -c32 -d{_SECONDS}s -s bench/webhooks.lua; server on core 0, wrk and Valkey (appendfsync always) on core 1"
    with _sides(("callvault", "verify", "enqueue", "celery_app")) as sides:
        ours = sides["callvault"]
        for name, against, goal in (
            ("verify", "Starlette, body read and verified, nothing else", ">= 0.75"),
            ("enqueue", "the same + `SET NX` + `arq.enqueue_job`", ">= 2.6"),
            ("celery_app", "FastAPI + Celery `.delay()`", ">= 6.5"),
        ):
            ours.p99.clear()
            other = sides[name]
            what = "receiver: verified and durably enqueued, requests/s"
            yield alternate(what, against, ours.rate, other.rate, unit="/s", goal=goal, note=command)
            if name == "celery_app":
                yield _p99(ours.p99, other.p99, against, command)


def _p99(mine: list[float], theirs: list[float], against: str, note: str) -> Result:
    """The p99s of the same runs as a row of their own."""
    ours, others = iter(list(mine)), iter(list(theirs))
    what = "receiver: p99 of the same runs"
    return alternate(
        what, against, lambda: next(ours), lambda: next(others), unit="ms", goal="<= 0.1", note=note, pairs=len(mine)
    )
