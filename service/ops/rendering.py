"""Render templates: the pages themselves, and the one line of a problem."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from service.app import WEBHOOK_PATH
from service.ops import accesses, activity, cases, charts, connections, evidence, reasons, recordings
from service.ops.bundles import SHARED_HOURS
from service.ops.csrf import masked_csrf
from service.ops.may import Guarded, admits, may_use
from service.ops.parts import Ops
from service.ops.person import Person
from service.ops.problems import answer_problem, is_of_api
from service.ops.sharing import SHARED_FOR, whole_address
from service.ops.show import FILTERS, ZONE_COOKIE, address, zone_of
from service.ops.tables import CHANGES, FILES, PAGES
from text.times import format_instant, utc_now
from workers.catalogue.query import FIELDS, STATES
from workers.catalogue.search import MOST_COUNTED, Hit
from workers.conditions import CONDITIONS
from workers.deletion.cases import FIELDS as CASE_FIELDS
from workers.queue.quarantine import MOST_KEPT

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= FILTERS
_ENVIRONMENT.globals |= {
    "address": address,
    "bars": charts.bars,
    "activity": activity.activity,
    "spans": tuple(activity.SPANS),
    "commands": evidence.COMMANDS,
    "case_address": cases.case_address,
    "case_fields": CASE_FIELDS,
    "chips": recordings.chips,
    "first_tickets": connections.first_tickets,
    "kinds_of_connections": connections.KINDS,
    "fields": FIELDS,
    "states": STATES,
    "most_counted": MOST_COUNTED,
    "most_kept": MOST_KEPT,
    "shared_days": SHARED_FOR.days,
    "why_minutes": reasons.MINUTES,
    "longest_why": reasons.LONGEST,
    "bundle_hours": SHARED_HOURS,
}
_GUARDED = [
    *(Guarded.of(f"/ops{page.path}", "GET", page.may, page.scoped) for page in PAGES),
    *(Guarded.of(file.path, file.method, file.may, file.scoped) for file in FILES),
    *(Guarded.of(f"/ops{path}", "POST", change.may, change.scoped) for path, change in CHANGES.items()),
]


def render(template: str, request: Request, person: Person | None, title: str, **values: Any) -> str:
    """Render a template; `person` is None on pages that need no sign-in."""
    csrf = masked_csrf(request, person) if person else ""
    shared: dict[str, Any] = {"person": person, "csrf": csrf, "title": title}
    shared |= {"path": request.scope["path"], "params": request.query_params}
    shared["signed_look"] = partial(accesses.signed_look, request)
    ops: Ops = request.app.state.ops
    shared["wants_why"] = lambda *whats: person is not None and reasons.wanted(ops, request, person, *whats)
    shared["webhook_url"] = whole_address(request, WEBHOOK_PATH)
    shared["span"] = request.query_params.get("span", activity.DEFAULT)
    shared["zone"] = zone_of(request.cookies.get(ZONE_COOKIE, ""))
    shared["menu"] = [page for page in PAGES if page.in_menu and person and admits(person, page.may, page.scoped)]
    about = getattr(request.state, "about", None)
    shared["may"] = lambda path, method="POST": person is not None and may_use(_GUARDED, path, method, person, about)
    shared["is_open"] = ops.is_open
    shared["redis_away"] = person is not None and ops.redis_is_away
    is_of_proxy = person is not None and person.how == "proxy"  # which signs in everybody again
    shared["can_sign_out"] = ops.access.needs_token and not is_of_proxy
    shared["now"] = format_instant(utc_now())
    return _ENVIRONMENT.get_template(template).render(**shared, **values)


def ask_why(request: Request, person: Person | None, wanted: reasons.ReasonWanted) -> Response:
    """The answer to a request that needs a reason (RFC 6585, section 3): a form, or an error for a program or a script."""
    if person is None or not person.csrf or request.scope["path"].startswith("/api/"):
        return problem(request, person, 428, str(wanted))
    if request.method == "POST":
        return problem(request, person, 428, f"give a reason to {wanted.act.help}")
    if request.headers.get("hx-request"):  # what a page asks for anew: the whole page asks
        return Response(status_code=428, headers={"HX-Refresh": "true"})
    next_address = reasons.address_of_request(request)
    return HTMLResponse(
        render("why.html", request, person, "Reason", act=wanted.act.help, next_address=next_address), 428
    )


# The headings of pages that cannot be shown, by the condition that they need to be over.
_AWAY = {"redis-away": "Redis does not answer", "archive-away": "The archive cannot be read"}


def problem(
    request: Request, person: Person | None, status: int, text: str, away: str = "", hits: Sequence[Hit] = ()
) -> Response:
    """The answer to a request that failed: a page, a line for htmx, or JSON from the API.

    Args:
        request: the request; person: who sent it, if known.
        status: of the answer; text: what failed.
        away: the condition that is the cause, if it is one; the page then links to those that still work.
        hits: what the catalogue knows nevertheless.
    """
    if is_of_api(request.scope["path"]):
        return answer_problem(request, status, text, away)
    if request.headers.get("hx-request"):
        return HTMLResponse(render("said.html", request, person, "", text=text, is_good=False), status)
    title = _AWAY.get(away) or ("Partly done" if status == 207 else HTTPStatus(status).phrase.capitalize())
    advice = CONDITIONS[away].advice if away == "archive-away" else ""  # an error of Redis has its own
    page = render("problem.html", request, person, title, text=text, advice=advice, away=away, hits=hits, names={})
    return HTMLResponse(page, status)
