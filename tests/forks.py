"""Processes of `callvault …` by fork of one that has read all modules: like any other in a twentieth of the time.

A process that starts from nothing reads modules for half a second, which the hundreds of starts in tests need not do
each. The forked one has its own process id, session, environment, folder and streams, takes signals and ends as any
does; only what an interpreter reads from its environment as it starts (`LD_PRELOAD`, `PYTHONPATH`) needs a real start.
"""

from __future__ import annotations

import atexit
import gc
import os
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO

import msgspec

_OF_THE_INTERPRETER = ("LD_", "PYTHON")
_ROOMS = ("cli", "service", "workers", "config", "sandbox")
_CLOUDS = {f"workers.archive.stores.{name}" for name in ("s3", "gcs", "azure", "adapter")}  # read where one is opened
_ROOT = Path(__file__).parent.parent
_NUMBER = struct.Struct("i")


class Wanted(msgspec.Struct, frozen=True):
    """A process that is asked for."""

    arguments: list[str]
    environment: dict[str, str]
    cwd: str


class Forked:
    """A forked process, with what tests use of `subprocess.Popen`; whoever gave it pipes reads them."""

    def __init__(self, report: socket.socket) -> None:
        self._report = report
        self.returncode: int | None = None
        self.pid = self._number()

    def _number(self) -> int:
        told = self._report.recv(_NUMBER.size)
        assert told, "the process that forks has ended"
        return int(_NUMBER.unpack(told)[0])

    def poll(self) -> int | None:
        """The exit status, negative after a signal; None: it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it has not ended within so many seconds.
        """
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("callvault", timeout or 0)
            self.returncode = self._number()
            self._report.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """Starts processes by having another fork them, which begins with the first and ends with this process.

    Args:
        environment: of the process that forks.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._requests: socket.socket | None = None
        self._beginning = threading.Lock()

    def start(
        self,
        arguments: list[str],
        environment: dict[str, str],
        cwd: str,
        stdin: IO[bytes],
        stdout: IO[bytes],
        stderr: IO[bytes],
    ) -> Forked | subprocess.Popen[bytes]:
        """Start `callvault …` with exactly this environment, in a session of its own."""
        streams = (stdin, stdout, stderr)
        if any(k.startswith(_OF_THE_INTERPRETER) and self._environment.get(k) != v for k, v in environment.items()):
            command = [sys.executable, "-m", "cli.main", *arguments]
            return subprocess.Popen(
                command, env=environment, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True
            )
        with self._beginning:
            requests = self._requests = self._requests or self._begin()
        ours, theirs = socket.socketpair()
        with theirs:
            wanted = msgspec.json.encode(Wanted(arguments, environment, cwd))
            socket.send_fds(requests, [wanted], [*(stream.fileno() for stream in streams), theirs.fileno()])
        return Forked(ours)

    def _begin(self) -> socket.socket:
        requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "tests.forks"]
        with theirs:
            forker = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=self._environment, cwd=_ROOT
            )
        atexit.register(forker.wait)
        atexit.register(requests.close)  # which ends it; what is registered last is done first
        return requests


def _read_modules() -> None:
    for room in _ROOMS:
        for module in pkgutil.walk_packages(import_module(room).__path__, f"{room}."):
            if module.name not in _CLOUDS:
                import_module(module.name)
    sys.modules["__main__"] = sys.modules["cli.main"]  # which processes that a process spawns read again
    gc.collect()
    gc.freeze()


def _serve() -> None:
    """Fork once for each request on standard input; returns in each process that is to run a command."""
    requests = socket.socket(fileno=0)
    while True:
        wanted, received, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not wanted:
            os._exit(0)
        if os.fork():
            for descriptor in received:
                os.close(descriptor)
            continue
        pid = os.fork()
        if pid == 0:
            requests.detach()
            _become(msgspec.json.decode(wanted, type=Wanted), received)
            return
        _watch(pid, received)


def _watch(pid: int, received: list[int]) -> None:
    """Report a process's id and its end to whoever asked for it."""
    *streams, report = received
    for descriptor in (0, *streams):
        os.close(descriptor)
    with suppress(OSError):  # nobody may want to know any more
        os.write(report, _NUMBER.pack(pid))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(OSError):
        os.write(report, _NUMBER.pack(status))
    os._exit(0)


def _become(wanted: Wanted, received: list[int]) -> None:
    """Take the streams, the environment and the arguments that a process would have been started with."""
    os.setsid()
    for number, descriptor in enumerate(received[:3]):
        os.dup2(descriptor, number)
    for descriptor in received:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(wanted.environment)
    time.tzset()
    os.chdir(wanted.cwd)
    sys.argv = ["callvault", *wanted.arguments]


if __name__ == "__main__":
    _read_modules()
    _serve()
    from cli.main import main

    main()
