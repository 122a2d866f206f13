"""Decide about a webhook with a good signature and a timestamp outside the window.

Either somebody replays an old webhook, or this machine's clock is wrong. Telnyx retries a 503, which another receiver may
accept, but never a 401. So while this clock and the Redis server's differ, no webhook is refused for its timestamp.
"""

from __future__ import annotations

import math
import time
from typing import Any

from config.settings import Settings
from process.logs import get_logger
from text.times import format_duration
from workers.engine.clocks import MOST_APART_SECONDS, seconds_apart

_ALERT_EVERY_SECONDS = 60

log = get_logger()


class Clocks:
    """Compares this machine's clock with the Redis server's; one per process."""

    def __init__(self, settings: Settings, redis: Any) -> None:
        self._settings, self._redis = settings, redis
        self._alerted_at = -math.inf

    async def are_apart(self) -> bool:
        """Whether the two differ by more than a minute; alerts if so.

        Raises:
            redis.exceptions.RedisError, OSError: Redis does not answer.
        """
        apart = await seconds_apart(self._redis)
        if apart <= MOST_APART_SECONDS:
            return False
        if time.monotonic() - self._alerted_at > _ALERT_EVERY_SECONDS:
            self._alerted_at = time.monotonic()
            await self._alert(format_duration(apart))
        return True

    async def _alert(self, apart: str) -> None:
        from workers.runtime import open_alerts  # most receivers never need it

        await open_alerts(self._settings, self._redis).send(
            "clocks-differ",
            "receiver",
            f"A receiver's clock and the Redis server's clock differ by {apart}. "
            "The receiver answers 503 to webhooks whose timestamp it cannot check.",
            "Synchronize both clocks by NTP. The receiver then accepts these webhooks again.",
        )
