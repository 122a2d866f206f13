"""Latencies: from an accepted event to its job, from the start of `serve` to its first answer, of commands."""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arq.worker import Worker, func

from bench.pairs import Result, alternate
from bench.seals import lay_out_a_day
from lab.deployment import Deployment, deployment
from lab.processes import CALLVAULT, CLEAN, Process, free_port, serves_http
from process.tasks import end_tasks
from workers.engine.connect import connect_worker
from workers.engine.leases import Leases
from workers.engine.worker import LeasingWorker
from workers.keys import MAIN_QUEUE
from workers.queue.accept import Acceptor
from workers.queue.jobs import Job, deserialize

_PER_SECOND = 50
_JOBS = 300


async def _delays(url: str, is_ours: bool) -> list[float]:
    """Milliseconds from accepted to started of jobs that come at 50/s."""
    delays: list[float] = []
    accepted: dict[str, float] = {}

    async def job(ctx: dict[str, Any], payload: Any) -> None:
        delays.append((time.perf_counter() - accepted[ctx["job_id"]]) * 1000)

    pool = connect_worker(url)
    functions = [func(job, name="job")]
    worker: Worker
    if is_ours:
        worker = LeasingWorker(
            functions, pool, Leases(pool), queue=MAIN_QUEUE, runtime=None, most_jobs=10, timeout_seconds=60
        )
    else:
        worker = Worker(functions, redis_pool=pool, job_deserializer=deserialize, handle_signals=False)
    running = asyncio.create_task(worker.async_run())
    receiver = connect_worker(url)
    acceptor = Acceptor(receiver)
    await asyncio.sleep(1)
    for i in range(_JOBS):
        job_id = f"job-{i}-{time.time()}"
        await acceptor.accept(job_id, [Job("job", {}, job_id)])
        accepted[job_id] = time.perf_counter()
        await asyncio.sleep(1 / _PER_SECOND)
    await asyncio.sleep(1)
    await end_tasks([running])
    await pool.aclose()
    await receiver.aclose()
    return delays


def _p99(own: Deployment, is_ours: bool) -> float:
    own.client.flushall()
    return statistics.quantiles(asyncio.run(_delays(own.server.url, is_ours)), n=100)[98]


def _serve(own: Deployment) -> float:
    port = free_port()
    started = time.perf_counter()
    with Process([*CALLVAULT, "serve", "--port", str(port)], own.environment):
        while not serves_http(port, "/healthz"):
            time.sleep(0.002)
        return (time.perf_counter() - started) * 1000


def _pass() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True, timeout=60)
    return (time.perf_counter() - started) * 1000


def _commands(own: Deployment) -> Iterator[Result]:
    """Commands that people type, on an archive of a thousand recordings with its catalogue."""
    own.clear()
    lay_out_a_day(own.folder / "archive", 1_000)
    for arguments, goal in (
        (["--help"], "<= 150 ms"),
        (["find", "--number", "+13125550100", "--limit", "1"], "<= 250 ms"),
        (["status"], "<= 300 ms"),
    ):
        command = [str(Path(sys.executable).parent / "callvault"), *arguments]

        def run_it(command: list[str] = command) -> float:
            started = time.perf_counter()
            subprocess.run(command, env=CLEAN | own.environment, capture_output=True, check=False, timeout=120)
            return (time.perf_counter() - started) * 1000

        run_it()  # the first run makes the catalogue
        yield alternate(
            f"`callvault {' '.join(arguments)}`",
            "`python -c pass`",
            run_it,
            _pass,
            unit="ms",
            goal=goal,
            note="run to its end",
        )


def run() -> Iterator[Result]:
    """Measure."""
    with deployment() as own:
        yield alternate(
            "from accepted to job started, p99, at 50/s",
            "arq's own worker with its defaults",
            lambda: _p99(own, True),
            lambda: _p99(own, False),
            unit="ms",
            goal="<= 0.2",
            note="enqueued by the same acceptor; 300 jobs a run",
        )
        yield alternate(
            "start of `serve` until it answers",
            "`python -c pass`",
            lambda: _serve(own),
            _pass,
            unit="ms",
            goal="<= 18",
            note="polled every 2 ms",
        )
        yield from _commands(own)
