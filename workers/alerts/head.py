"""The head of the chain of seals in one line: how many seals, the hash and the day of the last."""

from __future__ import annotations

from typing import Any

import msgspec

from text.counts import many
from workers.keys import ARCHIVE, SEALS


class _Seal(msgspec.Struct, frozen=True):
    sequence: int
    day: str


class Head(msgspec.Struct, frozen=True):
    """The last seal of the chain: the part of its link in Redis that the line needs."""

    seal: _Seal
    sha256: str


async def head_line(redis: Any) -> str | None:
    """The head of the chain in one line; None if Redis has none.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    head = await read_head(redis)
    return None if head is None else await line_of(redis, head)


async def read_head(redis: Any) -> Head | None:
    """The head of the chain from Redis; None if Redis has none. The archive is not read.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    count = await redis.hlen(SEALS)
    data = await redis.hget(SEALS, str(count))
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Head)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


async def line_of(redis: Any, head: Head) -> str:
    """A head in one line, with the id of the archive.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    archive = await redis.get(ARCHIVE)
    name = "" if archive is None else f" {archive.decode('utf-8', 'replace')}"
    return f"archive{name}, {many(head.seal.sequence, 'seal')}, head {head.sha256}, last day {head.seal.day}"
