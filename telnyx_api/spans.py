"""Read a time window of a list completely, even while rows come and go.

When a row is deleted between two pages, page numbers shift, and a row that stayed may appear on neither. So a window of
`created_at` is read in spans that fit on one page: a single answer, which also reports how many rows there are. If an
answer does not report that, or one second holds a page or more, the pages are walked until two walks find the same rows:
a row deleted during a walk is missing in the next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from telnyx_api.client import TelnyxClient
from telnyx_api.errors import UnreadableRow, UnreadableRows, Unsettled
from telnyx_api.operation import row_of
from telnyx_api.pages import LARGEST_PAGE, read_all
from text.times import format_instant

_SECOND = timedelta(seconds=1)
_FILL = 200  # target rows of a span; a page has 250, and calls do not arrive evenly
_MOST_GROWTH = 4.0
_NARROWED = 3  # after so many narrowings without fewer rows, the span is walked
_WALKS = 8


async def list_window(
    client: TelnyxClient, listed: Any, since: datetime, until: datetime, wanted: Mapping[str, Any]
) -> AsyncIterator[Any]:
    """Yield the rows created in a window, both ends inclusive; earlier spans first, and each span in order.

    Adjacent spans share a bound of a whole second, so that rounding loses no row; a row of both is yielded once.

    Args:
        client: the Telnyx client.
        listed: a method that lists by `created_at`, such as `client.recordings.list`.
        since: the first instant.
        until: the last instant.
        wanted: further filters.

    Raises:
        Unsettled: the rows change faster than they can be read.
        UnreadableRows: after the last row: some are unreadable or have no id, so the list is incomplete.
        TelnyxError: a page failed after retries.
    """
    low, width = since, until - since
    given: set[Any] = set()
    unreadable: dict[str | int, UnreadableRow] = {}  # by id; what has none is counted again where two spans meet
    narrowed, least = 0, 1 << 62
    while True:
        high = min(low + width, until)
        filter_ = {**wanted, "created_at": {"gte": format_instant(low), "lte": format_instant(high)}}
        page = await client.first_page(listed, filter=filter_, page_size=LARGEST_PAGE)
        items, total, bad = page.items, page.total, page.unreadable
        if total != len(page) or len(page) == LARGEST_PAGE:
            narrowed = 0 if total is not None and total < least else narrowed + 1
            least = min(least, total or least)
            is_more = total is not None and len(page) == LARGEST_PAGE
            if is_more and high - low > _SECOND and narrowed < _NARROWED:
                width = max(_SECOND, _whole_seconds((high - low) * min(0.5, _FILL / cast(int, total))))
                continue
            items, bad = await _settled(listed, filter_)
        bad = [*bad, *(UnreadableRow(None, "id: missing") for item in items if not item.id)]
        unreadable |= {row.id or id(row): row for row in bad}
        items = [item for item in items if item.id]
        for item in sorted(items, key=lambda item: str(item.created_at or "")):
            if item.id not in given:
                yield item
        if high == until:
            break
        given = {item.id for item in items}
        width = max(_SECOND, _whole_seconds((high - low) * min(_MOST_GROWTH, _FILL / max(1, len(items)))))
        low, narrowed, least = high, 0, 1 << 62
    if unreadable:
        raise UnreadableRows(row_of(listed).path, list(unreadable.values()))


def _whole_seconds(width: timedelta) -> timedelta:
    return timedelta(seconds=width // _SECOND)


async def _settled(listed: Any, filter_: Mapping[str, Any]) -> tuple[list[Any], list[UnreadableRow]]:
    """Walk all pages until two walks find the same rows; return those, and the unreadable ones."""
    before: set[Any] | None = None
    for _ in range(_WALKS):
        items, error = await read_all(listed(filter=filter_, page_size=LARGEST_PAGE))
        unreadable = [] if error is None else list(error.rows)
        found = {row.id for row in (*items, *unreadable)}
        if found == before or not (items or unreadable):
            return items, unreadable
        before = found
    raise Unsettled(f"the list of {filter_['created_at']} changed each of {_WALKS} times that it was read")
