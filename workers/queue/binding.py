"""Which archive a Redis belongs to. Its state (seals, counts, days, the deletion schedule) is wrong for any other archive.

An unbound Redis is bound to the first archive that uses it, since Redis may lose everything at any moment. A Redis of another
archive is refused until a person runs `callvault init --adopt`.
"""

from __future__ import annotations

from text.errors import UserError
from workers.keys import ARCHIVE, OF_AN_ARCHIVE, TIMES_OF_AN_ARCHIVE
from workers.queue.script import AsyncRedis, Script

_BIND = Script(__package__, "bind.lua")


class AnotherArchive(UserError):
    """A Redis that belongs to another archive."""


async def bound_to(redis: AsyncRedis) -> str | None:
    """The id of the archive that a Redis belongs to; None if it is unbound."""
    found: bytes | None = await _BIND(redis, [ARCHIVE], [])
    return None if found is None else found.decode()


async def assert_bound(redis: AsyncRedis, identity_id: str) -> None:
    """Check that a Redis belongs to an archive; bind it if it is unbound.

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
    """Whether a Redis has served an archive, including one from before archives had identities."""
    return bool(await redis.exists(ARCHIVE, *OF_AN_ARCHIVE))


async def bind_anew(redis: AsyncRedis, identity_id: str) -> None:
    """Bind a Redis to an archive, and delete its state of another."""
    async with redis.pipeline(transaction=True) as pipe:
        pipe.delete(*OF_AN_ARCHIVE, *TIMES_OF_AN_ARCHIVE)
        pipe.set(ARCHIVE, identity_id)
        await pipe.execute()
