"""Sessions of people who signed in at an OpenID provider: kept in Redis, and confirmed by the provider each minute.

The cookie has a random secret. Redis has the session under the hash of that secret, encrypted with a key that is made of it:
whoever reads Redis gets no token of the provider, and whoever reads the cookie gets none either.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable

import msgspec
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from process.logs import get_logger
from service.ops.oidc import Granted, Provider, ProviderAway, ProviderRefused
from service.ops.signed import AHEAD_SECONDS
from workers.keys import SESSION, SESSION_CHECK
from workers.queue.script import AsyncRedis, write_when_full

SECONDS = 12 * 3600  # a session at most, as by token
_CONFIRMED_SECONDS = 60  # until the provider is asked again
_PATIENCE_SECONDS = 300  # of a provider that does not answer; nobody is let in after it
_ASK_AGAIN_SECONDS = 15  # a provider that did not answer
_CHECK_SECONDS = 60  # of asking the provider, at most: its tokens, keys, documents and claims

log = get_logger()


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A session as Redis has it.

    Attributes:
        granted: what the provider said.
        started_at: seconds since the epoch; confirmed_at: when the provider last said so; asked_at: when it was last asked.
    """

    granted: Granted
    started_at: float
    confirmed_at: float
    asked_at: float


_DECODER = msgspec.msgpack.Decoder(_Kept)


class NotConfirmed(Exception):
    """The provider has not answered for minutes, so nobody knows whether the person may still enter."""


class Sessions:
    """The sessions.

    Args:
        provider: confirms them.
        redis: keeps them.
        now: seconds since the epoch.
    """

    def __init__(self, provider: Provider, redis: AsyncRedis, now: Callable[[], float] = time.time) -> None:
        self._provider, self._redis, self._now = provider, redis, now

    async def start(self, granted: Granted) -> str:
        """Start a session; returns its secret, for the cookie."""
        secret, now = secrets.token_urlsafe(32), self._now()
        await self._write(secret, _Kept(granted=granted, started_at=now, confirmed_at=now, asked_at=now), is_new=True)
        return secret

    async def of(self, secret: str) -> Granted | None:
        """What the provider says of the person, a minute old at most; None if the session is over.

        Raises:
            NotConfirmed: the provider does not answer for too long.
            redis.exceptions.RedisError: Redis does not answer.
        """
        kept = await self._read(secret)
        if kept is not None and self._is_over(kept):
            await self.end(secret)
            return None
        if kept is None or self._is_within(_CONFIRMED_SECONDS, kept.confirmed_at):
            return None if kept is None else kept.granted
        check = SESSION_CHECK + _id(secret)
        (is_first,) = await write_when_full(self._redis, ("SET", check, "1", "NX", "EX", _CHECK_SECONDS))
        if is_first is not None:
            try:
                kept = await self._confirmed(secret, await self._read(secret))
            finally:
                await self._redis.delete(check)
        else:  # another request asks now; it matters that only one does, since a refresh token is good for one use
            kept = await self._after(check, secret)
        if kept is not None and not self._is_within(_PATIENCE_SECONDS, kept.confirmed_at):
            raise NotConfirmed("the OpenID provider does not answer, so Callvault cannot confirm your sign-in")
        return None if kept is None else kept.granted

    async def end(self, secret: str) -> None:
        """End a session."""
        await self._redis.delete(SESSION + _id(secret))

    async def _confirmed(self, secret: str, kept: _Kept | None) -> _Kept | None:
        """Ask the provider, unless it was just asked; returns the session as it is then."""
        now = self._now()
        if (
            kept is None
            or self._is_within(_CONFIRMED_SECONDS, kept.confirmed_at)
            or self._is_within(_ASK_AGAIN_SECONDS, kept.asked_at)
        ):
            return kept
        try:
            granted = await self._provider.renew(kept.granted)
        except ProviderAway as error:
            log.warning("a sign-in could not be confirmed", who=kept.granted.name, error=str(error))
            kept = msgspec.structs.replace(kept, granted=error.renewed or kept.granted, asked_at=now)
        except ProviderRefused as error:
            log.info("a sign-in has ended", who=kept.granted.name, why=str(error))
            await self.end(secret)
            return None
        else:
            kept = msgspec.structs.replace(kept, granted=granted, confirmed_at=now, asked_at=now)
        await self._write(secret, kept)
        return kept

    async def _after(self, check: str, secret: str) -> _Kept | None:
        """The session once another request has asked the provider."""
        for _ in range(_CHECK_SECONDS * 10):
            if not await self._redis.exists(check):
                break
            await asyncio.sleep(0.1)
        return await self._read(secret)

    def _is_within(self, seconds: float, at: float) -> bool:
        """Whether something was so many seconds ago at most. A time that is still to come is of a receiver with a wrong clock."""
        return -AHEAD_SECONDS <= self._now() - at <= seconds

    def _is_over(self, kept: _Kept) -> bool:
        now, ends_at = self._now(), kept.granted.ends_at
        return now - kept.started_at > SECONDS or (ends_at is not None and now > ends_at)

    async def _read(self, secret: str) -> _Kept | None:
        data = await self._redis.get(SESSION + _id(secret))
        try:
            return None if data is None else _DECODER.decode(_box(secret).decrypt(data))
        except (CryptoError, msgspec.MsgspecError, ValueError, TypeError):
            return None  # of another version; the person signs in again

    async def _write(self, secret: str, kept: _Kept, *, is_new: bool = False) -> None:
        """Write a session; one that has just ended stays ended.

        Also while Redis is full: whoever mends that has to be let in, and a new refresh token that is lost ends everything.
        """
        left = max(1, round(kept.started_at + SECONDS - self._now()))
        data = bytes(_box(secret).encrypt(msgspec.msgpack.encode(kept)))
        await write_when_full(self._redis, ("SET", SESSION + _id(secret), data, "EX", left, "NX" if is_new else "XX"))


def _id(secret: str) -> str:
    return hashlib.sha256(b"callvault session id " + secret.encode()).hexdigest()[:32]


def _box(secret: str) -> SecretBox:
    return SecretBox(hashlib.sha256(b"callvault session key " + secret.encode()).digest())
