"""The names of connections, kept in Redis by their ids, so that pages need not ask Telnyx for them.

Telnyx' list of external connections has no field for a name (SDK 4.189.0, `types/external_connection.py`), but tags. So
the name is the one that `callvault connections apply` has put into a tag, else the tags.
"""

from __future__ import annotations

from collections.abc import Iterable

from telnyx_api.models import ExternalConnection
from workers.connections.families import OUR_TAG
from workers.keys import CONNECTION_NAMES
from workers.queue.script import AsyncRedis, write_when_full

_LONGEST = 80


def name_of(connection: ExternalConnection) -> str | None:
    """The name of a connection; None if it has no tag."""
    tags = [tag for tag in connection.tags or () if tag.strip()]
    ours = next((tag.removeprefix(OUR_TAG) for tag in tags if tag.startswith(OUR_TAG)), "")
    return (ours or ", ".join(tags))[:_LONGEST] or None


async def keep_names(redis: AsyncRedis, connections: Iterable[ExternalConnection], *, is_complete: bool) -> None:
    """Keep the names of connections; nothing is written if they are known already.

    Args:
        redis: Redis.
        connections: as Telnyx lists them.
        is_complete: whether these are all of them; else the names of others stay.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    before = await read_names(redis)
    found = {str(one.id): name for one in connections if (name := name_of(one))}
    names = found if is_complete else before | found
    if names != before:
        rows = [("HSET", CONNECTION_NAMES, key, name) for key, name in names.items()]
        await write_when_full(redis, ("DEL", CONNECTION_NAMES), *rows)


async def read_names(redis: AsyncRedis) -> dict[str, str]:
    """The names of connections by their ids.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    found = await redis.hgetall(CONNECTION_NAMES)
    return {key.decode(errors="replace"): name.decode(errors="replace") for key, name in found.items()}
