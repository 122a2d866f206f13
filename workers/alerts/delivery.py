"""Deliver a message to Apprise URLs, with retries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

_ATTEMPTS = 6
_BUDGET_SECONDS = 300
_FIRST_WAIT_SECONDS = 1.0


class NotDelivered(Exception):
    """An address did not accept a message."""


async def deliver(urls: Sequence[str], title: str, body: str, kind: Literal["info", "warning", "failure"]) -> None:
    """Deliver a message to every address.

    Raises:
        NotDelivered: one did not accept it after several tries.
    """
    import stamina

    async for attempt in stamina.retry_context(
        on=NotDelivered, attempts=_ATTEMPTS, timeout=_BUDGET_SECONDS, wait_initial=_FIRST_WAIT_SECONDS
    ):
        with attempt:
            await asyncio.to_thread(_notify, urls, title, body, kind)


async def deliver_once(urls: Sequence[str], title: str, body: str, kind: Literal["info", "warning", "failure"]) -> None:
    """Deliver a message to every address without retries, because somebody waits.

    Raises:
        NotDelivered: one did not accept it.
    """
    await asyncio.to_thread(_notify, urls, title, body, kind)


def _notify(urls: Sequence[str], title: str, body: str, kind: Literal["info", "warning", "failure"]) -> None:
    import apprise

    to = apprise.Apprise()
    for url in urls:
        to.add(url)
    if not to.notify(body, title=title, notify_type=apprise.NotifyType(kind)):
        raise NotDelivered
