"""Scripts that run in Redis: each a `.lua` file, sent by its digest, and in full to a server that does not know it yet.

A full Redis refuses every command that may take memory, even from workers that would free some. So whatever claims,
renews, ends or frees work runs as a script that is allowed then (`#!lua flags=allow-oom`, Redis 7.0, Valkey). What adds
work does not.

redis-py's `register_script` does not fit: in a pipeline it sends SCRIPT EXISTS, which `deploy/redis/users.acl` does
not grant, and a script that the server does not know costs it three round trips instead of two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec
from redis.exceptions import NoScriptError

# redis-py 5 annotates every command of its asyncio client as "awaitable or value", which no checker can await; one
# honest Any here beats a cast at each call.
AsyncRedis: TypeAlias = Any

T = TypeVar("T")

_Constant: TypeAlias = str | int | Sequence[str]


class Script:
    """A Lua script that runs atomically in Redis.

    The file says what it expects and answers. One that begins with `#!lua flags=allow-oom` also runs while the server is full.

    Args:
        package: where the file is: `__package__` of the module that runs it.
        file: its name.
        uses: files of shared functions, in this package.
        constants: names that the script uses, such as keys of Redis: text, a number, or a list of texts.
    """

    def __init__(self, package: str, file: str, *, uses: Sequence[str] = (), **constants: _Constant) -> None:
        text = _read(package, file)
        flags, text = text.split("\n", 1) if text.startswith("#!") else ("", text)
        declared = (f"local {name} = {_literal(value)}" for name, value in constants.items())
        shared = (_read(__package__, name) for name in uses)
        self.text = "\n".join((*((flags,) if flags else ()), *declared, *shared, text))
        self._sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, redis: AsyncRedis, keys: Sequence[str], arguments: Sequence[bytes | str | float]) -> Any:
        """Run it; one round trip, two after a restart of the server.

        Raises:
            redis.exceptions.RedisError: Redis is away, read-only, out of memory, or the script failed.
        """
        try:
            return await redis.execute_command("EVALSHA", self._sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return await redis.execute_command("EVAL", self.text, len(keys), *keys, *arguments)

    async def and_wait(
        self,
        redis: AsyncRedis,
        keys: Sequence[str],
        arguments: Sequence[bytes | str | float],
        replicas: int,
        milliseconds: int,
    ) -> tuple[Any, int, dict[str, Any]]:
        """Run it, then wait on the same connection until replicas have its writes (redis.io/commands/wait).

        WAIT covers what this connection has written. So every replica confirms a script that writes nothing at once.

        Returns:
            Its answer, how many replicas confirmed in time, and the section `replication` of INFO after that.

        Raises:
            redis.exceptions.RedisError: as above.
        """
        wait = (replicas, milliseconds)
        try:
            return await self._piped(redis, ("EVALSHA", self._sha, len(keys), *keys, *arguments), wait)
        except NoScriptError:
            return await self._piped(redis, ("EVAL", self.text, len(keys), *keys, *arguments), wait)

    async def _piped(
        self, redis: AsyncRedis, command: Sequence[Any], wait: tuple[int, int]
    ) -> tuple[Any, int, dict[str, Any]]:
        async with redis.pipeline(transaction=False) as pipe:
            pipe.execute_command(*command)
            pipe.execute_command("WAIT", *wait)
            pipe.info("replication")
            answer, confirmed, replication = await pipe.execute()
        return answer, confirmed, replication


def _read(package: str, file: str) -> str:
    return Path(str(import_module(package).__file__)).with_name(file).read_text("utf-8")


def _literal(value: _Constant) -> str:
    """A constant as Lua writes it."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return f"'{value}'"
    return "{" + ", ".join(f"'{one}'" for one in value) + "}"


_RUN_COMMANDS = Script(__package__, "run_commands.lua")


async def write_when_full(redis: AsyncRedis, *commands: Sequence[bytes | str | float]) -> list[Any]:
    """Run commands atomically in one round trip, also while the server is full; for what ends or frees work.

    Args:
        redis: the client.
        commands: the words of each; at most a few thousand words per command.

    Returns:
        The raw answer of each; a missing value is None.

    Raises:
        redis.exceptions.RedisError: Redis is away or read-only, or a command failed; those before it are done.
    """
    if not commands:
        return []
    words = [word for command in commands for word in (len(command), *command)]
    answers: list[Any] = await _RUN_COMMANDS(redis, (), words)
    return answers


async def read_json(redis: AsyncRedis, key: str, kind: type[T]) -> T | None:
    """What a key holds as JSON; None if it holds nothing, or something that cannot be read, as another version may write.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    data = await redis.get(key)
    try:
        return None if data is None else msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


async def server_seconds(redis: AsyncRedis) -> float:
    """The time by the server's clock, in seconds since the epoch: one clock for all machines."""
    seconds, microseconds = await redis.time()
    return float(seconds) + float(microseconds) / 1e6


async def start_of(redis: AsyncRedis) -> str:
    """A text that changes when Redis restarts or another server becomes the primary, and so may have lost writes."""
    known = await redis.info("server", "replication")  # several sections at once: Redis 7.0, Valkey
    return f"{known.get('run_id')} {known.get('master_replid')}"


async def server_now(redis: AsyncRedis) -> datetime:
    """The time by the server's clock, in UTC."""
    return datetime.fromtimestamp(await server_seconds(redis), UTC)
