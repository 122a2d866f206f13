"""Who has seen a condition: a note beside it in Redis, so that the next person knows that somebody looks into it.

A note ends after a day, with its condition, or once there are more of what it was about, if the details of the condition are a
number alone, as of dead letters. It changes nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from workers.keys import ACKNOWLEDGED
from workers.queue.script import AsyncRedis, write_when_full
from workers.queue.state import read_state

_LASTS_SECONDS = 24 * 3600


class Acknowledgement(msgspec.Struct, frozen=True):
    """A person has seen a condition.

    Attributes:
        by: who.
        at: when, in seconds since the epoch by the server's clock.
        what: the details of the condition at that time.
    """

    by: str
    at: float
    what: str


async def acknowledge(redis: AsyncRedis, condition_id: str, seen: Acknowledgement) -> None:
    """Note who has seen a condition; a later note replaces an earlier one.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    await write_when_full(redis, ("HSET", ACKNOWLEDGED, condition_id, msgspec.json.encode(seen)))


async def acknowledged(
    redis: AsyncRedis, standing: Mapping[str, str], now: float, not_asked: Collection[str] = ()
) -> dict[str, Acknowledgement]:
    """The notes that hold, by the ids of their conditions; removes the others.

    Args:
        redis: Redis.
        standing: the details of each condition of now, by its id.
        now: seconds since the epoch, by the server's clock.
        not_asked: ids of conditions of which the caller does not know whether they stand; their notes stay.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    notes = await read_state(redis, ACKNOWLEDGED, Acknowledgement)
    hold = {
        name: one
        for name, one in notes.items()
        if name in standing and now - one.at < _LASTS_SECONDS and not _has_grown(one.what, standing[name])
    }
    if over := notes.keys() - hold.keys() - set(not_asked):
        await redis.hdel(ACKNOWLEDGED, *over)
    return hold


def _has_grown(before: str, now: str) -> bool:
    return before.isdecimal() and now.isdecimal() and int(now) > int(before)
