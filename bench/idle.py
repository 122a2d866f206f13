"""What a worker and a receiver with nothing to do cost: CPU and memory."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import redis

from bench import machine
from bench.pairs import Result
from sandbox.world import World
from tests.parts import RunningSandbox, free_port, make_archive, wait_for
from workers.keys import RECONCILED, WORKER

_SETTLE_SECONDS = 15  # first turns of the clock
_SECONDS = 60


def _pss_mib(pid: int) -> float:
    """Memory of a group of processes, what they share counted once."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/smaps_rollup"):
        try:
            if os.getpgid(int(path.parent.name)) == pid:
                total += int(path.read_text().partition("\nPss:")[2].split()[0])
        except (OSError, ProcessLookupError, IndexError, ValueError):
            continue
    return total / 1024


def run() -> list[Result]:
    """Measure, once: nothing happens in a minute, so there is no other side."""
    sandbox = RunningSandbox(World())
    try:
        with machine.valkey() as url, tempfile.TemporaryDirectory(dir="/var/tmp") as name:
            archive = Path(name) / "archive"
            make_archive(archive)
            environment = sandbox.environment | {
                "REDIS_URL": url,
                "CALLVAULT_ARCHIVE_URL": archive.as_uri(),
                "CALLVAULT_DATA": name,
                "CALLVAULT_LOG_LEVEL": "error",
            }
            port = free_port()
            worker = [sys.executable, "-m", "cli.main", "worker"]
            serve = [sys.executable, "-m", "cli.main", "serve", "--port", str(port)]
            with redis.Redis.from_url(url) as client:
                client.mset({RECONCILED + sweep: "1" for sweep in ("recent", "open", "sealed")})
                with machine.process(worker, environment) as one, machine.process(serve, environment) as other:
                    wait_for(lambda: client.keys(WORKER + "*") and machine.answers(port), 30)
                    time.sleep(_SETTLE_SECONDS)
                    both = (one.pid, other.pid)
                    before = sum(map(machine.cpu_seconds, both))
                    time.sleep(_SECONDS)
                    share = (sum(map(machine.cpu_seconds, both)) - before) / _SECONDS * 100
                    memory = sum(map(_pss_mib, both))
    finally:
        sandbox.stop()
    what = "a worker and a receiver with nothing to do"
    note = f"`callvault worker` and `callvault serve` on `file`, {_SECONDS} s; memory is PSS; one run"
    return [
        Result(f"{what}, CPU", "one core", share, 100, "%", share / 100, (share / 100,) * 2, "<= 1 %", note),
        Result(f"{what}, memory", "150 MiB", memory, 150, "MiB", memory / 150, (memory / 150,) * 2, "<= 150 MiB", note),
    ]
