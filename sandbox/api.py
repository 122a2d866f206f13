"""How an endpoint of the API is written: one function of the world and the call, registered with its route."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.errors import invalid

if TYPE_CHECKING:
    from sandbox.world import World


@dataclass
class Call:
    """One request to the API.

    Attributes:
        path: the path's parameters.
        query: the query, brackets unfolded: `filter[created_at][gte]=x` is `{"filter": {"created_at": {"gte": "x"}}}`.
        body: the JSON body, an empty dict if there was none.
    """

    path: dict[str, str]
    query: dict[str, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)

    def filter(self, *names: str) -> Any:
        """A filter of the query by its names; None if it is not there."""
        value: Any = self.query.get("filter", {})
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def filter_list(self, *names: str) -> list[str]:
        """A filter of several values, joined by commas or repeated."""
        value = self.filter(*names)
        if isinstance(value, dict):
            value = value.get("")
        values = value if isinstance(value, list) else [] if value is None else [value]
        return [part for text in values for part in str(text).split(",")]

    def need(self, name: str, kind: type | tuple[type, ...] = str) -> Any:
        """A field that the body must have.

        Raises:
            ApiError: 422, naming the field.
        """
        value = self.body.get(name)
        is_number_as_bool = isinstance(value, bool) and kind is int
        if value is None or value == "" or not isinstance(value, kind) or is_number_as_bool:
            raise invalid(f"/{name}", f"The '{name}' parameter is required and must be valid.")
        return value

    def choice(self, name: str, allowed: Sequence[str], *, required: bool = False) -> str | None:
        """A field of the body that has one of a few values.

        Raises:
            ApiError: 422, naming the field.
        """
        value = self.body.get(name)
        if value is None and not required:
            return None
        if value not in allowed:
            raise invalid(f"/{name}", f"The '{name}' parameter must be one of {', '.join(allowed)}.")
        return str(value)


Answer = Any
Endpoint = Callable[["World", Call], "Answer | Awaitable[Answer]"]


@dataclass(frozen=True)
class Raw:
    """An answer that is not JSON with status 200."""

    status: int = 200
    body: bytes | dict[str, Any] | None = None
    content_type: str = "application/json"


ROUTES: list[tuple[str, str, Endpoint]] = []


def route(what: str) -> Callable[[Endpoint], Endpoint]:
    """Register an endpoint: `GET /recordings/{recording_id}`. Routes are tried in the order of registration."""
    method, path = what.split(" ")

    def register(endpoint: Endpoint) -> Endpoint:
        ROUTES.append((method, path, endpoint))
        return endpoint

    return register


def unfold(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Unfold the brackets of a query."""
    query: dict[str, Any] = {}
    for key, value in pairs:
        names = [key.partition("[")[0], *re.findall(r"\[([^\]]*)\]", key)]
        place = query
        for name in names[:-1]:
            nested = place.setdefault(name, {})
            if not isinstance(nested, dict):
                raise invalid(key, "The query is contradictory.")
            place = nested
        if names[-1] in place and names[-1] != "":
            earlier = place[names[-1]]
            place[names[-1]] = [*(earlier if isinstance(earlier, list) else [earlier]), value]
        elif names[-1] == "":
            place.setdefault("", []).append(value)
        else:
            place[names[-1]] = value
    return query


def page(call: Call, items: Sequence[Any], envelope: str = "data") -> dict[str, Any]:
    """One page of a list, with `meta` as the API has it.

    Raises:
        ApiError: 422, `page[number]` below 1 or `page[size]` outside 1 to 250.
    """
    number = _page_parameter(call, "number", 1, 1, 1 << 31)
    size = _page_parameter(call, "size", 20, 1, 250)
    meta = {
        "page_number": number,
        "page_size": size,
        "total_pages": math.ceil(len(items) / size),
        "total_results": len(items),
    }
    return {envelope: list(items[(number - 1) * size : number * size]), "meta": meta}


def _page_parameter(call: Call, name: str, default: int, least: int, most: int) -> int:
    given = call.query.get("page", {})
    text = given.get(name) if isinstance(given, dict) else None
    if text is None:
        return default
    if not str(text).isdigit() or not least <= int(text) <= most:
        raise invalid(f"page[{name}]", f"page[{name}] must be between {least} and {most}.")
    return int(text)


def dumps(value: Any) -> bytes:
    """JSON as the API writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
