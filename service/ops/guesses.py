"""Failed sign-ins, counted by address, so that nobody can guess a token. Of IPv6, each network of 64 bits counts as one."""

from __future__ import annotations

import time
from collections import Counter
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Literal

from redis.exceptions import RedisError

from service.ops.person import Refused
from workers.keys import SIGN_INS
from workers.queue.script import AsyncRedis

_MOST = 10
_SECONDS = 900


class Guesses:
    """The failed sign-ins of the last 15 minutes.

    Args:
        redis: counts them for all receivers; without Redis, each receiver counts its own.
        of: what is guessed; each is counted apart.
    """

    def __init__(self, redis: AsyncRedis, of: Literal["token", "code"] = "token") -> None:
        self._redis, self._of = redis, "" if of == "token" else f"{of}:"
        self._counted: Counter[str] = Counter()

    async def check(self, address: str) -> None:
        """Check that an address may try.

        Raises:
            Refused: it failed too often.
        """
        if await self.add(address, 0) >= _MOST:
            wait = {"Retry-After": str(_SECONDS)}
            raise Refused(429, "too many failed sign-ins from your address; try again in 15 minutes", wait)

    async def add(self, address: str, more: int = 1) -> int:
        """Add failed sign-ins of an address, and return their number."""
        address = _counted_as(address)
        try:
            key = SIGN_INS + self._of + address
            if more:
                async with self._redis.pipeline(transaction=True) as pipe:
                    pipe.incrby(key, more)
                    pipe.expire(key, _SECONDS)
                    return int((await pipe.execute())[0])
            return int(await self._redis.get(key) or 0)
        except (RedisError, OSError):
            window = f"{address} {int(time.monotonic() // _SECONDS)}"
            if len(self._counted) > 1_000:
                self._counted.clear()
            self._counted[window] += more
            return self._counted[window]


def _counted_as(address: str) -> str:
    """What stands for an address: of IPv6 its network, since whoever has one address there has 2^64 (RFC 6177)."""
    try:
        there = ip_address(address)
    except ValueError:
        return address
    if not isinstance(there, IPv6Address):
        return address
    return str(there.ipv4_mapped or IPv6Network((int(there), 64), strict=False))
