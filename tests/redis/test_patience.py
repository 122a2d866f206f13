"""When Redis dies or hangs during a command, the client gives up in the promised time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import AuthenticationError, DataError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from lab.redis import Server as RedisServer
from workers.engine.connect import connect_command, connect_worker
from workers.queue.connect import _packed, connect_receiver


class Server:
    """Answers some commands, and then ends or hangs."""

    def __init__(self, *, hangs: bool) -> None:
        self.hangs = hangs
        self.is_over = False

    async def start(self) -> str:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self._listening.sockets[0].getsockname()[1]}/0"

    def stop(self) -> None:
        self._listening.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not self.is_over:
            if not (words := await reader.read(65536)):
                return
            if b"GET" in words.upper():
                self.is_over = True
                break
            writer.write(b"+PONG\r\n" if b"PING" in words.upper() else b"+OK\r\n" * words.count(b"*"))
        if self.hangs:
            await asyncio.sleep(120)
        self._listening.close()
        writer.close()


async def gives_up(kind: str, *, hangs: bool) -> None:
    """Check that a client of a kind reports a server that ends or hangs during a command, within its limit."""
    server = Server(hangs=hangs)
    url = await server.start()
    client: Any
    if kind == "receiver":
        client, seconds = connect_receiver(url), 8
    elif kind == "command":
        client, seconds = await connect_command(url), 80
    else:
        client, seconds = connect_worker(url), 80
    await client.ping()
    async with asyncio.timeout(seconds):
        with pytest.raises((RedisConnectionError, RedisTimeoutError)):
            await client.get("key")
    await client.aclose()
    server.stop()


async def test_a_redis_that_dies_at_a_command_is_retried_by_one_layer_only() -> None:
    kinds = [(kind, hangs) for kind in ("receiver", "command", "worker") for hangs in (False, True)]
    results = await asyncio.gather(*(gives_up(kind, hangs=hangs) for kind, hangs in kinds), return_exceptions=True)
    assert dict(zip(kinds, results, strict=True)) == dict.fromkeys(kinds)


@pytest.mark.parametrize("connect", [connect_receiver, connect_worker])
async def test_a_server_that_stops_during_the_handshake_is_retried(connect: Any) -> None:
    """A server that restarts closes a connection between its first answer and the next."""
    handshakes = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal handshakes
        while words := (await reader.read(65536)).upper():
            if b"CLIENT" in words:
                handshakes += 1
                if handshakes == 1:
                    break
            writer.write(b"+PONG\r\n" * words.count(b"PING") + b"+OK\r\n" * words.count(b"SETINFO"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    assert await client.ping()
    assert handshakes > 1
    await client.aclose()
    server.close()


@pytest.mark.parametrize("connect", [connect_receiver, connect_worker])
async def test_a_wrong_password_is_reported_at_once(connect: Any, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as plain:
        client = connect(f"redis://nobody:wrong@127.0.0.1:{plain.port}/0")
        async with asyncio.timeout(5):
            with pytest.raises(AuthenticationError):
                await client.ping()
        await client.aclose()


async def test_a_command_waits_for_a_free_connection_and_takes_no_closed_one(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, server.client() as other:
        client: Any = connect_worker(server.url, connections=2)
        assert await asyncio.gather(*(client.echo(str(n)) for n in range(20))) == [str(n).encode() for n in range(20)]
        assert len(client.connection_pool._available_connections) == 2
        other.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert await asyncio.gather(*(client.echo("x") for _ in range(5))) == [b"x"] * 5
        blocked = [asyncio.create_task(client.blpop("nothing", 0)) for _ in range(2)]
        await asyncio.sleep(0.1)
        client.connection_pool._timeout_seconds = 0.05
        client.connection_pool.connection_kwargs["retry"]._seconds = 0
        with pytest.raises(RedisConnectionError, match="in use"):
            await client.ping()
        for task in blocked:
            task.cancel()
        await asyncio.gather(*blocked, return_exceptions=True)
        assert await client.ping()
        await client.aclose()


def test_a_command_is_encoded_as_redis_py_does() -> None:
    words = ("SCRIPT LOAD", "ü", b"\0\r\n", 3, -1.5, 1e300, 0.1, float("inf"), memoryview(b"x"))
    assert b"".join(_packed(*words)) == b"".join(Connection().pack_command(*words))
    for refused in (None, True, [1]):
        with pytest.raises(DataError):
            _packed("ECHO", refused)
