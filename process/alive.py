"""Show whether the processes of this machine are alive: each writes to its own file while its event loop runs.

The file depends on nothing else, so an outage of Redis, Telnyx or the store makes no process look dead, and no
orchestrator restarts a container for it. A process locks its file, and the kernel releases the lock when the process
dies. A file without a lock therefore shows that a process was killed, even if its process id is in use again; the next
process of the same kind removes the file. Each data folder has its own files, so installations do not mix. Times come
from the monotonic clock.
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

from process.notify import ALIVE, notify

LONGEST_SILENCE_SECONDS = 30.0
_WRITE_SECONDS = 3.0
_LONGEST_TEXT = 32


def _folder(data_folder: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(data_folder.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"callvault-alive-{os.getuid()}-{digest}"


def _folders(data_folder: Path | None) -> list[Path]:
    """The folder of an installation, or those of all installations of this user."""
    if data_folder is not None:
        return [_folder(data_folder)]
    return sorted(Path(tempfile.gettempdir()).glob(f"callvault-alive-{os.getuid()}-*"))


async def show_alive(what: str, data_folder: Path) -> None:
    """Write to this process's file every three seconds until cancelled, and tell systemd, if it runs this process.

    A file that cannot be written changes nothing else.

    Args:
        what: the kind of process: `serve`, `worker` or `dispose`.
        data_folder: of its installation.
    """
    folder = _folder(data_folder)
    for name in [name for name in killed(data_folder) if name.rpartition("-")[0] == what][:1]:
        with suppress(OSError):  # this process replaces the killed one
            (folder / name).unlink()
    file = _OwnFile(folder / f"{what}-{os.getpid()}")
    try:
        while True:
            with suppress(OSError):
                file.write(f"{time.monotonic():.3f}")
            notify(ALIVE)
            await asyncio.sleep(_WRITE_SECONDS)
    finally:
        file.remove()


class _OwnFile:
    """A file that this process locks. If somebody deletes it, the next write creates it again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: int | None = None

    def write(self, text: str) -> None:
        """Replace the text.

        Raises:
            OSError: the file cannot be written, or a reader locks it just now.
        """
        if self._opened is None or not self._is_there(self._opened):
            self._close()
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            if self._path.parent.stat().st_uid != os.getuid():  # never write into another user's folder
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
        """Delete the file."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None


def silences(data_folder: Path | None) -> dict[str, float]:
    """The living processes of an installation on this machine, such as `worker-17`, with the seconds since each wrote.

    Args:
        data_folder: of the installation; None: every installation of this user.
    """
    now = time.monotonic()  # the written time is rounded, so it may be later
    return {name: max(0.0, now - written) for name, (is_held, written) in _written(data_folder).items() if is_held}


def killed(data_folder: Path | None) -> list[str]:
    """The processes of an installation that were killed since this machine started and that none has replaced.

    Args:
        data_folder: of the installation; None: every installation of this user.
    """
    now = time.monotonic()
    return [name for name, (is_held, written) in _written(data_folder).items() if not is_held and written <= now]


def file_of(name: str, data_folder: Path) -> Path:
    """The file of a process that `killed` names."""
    return _folder(data_folder) / name


def _written(data_folder: Path | None) -> dict[str, tuple[bool, float]]:
    """By the name of each file: whether a process locks it, and when the process last wrote."""
    found = {}
    for folder in _folders(data_folder):
        for path in _files(folder):
            with suppress(OSError, ValueError):
                opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    found[path.name] = _is_held(opened), float(os.pread(opened, _LONGEST_TEXT, 0))
                finally:
                    os.close(opened)
    return found


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_held(opened: int) -> bool:
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
