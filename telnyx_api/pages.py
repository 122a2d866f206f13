"""Read the rows of a list's answer, which rows are new, and which cannot be read."""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from telnyx_api.errors import UnexpectedAnswer, UnreadableRow, UnreadableRows
from telnyx_api.operation import Operation

T = TypeVar("T")

LARGEST_PAGE = 250  # developers.telnyx.com/api/call-recordings/get-recordings: page[size] 1 to 250
_IDS = ("id", "number_id", "ticket_id", "media_name")


@dataclass(frozen=True)
class Page:
    """The first page of a list.

    Attributes:
        items: the readable items.
        unreadable: the other items.
        total: how many items the list has; None if the answer does not say.
    """

    items: list[Any]
    unreadable: list[UnreadableRow]
    total: int | None

    def __len__(self) -> int:
        return len(self.items) + len(self.unreadable)


def items_of(operation: Operation[Any], body: Any) -> list[Any]:
    """The items of a page, as received.

    Raises:
        UnexpectedAnswer: there is no list of them.
    """
    items = body.get(operation.envelope) if isinstance(body, dict) else None
    if not isinstance(items, list):
        raise UnexpectedAnswer(f"GET {operation.path}: the answer has no list {operation.envelope!r}")
    return items


def meta_number(body: Any, name: str) -> int | None:
    """A number from the `meta` of a list; None if it is missing."""
    meta = body.get("meta") if isinstance(body, dict) else None
    number = meta.get(name) if isinstance(meta, dict) else None
    return number if isinstance(number, int) else None


def _id_of(item: Any) -> str | int | None:
    """The id of an item, even if the rest of it is unreadable; None if it has none."""
    inner = item.get("data", item) if isinstance(item, dict) else None
    named = [inner.get(name) for name in _IDS] if isinstance(inner, dict) else []
    return next((one for one in named if one and isinstance(one, str | int)), None)


def unreadable_row(item: Any, error: UnexpectedAnswer) -> UnreadableRow:
    """An item that cannot be read, with its id and the reason."""
    id_ = _id_of(item)
    return UnreadableRow(None if id_ is None else str(id_), error.why)


def unseen(items: list[Any], seen: set[int]) -> list[Any]:
    """The items of a page that are new, remembering them; none if the whole page is known.

    Items without an id (log messages, as documented) may repeat, so they are dropped only with a whole known page.
    """
    fresh = []
    brings_new = False
    for item in items:
        id_ = _id_of(item)
        mark = hash(id_) if id_ is not None else hash(msgspec.json.encode(item, order="sorted"))
        is_new = mark not in seen
        brings_new = brings_new or is_new
        if is_new or id_ is None:
            fresh.append(item)
        seen.add(mark)
    return fresh if brings_new else []


async def read_all(rows: AsyncIterable[T]) -> tuple[list[T], UnreadableRows | None]:
    """Walk a list to its end: its readable items, and the error for the unreadable ones, if any.

    Raises:
        TelnyxError: a page failed.
    """
    found: list[T] = []
    try:
        async for row in rows:
            found.append(row)  # noqa: PERF401  a comprehension would lose them with the error
    except UnreadableRows as error:
        return found, error
    return found, None
