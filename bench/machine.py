"""What benchmarks measure on this machine, and the peers that they install."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from lab.processes import CLEAN, ROOT, program

_PEERS = {
    "celery": ("celery[redis]==5.6.0", "fastapi", "uvicorn[standard]", "PyNaCl", "requests", "boto3"),
    "flask": ("flask", "telnyx[webhooks]==4.189.0", "requests", "boto3"),
}


def peer_python(name: str) -> str:
    """A Python in an environment of its own, with the packages of a peer."""
    home = ROOT / ".tools" / f"bench-{name}"
    mark = home / "installed"
    wanted = " ".join(_PEERS[name])
    if not mark.exists() or mark.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=120)
        pip = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *_PEERS[name]]
        subprocess.run(pip, check=True, timeout=900)
        mark.write_text(wanted)
    return str(home / "bin" / "python")


def in_a_process(code: str, environment: Mapping[str, str] | None = None, limit_seconds: float = 1800) -> Any:
    """Run Python code in a process of its own; returns the JSON that it prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={**CLEAN, **(environment or {})}, capture_output=True, check=True, cwd=ROOT, timeout=limit_seconds
    )
    return json.loads(done.stdout)


def _files_of_group(pid: int, name: str) -> Iterator[str]:
    """A file of /proc, of each process of a process group."""
    for path in Path("/proc").glob(f"[0-9]*/{name}"):
        try:
            if os.getpgid(int(path.parent.name)) == pid:
                yield path.read_text()
        except OSError:
            continue


def cpu_seconds(pid: int) -> float:
    """User and system time of a process group and of its children, including those that have ended."""
    ticks = 0
    for text in _files_of_group(pid, "stat"):
        ticks += sum(map(int, text.rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def own_peak_mib() -> float:
    """The most memory that this process has held; `ru_maxrss` would include the process that started it."""
    return _mib(Path("/proc/self/status").read_text(), "VmHWM:")


def peak_mib(pid: int) -> float:
    """The most memory that the largest process of a group has held."""
    return max((_mib(text, "VmHWM:") for text in _files_of_group(pid, "status")), default=0.0)


def pss_mib(pid: int) -> float:
    """The memory of a process group; what its processes share counts once."""
    return sum(_mib(text, "\nPss:") for text in _files_of_group(pid, "smaps_rollup"))


def _mib(text: str, name: str) -> float:
    rest = text.partition(name)[2].split()
    return int(rest[0]) / 1024 if rest else 0.0  # a process that is ending has none


def wrk(
    url: str, bodies: Path, seconds: int, *, connections: int = 32, core: int | None = None, delay_ms: int = 0
) -> dict[str, float]:
    """Send the events of a file to a receiver: requests/s, p99 in milliseconds, and answers that are not 2xx.

    Raises:
        RuntimeError: an answer was not 2xx.
    """
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s"]
    command = [program("wrk", "wrk"), *options, "-s", str(ROOT / "bench" / "webhooks.lua"), url]
    pinned = ["taskset", "-c", str(core), *command] if core is not None else command
    environment = os.environ | {"BODIES": str(bodies), "DELAY_MS": str(delay_ms)}
    done = subprocess.run(pinned, env=environment, capture_output=True, text=True, timeout=seconds + 120, check=True)
    result: dict[str, float] = json.loads(done.stdout.rpartition("RESULT ")[2])
    if result["errors"]:
        raise RuntimeError(f"{result['errors']:.0f} answers of {url} were not 2xx")
    return result


def milliseconds_of(client: httpx.Client, path: str, runs: int) -> list[float]:
    """What each of some requests of a page took, in milliseconds."""
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        client.get(path).raise_for_status()
        taken.append((time.perf_counter() - started) * 1000)
    return taken
