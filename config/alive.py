"""Whether the processes of this machine are alive: each writes into a file of its own while its event loop turns.

It asks nobody else, so an outage of Redis, Telnyx or the store makes no process look dead, and no container is killed for it.
A process holds a lock on its file, which the kernel takes away when it dies: so a file that was left behind speaks for nobody,
also where its process id has been given to another. Times are of the clock that nobody sets.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

LONGEST_SILENCE_SECONDS = 30.0
_WRITE_SECONDS = 3.0
_LONGEST_TEXT = 32


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"callvault-alive-{os.getuid()}"


async def show_alive(what: str) -> None:
    """Write into this process's file every three seconds until cancelled; without a folder to write into, do nothing.

    Args:
        what: which part this is, `serve` or `worker`.
    """
    file = _OwnFile(_folder() / f"{what}-{os.getpid()}")
    try:
        while True:
            with suppress(OSError):
                file.write(f"{time.monotonic():.3f}")
            await asyncio.sleep(_WRITE_SECONDS)
    finally:
        file.remove()


class _OwnFile:
    """A file that this process holds a lock on. Whatever cleans its folder up, the next write makes it again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: int | None = None

    def write(self, text: str) -> None:
        """Write a text of some characters in place of the last.

        Raises:
            OSError: it cannot be written, or whoever looks at it holds it for a moment.
        """
        if self._opened is None or not self._is_there(self._opened):
            self._close()
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            if self._path.parent.stat().st_uid != os.getuid():  # somebody else's could have us write what they like
                return
            self._opened = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.pwrite(self._opened, text.ljust(_LONGEST_TEXT).encode(), 0)

    def _is_there(self, opened: int) -> bool:
        try:
            return os.path.samestat(os.fstat(opened), self._path.lstat())
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        """Take it away."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None


def silences() -> dict[str, float]:
    """The processes of this user on this machine, such as `worker-17`, and for how many seconds each has been silent.

    What was killed, and could not take its file away, is left out.
    """
    found = {}
    with suppress(OSError):
        for path in sorted(_folder().iterdir()):
            with suppress(OSError, ValueError):
                opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    if _is_held(opened):
                        written = float(os.pread(opened, _LONGEST_TEXT, 0))  # rounded, so maybe up
                        found[path.name] = max(0.0, time.monotonic() - written)
                finally:
                    os.close(opened)
    return found


def _is_held(opened: int) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
