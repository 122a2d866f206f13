"""The routes of the ops pages and of `/api/`, made from the tables (`tables.py`), and the door that each request passes.

`_Door` admits a request (`access.py`) if its row names a role of the person, the page's module reads what it shows, and its
template renders it (`rendering.py`). The API sends the same value as JSON.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from archive.records import UnreadableRecord
from archive.stores.store import StoreError
from process.logs import get_logger
from service.ops import accesses, audio_address, export_form, operations, reasons, shared
from service.ops.access import HEADERS
from service.ops.bulk import PartlyDone, named
from service.ops.forms import LONGEST_FIELD, LONGEST_IDS, check_names, read_change
from service.ops.live import live
from service.ops.may import DECIDE, EVERYONE, May, Scoped, admits, assert_guarded
from service.ops.openapi import document
from service.ops.page import Change, File, Operation, Page
from service.ops.parts import Ops
from service.ops.person import Person, Refused
from service.ops.problems import answer_problem, is_of_api
from service.ops.reasons import ReasonWanted, give_reason
from service.ops.recording import ArchiveAway
from service.ops.rendering import ask_why, problem, render
from service.ops.seen import assert_seen, not_allowed, seen
from service.ops.sharing import whole_address
from service.ops.signing_in import CALLBACK, callback, sign_in, sign_out, signed_out, start
from service.ops.tables import CHANGES, EXPORT, FILES, OPERATIONS, PAGES
from service.ops.view import View, view_of
from telnyx_api.errors import TelnyxError
from text.errors import UserError
from text.one_line import one_line
from workers.access.log import NotWritten
from workers.catalogue.file import CatalogueBusy
from workers.catalogue.query import BadQuery, read_box, read_query
from workers.catalogue.search import Hit

log = get_logger()

_LONGEST = {"ids": LONGEST_IDS}

# `masked_csrf` keeps a compressed page from revealing its token. Audio, CSV and live events stay as they are.
_SMALLER = (Middleware(GZipMiddleware, minimum_size=1000, compresslevel=6),)


def routes() -> Sequence[BaseRoute]:
    """The routes of the pages, of the API and of what the pages need.

    Raises:
        TypeError: no row says which roles may use one of them.
    """
    found: list[BaseRoute] = [
        Route("/", _to_the_pages, methods=["GET", "POST"]),
        Route("/ops/sign-in", sign_in, methods=["GET", "POST"]),
        Route("/ops/sign-in/start", start, methods=["GET"]),
        Route(CALLBACK, callback, methods=["GET"]),
        *shared.routes(),
        *audio_address.routes(),
        Mount("/ops/static", _Static(directory=Path(__file__).parent / "static"), middleware=_SMALLER),
    ]
    own = (
        File("/ops/sign-out", "sign out", sign_out, EVERYONE, method="POST", scoped="none"),
        File(reasons.PATH, "give a reason", give_reason, EVERYONE, method="POST", scoped="none"),
        File(
            "/ops/exports/new", "form of an export of a search", export_form.of_search, DECIDE, EXPORT, scoped="whole"
        ),
        File("/ops/exports/new", "form of an export", export_form.of_selected, DECIDE, (), "POST", scoped="whole"),
        File("/ops/live", "the overview as it changes", live, EVERYONE, ("span",), scoped="whole"),
        File("/api/openapi.json", "description of the API", _openapi, EVERYONE, scoped="none"),
    )
    found += [
        Route(f.path, _Door(f.give, *f.query, may=f.may, scoped=f.scoped, log=f.log), methods=[f.method])
        for f in (*own, *FILES)
    ]
    for page in PAGES:
        query = dict(page.query)
        shown = _Door(_shown(page), *query, *page.how, may=page.may, scoped=page.scoped, log=page.log)
        answered = _Door(_answer_of(page), *query, may=page.may, scoped=page.scoped, log=page.log)
        found += [
            Route(f"/ops{page.path}", shown, methods=["GET"], middleware=_SMALLER),
            Route(f"/api{page.path or '/overview'}", answered, methods=["GET"], middleware=_SMALLER),
        ]
    found += [_of_operation(row) for row in OPERATIONS]
    found += [
        Route(f"/ops{path}", _Door(_made(row), may=row.may, scoped=row.scoped), methods=["POST"])
        for path, row in CHANGES.items()
    ]
    found += [
        Route("/ops/", _to_the_pages, methods=["GET"]),
        Route("/ops/{rest:path}", _Door(_unknown, may=EVERYONE, scoped="none"), methods=["GET"]),
        # Any method, so that it says which ones a path takes.
        Route("/api/{rest:path}", _Door(_unknown, may=EVERYONE, scoped="none")),
    ]
    assert_guarded(found)
    return found


def _of_operation(row: Operation) -> Route:
    asked = _Door(operations.answer_of(row), *dict(row.query), may=row.may, scoped=row.scoped, log=row.log)
    return Route(row.path, asked, methods=[row.method], middleware=_SMALLER if isinstance(row.answer, type) else ())


class _Door:
    """Admits requests that may enter, and turns errors behind it into one line for a person.

    Attributes:
        may: the roles that it admits.
        scoped: how it treats a role with a scope (`may.py`).
    """

    def __init__(
        self,
        inside: Callable[[Ops, Request], Awaitable[Response]],
        *parameters: str,
        may: May,
        scoped: Scoped,
        log: accesses.Says | None = None,
    ) -> None:
        self._inside, self.may, self.scoped, self._log = inside, may, scoped, log
        self._parameters = (*parameters, *((reasons.PARAMETER,) if log is not None else ()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await self._logged(request)
        request.app.state.ops.limits.show(request, response)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    async def _logged(self, request: Request) -> Response:
        """The answer; a refused sign-in by a token and a refusal for want of a role are in the access log before it."""
        ops: Ops = request.app.state.ops
        response = await self._answer(request)
        try:
            await accesses.log_refusal(ops, request, response)
        except NotWritten as error:
            return problem(request, None, 503, str(error))
        return response

    async def _answer(self, request: Request) -> Response:
        ops: Ops = request.app.state.ops
        person: Person | None = None
        try:
            person = await ops.access.person(request)
            is_new = getattr(request.state, "is_new", False)
            if person is None and not ops.access.needs_token:
                person, is_new = ops.access.new_person("somebody on this machine"), True
            if person is None:
                return signed_out(request)
            request.state.person = person
            if is_new and person.how == "proxy":
                await accesses.log_sign_in_at_proxy(ops, request, person)
            if is_of_api(request.scope["path"]):
                await ops.limits.take(request, person)
            if not admits(person, self.may, self.scoped):
                if request.scope["path"] == "/ops" and person.roles:
                    return RedirectResponse("/ops/recordings", 303)  # the overview counts all recordings
                log.warning("not allowed", who=person.name, role=person.role, what=request.scope["path"])
                request.state.is_not_allowed = True
                raise Refused(403, not_allowed(person, self.may))
            if self._inside is not _unknown:
                check_names(request.query_params.multi_items(), self._parameters, "parameter")
            await ops.open()
            request.state.view = View(ops, person.reach(self.may))
            if self.scoped == "full":
                request.state.view.assert_bundles()
            if self.scoped == "one" and (recording_id := request.path_params.get("recording_id")) is not None:
                await assert_seen(ops, request, recording_id)
            response = await self._inside(ops, request)
            await accesses.log_answer(ops, request, person, self._log, response)
            if is_new:
                ops.access.remember(response, person, request)
            return response
        except Refused as error:
            response = problem(request, person, error.status, str(error))
            response.headers.update(error.headers)
            return response
        except ReasonWanted as error:
            return ask_why(request, person, error)
        except NotWritten as error:
            log.error("refused, because the access log cannot be written", path=request.scope["path"], error=str(error))
            return problem(request, person, 503, str(error))
        except TelnyxError as error:
            return problem(request, person, 502, f"Telnyx: {error}")
        except (StoreError, UnreadableRecord) as error:
            hits: Sequence[Hit] = ()
            if isinstance(error, ArchiveAway) and await accesses.log_known(ops, request, self._log):
                hits = error.hits
            return problem(request, person, 503, f"The archive: {error}", "archive-away", hits)
        except CatalogueBusy as error:
            return problem(request, person, 503, str(error))
        except UserError as error:
            return problem(request, person, 400, str(error))
        except RedisError as error:
            return problem(request, person, 503, one_line(error), "redis-away")
        except OSError as error:
            return problem(request, person, 503, one_line(error))
        except Exception as error:
            log.error(
                "a page failed", path=request.scope["path"], error=f"{type(error).__name__}: {error}", exc_info=True
            )
            return problem(request, person, 500, "Callvault could not show this page; see its log for the error")


class _Static(StaticFiles):
    """Files that change only with the version, so browsers may cache them; they hold no secret."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=3600"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            return await super().get_response(path, scope)
        except HTTPException as error:  # Starlette answers in plain text
            request = Request(scope)
            text = f"there is nothing at {request.scope['path'][:200]}" if error.status_code == 404 else error.detail
            answer = problem(request, None, error.status_code, text)
            answer.headers.update(HEADERS)
            return answer


