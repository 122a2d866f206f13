"""Processes that chaos kills and restarts, and a watcher over objects that must never change."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from lab.processes import Process


class Part(Process):
    """A process that is killed, stays down for a while, and is started again."""

    def __init__(
        self, name: str, command: Sequence[str], environment: dict[str, str], log: Path, limit_seconds: float
    ) -> None:
        super().__init__(command, environment, log=log, limit_seconds=limit_seconds)
        self.name, self._down_until = name, 0.0

    def tend(self) -> None:
        """Start it if it is down and its time has come."""
        if self.has_ended and time.monotonic() >= self._down_until:
            self.start()

    def kill_for(self, down_seconds: float) -> None:
        """Kill it; it stays down for a while."""
        self.kill()
        self._down_until = time.monotonic() + down_seconds


class Watcher:
    """Reads the archive again and again: an object must never change.

    While the archive's disk is away, the store may make another folder in its place; that one is not the archive.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[tuple[int, Path], tuple[int, bytes]] = {}  # by the inode of the archive's folder, and path
        self._stats: dict[tuple[int, Path], tuple[int, ...]] = {}  # a file with the same is not read again
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
                stat = path.stat()
                last = stat.st_ino, stat.st_size, stat.st_ctime_ns  # any write sets its time, to the kernel's tick
                if self._stats.get((disk, path)) == last:
                    continue
                data = path.read_bytes()
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
            if time.time() - stat.st_ctime > 1:  # a later write within the same tick would have the same time
                self._stats[disk, path] = last

    def stop(self) -> list[str]:
        """Look once more; returns what was wrong."""
        self._stop.set()
        self._thread.join()
        self._look()
        return self._wrong


def _identity(path: Path, data: bytes) -> bytes:
    """Return what must not change: the bytes, or of a record the objects that it lists.

    The weak store ignores conditions: when two runs write one record at once, the last one wins, with the same objects.
    """
    if path.suffix == ".json":
        try:
            objects = json.loads(data)["objects"]
            return json.dumps([[o["key"], o["sha256"]] for o in objects]).encode()
        except (ValueError, KeyError):
            return b""
    return hashlib.sha256(data).digest()
