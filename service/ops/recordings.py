"""The page of recordings: a search in the catalogue, and its results as CSV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service.ops.bulk import assert_few
from service.ops.evidence import day_in_path
from service.ops.forms import LONGEST_FIELD, LONGEST_IDS, read_change
from service.ops.parts import Ops
from service.ops.person import Refused
from service.ops.view import View, view_of
from text.times import format_instant
from workers.catalogue.inventory import bracketed, csv_lines, csv_warning
from workers.catalogue.query import FIELDS, BadQuery, Query, join, read_box, read_query, write_box
from workers.catalogue.search import Hit

PER_PAGE = 50


class Found(msgspec.Struct, frozen=True):
    """A page of recordings.

    Attributes:
        query: the search as Callvault understood it.
        hits: the latest first.
        total: how many match, on all pages; 10,001: more than 10,000.
        after: pass it to get the next page; None at the end.
        note: a warning about the result, such as that the catalogue is still being read.
    """

    query: Query
    hits: list[Hit]
    total: int
    after: str | None
    note: str | None


async def look(ops: Ops, request: Request) -> Found:
    """Search.

    Raises:
        BadQuery: the search is not valid.
    """
    query = _query_of(request)
    after = request.query_params.get("after")
    view = view_of(request)
    hits = await view.search(query, PER_PAGE + 1, after)
    if not hits and query.id is not None and after is None and await view.find(query.id) is not None:
        hits = await view.search(query, PER_PAGE + 1)
    is_more = len(hits) > PER_PAGE
    return Found(
        query=query,
        hits=hits[:PER_PAGE],
        total=await view.count(query) if is_more or after else len(hits),
        after=hits[PER_PAGE - 1].place if is_more else None,
        note=await ops.catalogue.note(),
    )


def _query_of(request: Request) -> Query:
    given = {name: request.query_params.get(name) for name in FIELDS}
    return read_query(join(given, read_box(request.query_params.get("q", ""))))


def chips(params: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """What a search is limited by: the name and the value of each, and the address of the search without it."""
    given = {name: value for name in FIELDS if (value := params.get(name, "").strip())}
    try:
        box = read_box(params.get("q", ""))
    except BadQuery:
        return []  # the page shows the error
    found = [(name, value, {**given, "q": write_box(_without(box, name))}) for name, value in box.items()]
    found += [(name, value, {**_without(given, name), "q": params.get("q", "")}) for name, value in given.items()]
    return [(name, value, urlencode({key: word for key, word in rest.items() if word})) for name, value, rest in found]


def _without(words: Mapping[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in words.items() if key != name}


def for_api(found: Found) -> Found:
    """A page of recordings for the API: matching words in brackets, as in `callvault find --json`."""
    hits = [msgspec.structs.replace(hit, words=bracketed(hit.words)) for hit in found.hits]
    return msgspec.structs.replace(found, hits=hits)


def instant_of(seconds: float) -> str:
    """ISO 8601, UTC, of seconds since the epoch."""
    return format_instant(datetime.fromtimestamp(seconds, UTC))


async def inventory(ops: Ops, request: Request) -> Response:
    """All recordings of a day as CSV, as `callvault find --csv` writes it.

    Raises:
        Refused: the path is not a day.
    """
    return await inventory_of(ops, view_of(request), day_in_path(request), has_numbers=True)


async def inventory_of(ops: Ops, view: View, day: date, *, has_numbers: bool) -> Response:
    """All recordings of a day as CSV.

    Args:
        ops: the parts of the pages.
        view: what the reader sees.
        day: UTC.
        has_numbers: whether it may have numbers that are not masked.
    """
    query = read_query({"since": day.isoformat(), "until": day.isoformat()})
    await view.search(query, 1)
    lacks = await ops.catalogue.incomplete()
    hits: Iterable[Hit] = view.all(query)
    if not has_numbers and not ops.settings.ops_mask_numbers:
        hits = map(_without_numbers, hits)
    return _csv(hits, f"recordings-{day}", lacks)


def _without_numbers(hit: Hit) -> Hit:
    return msgspec.structs.replace(hit, row=msgspec.structs.replace(hit.row, from_number=None, to_number=None))


async def export(ops: Ops, request: Request) -> Response:
    """All recordings of a search as CSV.

    Raises:
        BadQuery: the search is not valid.
    """
    query, view = _query_of(request), view_of(request)
    request.state.found = await view.count(query)
    return _csv(view.all(query), "recordings", await ops.catalogue.incomplete())


async def export_selected(ops: Ops, request: Request) -> Response:
    """The recordings that a person has selected, as CSV.

    Raises:
        Refused: none is selected, or the archive does not have one.
        UserError: too many are selected.
    """
    form = await read_change(ops, request, {"ids": LONGEST_IDS, "why": LONGEST_FIELD})
    if not (ids := list(dict.fromkeys(form.get("ids", "").split()))):
        raise Refused(400, "ids: missing")
    assert_few(ids, "recording")
    view = view_of(request)
    known = await view.of_ids(ids)
    hits = [known[one] if one in known and known[one].row.key else await view.find(one) for one in ids]
    if missing := [one for one, hit in zip(ids, hits, strict=True) if hit is None]:
        raise Refused(404, f"not in the archive: {', '.join(missing)}")
    request.state.shown, request.state.why = ids, form.get("why", "").strip()
    return _csv(filter(None, hits), "recordings")


def _csv(hits: Iterable[Hit], name: str, lacks: str | None = None) -> Response:
    """An inventory as a file; if it may lack recordings, its name and its last line say so."""

    def lines() -> Iterator[str]:
        yield from csv_lines(hits)
        if lacks is not None:
            yield csv_warning(lacks)

    incomplete = "" if lacks is None else "-incomplete"
    headers = {"Content-Disposition": f'attachment; filename="{name}{incomplete}.csv"'}
    return StreamingResponse(lines(), 200, headers, "text/csv")  # Starlette draws the lines in a thread
