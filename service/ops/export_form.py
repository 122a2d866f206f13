"""The form that asks for an export: of a search, or of the recordings that a person has selected (`exports.py`)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.ops.accesses import asked
from service.ops.exports import HOURS, case_of_search, choose, usable
from service.ops.forms import LONGEST_FIELD, LONGEST_IDS, read_change
from service.ops.parts import Ops
from service.ops.rendering import render
from service.ops.view import view_of


async def of_search(ops: Ops, request: Request) -> Response:
    """The form that asks for an export of a search.

    Raises:
        BadQuery: the search is not valid.
        Refused, UserError: such an export cannot be made.
    """
    return await _form(ops, request, {"search": asked(request)})


async def of_selected(ops: Ops, request: Request) -> Response:
    """The form that asks for an export of the recordings that a person has selected; raises likewise."""
    form = await read_change(ops, request, {"ids": LONGEST_IDS, "why": LONGEST_FIELD})
    return await _form(ops, request, {"ids": form.get("ids", "")})


async def _form(ops: Ops, request: Request, form: dict[str, str]) -> Response:
    chosen = await choose(ops, request, form)
    exports = await usable(ops)
    size = sum(one.size_bytes for one in chosen)
    values = {"form": form, "recordings": len(chosen), "size_bytes": size, "hours": HOURS}
    values["place"] = exports.store.url
    case_id = case_of_search(form.get("search", ""))
    values["case"] = (await view_of(request).case_names({case_id})).get(case_id) if case_id else None
    text = render("export.html", request, request.state.person, "Export with proofs", **values)
    return HTMLResponse(text)
