"""One row of the table of pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from service.ops.parts import Ops


@dataclass(frozen=True)
class Page:
    """A page and the same data as JSON.

    Attributes:
        path: under `/ops`, and under `/api` likewise.
        template: its file.
        title: of the page; with `in_menu` also in the menu.
        look: reads what it shows.
        answer: the type of that.
        query: parameters of the query, with a line each; any other is refused.
        told: makes of what is shown what the API tells; by default the same.
    """

    path: str
    template: str
    title: str
    look: Callable[[Ops, Request], Awaitable[Any]]
    answer: type
    in_menu: bool = False
    query: tuple[tuple[str, str], ...] = ()
    told: Callable[[Any], Any] = lambda value: value
