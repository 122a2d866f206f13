"""One row of the table of pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from service.ops.parts import Ops


@dataclass(frozen=True)
class Page:
    """A page, and the same data as JSON.

    Attributes:
        path: under `/ops` and under `/api`.
        template: file name of its template.
        title: of the page, and of its entry in the menu if `in_menu` is set.
        look: reads the data.
        answer: the type of the data.
        query: the query parameters with a description each; any other is refused.
        for_api: converts the data for the API.
        shows_refusals: whether the page itself shows why its query is refused, so that a person can mend it there; its
            template then gets `it` as None, and `error`.
        how: the query parameters that choose how the page shows its data; the API has none of them.
    """

    path: str
    template: str
    title: str
    look: Callable[[Ops, Request], Awaitable[Any]]
    answer: type
    in_menu: bool = False
    query: tuple[tuple[str, str], ...] = ()
    for_api: Callable[[Any], Any] = lambda value: value
    shows_refusals: bool = False
    how: tuple[str, ...] = ()
