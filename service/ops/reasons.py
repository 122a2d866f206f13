"""The reasons that people and programs give for what they are about to see or take, where `CALLVAULT_ASK_WHY` wants one.

A program sends its reason with the request. A person is asked once: a signed cookie keeps the reason for that one recording or
file, as long as the person goes on, and for half an hour after.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from config.ask_why import Act, act_of
from service.ops.forms import read_change
from service.ops.person import Person, Refused, text_of_header
from text.counts import many

if TYPE_CHECKING:
    from service.ops.parts import Ops

PATH = "/ops/why"  # takes the reason of a person
HEADER = "X-Callvault-Why"
PARAMETER = "why"
LONGEST = 200
MINUTES = 30  # that a reason is remembered for, from the last use

_COOKIE = "callvault_why"
_LONGEST_ADDRESS = 8_000
_ONE = re.compile(r"/ops/recordings/[^/?]+(?=[/?]|$)")


class ReasonWanted(Exception):
    """A request needs a reason and has none.

    Attributes:
        act: what needs it.
    """

    def __init__(self, act: Act) -> None:
        super().__init__(
            f"a reason to {act.help} is missing: send it as the header `{HEADER}`, or as the parameter `{PARAMETER}`"
        )
        self.act = act


class Subject(NamedTuple):
    """What a reason is about, as the address of the browser.

    Attributes:
        path: of a recording with all below it, or of a file: the cookie goes to it alone.
        asked: the path with the query, for a file that depends on it; the path of a recording.
    """

    path: str
    asked: str

    @classmethod
    def of(cls, address: str) -> Subject:
        """The subject of an address, which begins with a slash."""
        if (found := _ONE.match(address)) is not None:
            return cls(found[0], found[0])
        return cls(address.partition("?")[0], address)


def address_of_request(request: Request) -> str:
    """The path and the query that a browser asks for, as the pages write them."""
    path = quote(request.scope["path"], safe="/")
    query = request.url.query
    return f"{path}?{query}" if query else path


def reason_of(ops: Ops, request: Request, person: Person) -> str:
    """The reason that came with a request, or that the person gave for its subject a while ago; empty without one.

    Raises:
        Refused: it is too long.
    """
    given = text_of_header(request.headers.get(HEADER, ""))
    if not given and _is_program(request, person):  # a link must not give the reason of whoever follows it
        given = request.query_params.get(PARAMETER, "").strip()
    return _checked(given) or _remembered(ops, request, person)


def wanted(ops: Ops, request: Request, person: Person, *whats: str) -> bool:
    """Whether one of these words of the access log needs a reason that this request has not."""
    asked = ops.settings.ask_why
    return any(act_of(asked, what) for what in whats) and not reason_of(ops, request, person)


def assert_given(ops: Ops, what: str, why: str) -> None:
    """Check that there is a reason, if what is about to happen needs one.

    Raises:
        ReasonWanted: the reason is missing.
    """
    if (act := act_of(ops.settings.ask_why, what)) is not None and not why.strip():
        raise ReasonWanted(act)


def remember_on(ops: Ops, request: Request, person: Person, response: Response) -> None:
    """Remember the reason of this request's subject from now on, if a person gave it here before."""
    if why := _remembered(ops, request, person):
        _set(ops, request, person, response, Subject.of(address_of_request(request)), why)


async def give_reason(ops: Ops, request: Request) -> Response:
    """Take the reason of a person, and send the browser to what they wanted.

    Raises:
        Refused: there is no reason, or it is too long, or what they wanted is not here.
    """
    form = await read_change(ops, request, {"why": LONGEST, "next": _LONGEST_ADDRESS})
    why, wanted_next = form.get("why", "").strip(), form.get("next", "")
    if not why:
        raise Refused(400, "why: missing")
    if not wanted_next.startswith("/ops/") or not wanted_next.isprintable():
        raise Refused(400, "next: not an address of these pages")
    path, mark, query = wanted_next.partition("?")
    address = quote(unquote(path), safe="/") + mark + query
    response = RedirectResponse(address, 303)
    _set(ops, request, request.state.person, response, Subject.of(address), why)
    return response


def _is_program(request: Request, person: Person) -> bool:
    """Whether a request comes from a program. Under `/api/`, one of a person's own may send neither token nor cookie."""
    if not person.csrf:
        return True
    is_of_browser = "cookie" in request.headers or "sec-fetch-site" in request.headers
    return request.scope["path"].startswith("/api/") and not is_of_browser


def _checked(text: str) -> str:
    text = text.strip()
    if len(text) > LONGEST:
        raise Refused(400, f"why: {many(len(text), 'character')}; the maximum is {LONGEST}")
    return text


def _remembered(ops: Ops, request: Request, person: Person) -> str:
    if not person.csrf:
        return ""
    asked = Subject.of(address_of_request(request)).asked
    match ops.access.unsign(request.cookies.get(_COOKIE, ""), MINUTES * 60):
        case ["why", str(session), str(of), str(why)] if (session, of) == (_session(person), asked):
            return why
    return ""


def _set(ops: Ops, request: Request, person: Person, response: Response, subject: Subject, why: str) -> None:
    response.set_cookie(
        _COOKIE,
        ops.access.sign(["why", _session(person), subject.asked, why]),
        max_age=MINUTES * 60,
        path=subject.path,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def _session(person: Person) -> str:
    return f"{person.csrf} {person.how} {person.id} {person.name}"
