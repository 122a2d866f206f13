"""The launcher: each process has a time limit, dies with its starter, and is ended by its id."""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Self

import httpx
import pytest

from cli.main import app
from cli.supervisor import CALLVAULT as CALLVAULT  # from nothing; the program `callvault` is forked instead
from cli.supervisor import answers
from cli.supervisor import free_port as free_port
from lab.forks import SHARED, Forked, Forks, die_with_parent
from lab.webhooks import Signer

_OWN = tempfile.TemporaryDirectory(
    prefix="callvault-lab-"
)  # a command finds an `up` of its folder there, also another test's
_OURS = ("CALLVAULT_", "TELNYX_", "REDIS_", "AWS_", SHARED)
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
CLEAN |= {"TMPDIR": _OWN.name}
ROOT = Path(__file__).parent.parent
LIMIT_SECONDS = 3600.0
_FORKS = Forks(CLEAN, os.environ.get(SHARED))


class Missing(Exception):
    """A program that is not installed and cannot be installed here; the text says which."""


def program(name: str, package: str) -> str:
    """The path of a Debian program, which is installed if it is missing and this process may install it.

    Raises:
        Missing: it is not installed.
    """
    found = _which(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        with Path(tempfile.gettempdir(), "callvault-lab-apt.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # apt-get fails while another one runs, as of another test process
            if _which(name) is None:
                subprocess.run(["apt-get", "update", "-qq"], check=False, capture_output=True, timeout=300)
                install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
                subprocess.run(install, check=False, capture_output=True, timeout=600)
        found = _which(name)
    if found is None:
        raise Missing(f"{name} is not installed (Debian: apt-get install {package})")
    return found


def is_allowed(*command: str) -> bool:
    """Whether this machine lets this process run a command that takes rights, such as `mount`; tries it."""
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _which(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def wait_for(
    is_true: Callable[[], Any], seconds: float = 120, what: str = "it", every_seconds: float | None = None
) -> Any:
    """Wait until a condition holds, and return what it gave.

    Args:
        is_true: the condition; it may be asked hundreds of times.
        seconds: how long to wait.
        what: names the condition in the error.
        every_seconds: how often to ask; None: every 20 ms at first, and every 100 ms after two seconds, since whatever takes
            long needs the processor itself; but for a fifth of the time at most, up to once a second.

    Raises:
        AssertionError: it did not hold in time.
    """
    started = asked = time.monotonic()
    while not (value := is_true()):
        now = time.monotonic()
        if (waited := now - started) > seconds:
            raise AssertionError(f"{what} did not happen within {seconds:g}s")
        often = max(min(max(waited / 20, 0.02), 0.1), min(4 * (now - asked), 1.0))
        time.sleep(often if every_seconds is None else every_seconds)
        asked = time.monotonic()
    return value


def seconds_until(is_true: Callable[[], Any], limit_seconds: float, what: str) -> float:
    """Wait until a condition holds, polling every 5 ms; returns how long it took."""
    started = time.perf_counter()
    wait_for(is_true, limit_seconds, what, every_seconds=0.005)
    return time.perf_counter() - started


def listens(port: int) -> bool:
    """Whether a server on this machine accepts connections."""
    return answers("127.0.0.1", port)


def serves_http(port: int, path: str = "/") -> bool:
    """Whether a server on this machine answers HTTP."""
    try:
        httpx.get(f"http://127.0.0.1:{port}{path}", timeout=2, trust_env=False)
    except httpx.HTTPError:
        return False
    return True


def _start(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path, *streams: IO[bytes]
) -> Forked | subprocess.Popen[bytes]:
    """Start a process with these standard streams, in a session of its own; fork `callvault` if possible."""
    stdin, stdout, stderr = streams
    wanted = {**CLEAN, **environment}
    if command[0] == "callvault":
        if _FORKS.can_start(wanted):
            return _FORKS.start([[*command[1:]]], wanted, str(cwd), stdin, stdout, stderr)
        command = [*CALLVAULT, *command[1:]]
    return subprocess.Popen(
        command, env=wanted, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True,
        preexec_fn=die_with_parent,
    )  # fmt: skip


class Process:
    """A process that is started, ended, and may be started again. As a context manager it runs for the block.

    Args:
        command: a program and its arguments. The program `callvault` is forked from a process that has read all modules.
        environment: added to `CLEAN`.
        log: the file that its output is appended to; None: a temporary one.
        core: the processor that it is pinned to.
        limit_seconds: it is killed after so long.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        *,
        log: Path | None = None,
        core: int | None = None,
        cwd: Path = ROOT,
        limit_seconds: float = LIMIT_SECONDS,
    ) -> None:
        is_pinned = core is not None and shutil.which("taskset") is not None
        self._command = ["taskset", "-c", str(core), *command] if is_pinned else list(command)
        self._environment, self._cwd, self._limit_seconds = environment or {}, cwd, limit_seconds
        self._log = TemporaryFile("a+b") if log is None else log.open("a+b")  # noqa: SIM115 as long as the process
        self._process: Forked | subprocess.Popen[bytes] | None = None
        self._limit: threading.Timer | None = None

    def start(self) -> None:
        """Start it."""
        with Path(os.devnull).open("rb") as nothing:
            self._process = _start(self._command, self._environment, self._cwd, nothing, self._log, self._log)
        if self._limit is not None:
            self._limit.cancel()
        self._limit = threading.Timer(self._limit_seconds, self.kill)
        self._limit.daemon = True
        self._limit.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(AssertionError):
            self.stop(seconds=15)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # what it started and left behind

    @property
    def pid(self) -> int:
        """Its id, which is its process group's too."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it does not run; also true before its start."""
        return self._process is None or self._process.poll() is not None

    @property
    def output(self) -> str:
        """What it has printed so far, on both streams."""
        file = self._log.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode("utf-8", "replace")

    def wait_for_output(self, text: str, seconds: float = 120) -> None:
        """Wait until it has printed a text; fails at once if it ends without."""
        wait_for(lambda: text in self.output or self.has_ended, seconds, f"output {text!r}")
        assert text in self.output, self.output

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, and wait for its end."""
        if self._process is not None:
            self.send_signal(signal.SIGKILL)
            self._wait(None)

    def stop(self, how: int = signal.SIGTERM, seconds: float = 40) -> int:
        """End it by a signal; returns its exit status.

        Raises:
            AssertionError: it did not end in time, and was killed.
        """
        self.send_signal(how)
        try:
            return self._wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not end within {seconds:g}s; output:\n{self.output}") from None

    def _wait(self, seconds: float | None) -> int:
        assert self._process is not None and self._limit is not None, "not started"
        status = self._process.wait(seconds)
        self._limit.cancel()
        return status


@contextmanager
def running(
    command: Sequence[str],
    is_ready: Callable[[], Any],
    environment: Mapping[str, str] | None = None,
    core: int | None = None,
) -> Iterator[Process]:
    """Run a server for the length of the block, which begins once the server is ready."""
    with Process(command, environment, core=core) as process:
        wait_for(lambda: process.has_ended or is_ready(), 120, command[0])
        assert not process.has_ended, f"{command} ended: {process.output}"
        yield process


@contextmanager
def callvault(arguments: list[str], environment: dict[str, str], ready: str = "") -> Iterator[Process]:
    """Run `callvault …` for the block, which starts once it has printed a text; then kill it."""
    process = Process(["callvault", *arguments], environment)
    process.start()
    try:
        if ready:
            process.wait_for_output(ready)
        yield process
    finally:
        process.kill()


class Receiver(Process):
    """A receiver, on a free port unless one is given; it gets a public key unless the environment has one."""

    def __init__(self, environment: Mapping[str, str], port: int | None = None) -> None:
        self.port = port or free_port()
        command = ["callvault", "serve", "--port", str(self.port)]
        super().__init__(command, {"TELNYX_PUBLIC_KEY": Signer().public_key, **environment})

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def webhooks(self) -> str:
        """The address that webhooks go to."""
        return self.url + "/webhooks/telnyx"


@contextmanager
def receiver(environment: Mapping[str, str], answer_seconds: float = 30) -> Iterator[tuple[httpx.Client, Receiver]]:
    """Run a receiver for the length of the block, with a client of it; then kill it."""
    process = Receiver(environment)
    process.start()
    try:
        process.wait_for_output("Uvicorn running")
        with httpx.Client(base_url=process.url, trust_env=False, timeout=answer_seconds) as client:
            yield client, process
    finally:
        process.kill()


def run_callvault(
    arguments: list[str],
    environment: Mapping[str, str] | None = None,
    seconds: float = 120,
    stdin: str | None = None,
    cwd: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """Run `callvault …` to its end.

    Raises:
        subprocess.TimeoutExpired: it did not end in time, and was killed.
    """
    command = ["callvault", *arguments]
    with TemporaryFile() as typed, TemporaryFile() as out, TemporaryFile() as err:
        typed.write((stdin or "").encode())
        typed.seek(0)
        process = _start(command, environment or {}, cwd, typed, out, err)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(command, status, *(_text(stream) for stream in (out, err)))


def run_each(
    commands: Sequence[Sequence[str]], environment: Mapping[str, str], seconds: float = 120
) -> list[subprocess.CompletedProcess[str]]:
    """Run `callvault …` several times in one process, where each does so little that its own would cost more.

    Raises:
        subprocess.TimeoutExpired: they did not end in time, and were killed.
    """
    if len(commands) < 2:
        return [run_callvault([*arguments], {**environment}, seconds) for arguments in commands]
    wanted = [["callvault", *arguments] for arguments in commands]
    with Path(os.devnull).open("rb") as nothing, TemporaryFile() as out, TemporaryFile() as err:
        streams = (nothing, out, err)
        process = _FORKS.start([one[1:] for one in wanted], {**CLEAN, **environment}, str(ROOT), *streams)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        told, failed = (_text(stream).split("\0") for stream in (out, err))
    assert len(told) == len(failed) == 2 * len(wanted) + 1, failed[-1]
    return [
        subprocess.CompletedProcess(*one)
        for one in zip(wanted, map(int, told[1::2]), told[::2], failed[::2], strict=False)
    ]


def _text(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode().replace("\r\n", "\n")


@contextmanager
def as_in_a_process(environment: Mapping[str, str]) -> Iterator[None]:
    """Give this process the environment that one started with these variables would have, for the block."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - CLEAN.keys():
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


def callvault_here(arguments: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run a command in a thread of this process; returns its exit status and standard output."""

    def run() -> tuple[int, str]:
        with as_in_a_process(environment), redirect_stdout(io.StringIO()) as out:
            status = app(arguments, standalone_mode=False)
            return int(status or 0), out.getvalue()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()
