"""The cost of an event, a recording and a burst: five receivers, six workers and one Valkey on one machine.

`python -m bench.scale` writes `bench/SCALE.md`, on which `docs/scaling.md` is based. It is not part of
`make bench`, because it compares with no peer.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import machine
from bench.pairs import log
from lab.deployment import Deployment, deployment
from lab.origin import origin_of_everything
from lab.processes import Process, seconds_until
from lab.webhooks import write_for_wrk
from text.times import utc_now
from workers.keys import MAIN_QUEUE

RECEIVERS, WORKERS = 5, 6
RESULTS = Path(__file__).parent / "SCALE.md"
ACCESSES = "## The access log"  # a section that `python -m bench.accesses` writes

_WEBHOOK_SECONDS = 10
_RECORDINGS = 2_000
_SMALL, _LARGE = 32_000, 1_000_000  # bytes
_BURST_MEAN, _BURST_SECONDS = 12, 20  # events a second; the burst is a hundred times that
_BACKLOG = 700_000


def _ids(count: int) -> list[str]:
    return [f"{n:032x}" for n in range(count)]


def _cpu(own: Deployment, processes: Iterable[Process]) -> tuple[float, float]:
    """CPU seconds of processes, and of the Valkey."""
    return sum(machine.cpu_seconds(one.pid) for one in processes), machine.cpu_seconds(own.server.pid)


def _memory(own: Deployment) -> int:
    return int(own.client.info("memory")["used_memory"])


def _waiting(own: Deployment) -> int:
    return int(own.client.zcard(MAIN_QUEUE))


def _drive(
    own: Deployment, ports: Iterable[int], events: int, seconds: int, connections: int, delay_ms: int
) -> tuple[float, float]:
    """Send events to every receiver at once; returns events/s of all, and the worst p99."""
    files = {port: own.folder / f"events-{port}" for port in ports}
    for file in files.values():
        write_for_wrk(file, own.signer, events)

    def drive(port: int) -> dict[str, float]:
        address = f"http://127.0.0.1:{port}"
        return machine.wrk(address, files[port], seconds, connections=connections, delay_ms=delay_ms)

    with ThreadPoolExecutor(len(files)) as threads:
        results = list(threads.map(drive, files))
    return sum(one["rate"] for one in results), max(one["p99"] for one in results)


def events_cost(own: Deployment) -> list[str]:
    """Receivers, each under all the load that it takes."""
    log("events")
    own.clear()
    with own.receivers(RECEIVERS) as running:
        before_memory, before = _memory(own), _cpu(own, running.values())
        rate, p99 = _drive(own, running, 6_000 * _WEBHOOK_SECONDS, _WEBHOOK_SECONDS, 8, 0)
        after = _cpu(own, running.values())
    events = _waiting(own)
    memory = _memory(own) - before_memory
    return [
        _row(f"events, {RECEIVERS} receivers at once", f"{rate:,.0f} /s, all answered 200, p99 {p99:.0f} ms"),
        _row("CPU of a receiver, an event", f"{(after[0] - before[0]) / events * 1e6:.0f} µs"),
        _row("CPU of Valkey, an event", f"{(after[1] - before[1]) / events * 1e6:.0f} µs"),
        _row("memory of Valkey, an event whose recording waits", f"{memory / events:,.0f} bytes"),
    ]


def recordings_cost(own: Deployment, name: str) -> list[str]:
    """Workers whose queue never gets empty."""
    log(f"recordings, {name}")
    own.clear()
    with own.workers(WORKERS) as running:
        own.client.config_resetstat()
        before = _cpu(own, running)
        own.enqueue(_ids(_RECORDINGS))
        seconds = seconds_until(lambda: own.archived() >= _RECORDINGS, 300, "archiving")
        after = _cpu(own, running)
        calls = sum(int(one["calls"]) for one in own.client.info("commandstats").values())
        peak = max(machine.peak_mib(one.pid) for one in running)
    ours, theirs = (after[0] - before[0]) / _RECORDINGS, (after[1] - before[1]) / _RECORDINGS
    return [
        _row(f"recordings of {name}, {WORKERS} workers at once", f"{_RECORDINGS / seconds:,.0f} /s"),
        _row(f"CPU of a worker, a recording of {name}", f"{ours * 1e3:.1f} ms"),
        _row(f"CPU of Valkey, a recording of {name}", f"{theirs * 1e6:.0f} µs, {calls / _RECORDINGS:.0f} commands"),
        _row(f"memory of a worker, recordings of {name}", f"{peak:.0f} MiB at most"),
    ]


def burst(own: Deployment) -> list[str]:
    """A hundred times the mean for a while with workers running, then the time until the queue is empty."""
    log("burst")
    own.clear()
    per_receiver = 100 * _BURST_MEAN // RECEIVERS
    connections = per_receiver // 10  # each ten times a second
    with own.receivers(RECEIVERS) as running, own.workers(WORKERS):
        rate, p99 = _drive(own, running, 2 * per_receiver * _BURST_SECONDS, _BURST_SECONDS, connections, 100)
        waiting = _waiting(own)
        events, memory = waiting + own.archived(), _memory(own)
        drained = seconds_until(lambda: _waiting(own) < 20, 600, "an empty queue")
    what = f"a burst of {_BURST_SECONDS} s while {WORKERS} workers archive recordings of 32 KB"
    wait = f"{waiting:,} of {events:,} wait, {memory / 2**20:.0f} MiB of Valkey; all archived {drained:.0f} s later"
    return [_row(what, f"{rate:,.0f} events/s, all answered 200, p99 {p99:.0f} ms"), _row("after the burst", wait)]


def backlog(own: Deployment) -> list[str]:
    """The same workers at the head of a queue of hundreds of thousands."""
    log("backlog")
    rates = []
    for waiting in (0, _BACKLOG):
        own.clear()
        own.enqueue(_ids(waiting + _RECORDINGS))
        memory = _memory(own)
        with own.workers(WORKERS):
            before, started = own.archived(), time.monotonic()
            seconds_until(lambda: own.archived() - before >= _RECORDINGS / 2, 300, "archiving")  # noqa: B023
            rates.append((own.archived() - before) / (time.monotonic() - started))
    what = f"recordings of 32 KB while {_BACKLOG:,} wait ({memory / 2**20:,.0f} MiB of Valkey)"
    return [_row(what, f"{rates[1]:,.0f} /s, against {rates[0]:,.0f} /s with {_RECORDINGS:,}")]


def _row(what: str, measured: str) -> str:
    return f"| {what} | {measured} |"


def main() -> None:
    """Measure everything; takes some minutes."""
    rows: list[str] = []
    with deployment() as own:
        own.settings = {"CALLVAULT_LOG_MESSAGES": "off", "CALLVAULT_QUEUE_AGE_LIMIT": "10h"}
        with origin_of_everything(own.folder / "large", _LARGE) as address:
            own.play_telnyx(address)
            rows += recordings_cost(own, "1 MB")
        with origin_of_everything(own.folder / "small", _SMALL) as address:
            own.play_telnyx(address)
            rows = [*events_cost(own), *recordings_cost(own, "32 KB"), *rows, *burst(own), *backlog(own)]
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
    accesses = "".join(RESULTS.read_text().partition(f"\n{ACCESSES}")[1:])
    RESULTS.write_text("\n".join(text) + "\n" + accesses)
    print("\n".join(text))


if __name__ == "__main__":
    main()
