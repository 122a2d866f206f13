"""The table of the ops pages, of the JSON API and of the changes that people make there: each is a row.

`_Door` admits a request (`access.py`), the page's module reads what it shows, and its template renders it. The API sends
the same value as JSON.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from archive.records import UnreadableRecord
from archive.stores.store import StoreError
from process.logs import get_logger
from service.app import WEBHOOK_PATH
from service.ops import (
    activity,
    audio,
    charts,
    connections,
    deletions,
    evidence,
    letters,
    overview,
    recording,
    recordings,
)
from service.ops.access import COOKIE, HEADERS, Person, Refused, read_form, signed_out
from service.ops.bulk import PartlyDone
from service.ops.openapi import document
from service.ops.page import Page
from service.ops.parts import Ops
from service.ops.show import FILTERS, ZONE_COOKIE, zone_of
from telnyx_api.errors import TelnyxError
from text.counts import many
from text.errors import UserError
from text.one_line import one_line
from workers.catalogue.file import CatalogueBusy
from workers.catalogue.query import FIELDS, STATES, BadQuery
from workers.catalogue.search import MOST_COUNTED

log = get_logger()

_LIVE_SECONDS = 2
_MOST_WATCHERS = 32
_LONGEST_FIELD = 500
_LONGEST = {"ids": 30_000}

Change = Callable[[Ops, dict[str, str]], Awaitable[str]]


_SEARCH = (
    ("q", "free search: an id, a number, a day, spoken words, or name:value"),
    *FIELDS.items(),
    ("after", "the `after` of the previous page"),
)
_EXPORT = tuple(name for name, _ in _SEARCH if name != "after")
_MESSAGES = (("connection", "id of a connection"), ("code", "code of the message"), ("since", "first UTC day"))

PAGES = (
    Page(
        "",
        "overview.html",
        "Overview",
        overview.look,
        overview.Overview,
        True,
        for_api=lambda looked: looked.overview,
        how=("span",),
    ),
    Page(
        "/recordings",
        "recordings.html",
        "Recordings",
        recordings.look,
        recordings.Found,
        True,
        _SEARCH,
        recordings.for_api,
        shows_refusals=True,
    ),
    Page("/recordings/{recording_id}", "recording.html", "Recording", recording.look_at_one, recording.Detail),
    Page("/evidence", "evidence.html", "Evidence", evidence.look, evidence.Evidence, True),
    Page("/evidence/{day}", "day.html", "Day", evidence.look_at_day, evidence.DayCounts),
    Page("/connections", "connections.html", "Connections", connections.look, connections.Connections, True, _MESSAGES),
    Page("/dead-letters", "letters.html", "Dead letters", letters.look, letters.Letters, True),
    Page("/deletions", "deletions.html", "Deletions", deletions.look, deletions.Deletions, True),
)

# Changes: a path under `/ops`, what it does, and the fields that it must have.
CHANGES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "/acknowledge": (overview.acknowledge, ("id",)),
    "/dead-letters/retry": (letters.retry, ("id",)),
    "/dead-letters/discard": (letters.discard, ("id", "died_at")),
    "/deletions/pause": (deletions.pause, ()),
    "/deletions/resume": (deletions.resume, ()),
    "/deletions/hold": (deletions.hold, ("id", "why")),
    "/deletions/release": (deletions.release, ("id", "why")),
    "/deletions/approve": (deletions.approve, ("id", "why")),
    "/recordings/hold": (deletions.hold_many, ("ids", "why")),
    "/recordings/release": (deletions.release_many, ("ids", "why")),
    "/recordings/approve": (deletions.approve_many, ("ids", "why")),
    "/connections/dismiss": (connections.dismiss, ("id",)),
    "/connections/retry-upload": (connections.retry_upload, ("id", "connection")),
    "/connections/refresh": (connections.refresh, ()),
}

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= FILTERS
_ENVIRONMENT.globals |= {
    "bars": charts.bars,
    "activity": activity.activity,
    "spans": tuple(activity.SPANS),
    "menu": [page for page in PAGES if page.in_menu],
    "commands": evidence.COMMANDS,
    "chips": recordings.chips,
    "first_tickets": connections.first_tickets,
    "kinds_of_connections": connections.KINDS,
    "fields": FIELDS,
    "states": STATES,
    "most_counted": MOST_COUNTED,
}


def routes() -> Sequence[BaseRoute]:
    """The routes of the pages, of the API and of what the pages need."""
    found: list[BaseRoute] = [
        Route("/", _to_the_pages, methods=["GET", "POST"]),
        Route("/ops/sign-in", _sign_in, methods=["GET", "POST"]),
        Route("/ops/sign-out", _Door(_sign_out), methods=["POST"]),
        Route("/ops/live", _Door(_live, "span"), methods=["GET"]),
        Mount("/ops/static", _Static(directory=Path(__file__).parent / "static")),
        Route("/ops/recordings/{recording_id}/audio.{audio_format}", _Door(audio.audio, "download"), methods=["GET"]),
        Route("/ops/recordings.csv", _Door(recordings.export, *_EXPORT), methods=["GET"]),
        Route("/ops/recordings/export", _Door(recordings.export_selected), methods=["POST"]),
        Route("/ops/recordings/{recording_id}/levels.json", _Door(audio.levels), methods=["GET"]),
        Route("/ops/evidence/{day}/recordings.csv", _Door(recordings.inventory), methods=["GET"]),
        Route("/ops/evidence/{day}/manifest/{sequence:int}", _Door(evidence.manifest), methods=["GET"]),
        Route("/api/openapi.json", _Door(_openapi), methods=["GET"]),
    ]
    for page in PAGES:
        shown = _Door(_shown(page), *dict(page.query), *page.how)
        answered = _Door(_answer_of(page), *dict(page.query))
        found += [
            Route(f"/ops{page.path}", shown, methods=["GET"]),
            Route(f"/api{page.path or '/overview'}", answered, methods=["GET"]),
        ]
    found += [Route(f"/ops{path}", _Door(_change), methods=["POST"]) for path in CHANGES]
    return [
        *found,
        Route("/ops/", _to_the_pages, methods=["GET"]),
        *(Route(f"{root}/{{rest:path}}", _Door(_unknown), methods=["GET"]) for root in ("/ops", "/api")),
    ]


class _Door:
    """Admits requests that may enter, and turns errors behind it into one line for a person."""

    def __init__(self, inside: Callable[[Ops, Request], Awaitable[Response]], *parameters: str) -> None:
        self._inside, self._parameters = inside, parameters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await self._answer(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        ops: Ops = request.app.state.ops
        person: Person | None = None
        try:
            person = await ops.access.person(request)
            is_new = False
            if person is None and not ops.access.needs_token:
                person, is_new = ops.access.new_person("somebody on this machine"), True
            if person is None:
                return signed_out(request)
            request.state.person = person
            if self._inside is not _unknown:
                check_names(request.query_params.multi_items(), self._parameters, "parameter")
            await ops.open()
            response = await self._inside(ops, request)
            if is_new:
                ops.access.remember(response, person, request)
            return response
        except Refused as error:
            return _problem(request, person, error.status, str(error))
        except TelnyxError as error:
            return _problem(request, person, 502, f"Telnyx: {error}")
        except (StoreError, UnreadableRecord) as error:
            return _problem(request, person, 503, f"The archive: {error}")
        except CatalogueBusy as error:
            return _problem(request, person, 503, str(error))
        except UserError as error:
            return _problem(request, person, 400, str(error))
        except (RedisError, OSError) as error:
            return _problem(request, person, 503, one_line(error))
        except Exception as error:
            log.error("a page failed", path=request.url.path, error=f"{type(error).__name__}: {error}", exc_info=True)
            return _problem(request, person, 500, "Callvault could not show this page; see its log for the error")


def check_names(given: Iterable[tuple[str, str]], known: Iterable[str], what: str) -> None:
    """Check that each name is known and given once. Ignoring an unknown one would hide a mistake.

    Raises:
        Refused: a name is unknown or given twice.
    """
    seen: set[str] = set()
    for name, _ in given:
        if name not in known:
            accepted = f"expected one of {', '.join(known)}" if known else f"this page takes no {what}"
            raise Refused(400, f"unknown {what} {name[:40]!r}; {accepted}")
        if name in seen:
            raise Refused(400, f"{name}: given twice")
        seen.add(name)


class _Static(StaticFiles):
    """Files that change only with the version, so browsers may cache them; they hold no secret."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "public, max-age=3600"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def render(template: str, request: Request, person: Person | None, title: str, **values: Any) -> str:
    """Render a template; `person` is None on pages that need no sign-in."""
    csrf = person.csrf if person else ""
    shared: dict[str, Any] = {"person": person, "csrf": csrf, "title": title}
    shared |= {"path": request.url.path, "params": request.query_params}
    shared["webhook_url"] = str(request.url.replace(path=WEBHOOK_PATH, query=""))
    shared["span"] = request.query_params.get("span", activity.DEFAULT)
    shared["zone"] = zone_of(request.cookies.get(ZONE_COOKIE, ""))
    shared["can_sign_out"] = request.app.state.ops.access.needs_token
    return _ENVIRONMENT.get_template(template).render(**shared, **values)


