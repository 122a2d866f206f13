"""Starts `callvault …` twenty times as fast: by forking a process that has already imported all modules.

A real start imports modules for half a second, and tests need hundreds of starts. The forked process has its
own process id, session, environment, folder and streams, takes signals, and ends like any other. Variables that
an interpreter reads as it starts (`LD_PRELOAD`, `PYTHONPATH`) have no effect here: they need a real start.

The importing takes more than a second too, so the test processes of one run share it: one process imports, and forks
for each of them the process that forks for it. It forks such a process also for each `callvault up` and `callvault demo`
among them, whose worker, receiver and sandbox are forked by that one.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import pkgutil
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, NoReturn

import msgspec

from lab.certificates import read_certificates_once

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ROOMS = ("archive", "cli", "config", "process", "sandbox", "service", "telnyx_api", "text", "workers")
# What the libraries import as a command, a worker or a receiver starts.
_AT_START = ["pydantic.type_adapter", "typer._adapters", "typer._click.decorators"]
_AT_START += ["uvicorn.lifespan.on", "uvicorn.loops.uvloop", "uvloop"]
_ROOT = Path(__file__).parent.parent
_NUMBER = struct.Struct("i")
_OF_THE_INTERPRETER = ("LD_", "PYTHON")  # an interpreter reads these as it starts, which a forked process does not
# In the environment of test processes: the socket of the process that has imported for all of them.
SHARED = "LAB_FORKS"


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Wanted(msgspec.Struct, frozen=True):
    """A request for a process."""

    commands: list[list[str]]
    environment: dict[str, str]
    cwd: str


class Forked:
    """A forked process, with the part of the interface of `subprocess.Popen` that the launcher and the supervisor use."""

    def __init__(self, report: socket.socket) -> None:
        self._report = report
        self.stdout: IO[bytes] | None = None
        self.returncode: int | None = None
        self.pid = self._number()

    def _number(self) -> int:
        number = self._report.recv(_NUMBER.size)
        assert number, "the process that forks has ended"
        return int(_NUMBER.unpack(number)[0])

    def poll(self) -> int | None:
        """Return the exit status, negative after a signal; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return the exit status.

        Raises:
            subprocess.TimeoutExpired: it did not end in time.
        """
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("callvault", timeout or 0)
            self.returncode = self._number()
            self._report.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended; any thread may call this."""
        with suppress(ProcessLookupError, ValueError):  # the report is closed once its end is known
            if not select.select([self._report], [], [], 0)[0]:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class Forks:
    """Starts processes through one that forks them, which starts with the first and ends with this process.

    Args:
        environment: of the process that forks, unless this process shares that with others.
        shared: the socket of the process that has imported for this one and others; None: none has.
    """

    def __init__(self, environment: dict[str, str], shared: str | None) -> None:
        self._environment = environment
        self._shared = shared
        self._requests: socket.socket | None = None
        self._beginning = threading.Lock()

    def can_start(self, environment: Mapping[str, str]) -> bool:
        """Whether a process with this environment can be forked: it starts with no other variable that an interpreter reads."""
        return not any(
            name.startswith(_OF_THE_INTERPRETER) and self._environment.get(name) != value
            for name, value in environment.items()
        )

    def start(
        self,
        commands: list[list[str]],
        environment: dict[str, str],
        cwd: str,
        stdin: IO[bytes],
        stdout: IO[bytes],
        stderr: IO[bytes],
    ) -> Forked:
        """Start `callvault …` with exactly this environment, in a session of its own.

        Of several commands, each begins when the one before has ended. Both streams then have, after what each has
        written, its exit status between two null characters.
        """
        streams = (stdin, stdout, stderr)
        with self._beginning:
            requests = self._requests = self._requests or self._begin()
        ours, theirs = socket.socketpair()
        with theirs:
            wanted = msgspec.json.encode(Wanted(commands, environment, cwd))
            socket.send_fds(requests, [wanted], [*(stream.fileno() for stream in streams), theirs.fileno()])
        return Forked(ours)

    def _begin(self) -> socket.socket:
        if self._shared is not None:
            shared = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            shared.connect(self._shared)
            atexit.register(shared.close)  # this ends the process that forks for this one
            return shared
        requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "lab.forks"]
        with theirs:
            forker = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=self._environment, cwd=_ROOT
            )
        atexit.register(forker.wait)
        atexit.register(requests.close)  # this ends it; the last one registered runs first
        return requests


