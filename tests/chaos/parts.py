"""What chaos works with: processes that are killed and come back, and a watcher over what must never change."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import IO

from tests.forks import Forked
from tests.parts import CLEAN, FORKS

ROOT = Path(__file__).parent.parent.parent


class Process:
    """A part that is killed and started again."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self._arguments, self._environment, self._log = arguments, environment, log
        self.process: Forked | subprocess.Popen[bytes] | None = None
        self.down_until = 0.0

    def tend(self) -> None:
        """Start it if it is down and its time has come."""
        if (self.process is None or self.process.poll() is not None) and time.monotonic() >= self.down_until:
            with self._log.open("ab") as log:
                self.process = self._start({**CLEAN, **self._environment}, log)

    def _start(self, environment: dict[str, str], log: IO[bytes]) -> Forked | subprocess.Popen[bytes]:
        if self._arguments[0] != "callvault":
            return subprocess.Popen(self._arguments, env=environment, stdout=log, stderr=log, cwd=ROOT)
        with Path(os.devnull).open("rb") as nothing:
            return FORKS.start(self._arguments[1:], environment, str(ROOT), nothing, log, log)

    def kill(self, down_seconds: float) -> None:
        """Kill it; it stays down for a while."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.down_until = time.monotonic() + down_seconds

    def end(self) -> None:
        """End it for good."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Watcher:
    """Reads the archive again and again: an object that is there must never change.

    While the archive's disk is away, the store may make another folder in its place, which is not the archive.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[tuple[int, Path], tuple[int, bytes]] = {}  # by the folder itself and the path in it
        self._wrong: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(1):
            self._look()

    def _look(self) -> None:
        try:
            disk = self._folder.stat().st_ino
            paths = list(self._folder.rglob("*"))
        except OSError:  # its disk went away meanwhile
            return
        for path in paths:
            if path.name not in ("recording.json", "deleted.json") and not path.name.startswith("audio."):
                continue
            try:
                stat, data = path.stat(), path.read_bytes()
                if self._folder.stat().st_ino != disk:
                    return
            except OSError:
                continue
            mark = (stat.st_size, _identity(path, data))
            before = self._seen.get((disk, path), mark)
            # The weak store shows an object while it is still being written, so one that grows is no change.
            if before != mark and stat.st_size <= before[0]:
                self._wrong.append(f"written twice with other content: {path.name} of {path.parent.name}")
            self._seen[disk, path] = mark

    def stop(self) -> list[str]:
        self._stop.set()
        self._thread.join()
        self._look()
        return self._wrong


def _identity(path: Path, data: bytes) -> bytes:
    """What must not change: the bytes; of a record, what it says of the objects.

    The weak store ignores conditions, so of two runs that write one record at once the last wins; both say the same.
    """
    if path.suffix == ".json":
        try:
            objects = json.loads(data)["objects"]
            return json.dumps([[o["key"], o["sha256"]] for o in objects]).encode()
        except (ValueError, KeyError):
            return b""
    return hashlib.sha256(data).digest()