def _problem(request: Request, person: Person | None, status: int, text: str) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": text}, status)
    if request.headers.get("hx-request"):
        return HTMLResponse(render("said.html", request, person, "", text=text, is_good=False), status)
    return HTMLResponse(
        render("problem.html", request, person, HTTPStatus(status).phrase.capitalize(), text=text), status
    )


def _shown(page: Page) -> Callable[[Ops, Request], Awaitable[Response]]:
    async def show(ops: Ops, request: Request) -> Response:
        value, error = None, ""
        try:
            value = await page.look(ops, request)
        except BadQuery as refused:
            if not page.shows_refusals:
                raise
            error = str(refused)
        names = await ops.names()
        text = render(page.template, request, request.state.person, page.title, it=value, error=error, names=names)
        return HTMLResponse(text, 400 if error else 200)

    return show


def _answer_of(page: Page) -> Callable[[Ops, Request], Awaitable[Response]]:
    async def answer(ops: Ops, request: Request) -> Response:
        data = page.for_api(await page.look(ops, request))
        return Response(msgspec.json.encode(data), media_type="application/json")

    return answer


async def _change(ops: Ops, request: Request) -> Response:
    form = await read_form(request)
    person: Person = request.state.person
    ops.access.check_change(request, person, form)
    change, fields = CHANGES[request.url.path.removeprefix("/ops")]
    check_names(form.items(), dict.fromkeys((*fields, "why", "csrf")), "field")
    about = {name: value for name in dict.fromkeys((*fields, "why")) if (value := form.get(name, "")).strip()}
    for name in fields:
        if name not in about:
            raise Refused(400, f"{name}: missing")
    for name, value in about.items():
        if len(value) > (longest := _LONGEST.get(name, _LONGEST_FIELD)):
            raise Refused(400, f"{name}: {many(len(value), 'character')}; the maximum is {longest}")
    is_whole = True
    try:
        said = await change(ops, about | {"by": person.name})
    except PartlyDone as partly:
        said, is_whole = str(partly), False
    ops.changed()
    log.info("changed from the ops pages", who=person.name, what=request.url.path, about=about, said=said)
    status = 200 if is_whole else 207  # RFC 4918: some of several
    if request.headers.get("hx-request"):
        changed = {"HX-Trigger-After-Settle": "changed"}  # the page then reads its content anew
        text = render("said.html", request, person, "", text=said, is_good=is_whole)
        return HTMLResponse(text, status, changed)
    if not is_whole:
        return HTMLResponse(render("problem.html", request, person, "Partly done", text=said), status)
    return RedirectResponse(request.url.path.rpartition("/")[0], 303)


