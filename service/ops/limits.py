"""How many requests a program may send to `/api/` in a minute, counted by Redis for all receivers.

The headers are those of the IETF's draft (draft-ietf-httpapi-ratelimit-headers-10): `RateLimit-Policy` and `RateLimit`.
Webhooks, pages and addresses of audio are not counted.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from typing import NamedTuple

from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from service.ops.person import Person, Refused
from text.counts import many
from workers.keys import API_REQUESTS
from workers.queue.script import AsyncRedis, Script

_SECONDS = 60
_MOST_KNOWN = 10_000

_COUNT_REQUEST = Script(__package__, "count_request.lua")


class _Taken(NamedTuple):
    requests: int
    seconds_left: float


class Limits:
    """Counts requests.

    Args:
        redis: counts them for all receivers; without Redis, each receiver counts its own.
        most: how many requests of one token are answered in a minute; 0: all.
    """

    def __init__(self, redis: AsyncRedis, most: int) -> None:
        self._redis, self._most = redis, most
        self._counted: Counter[str] = Counter()

    async def take(self, request: Request, person: Person) -> None:
        """Count a request; `show` writes the result into the headers of the answer.

        Raises:
            Refused: this token has sent too many.
        """
        if not self._most:
            return
        taken = request.state.taken = await self._count(_name_of(person))
        if taken.requests > self._most:
            wait = {"Retry-After": str(math.ceil(taken.seconds_left))}
            at_most = f"{many(self._most, 'request')} a minute"
            raise Refused(429, f"too many requests with this token; it may send {at_most}", wait)

    def show(self, request: Request, response: Response) -> None:
        """Write how many requests are left into the headers of an answer."""
        taken: _Taken | None = getattr(request.state, "taken", None)
        if taken is None:
            return
        left = max(0, self._most - taken.requests)
        response.headers["RateLimit-Policy"] = f'"token";q={self._most};w={_SECONDS}'
        response.headers["RateLimit"] = f'"token";r={left};t={math.ceil(taken.seconds_left)}'

    async def _count(self, name: str) -> _Taken:
        try:
            count, left = await _COUNT_REQUEST(self._redis, [API_REQUESTS + name], [_SECONDS])
            return _Taken(int(count), max(0, int(left)) / 1000)
        except (RedisError, OSError):  # away or full: nobody is refused for that
            now = time.monotonic()
            if len(self._counted) > _MOST_KNOWN:
                self._counted.clear()
            window = f"{name} {int(now // _SECONDS)}"
            self._counted[window] += 1
            return _Taken(self._counted[window], _SECONDS - now % _SECONDS)


def _name_of(person: Person) -> str:
    """What stands for a token or a person in Redis, where names of people need not be read."""
    return hashlib.sha256(repr((person.how, person.id or person.name)).encode()).hexdigest()[:32]
