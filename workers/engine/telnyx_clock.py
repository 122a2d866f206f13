"""Telnyx's clock: a third one, on no machine of ours, for what a wrong clock of ours would end years too early.

The clock of a single machine and of the Redis on it are the same one, so that these two agree says little.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

import httpx

MOST_APART_SECONDS = 600.0  # the answers come over the internet
_ASK_SECONDS = 10.0
_COUNTED_ON_SECONDS = 300.0


class NoTime(Exception):
    """Telnyx does not tell the time; the text says why."""


class TelnyxClock:
    """Telnyx's clock, by the header `Date` of its answers; asked now and then, and counted on by a monotonic clock.

    The request carries no key, and any answer has the time (RFC 9110, section 6.6.1).
    """

    def __init__(self) -> None:
        self._seen: tuple[float, float] | None = None  # Telnyx's time, and the count then

    async def seconds_apart(self, base_url: str, now: float) -> float:
        """By how much Telnyx's clock and a time differ.

        Args:
            base_url: of the Telnyx API.
            now: the time by another clock, in seconds since the epoch.

        Raises:
            NoTime: Telnyx does not tell it.
        """
        if self._seen is None or time.monotonic() - self._seen[1] > _COUNTED_ON_SECONDS:
            self._seen = await _date_of(base_url), time.monotonic()
        return abs(self._seen[0] + time.monotonic() - self._seen[1] - now)


async def _date_of(base_url: str) -> float:
    try:
        async with httpx.AsyncClient(timeout=_ASK_SECONDS) as client:
            answer = await client.head(base_url)
        return parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (httpx.HTTPError, KeyError, ValueError) as error:
        raise NoTime(f"Telnyx does not tell the time ({type(error).__name__})") from None
