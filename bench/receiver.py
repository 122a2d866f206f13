"""Requests/s and p99 of one receiver under 32 connections, against simpler servers and what users write."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench import machine
from bench.pairs import Result, alternate
from lab.deployment import Deployment, deployment
from lab.processes import CALLVAULT, free_port, running, serves_http
from lab.webhooks import write_for_wrk

_SECONDS = 4
_EVENTS = 20_000 * _SECONDS


class Side:
    """A server under test: pinned to core 0, wrk and Valkey on core 1."""

    def __init__(self, own: Deployment, port: int) -> None:
        self._deployment, self._port = own, port
        self.p99: list[float] = []

    def rate(self) -> float:
        """Measure once: requests/s; `p99` gets its p99 in milliseconds."""
        bodies = self._deployment.folder / "bodies"
        write_for_wrk(bodies, self._deployment.signer, _EVENTS)
        self._deployment.client.flushall()
        result = machine.wrk(f"http://127.0.0.1:{self._port}", bodies, _SECONDS, core=1)
        self.p99.append(result["p99"])
        return result["rate"]


def _uvicorn(python: str, app: str, port: int) -> list[str]:
    options = ["--http", "httptools", "--loop", "uvloop", "--no-access-log", "--log-level", "warning"]
    return [python, "-m", "uvicorn", app, "--host", "127.0.0.1", "--port", str(port), *options]


def _command(name: str, port: int) -> list[str]:
    if name == "callvault":
        return [*CALLVAULT, "serve", "--port", str(port)]
    python = machine.peer_python("celery") if name == "celery_app" else sys.executable
    return _uvicorn(python, f"bench.peers.{name}:app", port)


@contextmanager
def _sides(names: tuple[str, ...]) -> Iterator[dict[str, Side]]:
    with deployment(core=1) as own, ExitStack() as stack:
        sides = {}
        for name in names:
            port = free_port()
            ready = lambda port=port: serves_http(port)  # noqa: E731
            stack.enter_context(running(_command(name, port), ready, environment=own.environment, core=0))
            sides[name] = Side(own, port)
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
    """A row with the p99s of the same runs."""
    ours, others = iter(list(mine)), iter(list(theirs))
    what = "receiver: p99 of the same runs"
    return alternate(
        what, against, lambda: next(ours), lambda: next(others), unit="ms", goal="<= 0.1", note=note, pairs=len(mine)
    )
