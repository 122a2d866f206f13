"""Run the parts of Callvault as child processes: start them in order, restart what dies, stop them in reverse order."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self, cast

from config.secret_files import SUFFIX
from process.children import die_with_parent
from process.private import private_file, private_folder
from text.errors import UserError
from workers.queue.embedded import EmbeddedServer

# `-P` keeps the current folder off the import path: a `config.py` there would replace ours.
CALLVAULT = (sys.executable, "-P", "-m", "cli.main")

_READY_SECONDS = 30.0
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0
_HEALTHY_SECONDS = 60.0
_STOP_SECONDS = 35.0  # longer than a worker's drain
_TEND_SECONDS = 0.1
_ENDING_SECONDS = 0.3  # Valkey looks ten times a second whether it was told to end


def say(line: str) -> None:
    """Print a line for the person at the terminal."""
    print(f"callvault: {line}", file=sys.stderr, flush=True)  # noqa: T201


@dataclass
class Part:
    """A supervised process.

    Attributes:
        name: for messages.
        arguments: of `callvault`.
        environment: added to this process's own.
        log: file for its standard error; None: this process's standard error.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    wait_seconds: float = _FIRST_WAIT_SECONDS  # before the next restart
    start_again_at: float = 0.0

    def start(self, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start it in its own session: Ctrl-C reaches only the supervisor, which stops the parts in order."""
        stderr = None if self.log is None else self.log.open("ab")
        try:
            self.process = subprocess.Popen(
                [*CALLVAULT, *self.arguments],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        finally:
            if stderr is not None:
                stderr.close()
        self.started_at = time.monotonic()
        return self.process

    def _environment(self) -> dict[str, str]:
        """This process's variables, and the part's own; a value of the part stands in for this process's file."""
        replaced = {name + SUFFIX for name in self.environment}
        return {**{k: v for k, v in os.environ.items() if k.upper() not in replaced}, **self.environment}


class Supervisor:
    """Runs parts until it is left. Call `tend` a few times a second.

    Args:
        say: prints that a part died and restarts.
        server: the embedded Redis that the parts need, if any; starts first and stops last.
    """

    def __init__(self, say: Callable[[str], None], server: EmbeddedServer | None = None) -> None:
        self.parts: list[Part] = []
        self._say = say
        self._server = server

    def __enter__(self) -> Self:
        """Start the server, or join the one that runs."""
        if self._server is not None:
            self._server.start()
            if self._server.process is None:  # that of a supervisor that was just killed answers until it notices
                time.sleep(_ENDING_SECONDS)
                self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the parts in reverse order, each with time to finish its work; then the server."""
        for part in reversed(self.parts):
            if part.process is None or part.process.poll() is not None:
                continue
            part.process.terminate()
            try:
                part.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._say(f"{part.name} did not stop within {_STOP_SECONDS:g}s; killed")
                part.process.kill()
                part.process.wait()
        if self._server is not None:
            self._server.stop()

    def add(self, part: Part) -> Part:
        """Start a part, and keep it running from now on."""
        if part.process is None:
            part.start()
        self.parts.append(part)
        return part

    def tend(self) -> None:
        """Restart what has died, after a wait that doubles while it keeps dying."""
        now = time.monotonic()
        if self._server is not None and self._server.has_ended:
            own = self._server.process
            how = "has ended" if own is None else f"exited with status {own.returncode}"
            self._say(f"valkey {how}; restarting it")
            self._server.start()
        for part in self.parts:
            if part.process is None:
                if now >= part.start_again_at:
                    part.start()
            elif (status := part.process.poll()) is not None:
                if now - part.started_at >= _HEALTHY_SECONDS:
                    part.wait_seconds = _FIRST_WAIT_SECONDS
                self._say(f"{part.name} exited with status {status}; restarting it in {part.wait_seconds:g}s")
                part.process = None
                part.start_again_at = now + part.wait_seconds
                part.wait_seconds = min(_LONGEST_WAIT_SECONDS, 2 * part.wait_seconds)

    def tend_until(self, is_true: Callable[[], bool], seconds: float | None = None, what: str = "") -> None:
        """Keep the parts running until something is true.

        Raises:
            UserError: it was not true within so many seconds; the text says what did not happen.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while not is_true():
            if deadline is not None and time.monotonic() > deadline:
                raise UserError(f"{what} within {seconds:g}s")
            self.tend()
            time.sleep(_TEND_SECONDS)


@contextmanager
def locked(data_folder: Path) -> Iterator[None]:
    """Hold a data folder for this process.

    Raises:
        UserError: another process holds it, or it cannot be created.
    """
    try:
        private_folder(data_folder)
        private_file(data_folder / "lock")
        file = (data_folder / "lock").open("a+")
    except OSError as error:
        raise UserError(f"data folder {data_folder}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            line = f"data folder {data_folder} is in use by another callvault (process {owner}); stop it, or use --data"
            raise UserError(line) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Catch SIGTERM and SIGINT; yields a function that tells whether one has arrived."""
    came: list[int] = []
    before = {s: signal.signal(s, lambda number, _: came.append(number)) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_service(
    supervisor: Supervisor,
    environment: Mapping[str, str],
    host: str,
    port: int,
    logs: Path | None = None,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Start a worker and a receiver; returns once the receiver answers, or once a person asked to stop.

    Args:
        supervisor: keeps both running.
        environment: of both.
        host: where the receiver listens.
        port: where the receiver listens.
        logs: folder for their logs; None: this process's standard error.
        asked_to_stop: whether a person asked to stop.

    Raises:
        UserError: the receiver did not start.
    """
    for name, arguments in (("worker", ["worker"]), ("receiver", ["serve", "--host", host, "--port", str(port)])):
        supervisor.add(Part(name, arguments, environment, logs and logs / f"{name}.log"))
    supervisor.tend_until(lambda: asked_to_stop() or answers(host, port), _READY_SECONDS, "the receiver did not start")


def start_sandbox(arguments: list[str], log: Path | None) -> tuple[Part, dict[str, Any]]:
    """Start a sandbox; returns it with the JSON document that it prints about itself.

    Raises:
        UserError: it did not start.
    """
    part = Part("sandbox", ["sandbox", "--json", *arguments], log=log)
    process = part.start(stdout=subprocess.PIPE)
    output = cast(IO[bytes], process.stdout)
    ready, _, _ = select.select([output], [], [], _READY_SECONDS)
    line = output.readline() if ready else b""
    if not line:
        process.kill()
        raise UserError("the sandbox did not start" + (f"; see {log}" if log else ""))
    return part, json.loads(line)


def sandbox_environment(facts: dict[str, Any]) -> dict[str, str]:
    """The settings that point the parts at a sandbox."""
    return {
        "TELNYX_BASE_URL": facts["base_url"],
        "TELNYX_API_KEY": facts["api_key"],
        "TELNYX_PUBLIC_KEY": facts["public_key"],
    }


def free_port(host: str = "127.0.0.1") -> int:
    """Find a port that is free now; the system picks none of this range for outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
                return port
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise


def answers(host: str, port: int) -> bool:
    """Whether something listens."""
    try:
        with socket.create_connection((host, port), 1):
            return True
    except OSError:
        return False
