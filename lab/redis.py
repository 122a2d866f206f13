"""Redis as users run it: servers on ports, replicas, and Sentinels."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis as sync_redis
from redis.exceptions import ConnectionError as RedisConnectionError

from lab.processes import ROOT, Process, free_port, wait_for
from workers.keys import EVENT
from workers.queue.accept import mark_of
from workers.queue.embedded import server_binary

LEAST_USER, LEAST_PASSWORD = "callvault", "p%40ss"  # as an address writes them; the password is "p@ss"
MASTER = "callvault"
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 << 30  # by default a container has 64 MB there


@contextmanager
def folder_of_tests() -> Iterator[Path]:
    """A folder for the server of all tests of a process: in memory, if there is room, for it flushes a file at each command.

    It removes what earlier processes left in memory when they were killed.
    """
    has_room = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    prefix = "callvault-valkey-"
    for lock in _MEMORY.glob(f"{prefix}*/valkey/server.lock"):  # a server holds it while it lives
        with suppress(OSError), lock.open() as held:  # another process may remove it, or may not be ours
            if lock.stat().st_mtime < time.time() - 3600:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parents[1], ignore_errors=True)
    with TemporaryDirectory(prefix=prefix, dir=_MEMORY if has_room else None) as folder:
        yield Path(folder)


def least_rights() -> list[str]:
    """The rules of ACL SETUSER that `deploy/redis/users.acl` gives to the user of Redis."""
    line = (ROOT / "deploy" / "redis" / "users.acl").read_text()
    return [rule for rule in line.split()[2:] if not rule.startswith(">")]


def is_marked(client: Any, event_id: str) -> bool:
    """Whether a server remembers that it accepted an event."""
    bucket, member = mark_of(event_id)
    return any(client.sismember(key, member) for key in client.scan_iter(f"{EVENT}*:{bucket}"))


def unmarked(client: Any, event_ids: Sequence[str]) -> list[str]:
    """The events that a server does not remember; it walks the keys once. The client decodes answers."""
    seen = {
        (key.rpartition(":")[2], one)
        for key in client.scan_iter(f"{EVENT}*:*", count=1000)
        for one in client.smembers(key)
    }
    return [one for one in event_ids if mark_of(one) not in seen]


class Server(Process):
    """A Valkey on a port with its data in a folder; with `sentinel`, a Sentinel with these rules."""

    def __init__(self, folder: Path, *options: str, sentinel: str = "", core: int | None = None) -> None:
        self.port = free_port()
        self.folder = folder / str(self.port)
        self.folder.mkdir()
        command = [server_binary()]
        if sentinel:  # it writes its state into its configuration file
            (self.folder / "sentinel.conf").write_text(f"port {self.port}\nbind 127.0.0.1\n{sentinel}")
            command += [str(self.folder / "sentinel.conf"), "--sentinel"]
        else:
            command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
            command += ["--appendonly", "yes", "--maxmemory-policy", "noeviction", *options]
        super().__init__(command, core=core)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        super().start()
        wait_for(lambda: self.has_ended or self.answers(), 60, "an answer of Valkey")
        assert not self.has_ended, self.output

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """The address of its database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Any:
        """Connect to it."""
        return sync_redis.Redis(port=self.port, decode_responses=True, socket_timeout=5)

    def answers(self) -> bool:
        """Whether it answers a ping."""
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisConnectionError:
            return False

    def writes_with(self, text: str) -> list[str]:
        """The commands in its append-only file that contain a text, in order."""
        data = b"".join(path.read_bytes() for path in sorted(self.folder.glob("appendonlydir/*.aof")))
        found = []
        while data.startswith(b"*"):
            head, _, data = data.partition(b"\r\n")
            words = []
            for _ in range(int(head[1:])):
                size, _, data = data.partition(b"\r\n")
                words.append(data[: int(size[1:])])
                data = data[int(size[1:]) + 2 :]
            line = b" ".join(word[:80] for word in words).decode("utf-8", "backslashreplace")
            if text in line:
                found.append(line)
        return found


class Watched:
    """A server with two replicas, and three Sentinels that promote one a second after the server is gone."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        def add(*options: str, sentinel: str = "") -> Server:
            return stack.enter_context(Server(folder, *options, sentinel=sentinel))

        first = add()
        self.servers = [first, *(add("--replicaof", "127.0.0.1", str(first.port)) for _ in range(2))]
        with first.client() as client:
            wait_for(lambda: self.are_online(client.info("replication")), what="the replicas")
        rules = (
            f"sentinel monitor {MASTER} 127.0.0.1 {first.port} 2\nsentinel down-after-milliseconds {MASTER} 1000\n"
            f"sentinel failover-timeout {MASTER} 6000\n"
        )
        self.sentinels = [add(sentinel=rules) for _ in range(3)]
        with self.sentinels[0].client() as client:
            wait_for(lambda: self._is_known(client), 30, "Sentinels that know each other")

    @staticmethod
    def are_online(replication: Any) -> bool:
        """Whether both replicas follow, by `INFO replication` of the primary."""
        return [replication.get(f"slave{n}", {}).get("state") for n in range(2)] == ["online"] * 2

    @staticmethod
    def _is_known(client: Any) -> bool:
        state = client.sentinel_master(MASTER)
        return bool(state["num-other-sentinels"] == 2 and state["num-slaves"] == 2)

    @property
    def url(self) -> str:
        """The address that names the Sentinels."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER}/0"

    @property
    def primary(self) -> Server:
        """The server that the Sentinels call the primary."""
        with self.sentinels[0].client() as client:
            port = client.sentinel_get_master_addr_by_name(MASTER)[1]
        return next(one for one in self.servers if one.port == int(port))


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """Run servers that Sentinels watch."""
    with ExitStack() as stack:
        yield Watched(folder, stack)