def share_forks(environment: dict[str, str]) -> Callable[[], None]:
    """Have all processes that this one starts from now on share the importing; it begins when the first of them needs it.

    Args:
        environment: of the process that imports.

    Returns:
        What ends it, after those processes.
    """
    folder = tempfile.TemporaryDirectory(prefix="callvault-forks-")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"{folder.name}/socket")
        listener.listen(64)
        command = [sys.executable, "-m", "lab.forks", "shared"]
        importer = subprocess.Popen(
            command, stdin=listener.fileno(), stdout=subprocess.DEVNULL, env=environment, cwd=_ROOT,
            preexec_fn=die_with_parent,
        )  # fmt: skip
    os.environ[SHARED] = f"{folder.name}/socket"

    def end() -> None:
        del os.environ[SHARED]
        importer.kill()
        importer.wait()
        folder.cleanup()

    return end


def _import_all_modules() -> None:
    for room in _ROOMS:
        for module in pkgutil.walk_packages(import_module(room).__path__, f"{room}."):
            import_module(module.name)
    for name in _AT_START:
        import_module(name)
    _read_signatures_once()
    _compile_templates()
    _let_boto3_read_once()
    sys.modules["__main__"] = sys.modules["cli.main"]  # spawned processes import it again
    read_certificates_once()
    gc.collect()
    gc.freeze()


def _read_signatures_once() -> None:
    """Have typer read the parameters of each command here, not several times in each process, which takes milliseconds."""
    of_typer = vars(import_module("typer.main"))
    of_typer["get_params_from_function"] = cache(of_typer["get_params_from_function"])
    commands = of_typer["get_command"](import_module("cli.main").app)
    for name in commands.list_commands(None):
        commands.get_command(None, name)


def _compile_templates() -> None:
    """Compile the templates of the pages; each receiver would for itself, as it shows the first one."""
    from service.ops.rendering import _ENVIRONMENT as TEMPLATES

    for name in TEMPLATES.list_templates():
        TEMPLATES.get_template(name)


def _let_boto3_read_once() -> None:
    """Have boto3 read what it knows of S3 here; each process on a bucket would for itself, which takes 50 ms."""
    import boto3.session
    import botocore.session

    botocore.session.create_loader = cache(botocore.session.create_loader)
    session = boto3.session.Session(aws_access_key_id="none", aws_secret_access_key="none", region_name="us-east-1")
    session.client("s3").close()


def _fork_for_each_launcher() -> None:
    """Fork for each process that connects to the socket on standard input.

    Returns in each forked process, where standard input is the connection.
    """
    listener = socket.socket(fileno=0)
    select.select([listener], [], [])
    _import_all_modules()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    while True:
        launcher, _ = listener.accept()
        if os.fork() == 0:
            break
        launcher.close()
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _fork_parts(Forks({**os.environ}, listener.getsockname()))
    listener.detach()
    os.dup2(launcher.fileno(), 0)
    launcher.close()


