"""Which archive a Redis belongs to. What it remembers of one (seals, counts, days, the due list) is wrong of every other.

A Redis that remembers none is bound by whoever comes first: it may be lost whole at any moment. One that belongs to another is
refused, until a person says by `callvault init --adopt` that it is meant.
"""

from __future__ import annotations

from config.errors import UserError
from workers.keys import ARCHIVE, OF_AN_ARCHIVE, TIMES_OF_AN_ARCHIVE
from workers.queue.script import AsyncRedis, Script

_BIND = Script(__package__, "bind.lua")


class AnotherArchive(UserError):
    """A Redis that belongs to another archive."""


async def bound_to(redis: AsyncRedis) -> str | None:
    """The id of the archive that a Redis belongs to; None if it remembers none."""
    found: bytes | None = await _BIND(redis, [ARCHIVE], [])
    return None if found is None else found.decode()


async def assert_bound(redis: AsyncRedis, identity_id: str) -> None:
    """See that a Redis belongs to an archive; one that remembers none belongs to it from here on.

    Raises:
        AnotherArchive: it belongs to another.
        redis.exceptions.RedisError: Redis is away.
    """
    found = (await _BIND(redis, [ARCHIVE], [identity_id])).decode()
    if found != identity_id:
        raise AnotherArchive(
            f"this Redis belongs to archive {found}, but CALLVAULT_ARCHIVE_URL points to archive {identity_id}; check REDIS_URL "
            "and CALLVAULT_ARCHIVE_URL, or run `callvault init --adopt` to use this Redis with this archive from now on"
        )


async def remembers_an_archive(redis: AsyncRedis) -> bool:
    """Whether a Redis has served an archive, also one of a version that gave archives no identity."""
    return bool(await redis.exists(ARCHIVE, *OF_AN_ARCHIVE))


async def bind_anew(redis: AsyncRedis, identity_id: str) -> None:
    """Have a Redis belong to an archive, and forget what it remembers of another."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.delete(*OF_AN_ARCHIVE, *TIMES_OF_AN_ARCHIVE)
        pipe.set(ARCHIVE, identity_id)
        await pipe.execute()
