"""The change feed, a bounded stream of what workers wrote into the archive, for catalogues; and the days that a seal must list.

A worker announces an object after it is in the archive and before its job ends; after a crash the job's next run does. If Redis
loses the stream or the list of days, they are rebuilt from the archive.
"""

from __future__ import annotations

import secrets
from datetime import date
from typing import Any

from workers.keys import UNSEALED, WRITTEN, WRITTEN_EPOCH
from workers.queue.script import AsyncRedis, write_when_full

STREAM_LENGTH = 20_000
_LARGEST_BYTES = 16 * 1024


async def announce(
    redis: AsyncRedis, key: str, data: bytes, day: date | None, sealable_at: float, *asked: tuple[str, ...]
) -> list[Any]:
    """Publish a record that was written.

    Args:
        redis: Redis.
        key: the key of the object.
        data: its bytes; readers fetch large objects from the archive.
        day: its day in the archive; None for a seal.
        sealable_at: when the day can be sealed at the earliest, in seconds since the epoch.
        asked: commands that read, right after that and in the same round trip.

    Returns:
        The answer of each.
    """
    fields = ("key", key, *(("data", data) if len(data) <= _LARGEST_BYTES else ()))
    unsealed = [] if day is None else [("ZADD", UNSEALED, "NX", sealable_at, day.isoformat())]
    answers = await write_when_full(
        redis,
        ("SET", WRITTEN_EPOCH, secrets.token_hex(8), "NX"),
        ("XADD", WRITTEN, "MAXLEN", "~", STREAM_LENGTH, "*", *fields),
        *unsealed,
        *asked,
    )
    return answers[len(answers) - len(asked) :]