def _fork_parts(forks: Forks) -> None:
    """Have the supervisor of `up` and `demo` fork its parts, where it would start each with an interpreter of its own."""
    supervisor = vars(import_module("cli.supervisor"))
    program = [*supervisor["CALLVAULT"]]

    def start(command: list[str], **its: Any) -> Forked | subprocess.Popen[bytes]:
        if command[: len(program)] != program or not forks.can_start(its["env"]):
            return subprocess.Popen(command, **its)
        with ExitStack() as opened:
            nothing = opened.enter_context(Path(os.devnull).open("r+b", buffering=0))
            theirs: IO[bytes] = nothing
            ours: IO[bytes] | None = None
            if its["stdout"] == subprocess.PIPE:
                ours, theirs = (os.fdopen(end, mode, 0) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
                opened.enter_context(theirs)
            streams = (nothing, theirs, its["stderr"] or sys.stderr.buffer)
            part = forks.start([command[len(program) :]], its["env"], str(Path.cwd()), *streams)
        part.stdout = ours
        return part

    supervisor["subprocess"] = SimpleNamespace(**{**vars(subprocess), "Popen": start})


def _serve() -> list[list[str]]:
    """Fork once for each request on standard input, and report ids and exit statuses.

    Returns in each forked process, with the arguments of its commands.
    """
    requests = socket.socket(fileno=0)
    running: dict[int, tuple[int, int]] = {}  # by the descriptor of a process: its id, and where its launcher listens
    while True:
        ready, _, _ = select.select([requests.fileno(), *running], [], [])
        for descriptor in running.keys() & {*ready}:
            pid, report = running.pop(descriptor)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            _tell(report, status)
            os.close(report)
            os.close(descriptor)
        if requests.fileno() not in ready:
            continue
        wanted, received, _, _ = socket.recv_fds(requests, 1 << 20, 4)
        if not wanted:
            os._exit(0)
        request = msgspec.json.decode(wanted, type=Wanted)
        _remember_fingerprints(request.environment)
        pid = os.fork()
        if pid == 0:
            requests.detach()
            for descriptor, (_, report) in running.items():
                os.close(descriptor)
                os.close(report)
            _become(request, received)
            return request.commands
        *streams, report = received
        for descriptor in streams:
            os.close(descriptor)
        _tell(report, pid)
        running[os.pidfd_open(pid)] = pid, report


def _remember_fingerprints(environment: Mapping[str, str]) -> None:
    """Make the fingerprints of secrets before the fork, which are slow on purpose: the next forks have them too."""
    from config.setting import Secret
    from config.settings import names_of_secrets
    from config.sources import written_value

    for name in environment.keys() & {*names_of_secrets()}:
        written_value(name, Secret(environment[name]))


def _tell(report: int, number: int) -> None:
    with suppress(OSError):  # the launcher may have gone
        os.write(report, _NUMBER.pack(number))


def _become(wanted: Wanted, received: list[int]) -> None:
    """Take on the streams, environment and folder of the request."""
    die_with_parent()
    os.setsid()
    for number, descriptor in enumerate(received[:3]):
        os.dup2(descriptor, number)
    for descriptor in received:
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(wanted.environment)
    tempfile.tempdir = None  # of another process, if something has asked for it before
    time.tzset()
    os.chdir(wanted.cwd)


def _status_of(arguments: list[str]) -> int:
    """Run a command; returns its exit status."""
    from cli.main import main

    sys.argv = ["callvault", *arguments]
    try:
        main()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        return end.code or 0
    return 0


def _run_each(commands: list[list[str]]) -> int:
    """Run several commands in this process; returns the exit status of the last one."""
    vars(import_module("cli.main"))["leave_soon"] = lambda status: (
        None
    )  # it ends a process that goes on after its command
    status = 0
    for arguments in commands:
        status = _status_of(arguments)
        for stream in (sys.stdout, sys.stderr):
            stream.write(f"\0{status}\0")
            stream.flush()
    return status


def _run(commands: list[list[str]]) -> NoReturn:
    """Run the commands, and end as an interpreter does, but for one step.

    An interpreter also destroys every module. Here that would first copy the memory that all forks share, which costs
    seven times as much as most commands.
    """
    status = _status_of(*commands) if len(commands) == 1 else _run_each(commands)
    # Waits for threads, and first ends those of executors; `multiprocessing` does the same after a fork. Joining them by the
    # public names would wait for ever for an executor that nobody has shut down. Typeshed leaves the name out.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


if __name__ == "__main__":
    if sys.argv[1:] == ["shared"]:
        _fork_for_each_launcher()
    else:
        _import_all_modules()
    _run(_serve())