def _shown(page: Page) -> Callable[[Ops, Request], Awaitable[Response]]:
    async def show(ops: Ops, request: Request) -> Response:
        value, error = None, ""
        try:
            value = await page.look(ops, request)
        except BadQuery as refused:
            if not page.shows_refusals:
                raise
            error = str(refused)
        request.state.shown = value
        names, view = await ops.names(), view_of(request)
        choices = names if view.is_whole else {id_: names[id_] for id_ in view.reach.connections if id_ in names}
        scope = view.reach.shown(choices)
        shown = {"it": value, "error": error, "names": names, "choices": choices, "scope": scope}
        shown["case_names"] = await view.case_names(_cases_on(value))
        text = render(page.template, request, request.state.person, page.title, **shown)
        return HTMLResponse(text, 400 if error else 200)

    return show


def _cases_on(value: object) -> set[str]:
    """The ids of the cases that the recordings of a page are in."""
    hits = [*(getattr(value, "hits", None) or ()), *(getattr(value, "related", None) or ())]
    return {id_ for hit in hits for id_ in hit.cases}


def _answer_of(page: Page) -> Callable[[Ops, Request], Awaitable[Response]]:
    async def answer(ops: Ops, request: Request) -> Response:
        request.state.shown = await page.look(ops, request)
        data = page.for_api(request.state.shown)
        response = Response(msgspec.json.encode(data), media_type="application/json")
        if (after := getattr(data, "after", None)) is not None:  # RFC 8288
            following = request.url.include_query_params(after=after)
            response.headers["Link"] = f'<{following.path}?{following.query}>; rel="next"'
        return response

    return answer


