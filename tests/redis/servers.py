"""Redis as users run it: servers on ports, with replicas and Sentinels, killed and started again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis as sync_redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.parts import free_port, wait_for
from workers.keys import EVENT
from workers.queue.accept import mark_of
from workers.queue.embedded import server_binary

MASTER = "callvault"


def is_marked(client: Any, event_id: str) -> bool:
    """Whether a server remembers having accepted an event."""
    bucket, member = mark_of(event_id)
    return any(client.sismember(key, member) for key in client.scan_iter(f"{EVENT}*:{bucket}"))


class Server:
    """A Valkey on a port, its data in a folder; with `sentinel`, one that watches others."""

    def __init__(self, folder: Path, *options: str, sentinel: str = "") -> None:
        self.port = free_port()
        self.folder = folder / str(self.port)
        self.folder.mkdir()
        arguments = [server_binary()]
        if sentinel:  # it writes what it learns into its file
            (self.folder / "sentinel.conf").write_text(f"port {self.port}\nbind 127.0.0.1\n{sentinel}")
            arguments += [str(self.folder / "sentinel.conf"), "--sentinel"]
        else:
            arguments += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
            arguments += ["--appendonly", "yes", "--maxmemory-policy", "noeviction", *options]
        self._arguments = arguments
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> Any:
        return sync_redis.Redis(port=self.port, decode_responses=True, socket_timeout=5)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisConnectionError:
            return False

    def writes_with(self, text: str) -> list[str]:
        """The commands of its append-only file that name something, in order: what it was ever told of it."""
        data = b"".join(path.read_bytes() for path in sorted(self.folder.glob("appendonlydir/*.aof")))
        told = []
        while data.startswith(b"*"):
            head, _, data = data.partition(b"\r\n")
            words = []
            for _ in range(int(head[1:])):
                size, _, data = data.partition(b"\r\n")
                words.append(data[: int(size[1:])])
                data = data[int(size[1:]) + 2 :]
            line = b" ".join(word[:80] for word in words).decode("utf-8", "backslashreplace")
            if text in line:
                told.append(line)
        return told

    def start(self) -> None:
        self.process = subprocess.Popen(self._arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for(self.answers, 60, "a server of Redis")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def server(folder: Path, *options: str) -> Iterator[Server]:
    one = Server(folder, *options)
    try:
        yield one
    finally:
        one.kill()


class Watched:
    """A server with two replicas and three Sentinels that put one in its place a second after it is gone."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        def add(*options: str, sentinel: str = "") -> Server:
            one = Server(folder, *options, sentinel=sentinel)
            stack.callback(one.kill)
            return one

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
        return [replication.get(f"slave{n}", {}).get("state") for n in range(2)] == ["online"] * 2

    @staticmethod
    def _is_known(client: Any) -> bool:
        told = client.sentinel_master(MASTER)
        return bool(told["num-other-sentinels"] == 2 and told["num-slaves"] == 2)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER}/0"

    @property
    def primary(self) -> Server:
        with self.sentinels[0].client() as client:
            port = client.sentinel_get_master_addr_by_name(MASTER)[1]
        return next(one for one in self.servers if one.port == int(port))


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    with ExitStack() as stack:
        yield Watched(folder, stack)
