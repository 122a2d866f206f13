"""What the access log says of a request: each row of the tables of pages and files that shows a recording names one of these.

The door writes the line when the answer is ready and before the first byte of it is sent. Changes need no column: `_change`
writes a line for each, before it is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from starlette.requests import Request
from starlette.responses import Response

from archive.access import AccessLine, new_line
from service.ops import reasons
from service.ops.person import Person, address_of, bearer_of
from text.one_line import one_line
from workers.access.log import NotWritten
from workers.catalogue.query import FIELDS, Query, write_box

if TYPE_CHECKING:
    from service.ops.parts import Ops


class Said(NamedTuple):
    """What a line says beside who, when and from where.

    Attributes:
        what: is done.
        recordings: the ids of the recordings.
        query: a search as it was asked for.
        found: how many recordings matched.
        about: what else it is about.
        why: the person's reason.
        by: the name that a program gives for the person it acts for.
        of_audio: the format of the audio that is sent, which makes it a play; empty for anything else.
    """

    what: str
    recordings: Sequence[str] = ()
    query: str = ""
    found: int | None = None
    about: str = ""
    why: str = ""
    by: str = ""
    of_audio: str = ""


_LONGEST_NAME, _LONGEST_PATH = 200, 300
_LOOK_SECONDS = 3600  # as a play lasts

Says = Callable[[Request], Said | None]


class _Counted(Protocol):
    query: Query
    total: int


class _OfDeletions(Protocol):
    originals: Sequence[Any]
    held: Sequence[Any]
    kept: Sequence[Any]
    first: Sequence[Any]
    holds: list[object] | None


class _OfLetters(Protocol):
    letters: Sequence[_Letter]


class _Letter(Protocol):
    call: object


class _OfQuarantine(Protocol):
    webhooks: list[object]


def look(request: Request) -> Said:
    """A look at one recording: at its page, or by the API, which gives its transcriptions too."""
    what = "read" if request.scope["path"].startswith("/api/") else "look"
    return Said(what, [request.path_params["recording_id"]])


def search(request: Request) -> Said | None:
    """A search, unless it found nothing; where numbers are masked, one for a number may be a guess, and is a line then too."""
    found: _Counted | None = getattr(request.state, "shown", None)
    if found is None:
        return None
    is_guess = found.query.number is not None and request.state.view.reach.whole_numbers
    return Said("search", query=asked(request), found=found.total) if found.total or is_guess else None


def deletions(request: Request) -> Said | None:
    """A look at the originals that are scheduled, held or kept, unless there are none."""
    shown: _OfDeletions = request.state.shown
    rows = {one.recording_id for one in shown.originals}
    if request.scope["path"].startswith("/api/"):  # which also has those that the filter of the table leaves out
        rows |= {hit.row.recording_id for hit in (*shown.held, *shown.kept)} | {one.recording_id for one in shown.first}
    number = len(rows) or len(shown.holds or ())
    return Said("list", about="deletions", found=number) if number else None


def letters(request: Request) -> Said | None:
    """A look at dead letters, if it shows the numbers of a call."""
    shown: _OfLetters = request.state.shown
    has_calls = any(one.call is not None for one in shown.letters)
    return Said("list", about="dead letters", found=len(shown.letters)) if has_calls else None


def quarantine(request: Request) -> Said | None:
    """A look at webhooks, which may hold words of calls, unless there are none."""
    shown: _OfQuarantine = request.state.shown
    return Said("list", about="quarantine", found=len(shown.webhooks)) if shown.webhooks else None


def case(request: Request) -> Said | None:
    """A look at a case, if it shows recordings."""
    hits = getattr(request.state.shown, "hits", None)
    return Said("search", query=f"case:{request.path_params['case_id']}", found=len(hits)) if hits else None


def export(request: Request) -> Said:
    """An export of all recordings of a search."""
    return Said("export", query=asked(request), found=request.state.found)


def export_selected(request: Request) -> Said:
    """An export of some recordings; the form may have the reason."""
    return Said("export", request.state.shown, why=request.state.why)


def bundle(request: Request) -> Said:
    """The bundle of an export."""
    export = request.state.shown
    query = export.request.query if export.request else ""
    return Said("download", query=query, found=export.end.recordings, about=f"export {export.id}")


def inventory(request: Request) -> Said:
    """The inventory of a day."""
    return Said("inventory", query=f"day:{request.path_params['day']}")


def audio(request: Request) -> Said:
    """Audio that is played or downloaded."""
    what = "download" if "download" in request.query_params else "play"
    return Said(what, [request.path_params["recording_id"]], of_audio=request.path_params["audio_format"])


def download(request: Request) -> Said:
    """Audio that a program takes by `/api/`."""
    return audio(request)._replace(what="download")


def transcript(request: Request) -> Said:
    """The words of a recording without the rest of it."""
    return Said("transcript", [request.path_params["recording_id"]])


def levels(request: Request) -> Said | None:
    """The levels of a recording; nothing if its page asks for them, since the look at that is a line."""
    ops: Ops = request.app.state.ops
    recording_id = request.path_params["recording_id"]
    look = ops.access.unsign(request.query_params.get("look", ""), _LOOK_SECONDS)
    is_of_page = look == _look_at(recording_id, request.state.person)
    return None if is_of_page else Said("levels", [recording_id])


def signed_look(request: Request, recording_id: str) -> str:
    """What the page of a recording sends along with its further requests: this person has looked at it."""
    ops: Ops = request.app.state.ops
    return ops.access.sign(_look_at(recording_id, request.state.person))


def _look_at(recording_id: str, person: Person) -> list[str]:
    return ["look", recording_id, f"{person.how} {person.id} {person.name}"]


def change(request: Request, form: Mapping[str, str]) -> Said:
    """A change that a person asks for."""
    room, _, what = request.scope["path"].removeprefix("/ops/").rpartition("/")
    ids = form.get("ids", form.get("id", "")).split()
    if room in ("deletions", "recordings"):
        return Said(what, ids, why=form.get("why", ""))
    if room == "cases":
        name = form.get("name") or form.get("id", "")
        return Said(what, about=f"case {name}", query=form.get("query", ""), why=form.get("why", ""))
    about = " ".join([*filter(None, [form.get(name, "") for name in ("connection", "cause", "day")]), *ids])
    return Said(what, about=f"{room} {about}".strip(), why=form.get("why", ""))


def line_of(request: Request, person: Person, said: Said, **more: object) -> AccessLine:
    """The line about a request."""
    who = {"role": person.role, "subject": person.id}
    about = {"query": said.query, "found": said.found, "about": said.about, "why": said.why, "by": said.by}
    return new_line(said.what, person.name, person.how, address_of(request), said.recordings, **who, **about, **more)


async def log_answer(ops: Ops, request: Request, person: Person, says: Says | None, response: Response) -> None:
    """Write the line about an answer that is ready, if it shows something; it is durable when this returns.

    Raises:
        NotWritten: the answer must not be sent; ReasonWanted: likewise, before a reason is given.
    """
    if says is None or response.status_code >= 400 or (said := says(request)) is None:
        return
    said = said._replace(why=said.why or reasons.reason_of(ops, request, person))
    reasons.assert_given(ops, said.what, said.why)
    reasons.remember_on(ops, request, person, response)
    if said.of_audio:
        await ops.plays.begin(request, person, said, response)
    else:
        await ops.accesses.write(line_of(request, person, said))


async def log_known(ops: Ops, request: Request, says: Says | None) -> bool:
    """Write the line about what the catalogue knows of a recording while the archive is away; False: it must not be shown."""
    if says is None or request.scope["path"].startswith("/api/") or (said := says(request)) is None:
        return False
    said = said._replace(why=reasons.reason_of(ops, request, request.state.person))
    with suppress(NotWritten, reasons.ReasonWanted):
        reasons.assert_given(ops, said.what, said.why)
        await ops.accesses.write(line_of(request, request.state.person, said))
        return True
    return False


@asynccontextmanager
async def logged_change(ops: Ops, request: Request, person: Person, form: Mapping[str, str]) -> AsyncIterator[None]:
    """Write the line about a change from the pages before the block makes it; raises as `logged`."""
    async with logged(ops, request, person, change(request, form)):
        yield


@asynccontextmanager
async def logged(ops: Ops, request: Request, person: Person, said: Said) -> AsyncIterator[None]:
    """Write the line about a change before the block makes it, and another if it fails.

    Raises:
        NotWritten: the change must not be made; ReasonWanted: likewise, before a reason is given.
    """
    reasons.assert_given(ops, said.what, said.why)
    line = line_of(request, person, said)
    await ops.accesses.write(line)
    try:
        yield
    except Exception as error:
        with suppress(NotWritten):  # the first line stands
            failed = Said("failed", line.recordings)
            await ops.accesses.write(line_of(request, person, failed, of=line.id, error=one_line(error)))
        raise


async def log_sign_in(ops: Ops, request: Request, person: Person) -> None:
    """Write that a person has signed in.

    Raises:
        NotWritten: the person must not be let in.
    """
    await ops.open()  # so that the line waits for its own archive
    await ops.accesses.write(line_of(request, person, Said("sign-in")))


async def log_sign_in_at_proxy(ops: Ops, request: Request, person: Person) -> None:
    """Write that a proxy named a person who has no session here yet, or whom nothing gives a role.

    Once an hour for each person and address: a program keeps no cookie, so each of its requests begins a session.

    Raises:
        NotWritten: the person must not be let in.
    """
    await _write_hourly(ops, line_of(request, person, Said("sign-in" if person.roles else "sign-in-refused")))


async def log_refused_by_provider(ops: Ops, request: Request, why: str) -> None:
    """Write that the OpenID provider signed nobody in: once an hour for each reason and address, as nothing else limits that.

    Raises:
        NotWritten: no line could be written.
    """
    await _write_hourly(ops, new_line("sign-in-refused", "somebody", "oidc", address_of(request), (), error=why))


async def _write_hourly(ops: Ops, line: AccessLine) -> None:
    name = repr((line.what, line.who, line.how, line.subject, line.address, line.error))
    await ops.accesses.write(line, hashlib.sha256(name.encode()).hexdigest()[:32])


async def log_refused_sign_in(ops: Ops, request: Request, name: str, how: str = "token", **more: object) -> None:
    """Write that a sign-in was refused.

    Args:
        ops: the parts of the pages.
        request: the request.
        name: that was typed, or that the provider gave.
        how: as of a line; more: its further fields.

    Raises:
        NotWritten: no line could be written.
    """
    line = new_line("sign-in-refused", name[:_LONGEST_NAME], how, address_of(request), (), **more)
    await ops.accesses.write(line)


async def log_refusal(ops: Ops, request: Request, response: Response) -> None:
    """Write that a token or a person from a proxy was refused, or that somebody asked for what no role of theirs may do.

    Likewise for recordings that no role of theirs reaches, whether they exist or not.

    A token is counted by the address that sends it, so nobody fills the log with refusals.

    Raises:
        NotWritten: no line could be written.
    """
    outside: Sequence[str] = getattr(request.state, "outside", ())
    if outside or getattr(request.state, "is_not_allowed", False):
        refused = Said("not-allowed", outside, about=request.scope["path"][:_LONGEST_PATH])
        await ops.accesses.write(line_of(request, request.state.person, refused))
    elif (nobody := getattr(request.state, "has_no_role", None)) is not None:
        await log_sign_in_at_proxy(ops, request, nobody)
    elif response.status_code == 401 and bearer_of(request):
        await log_refused_sign_in(ops, request, "api")


def asked(request: Request) -> str:
    """A search in the words of the search box."""
    asked = request.query_params
    named = {name: value for name in FIELDS if (value := asked.get(name, "").strip())}
    return " ".join(part for part in (asked.get("q", "").strip(), write_box(named)) if part)
