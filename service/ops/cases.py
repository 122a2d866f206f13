"""The pages of cases: all of them, and one with its recordings; open one, close one."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request

from archive.cases import Case, read_cases
from service.ops.masking import masked
from service.ops.may import HEAR
from service.ops.parts import Ops
from service.ops.person import Refused
from service.ops.recordings import PER_PAGE
from service.ops.view import View, view_of
from workers.catalogue.in_cases import CaseCounts
from workers.catalogue.query import FIELDS, BadQuery, Query, join, read_box, read_query, write_box
from workers.catalogue.search import Hit
from workers.deletion import cases
from workers.deletion.decided import too_late

_MOST_COUNTED = 20  # open cases


class Shown(msgspec.Struct, frozen=True):
    """A case, and how many recordings it holds.

    Attributes:
        asks: what it asks for, in words.
        counts: its recordings, as the catalogue knows them; None where they were not counted.
    """

    case: Case
    asks: str
    counts: CaseCounts | None


class Cases(msgspec.Struct, frozen=True):
    """All cases, the open ones first.

    Attributes:
        open: how many are open.
        note: a warning about the counts, such as that the catalogue is still being read.
    """

    cases: list[Shown]
    open: int
    note: str | None


class CaseDetail(msgspec.Struct, frozen=True):
    """One case with its recordings.

    Attributes:
        case: the case, and how many recordings it holds.
        hits: the latest first; None if the role does not show recordings.
        after: pass it to get the next page; None at the end.
        note: a warning about the recordings, such as that the catalogue is still being read.
    """

    case: Shown
    hits: list[Hit] | None
    after: str | None
    note: str | None


async def look(ops: Ops, request: Request) -> Cases:
    """All cases, from the archive itself."""
    found = await ops.runtime.in_thread(read_cases, ops.runtime.archive)
    counted = [case for case in found if case.is_open][:_MOST_COUNTED]
    counts = await view_of(request).counts_of(counted)
    return Cases(
        cases=[_shown(view_of(request), case, counts.get(case.id)) for case in found],
        open=sum(case.is_open for case in found),
        note=await ops.catalogue.note() if counted else None,
    )


async def look_at_one(ops: Ops, request: Request) -> CaseDetail:
    """One case, and its recordings as the catalogue finds them.

    Raises:
        Refused: there is no such case.
        UserError: `after` is no value of a previous page.
    """
    case_id, after = request.path_params["case_id"], request.query_params.get("after")
    found = {case.id: case for case in await ops.runtime.in_thread(read_cases, ops.runtime.archive)}
    if (case := found.get(case_id)) is None:
        raise Refused(404, f"there is no case {case_id[:60]}")
    counts = await view_of(request).counts_of([case])
    reader = View(ops, request.state.person.reach(HEAR))
    hits = await _hits(reader, case, after) if HEAR & request.state.person.roles else None
    is_more = hits is not None and len(hits) > PER_PAGE
    return CaseDetail(
        case=_shown(view_of(request), case, counts.get(case.id)),
        hits=None if hits is None else hits[:PER_PAGE],
        after=hits[PER_PAGE - 1].place if hits and is_more else None,
        note=await ops.catalogue.note(),
    )


async def _hits(reader: View, case: Case, after: str | None) -> list[Hit]:
    try:
        return await reader.search(Query(case=case.id), PER_PAGE + 1, after)
    except BadQuery:  # the catalogue does not know it yet, which its note says
        return []


def _shown(view: View, case: Case, counts: CaseCounts | None) -> Shown:
    if view.masks_all:
        case = msgspec.structs.replace(
            case, query=msgspec.structs.replace(case.query, number=masked(case.query.number))
        )
    return Shown(case, cases.in_words(case.query), counts)


async def open_case(ops: Ops, form: dict[str, str]) -> str:
    """Open a case for a search."""
    query = cases.case_query(read_query(read_box(form["query"])))
    case, decided = await cases.open_case(ops.runtime, form["name"], query, form["why"], form["by"])
    unknown = "".join(f"; unknown: {line}" for line in decided.unknown)
    return f"{case.title} is open{too_late(decided)}{unknown}"


async def close_case(ops: Ops, form: dict[str, str]) -> str:
    """Close a case."""
    case = await cases.close_case(ops.runtime, form["id"], form["why"], form["by"])
    return f"{case.title} is closed; what no other case or hold keeps is free"


def case_address(params: Mapping[str, str]) -> str | None:
    """The address of the form that opens a case with a search; None if a case cannot ask for the same."""
    given = {name: value for name in FIELDS if (value := params.get(name, "").strip())}
    try:
        words = {name: value for name, value in join(given, read_box(params.get("q", ""))).items() if value}
        cases.case_query(read_query(words))
    except BadQuery:
        return None
    return f"/ops/cases?{urlencode({'query': write_box(words)})}"
