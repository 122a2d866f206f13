"""Many machines on one: five receivers, six workers, one Valkey. What an event and a recording cost, and what a burst does.

`python -m bench.scale` writes `bench/SCALE.md`, from which `docs/scaling.md` reckons. It is no part of `make bench`: it
compares with no peer.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from bench import machine
from bench.pairs import say
from bench.webhooks import write_for_wrk
from config.times import utc_now
from sandbox.audio import make_wav
from tests.parts import Signer, free_port, make_archive, wait_for
from workers.jobs.payloads import RecordingRequest, recording_job
from workers.keys import MAIN_QUEUE, RECONCILED, UNSEALED_KNOWN, WORKER
from workers.queue.accept import Acceptor
from workers.queue.connect import connect_worker

RECEIVERS, WORKERS = 5, 6
RESULTS = Path(__file__).parent / "SCALE.md"

_WEBHOOK_SECONDS = 10
_RECORDINGS = 2_000
_SMALL, _LARGE = 32_000, 1_000_000  # bytes
_BURST_MEAN, _BURST_SECONDS = 12, 20  # events a second; the burst is a hundred times that
_BACKLOG = 700_000

_ANSWER = (
    '{"data":{"id":"$1","record_type":"recording","connection_id":"1700000000000000000","call_leg_id":"$1",'
    '"call_session_id":"$1","channels":"dual","recording_started_at":"2026-11-20T10:00:00.000000Z",'
    '"recording_ended_at":"2026-11-20T10:00:33.000000Z","duration_millis":%d,"from":"+13125550100","to":"+14155550100",'
    '"status":"completed","download_urls":{"wav":"http://127.0.0.1:%d/audio/one.wav"}}}'
)


@contextmanager
def origin(folder: Path, size_bytes: int) -> Iterator[str]:
    """nginx as a Telnyx that has every recording one asks for, all with the same audio; its address."""
    served = folder / f"origin-{size_bytes}"
    (served / "audio").mkdir(parents=True)
    audio = make_wav("scale", size_bytes / 32_000, 2)
    with (served / "audio" / "one.wav").open("wb") as file:
        for chunk in audio.read(0, audio.size):
            file.write(chunk)
    nothing = '{"data":[],"meta":{"total_pages":1,"page_number":1}}'

    def locations(port: int) -> str:
        answer = _ANSWER % (audio.duration_ms, port)
        one = f"location ~ ^/v2/recordings/([-0-9a-f]+)$ {{ return 200 '{answer}'; }}"
        return f"{one} location /v2/ {{ return 200 '{nothing}'; }}"

    with machine.nginx(served, locations) as address:
        yield address


class Yard:
    """One Valkey, and the receivers and workers that use it."""

    def __init__(self, folder: Path, redis_url: str, stack: ExitStack) -> None:
        self.folder, self.redis_url, self._stack = folder, redis_url, stack
        self.signer = Signer()
        self.client: Any = redis.Redis.from_url(redis_url)
        server: Any = self.client.info("server")
        self.server_pid = int(server["process_id"])

    def environment(self, base_url: str) -> dict[str, str]:
        """What the parts run with."""
        return {
            "TELNYX_BASE_URL": f"{base_url}/v2",
            "TELNYX_API_KEY": "KEY",
            "TELNYX_PUBLIC_KEY": self.signer.public_key,
            "REDIS_URL": self.redis_url,
            "CALLVAULT_ARCHIVE_URL": (self.folder / "archive").as_uri(),
            "CALLVAULT_DATA": str(self.folder / "data"),
            "CALLVAULT_LOG_MESSAGES": "off",
            "CALLVAULT_LOG_LEVEL": "error",
            "CALLVAULT_QUEUE_AGE_LIMIT": "10h",
            "PYTHONPATH": str(machine.ROOT),
        }

    def clear(self) -> None:
        """Empty Redis; no sweep and no look for days to be sealed begins."""
        shutil.rmtree(self.folder / "archive", ignore_errors=True)
        make_archive(self.folder / "archive")
        self.client.flushall()
        server = self.client.info()
        start = f"{server['run_id']} {server['master_replid']}"
        self.client.mset({RECONCILED + name: "1" for name in ("recent", "open", "sealed")} | {UNSEALED_KNOWN: start})

    def receivers(self, base_url: str) -> list[tuple[machine.Running, int]]:
        """Start them; each with its port."""
        started = []
        for _ in range(RECEIVERS):
            port = free_port()
            command = [sys.executable, "-m", "cli.main", "serve", "--port", str(port)]
            started.append((self._stack.enter_context(machine.process(command, self.environment(base_url))), port))
        for _, port in started:
            wait_for(lambda: machine.answers(port, "/healthz"), 60)  # noqa: B023
        return started

    @contextmanager
    def workers(self, base_url: str) -> Iterator[list[machine.Running]]:
        """Run them for the length of the block."""
        with ExitStack() as stack:
            command = [sys.executable, "-m", "cli.main", "worker"]
            started = [
                stack.enter_context(machine.process(command, self.environment(base_url))) for _ in range(WORKERS)
            ]
            wait_for(lambda: len(self.client.keys(WORKER + "*")) >= WORKERS, 60)
            yield started

    async def enqueue(self, first: int, count: int) -> None:
        """Have recordings archived, as receivers would."""
        client = connect_worker(self.redis_url)
        acceptor = Acceptor(client)
        for start in range(first, first + count, 5_000):
            jobs = [
                recording_job(RecordingRequest(event_id=f"event-{n}", recording_id=f"{n:032x}"))
                for n in range(start, min(start + 5_000, first + count))
            ]
            await asyncio.gather(*(acceptor.accept(job.id, [job]) for job in jobs))
        await client.aclose()

    def cpu(self, processes: list[machine.Running]) -> tuple[float, float]:
        """CPU seconds of processes, and of the Valkey."""
        return sum(machine.cpu_seconds(one.pid) for one in processes), _cpu_of(self.server_pid)

    def archived(self) -> int:
        """How many recordings workers have told of since Redis was empty."""
        told = self.client.xinfo_stream("callvault:written") if self.client.exists("callvault:written") else None
        return int(told["entries-added"]) if told else 0


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _drive(
    yard: Yard, ports: list[int], events: int, seconds: int, connections: int, delay_ms: int
) -> list[dict[str, float]]:
    """Load on every receiver at once, so many connections each, which wait so long between two events."""
    files = [yard.folder / f"events-{port}" for port in ports]
    for file in files:
        write_for_wrk(file, yard.signer, events)

    def drive(n: int) -> Any:
        command = [machine.program("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s"]
        command += ["-s", str(machine.ROOT / "bench" / "webhooks.lua"), f"http://127.0.0.1:{ports[n]}"]
        environment = os.environ | {"BODIES": str(files[n]), "DELAY_MS": str(delay_ms)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=seconds + 120, check=True
        )
        return json.loads(done.stdout.rpartition("RESULT ")[2])

    with ThreadPoolExecutor(len(ports)) as threads:
        told = list(threads.map(drive, range(len(ports))))
    if any(one["errors"] for one in told):
        raise RuntimeError(f"not every event was answered 200: {told}")
    return told


def events_cost(yard: Yard, base_url: str) -> list[str]:
    """Five receivers, each under all the load that it takes."""
    say("events")
    yard.clear()
    running = yard.receivers(base_url)
    before_memory = int(yard.client.info("memory")["used_memory"])
    before = yard.cpu([one for one, _ in running])
    told = _drive(yard, [port for _, port in running], 6_000 * _WEBHOOK_SECONDS, _WEBHOOK_SECONDS, 8, 0)
    after = yard.cpu([one for one, _ in running])
    events = int(yard.client.zcard(MAIN_QUEUE))
    memory = int(yard.client.info("memory")["used_memory"]) - before_memory
    rate, p99 = sum(one["rate"] for one in told), max(one["p99"] for one in told)
    return [
        _row(f"events, {RECEIVERS} receivers at once", f"{rate:,.0f} /s, all answered 200, p99 {p99:.0f} ms"),
        _row("CPU of a receiver, an event", f"{(after[0] - before[0]) / events * 1e6:.0f} µs"),
        _row("CPU of Valkey, an event", f"{(after[1] - before[1]) / events * 1e6:.0f} µs"),
        _row("memory of Valkey, an event whose recording waits", f"{memory / events:,.0f} bytes"),
    ]


def recordings_cost(yard: Yard, base_url: str, size_bytes: int, name: str) -> list[str]:
    """Six workers, a queue that never gets empty."""
    say(f"recordings, {name}")
    yard.clear()
    with yard.workers(base_url) as running:
        yard.client.config_resetstat()
        before = yard.cpu(running)
        asyncio.run(yard.enqueue(0, _RECORDINGS))
        seconds = machine.sleep_until(lambda: yard.archived() >= _RECORDINGS, 300, "archiving")
        after = yard.cpu(running)
        stats = yard.client.info("commandstats")
        calls = sum(int(one["calls"]) for one in stats.values())
        peak = max(machine.peak_mib(one.pid) for one in running)
    ours, theirs = (after[0] - before[0]) / _RECORDINGS, (after[1] - before[1]) / _RECORDINGS
    return [
        _row(f"recordings of {name}, {WORKERS} workers at once", f"{_RECORDINGS / seconds:,.0f} /s"),
        _row(f"CPU of a worker, a recording of {name}", f"{ours * 1e3:.1f} ms"),
        _row(f"CPU of Valkey, a recording of {name}", f"{theirs * 1e6:.0f} µs, {calls / _RECORDINGS:.0f} commands"),
        _row(f"memory of a worker, recordings of {name}", f"{peak:.0f} MiB at most"),
    ]


def burst(yard: Yard, base_url: str) -> list[str]:
    """A hundred times the mean for a while, workers running; then the way back to an empty queue."""
    say("burst")
    yard.clear()
    running = yard.receivers(base_url)
    per_receiver = 100 * _BURST_MEAN // RECEIVERS
    connections = per_receiver // 10  # each ten times a second
    with yard.workers(base_url):
        told = _drive(
            yard, [port for _, port in running], 2 * per_receiver * _BURST_SECONDS, _BURST_SECONDS, connections, 100
        )
        started = time.monotonic()
        waiting, done = int(yard.client.zcard(MAIN_QUEUE)), yard.archived()
        events = waiting + done
        memory = int(yard.client.info("memory")["used_memory"])
        machine.sleep_until(lambda: yard.client.zcard(MAIN_QUEUE) < 20, 600, "the way back")
        drained = time.monotonic() - started
    rate, p99 = sum(one["rate"] for one in told), max(one["p99"] for one in told)
    what = f"a burst of {_BURST_SECONDS} s while {WORKERS} workers archive recordings of 32 KB"
    return [
        _row(what, f"{rate:,.0f} events/s, all answered 200, p99 {p99:.0f} ms"),
        _row(
            "after the burst",
            f"{waiting:,} of {events:,} wait, {memory / 2**20:.0f} MiB of Valkey; all archived {drained:.0f} s later",
        ),
    ]


def backlog(yard: Yard, base_url: str) -> list[str]:
    """The same workers at the head of a queue of hundreds of thousands."""
    say("backlog")
    rates = []
    for waiting in (0, _BACKLOG):
        yard.clear()
        asyncio.run(yard.enqueue(0, waiting + _RECORDINGS))
        memory = int(yard.client.info("memory")["used_memory"])
        with yard.workers(base_url):
            before = yard.archived()
            started = time.monotonic()
            machine.sleep_until(lambda: yard.archived() - before >= _RECORDINGS / 2, 300, "archiving")  # noqa: B023
            rates.append((yard.archived() - before) / (time.monotonic() - started))
    what = f"recordings of 32 KB while {_BACKLOG:,} wait ({memory / 2**20:,.0f} MiB of Valkey)"
    return [_row(what, f"{rates[1]:,.0f} /s, against {rates[0]:,.0f} /s with {_RECORDINGS:,}")]


def _row(what: str, measured: str) -> str:
    return f"| {what} | {measured} |"


def main() -> None:
    """Run all of it; some minutes."""
    rows: list[str] = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, machine.valkey() as url, ExitStack() as stack:
        folder = Path(name)
        small = stack.enter_context(origin(folder, _SMALL))
        large = stack.enter_context(origin(folder, _LARGE))
        yard = Yard(folder, url, stack)
        rows += events_cost(yard, small)
        rows += recordings_cost(yard, small, _SMALL, "32 KB")
        rows += recordings_cost(yard, large, _LARGE, "1 MB")
        rows += burst(yard, small)
        rows += backlog(yard, small)
    text = [
        "# Many machines on one",
        "",
        f"Made by `python -m bench.scale` on {utc_now():%Y-%m-%d}: {RECEIVERS} receivers, {WORKERS} workers, one Valkey",
        "(`appendfsync always`), what plays Telnyx and what sends, all on "
        f"{os.cpu_count()} cores ({platform.machine()}); the archive is a folder.",
        "",
        "| what | measured |",
        "| --- | --- |",
        *rows,
    ]
    RESULTS.write_text("\n".join(text) + "\n")
    print("\n".join(text))


if __name__ == "__main__":
    main()
