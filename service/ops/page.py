"""One row of each table in `tables.py`: pages, other answers, changes, operations of `/api/`. Each names its roles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from service.ops.accesses import Says
from service.ops.bulk import Shared
from service.ops.may import May, Scoped
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
        may: the roles that see it, here and through the API.
        scoped: how it treats a role with a scope (`may.py`).
        query: the query parameters with a description each; any other is refused.
        for_api: converts the data for the API.
        shows_refusals: whether the page itself shows why its query is refused, so that a person can mend it there; its
            template then gets `it` as None, and `error`.
        how: the query parameters that choose how the page shows its data; the API has none of them.
        log: what the access log says of a look at it; None: nothing.
        needs: the conditions, such as `redis-away`, in which it cannot be shown.
    """

    path: str
    template: str
    title: str
    look: Callable[[Ops, Request], Awaitable[Any]]
    answer: type
    may: May
    in_menu: bool = False
    query: tuple[tuple[str, str], ...] = ()
    for_api: Callable[[Any], Any] = lambda value: value
    shows_refusals: bool = False
    how: tuple[str, ...] = ()
    log: Says | None = None
    needs: tuple[str, ...] = ()
    scoped: Scoped = field(kw_only=True)


@dataclass(frozen=True)
class File:
    """An answer that is not a page, such as audio.

    Attributes:
        path: the whole path.
        what: its content, for docs/access.md.
        give: makes the answer.
        may: the roles that get it.
        scoped: how it treats a role with a scope (`may.py`); `one`: `recording_id` in its path names the recording.
        query: the query parameters; any other is refused.
        method: of the request.
        log: what the access log says of it; None: nothing.
    """

    path: str
    what: str
    give: Callable[[Ops, Request], Awaitable[Response]]
    may: May
    query: tuple[str, ...] = ()
    method: str = "GET"
    log: Says | None = None
    scoped: Scoped = field(kw_only=True)


@dataclass(frozen=True)
class Change:
    """A change that a person makes.

    Attributes:
        what: it does, for docs/access.md.
        make: makes it, and returns one line about it.
        fields: those that it must have.
        may: the roles that may make it.
        scoped: how it treats a role with a scope (`may.py`); `one`: the field `id` or `ids` names the recordings.
    """

    what: str
    make: Callable[[Ops, dict[str, str]], Awaitable[str | Shared]]
    fields: tuple[str, ...]
    may: May
    scoped: Scoped = field(kw_only=True)


@dataclass(frozen=True)
class Operation:
    """What a program asks of `/api/`, beside the data of the pages.

    Attributes:
        path: the whole path.
        method: of the request; all but GET need the CSRF token of a person who came with a cookie.
        name: its `operationId`, which clients make names of functions from.
        what: it does, for docs/access.md and the OpenAPI document.
        give: makes the answer; its third argument is the body, None without one.
        may: the roles that may ask for it.
        scoped: how it treats a role with a scope (`may.py`).
        answer: the type of the answer, or its media type if it is no JSON.
        body: the type of the body, whose unknown fields are refused; None: it takes none.
        query: the query parameters with a description each; any other is refused.
        log: what the access log says of it; None: nothing, or `give` writes the line itself.
        refusals: the statuses of its own refusals, beside those of every path.
    """

    path: str
    method: Literal["GET", "POST"]
    name: str
    what: str
    give: Callable[[Ops, Request, Any], Awaitable[Any]]
    may: May
    answer: type | str
    body: type | None = None
    query: tuple[tuple[str, str], ...] = ()
    log: Says | None = None
    refusals: tuple[int, ...] = (404,)
    scoped: Scoped = field(kw_only=True)
