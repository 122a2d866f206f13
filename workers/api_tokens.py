"""API tokens: each has a name, a role and an end. They are kept in the archive as hashes, so a lost Redis loses none.

A receiver keeps the list in memory. Redis only counts the changes of it: a receiver that sees another count than before
reads the list again, so a revoked token is refused at once everywhere. While Redis is away, or after it came back older, a
list is read again after at most a minute.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import msgspec
from redis.exceptions import RedisError

from archive import kinds, layout
from archive.archive import Archive, ArchiveConflict
from archive.decision_records import ApiToken
from archive.readers import API_TOKEN
from archive.records import UnreadableRecord
from config.roles import role_of
from config.scopes import Grant, Scope, scoped_grant
from text.counts import many
from text.errors import UserError
from text.times import format_duration, format_instant, format_moment, parse_instant, utc_now
from workers.keys import API_TOKENS_CHANGED
from workers.queue.script import AsyncRedis, write_when_full

PREFIX = "cvt_"  # scanners for secrets find tokens by it
LONGEST = timedelta(days=366)
SHORTEST = timedelta(minutes=1)

_SECRET_BYTES = 32
_ID_BYTES = 6
_LONGEST_NAME = 60  # characters, as for the name of a person who signs in
_FRESH_SECONDS = 60


async def create_token(
    archive: Archive, redis: AsyncRedis, name: str, grant: Grant, lasts: timedelta, by: str
) -> tuple[ApiToken, str]:
    """Make an API token.

    Args:
        archive: keeps its hash.
        redis: counts the change.
        name: what or whom it is for.
        grant: what it may do, and with which recordings.
        lasts: for how long it works.
        by: who makes it.

    Returns:
        What the archive keeps, and the token itself, which nothing keeps.

    Raises:
        UserError: the name is empty or too long, or the time is too short or too long.
        StoreError: the archive did not take it.
    """
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise UserError(f"NAME: expected 1 to {many(_LONGEST_NAME, 'printable character')}; {name[:80]!r} is not")
    if not SHORTEST <= lasts <= LONGEST:
        least, most = (format_duration(one.total_seconds()) for one in (SHORTEST, LONGEST))
        raise UserError(f"--for: expected {least} to {most}, not {format_duration(lasts.total_seconds())}")
    token, now = PREFIX + secrets.token_urlsafe(_SECRET_BYTES), utc_now()
    row = ApiToken(
        id=secrets.token_hex(_ID_BYTES),
        number=1,
        state="live",
        name=name.strip(),
        role=grant.role,
        sha256=_digest(token),
        ends_at=format_instant(now + lasts),
        by=by,
        at=format_instant(now),
    )
    if grant != Grant(grant.role):
        scope = grant.scope or Scope()
        row = msgspec.structs.replace(
            row,
            schema="callvault.api-token/2",
            connections=list(scope.connections) or msgspec.UNSET,
            numbers=list(scope.numbers) or msgspec.UNSET,
            mask=grant.mask or msgspec.UNSET,
        )
    await asyncio.to_thread(archive.put_record, layout.api_token_key(row.id, 1), row)
    await _announce(redis)
    return row, token


async def revoke_token(archive: Archive, redis: AsyncRedis, token_id: str, by: str) -> tuple[ApiToken, bool]:
    """Revoke an API token.

    Returns:
        Its last row, and whether all receivers refuse it at once: otherwise Redis is away, and they do within a minute.

    Raises:
        UserError: no API token has this id, or it was revoked before.
        StoreError: the archive did not take it; the token still works.
    """
    known = {row.id: row for row in await asyncio.to_thread(read_tokens, archive)}
    row = known.get(token_id)
    if row is None:
        raise UserError(f"no API token {token_id}; run `callvault tokens list` to see all")
    if row.state == "revoked":
        raise UserError(f"API token {token_id} was revoked before, at {format_moment(row.at)} by {row.by}")
    gone = msgspec.structs.replace(row, number=row.number + 1, state="revoked", by=by, at=format_instant(utc_now()))
    with suppress(ArchiveConflict):  # somebody else revoked it just now
        await asyncio.to_thread(archive.put_record, layout.api_token_key(gone.id, gone.number), gone)
    return gone, await _announce(redis)


def read_tokens(archive: Archive) -> list[ApiToken]:
    """The last row of each API token, the latest token first: one listing, and a read of each new row; blocks.

    A token with a row that cannot be read counts as revoked: the row may revoke it.

    Raises:
        StoreError: the store does not answer.
    """
    found: dict[str, ApiToken] = {}
    made: dict[str, str] = {}
    broken: set[str] = set()
    for stored in archive.store.list(layout.API_TOKENS):
        try:
            row = API_TOKEN.read(archive.read_once(stored.key), stored.key)
        except UnreadableRecord:
            place = kinds.place_of(stored.key)
            broken.add(place.names[0] if place.kind is kinds.API_TOKEN else stored.key)
            continue
        before = found.get(row.id)
        made[row.id] = min(row.at, made.get(row.id, row.at))
        if before is None or row.state == "revoked" or (before.state == "live" and row.number > before.number):
            found[row.id] = row
    for token_id in broken & found.keys():
        found[token_id] = msgspec.structs.replace(found[token_id], state="revoked")
    return sorted(found.values(), key=lambda row: made[row.id], reverse=True)


def works(row: ApiToken) -> bool:
    """Whether an API token works now: it is not revoked, and its end has not come."""
    try:
        return row.state == "live" and utc_now() < parse_instant(row.ends_at)
    except ValueError:
        return False


def grant_of(row: ApiToken) -> Grant | None:
    """What an API token grants; None if this version does not know its role, or cannot use its scope."""
    try:
        lists = (None if given is msgspec.UNSET else given for given in (row.connections, row.numbers))
        return scoped_grant(role_of(row.role), *lists, mask=row.mask is True)
    except ValueError:
        return None


class KnownTokens:
    """The API tokens as a receiver knows them.

    Args:
        archive: opens the archive, and raises StoreError if it does not answer.
        redis: the receiver's client.
    """

    def __init__(self, archive: Callable[[], Awaitable[Archive]], redis: AsyncRedis) -> None:
        self._archive, self._redis = archive, redis
        self._rows: list[ApiToken] = []
        self._known: tuple[bytes | None, float] | None = None  # the count of changes, and when the list was read
        self._reading = asyncio.Lock()

    async def of_secret(self, token: str) -> ApiToken | None:
        """The API token that somebody sends; None if there is no such token, or it does not work any more.

        Raises:
            StoreError: the archive does not answer, and the list is not known or too old.
        """
        digest, found = _digest(token), None
        for row in await self._fresh():
            if hmac.compare_digest(row.sha256.encode(), digest.encode()):
                found = row
        return found if found is not None and works(found) else None

    async def of_id(self, token_id: str) -> ApiToken | None:
        """The API token with an id; None if it does not work any more. Raises as `of_secret`."""
        found = next((row for row in await self._fresh() if row.id == token_id), None)
        return found if found is not None and works(found) else None

    async def _fresh(self) -> list[ApiToken]:
        count = None
        with suppress(RedisError, OSError):
            count = await self._redis.get(API_TOKENS_CHANGED)
        async with self._reading:
            if self._known is None or self._known[0] != count or time.monotonic() - self._known[1] > _FRESH_SECONDS:
                started, archive = time.monotonic(), await self._archive()
                self._rows = await asyncio.to_thread(read_tokens, archive)
                self._known = count, started
        return self._rows


async def _announce(redis: AsyncRedis) -> bool:
    """Let receivers read the list again, also while Redis is full; False if Redis is away."""
    try:
        await write_when_full(redis, ("INCR", API_TOKENS_CHANGED))
    except (RedisError, OSError):
        return False
    return True


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