def _made(row: Change) -> Callable[[Ops, Request], Awaitable[Response]]:
    """The change of a row: of the very row whose roles the door has checked, whatever address the request claims."""

    async def make(ops: Ops, request: Request) -> Response:
        return await _change(ops, request, row)

    return make


async def _change(ops: Ops, request: Request, row: Change) -> Response:
    person: Person = request.state.person
    fields = (*dict.fromkeys((*row.fields, "why")),)
    form = await read_change(ops, request, {name: _LONGEST.get(name, LONGEST_FIELD) for name in fields})
    about = {name: value for name in fields if (value := form.get(name, "")).strip()}
    for name in row.fields:
        if name not in about:
            raise Refused(400, f"{name}: missing")
    if "query" in about:
        view_of(request).assert_searchable(read_query(read_box(about["query"])))
    is_whole = True
    unseen: list[str] = []
    if row.scoped == "one":
        about, unseen = await seen(ops, request, about)
    try:
        async with accesses.logged_change(ops, request, person, about):
            answer = await row.make(ops, about | {"by": person.name})
    except PartlyDone as partly:
        answer, is_whole = str(partly), False
    if unseen:
        answer, is_whole = f"{answer}; {named(unseen)}: not in the archive", False
    said, shared_url = (
        (answer, "") if isinstance(answer, str) else (answer.text, whole_address(request, answer.address))
    )
    ops.changed()
    log.info("changed from the ops pages", who=person.name, what=request.scope["path"], about=about, said=said)
    status = 200 if is_whole else 207  # RFC 4918: some of several
    if request.headers.get("hx-request"):
        changed = {"HX-Trigger-After-Settle": "changed"}  # the page then reads its content anew
        text = render("said.html", request, person, "", text=said, is_good=is_whole, shared_url=shared_url)
        return HTMLResponse(text, status, changed)
    back = request.scope["path"].rpartition("/")[0]
    if is_whole and not shared_url:
        return RedirectResponse(back, 303)
    title = "Shared" if is_whole else "Partly done"
    page = render("changed.html", request, person, title, text=said, is_good=is_whole, shared_url=shared_url, back=back)
    return HTMLResponse(page, status)


async def _openapi(ops: Ops, request: Request) -> Response:
    return JSONResponse(document(PAGES, OPERATIONS))


async def _unknown(ops: Ops, request: Request) -> Response:
    path = request.scope["path"]
    if not is_of_api(path):
        raise Refused(404, f"there is nothing at {path[:200]}; the menu has all pages")
    rows = [route for route in request.app.routes if isinstance(route, Route) and "{rest:path}" not in route.path]
    if methods := sorted({method for row in rows if row.path_regex.match(path) for method in row.methods or ()}):
        takes = ", ".join(methods)
        raise Refused(405, f"{path[:200]} does not take {request.method}; it takes {takes}", {"Allow": takes})
    raise Refused(404, f"there is nothing at {path[:200]}; /api/openapi.json lists the paths")


def no_route(request: Request, error: Exception) -> Response:
    """The answer to a request that no route takes: Starlette's own, and a problem document under `/api/`."""
    assert isinstance(error, HTTPException)  # noqa: S101  the application registers it for no other
    response: Response = PlainTextResponse(error.detail, error.status_code)
    if is_of_api(request.scope["path"]):
        text = f"it takes {error.headers['Allow']}" if error.headers else "there is nothing here"
        response = answer_problem(request, error.status_code, f"{text}; /api/openapi.json lists the paths")
        response.headers.update(HEADERS)
    response.headers.update(error.headers or {})
    return response


async def _to_the_pages(request: Request) -> Response:
    if request.method == "POST":  # do not redirect a webhook with a wrong path
        return Response("Not Found", 404)
    return RedirectResponse("/ops", 307)
