"""Rows of Telnyx's lists that cannot be read: one alert names each, and every other row is read."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import TypeVar

from process.logs import get_logger
from telnyx_api.errors import UnreadableRows
from workers.keys import UNREADABLE_ALERTED
from workers.queue.script import write_when_full
from workers.runtime import Runtime

T = TypeVar("T")

log = get_logger()

_ALERT_AGAIN_SECONDS = 30 * 24 * 3600
_MOST_ALERTED = 100  # of one listing: where all rows have changed their shape, a hundred say so


async def readable(runtime: Runtime, rows: AsyncIterable[T]) -> AsyncIterator[T]:
    """The readable rows of a list, with an alert for the others. Not for lists where a gap has a meaning.

    Raises:
        TelnyxError: a page could not be had.
    """
    try:
        async for row in rows:
            yield row
    except UnreadableRows as error:
        await alert_unreadable(runtime, error)


async def alert_unreadable(runtime: Runtime, error: UnreadableRows) -> None:
    """Alert about rows that cannot be read, once a month for each.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    rows = error.rows[:_MOST_ALERTED]
    marks = [f"{UNREADABLE_ALERTED}{error.path} {row.id or row.why}" for row in rows]
    are_new = await write_when_full(
        runtime.redis, *(("SET", mark, "1", "NX", "EX", _ALERT_AGAIN_SECONDS) for mark in marks)
    )
    new = [row for row, is_new in zip(rows, are_new, strict=True) if is_new is not None]
    if not new:
        return
    for row in new:
        log.warning("row cannot be read", path=error.path, id=row.id, why=row.why)
    advice = "Report it with this message. The rest of the list was processed. See docs/runbook.md."
    await runtime.alerts.send("unreadable-rows", error.path, f"{UnreadableRows(error.path, new)}.", advice)
