"""Hashes in Redis with one JSON value per field. An unreadable value counts as lost."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from process.logs import get_logger
from workers.queue.script import AsyncRedis

T = TypeVar("T")

log = get_logger()


async def read_state(redis: AsyncRedis, key: str, kind: type[T]) -> dict[str, T]:
    """The values of a hash by field.

    Args:
        redis: Redis.
        key: of the hash.
        kind: of each value.

    Raises:
        redis.exceptions.RedisError: Redis is away, or there is something else under the key.
    """
    found: dict[str, T] = {}
    for field, data in (await redis.hgetall(key)).items():
        try:
            found[field.decode()] = msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("ignored unreadable state in Redis", key=key, error=str(error))
    return found