# The parts of the overview that `/ops/live` sends anew when they have changed, with the least time between two of each.
_LIVE_PARTS = {"now": 0.0, "charts": 15.0, "latest": 0.0}  # a chart that a person is reading stays for a moment


async def _live(ops: Ops, request: Request) -> Response:
    """The changing parts of the overview as server-sent events, until the browser disconnects."""
    if ops.watchers >= _MOST_WATCHERS:
        raise Refused(503, "too many live overviews are open; reload the page by hand")
    activity.read_span(request.query_params.get("span"))
    person: Person = request.state.person

    async def events() -> AsyncIterator[str]:
        ops.watchers += 1
        sent: dict[str, tuple[float, str]] = {}
        try:
            while not await request.is_disconnected():
                looked = await overview.look(ops)
                for part, seconds in _LIVE_PARTS.items():
                    at, before = sent.get(part, (float("-inf"), ""))
                    if time.monotonic() - at < seconds:
                        continue
                    text = render(f"_{part}.html", request, person, "", it=looked)
                    if text != before:
                        sent[part] = time.monotonic(), text
                        lines = "\n".join(f"data: {line}" for line in text.splitlines())
                        yield f"event: {part}\n{lines}\n\n"
                yield ": still there\n\n"
                await asyncio.sleep(_LIVE_SECONDS)
        finally:
            ops.watchers -= 1

    return StreamingResponse(events(), media_type="text/event-stream")


async def _openapi(ops: Ops, request: Request) -> Response:
    return JSONResponse(document(PAGES))


async def _unknown(ops: Ops, request: Request) -> Response:
    where = "/api/openapi.json lists the paths" if request.url.path.startswith("/api/") else "the menu has all pages"
    raise Refused(404, f"there is nothing at {request.url.path[:200]}; {where}")


async def _to_the_pages(request: Request) -> Response:
    if request.method == "POST":  # do not redirect a webhook with a wrong path
        return Response("Not Found", 404)
    return RedirectResponse("/ops", 307)


async def _sign_in(request: Request) -> Response:
    ops: Ops = request.app.state.ops
    said, status = "", 200
    wanted = request.query_params.get("next", "/ops")
    try:
        if not ops.access.needs_token:
            return RedirectResponse("/ops", 303)
        if request.method == "POST":
            form = await read_form(request)
            wanted = form.get("next", "/ops")
            person = await ops.access.sign_in(request, form)
            response: Response = RedirectResponse(wanted if wanted.startswith("/ops") else "/ops", 303)
            ops.access.remember(response, person, request)
            return _with_headers(response)
    except Refused as refused:
        said, status = str(refused), refused.status
    page = render("sign-in.html", request, None, "Sign in", said=said, next=wanted)
    return _with_headers(HTMLResponse(page, status))


async def _sign_out(ops: Ops, request: Request) -> Response:
    ops.access.check_change(request, request.state.person, await read_form(request))
    response = RedirectResponse("/ops/sign-in", 303)
    response.delete_cookie(COOKIE)
    return response


def _with_headers(response: Response) -> Response:
    response.headers.update(HEADERS)
    return response
