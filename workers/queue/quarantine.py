"""The quarantine: signed webhooks from which no job could be made, kept for a person to look at.

`accept.lua` keeps the bodies as they came, the newest first, and beside them a note on each. A body that an earlier version
kept has no note. Both lists are bounded, and lost with Redis.
"""

from __future__ import annotations

import hashlib

import msgspec

from text.times import format_instant, utc_now
from workers.keys import INSPECTION, INSPECTION_NOTES
from workers.queue.script import AsyncRedis

MOST_KEPT = 500
LARGEST_KEPT_BYTES = 32 * 1024


class Note(msgspec.Struct, frozen=True):
    """What is known of a webhook besides its body.

    Attributes:
        digest: of the kept part of its body, by which its note is found.
        at: when it came, by the receiver's clock; ISO 8601, UTC.
        event_id: empty if it has none, likewise event_type.
        why: no job could be made from it.
        size_bytes: of the whole body.
    """

    digest: str
    at: str
    event_id: str
    event_type: str
    why: str
    size_bytes: int


class Quarantined(msgspec.Struct, frozen=True):
    """A webhook in quarantine: its body, at most its first 32 KiB, and the note; None for one of an earlier version."""

    body: bytes
    note: Note | None


def note_on(body: bytes, event_id: str, event_type: str, why: str) -> bytes:
    """The note on a webhook, as it is kept."""
    at, whole = format_instant(utc_now()), event_id.encode("utf-8", "replace").decode()  # JSON takes no lone surrogate
    return msgspec.json.encode(Note(_digest(body[:LARGEST_KEPT_BYTES]), at, whole, event_type, why, len(body)))


async def read_quarantine(redis: AsyncRedis, first: int, count: int) -> list[Quarantined]:
    """Some webhooks of the quarantine, the newest first.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    bodies = await redis.lrange(INSPECTION, first, first + count - 1)
    notes: dict[str, Note] = {}
    for row in await redis.lrange(INSPECTION_NOTES, 0, -1) if bodies else ():
        try:
            note = msgspec.json.decode(row, type=Note)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # counts as lost
            continue
        notes.setdefault(note.digest, note)
    return [Quarantined(body, notes.get(_digest(body))) for body in bodies]


def _digest(kept: bytes) -> str:
    return hashlib.blake2b(kept, digest_size=12).hexdigest()
