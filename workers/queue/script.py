"""A server-side script: sent by its digest, and in full to a server that does not have it yet.

A Redis that is full refuses every command that may take memory, also those of the workers that would free it. So what claims,
finishes, beats or frees runs as a script that is allowed even then (`#!lua flags=allow-oom`, Redis 7.0, Valkey); what adds work
does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from redis.exceptions import NoScriptError

# redis-py 5 annotates every command of its asyncio client as "awaitable or value", which no checker can await; one
# honest Any here beats a cast at each call.
AsyncRedis: TypeAlias = Any


class Script:
    """One Lua script that runs atomically in Redis.

    Args:
        text: in Lua.
        when_full: whether it also runs while the server has no memory left.
    """

    def __init__(self, text: str, *, when_full: bool = False) -> None:
        self.text = "#!lua flags=allow-oom\n" + text if when_full else text
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
        """Run it, then wait on the same connection for replicas to have what it wrote (redis.io/commands/wait).

        WAIT asks for what this connection has written. So a script that writes nothing is confirmed by anyone at once.

        Returns:
            What it returned, how many replicas had it in time, and the section `replication` of INFO after that.

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


# ARGV: of each command the number of its words, then the words. Returns the answers.
_COMMANDS = Script(
    """
local answers, at = {}, 1
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  answers[#answers + 1] = redis.call(unpack(ARGV, at + 1, at + words))
  at = at + words + 1
end
return answers
""",
    when_full=True,
)


async def write_when_full(redis: AsyncRedis, *commands: Sequence[bytes | str | float]) -> list[Any]:
    """Run commands atomically in one round trip, also while the server has no memory left; for what ends or frees work.

    Args:
        redis: the client.
        commands: each its words, as the protocol has them; at most some thousand words a command.

    Returns:
        The raw answer of each; a missing value is None.

    Raises:
        redis.exceptions.RedisError: Redis is away or read-only, or a command failed; those before it are done.
    """
    if not commands:
        return []
    words = [word for command in commands for word in (len(command), *command)]
    answers: list[Any] = await _COMMANDS(redis, (), words)
    return answers


async def server_seconds(redis: AsyncRedis) -> float:
    """The instant by the server's clock, in seconds since the epoch: one clock for all, whatever theirs say."""
    seconds, microseconds = await redis.time()
    return float(seconds) + float(microseconds) / 1e6


async def start_of(redis: AsyncRedis) -> str:
    """What changes when Redis is started anew or another server has become the primary, and so may know less than before."""
    server, replication = await redis.info("server"), await redis.info("replication")
    return f"{server.get('run_id')} {replication.get('master_replid')}"


async def server_now(redis: AsyncRedis) -> datetime:
    """The same as an instant in UTC."""
    return datetime.fromtimestamp(await server_seconds(redis), UTC)
