"""The head of the chain of seals in one line: how many seals, the hash and the day of the last."""

from __future__ import annotations

from typing import Any

import msgspec

from text.counts import many
from workers.keys import ARCHIVE, SEALS


class _Seal(msgspec.Struct, frozen=True):
    sequence: int
    day: str


class _Link(msgspec.Struct, frozen=True):
    """The part of a link in Redis that the line needs."""

    seal: _Seal
    sha256: str


async def head_line(redis: Any) -> str | None:
    """The head of the chain from Redis; None if Redis has none. The archive is not read.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    count = await redis.hlen(SEALS)
    data = await redis.hget(SEALS, str(count))
    if data is None:
        return None
    try:
        link = msgspec.json.decode(data, type=_Link)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    archive = await redis.get(ARCHIVE)
    name = "" if archive is None else f" {archive.decode('utf-8', 'replace')}"
    return f"archive{name}, {many(link.seal.sequence, 'seal')}, head {link.sha256}, last day {link.seal.day}"
