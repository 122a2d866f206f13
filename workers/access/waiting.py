"""The lines of the access log in Redis, until the archive holds them.

The lists carry the id of the archive: when Redis is bound to another archive, they wait for their own to come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from workers.keys import ACCESS_BATCH, ACCESS_MOVED, ACCESS_WAITING, ARCHIVE, PLAYING
from workers.queue.replicas import Replicas
from workers.queue.script import AsyncRedis, Script

PLAY_SECONDS = 3600  # all that one person hears of a recording within an hour is one play
_MOST_READ = 20_000
_MOST_LINES = 2_000  # of an object; Lua unpacks less than 8,000 values at once

_ADD = Script(__package__, "add_lines.lua", ARCHIVE=ARCHIVE, ACCESS_WAITING=ACCESS_WAITING, PLAYING=PLAYING)
_TAKE = Script(__package__, "take_batch.lua", ACCESS_BATCH=ACCESS_BATCH, ACCESS_WAITING=ACCESS_WAITING)
_FINISH = Script(__package__, "finish_batch.lua", ACCESS_BATCH=ACCESS_BATCH, ACCESS_MOVED=ACCESS_MOVED)


class NewLine(NamedTuple):
    """A line to be written.

    Attributes:
        play: the name of the play that it begins; empty if it begins none.
        id: of the line.
        data: its bytes, without a line break.
    """

    play: str
    id: str
    data: bytes


class Standing(NamedTuple):
    """The line that stands for a new one: itself, or the one that began the same play before.

    Attributes:
        id: of that line.
        seconds: for how many more seconds it stands for the play.
    """

    id: str
    seconds: float


class Batch(NamedTuple):
    """Lines on their way into the archive, and the key of their object."""

    key: str
    lines: list[bytes]


async def add_lines(
    redis: AsyncRedis, archive_id: str, lines: Sequence[NewLine], replicas: Replicas | None = None
) -> list[Standing]:
    """Add lines in one round trip.

    Args:
        redis: the client.
        archive_id: of the archive that they are about; empty if it is not known yet.
        lines: in order.
        replicas: the replicas that must confirm them; None: the server alone is enough.

    Raises:
        redis.exceptions.RedisError: Redis is away, full, of another archive, or did not confirm them; it may have the
            lines all the same.
    """
    arguments = (archive_id, PLAY_SECONDS, *(word for line in lines for word in line))
    found = await (_ADD(redis, (), arguments) if replicas is None else replicas.confirmed(redis, _ADD, arguments))
    return [Standing(line_id.decode(), milliseconds / 1000) for line_id, milliseconds in found]


async def take_batch(redis: AsyncRedis, archive_id: str, key: str, replacing: str = "") -> Batch | None:
    """The batch that is on its way into an archive, or a new one under a key; None if no line waits.

    Args:
        redis: the client.
        archive_id: of the archive.
        key: of the object of a new batch.
        replacing: the key of a batch that no object has; it then gets the other key.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    found = await _TAKE(redis, (), (archive_id, key, _MOST_LINES, replacing))
    return Batch(found[0].decode(), found[1:]) if found else None


async def finish_batch(redis: AsyncRedis, archive_id: str, key: str) -> None:
    """Drop a batch whose object is in the archive.

    Raises:
        redis.exceptions.RedisError: Redis is away; the object is written again, with the same bytes.
    """
    await _FINISH(redis, (), (archive_id, key))


class Held(NamedTuple):
    """What Redis holds of the access log.

    Attributes:
        lines: those that wait, in order; of more than 20,000 the latest, as while the archive is away.
        moved: the key of the object that a worker wrote last; None if none is known.
    """

    lines: list[bytes]
    moved: bytes | None


async def held_lines(redis: AsyncRedis, archive_id: str) -> Held:
    """What Redis holds of the access log.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    async with redis.pipeline(transaction=True) as pipe:
        pipe.lrange(ACCESS_BATCH + archive_id, 1, -1)
        pipe.lrange(ACCESS_WAITING + archive_id, -_MOST_READ, -1)
        pipe.lrange(ACCESS_WAITING, -_MOST_READ, -1)
        pipe.get(ACCESS_MOVED + archive_id)
        *found, moved = await pipe.execute()
    return Held([line for lines in found for line in lines], moved)
