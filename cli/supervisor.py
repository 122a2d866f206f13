"""A supervisor of processes: starts the parts in order, starts again what dies, stops them in the opposite order."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from workers.queue.embedded import EmbeddedServer, die_with_parent

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0
_HEALTHY_SECONDS = 60.0
_STOP_SECONDS = 35.0  # longer than a worker's drain


@dataclass
class Part:
    """One supervised process.

    Attributes:
        name: how it is called when something is said about it.
        arguments: of `callvault`.
        environment: added to this process's own.
        log: where its standard error goes; None: where ours goes.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restarts: int = 0
    start_again_at: float = 0.0

    def start(self, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start it, in a session of its own: Ctrl-C reaches only the supervisor, which ends the parts in order."""
        stderr = None if self.log is None else self.log.open("ab")
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli.main", *self.arguments],
                env={**os.environ, **self.environment},
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


class Supervisor:
    """Runs parts until stopped. Call `tend` a few times a second.

    Args:
        say: where it tells that something died and is started again.
        server: the embedded server that the parts need, if they do; it is started first and stopped last.
    """

    def __init__(self, say: Callable[[str], None], server: EmbeddedServer | None = None) -> None:
        self.parts: list[Part] = []
        self._say = say
        self._server = server
        if server is not None:
            server.start()

    def add(self, part: Part) -> Part:
        """Start a part and keep it running from now on."""
        if part.process is None:
            part.start()
        self.parts.append(part)
        return part

    def tend(self) -> None:
        """Start again what has died, after a wait that doubles while it keeps dying."""
        now = time.monotonic()
        if self._server is not None and self._server.process is not None and self._server.process.poll() is not None:
            self._say(f"valkey ended with status {self._server.process.returncode}; started again")
            self._server.start()
        for part in self.parts:
            if part.process is None:
                if now >= part.start_again_at:
                    part.start()
            elif (status := part.process.poll()) is not None:
                part.restarts = part.restarts + 1 if now - part.started_at < _HEALTHY_SECONDS else 1
                wait = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** (part.restarts - 1))
                self._say(f"{part.name} ended with status {status}; started again in {wait:g}s")
                part.process = None
                part.start_again_at = now + wait

    def stop(self) -> None:
        """Stop the parts, the last added first, each given the time to finish what it does; then the server."""
        for part in reversed(self.parts):
            if part.process is None or part.process.poll() is not None:
                continue
            part.process.terminate()
            try:
                part.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._say(f"{part.name} does not end; killed")
                part.process.kill()
                part.process.wait()
        if self._server is not None:
            self._server.stop()
