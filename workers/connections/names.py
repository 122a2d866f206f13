"""The names of connections, kept in Redis by their ids, so that pages need not ask Telnyx for them.

Telnyx' list of the connections of all types has a name for each (SDK 4.189.0, `types/connection.py`). Its list of external
connections has none (`types/external_connection.py`), but tags: there the name is the one that `callvault connections
apply` has put into a tag, else the tags.
"""

from __future__ import annotations

from collections.abc import Mapping

from process.logs import get_logger
from telnyx_api.errors import Forbidden, NotFound
from telnyx_api.models import ExternalConnection
from telnyx_api.pages import LARGEST_PAGE, read_all
from workers.connections.families import OUR_TAG
from workers.keys import CONNECTION_NAMES
from workers.queue.script import AsyncRedis, write_when_full
from workers.runtime import Runtime

log = get_logger()

_LONGEST = 80


def name_of(connection: ExternalConnection) -> str | None:
    """The name of a connection; None if it has no tag."""
    tags = [tag for tag in connection.tags or () if tag.strip()]
    ours = next((tag.removeprefix(OUR_TAG) for tag in tags if tag.startswith(OUR_TAG)), "")
    return (ours or ", ".join(tags))[:_LONGEST] or None


async def refresh_names(runtime: Runtime) -> None:
    """Read the names again, every ten minutes. A key that may not list the connections of all types leaves theirs unknown.

    Raises:
        TelnyxError: Telnyx does not list the connections now.
    """
    external, unreadable = await read_all(runtime.telnyx.external_connections.list(page_size=LARGEST_PAGE))
    names = {str(one.id): name for one in external if (name := name_of(one))}
    is_complete = unreadable is None
    try:
        every, unreadable = await read_all(runtime.telnyx.connections.list(page_size=LARGEST_PAGE))
    except (Forbidden, NotFound) as error:
        log.info("the names of connections are not known", error=str(error))
    else:
        is_complete = is_complete and unreadable is None
        names |= {str(one.id): one.connection_name[:_LONGEST] for one in every if one.connection_name}
    await keep_names(runtime.redis, names, is_complete=is_complete)


async def keep_names(redis: AsyncRedis, found: Mapping[str, str], *, is_complete: bool) -> None:
    """Keep the names of connections; nothing is written if they are known already.

    Args:
        redis: Redis.
        found: the names by the ids.
        is_complete: whether these are all of them; else the names of others stay.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    before = await read_names(redis)
    names = dict(found) if is_complete else {**before, **found}
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
