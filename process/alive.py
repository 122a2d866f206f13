"""Whether the processes of this machine are alive: each writes into a file of its own while its event loop turns.

It asks nobody else, so an outage of Redis, Telnyx or the store makes no process look dead, and no container is killed for it.
A process holds a lock on its file, which the kernel takes away when it dies: so a file that was left behind says that a process
was killed, also where its process id has been given to another; the next one of its kind takes it away. Each data folder has
files of its own, so that one installation says nothing of another. Times are of the clock that nobody sets.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

LONGEST_SILENCE_SECONDS = 30.0
_WRITE_SECONDS = 3.0
_LONGEST_TEXT = 32


def _folder(data_folder: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(data_folder.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"callvault-alive-{os.getuid()}-{digest}"


async def show_alive(what: str, data_folder: Path) -> None:
    """Write into this process's file every three seconds until cancelled; without a folder to write into, do nothing.

    Args:
        what: which part this is, `serve` or `worker`.
        data_folder: of its installation.
    """
    folder = _folder(data_folder)
    for name in [name for name in killed(data_folder) if name.rpartition("-")[0] == what][:1]:
        with suppress(OSError):  # this process is there in its place
            (folder / name).unlink()
    file = _OwnFile(folder / f"{what}-{os.getpid()}")
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


def silences(data_folder: Path) -> dict[str, float]:
    """The processes of an installation on this machine, such as `worker-17`, and for how many seconds each has been silent.

    What was killed, and could not take its file away, is left out.
    """
    now = time.monotonic()  # what was written is rounded, so it may be later
    return {name: max(0.0, now - written) for name, (is_held, written) in _written(data_folder).items() if is_held}


def killed(data_folder: Path) -> list[str]:
    """The processes of an installation that ended without a word since this machine started, and that none has replaced."""
    now = time.monotonic()
    return [name for name, (is_held, written) in _written(data_folder).items() if not is_held and written <= now]


def file_of(name: str, data_folder: Path) -> Path:
    """The file of a process that `killed` names."""
    return _folder(data_folder) / name


def _written(data_folder: Path) -> dict[str, tuple[bool, float]]:
    """By the name of each file: whether a process holds it, and when it was last written to."""
    found = {}
    with suppress(OSError):
        for path in sorted(_folder(data_folder).iterdir()):
            with suppress(OSError, ValueError):
                opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    found[path.name] = _is_held(opened), float(os.pread(opened, _LONGEST_TEXT, 0))
                finally:
                    os.close(opened)
    return found


def _is_held(opened: int) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
