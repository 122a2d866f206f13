"""Addresses of audio that need no further credentials and work for minutes: an application makes one and gives it to an
`<audio>` element in a browser, which gets the bytes from Callvault and never learns of the token or of the bucket.

Each is signed as sessions are and kept nowhere. It ends at its time, when the token that made it is revoked or ends, and when the
recording is erased: each request asks for all of that anew. Its plays are in the access log under the token that made it, each
address apart. Errors say little: a stranger reads them.
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Annotated, Literal, NamedTuple

import msgspec
from itsdangerous import BadData
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from archive.records import UnreadableRecord
from archive.stores.store import StoreError
from process.logs import get_logger
from service.ops import accesses, reasons
from service.ops.access import HEADERS
from service.ops.audio import assert_there, download, wanted_audio
from service.ops.may import HEAR
from service.ops.parts import Ops
from service.ops.person import Person, Refused
from service.ops.problems import answer_problem
from service.ops.sharing import whole_address
from service.ops.view import View, view_of
from text.errors import UserError
from text.times import format_instant
from workers.access.log import NotWritten

PATH = "/api/audio/{address}"
MINUTES = 15

# A page of another origin may play and draw it: the address alone lets in, and no cookie is asked for.
_OF_ANY_ORIGIN = {
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Length, Content-Range, ETag",
    "X-Robots-Tag": "noindex",
}
_METHODS = ("GET", "HEAD")
_PREFLIGHT = {
    "Access-Control-Allow-Methods": ", ".join(_METHODS),
    "Access-Control-Allow-Headers": "Range",
    "Access-Control-Max-Age": "600",
}

log = get_logger()


class AddressWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an address is asked for.

    Attributes:
        format: of the audio; None: the first that the recording has.
        minutes: how long it works; each request within them may go on to its end.
        why: the reason, for the access log.
        by: the name of the person in your application who will listen, for the access log.
    """

    format: Literal["wav", "mp3"] | None = None
    minutes: Annotated[int, msgspec.Meta(ge=1, le=60)] = MINUTES
    why: Annotated[str, msgspec.Meta(max_length=200)] = ""
    by: Annotated[str, msgspec.Meta(max_length=60)] = ""


class AudioAddress(msgspec.Struct, frozen=True):
    """An address of audio.

    Attributes:
        id: names it in the access log; it is no secret.
        url: the address, under the host that the request was sent to; a secret until it ends.
        path: the same without the host, for an application that reaches Callvault under another name than a browser does.
        ends_at: when it stops working; ISO 8601, UTC.
        size_bytes: of the audio; sha256: likewise, as its commit record has it.
    """

    recording_id: str
    id: str
    url: str
    path: str
    ends_at: str
    format: str
    content_type: str
    size_bytes: int
    sha256: str
    duration_ms: int


class _Address(NamedTuple):
    """What an address says: whose it is, and what it lets hear until when (seconds since the epoch)."""

    recording_id: str
    audio_format: str
    token_id: str
    ends_at: int
    id: str
    why: str
    by: str


async def make_address(ops: Ops, request: Request, wanted: AddressWanted) -> AudioAddress:
    """Make an address of a recording's audio; the line about it is in the access log.

    Raises:
        Refused: the archive does not have this audio, or a token did not ask.
        StoreError: the archive cannot be read now.
        NotWritten: the access log cannot be written.
        ReasonWanted: a reason to listen is asked for, and none is given.
    """
    person: Person = request.state.person
    if person.how not in ("token", "api token"):
        raise Refused(
            403, "an API token makes addresses of audio, so that they end with it; run `callvault tokens create`"
        )
    recording_id = request.path_params["recording_id"]
    found, milliseconds = await wanted_audio(ops, view_of(request), recording_id, wanted.format or "")
    await assert_there(ops, found)
    audio_format = found.key.rpartition(".")[2]
    ends_at = int(time.time()) + wanted.minutes * 60
    why, by = wanted.why.strip() or reasons.reason_of(ops, request, person), wanted.by.strip()
    reasons.assert_given(ops, "address", why)
    address = _Address(recording_id, audio_format, person.id, ends_at, secrets.token_hex(6), why, by)
    said = accesses.Said("address", [recording_id], about=_about(address), why=why, by=by)
    await ops.accesses.write(accesses.line_of(request, person, said))
    path = PATH.replace("{address}", ops.access.sign_address(list(address)))
    return AudioAddress(
        recording_id=recording_id,
        id=address.id,
        url=whole_address(request, path),
        path=path,
        ends_at=format_instant(datetime.fromtimestamp(ends_at, UTC)),
        format=audio_format,
        content_type=found.content_type,
        size_bytes=found.size,
        sha256=found.sha256,
        duration_ms=milliseconds,
    )


def _about(address: _Address) -> str:
    return f"address {address.id} of {address.audio_format}"


def _read(ops: Ops, text: str) -> _Address:
    """What an address says.

    Raises:
        Refused: it is not ours, or it has ended.
    """
    try:
        address = msgspec.convert(ops.access.unsign_address(text), _Address)
    except (BadData, msgspec.ValidationError):
        raise Refused(404, "this is not an address of audio: it is not whole, or its key has changed") from None
    if time.time() >= address.ends_at:
        raise Refused(410, "this address has ended; ask for a new one")
    return address


async def _play(ops: Ops, request: Request) -> Response:
    address = _read(ops, request.path_params["address"])
    await ops.open()
    person = await ops.access.bearer_of_address(address.token_id)
    if person is None or not HEAR & person.roles:
        raise Refused(410, "this address has ended with the token that made it")
    request.state.person, request.state.view = person, View(ops, person.reach(HEAR))
    if not await view_of(request).sees(address.recording_id):
        raise Refused(404, "the recording is not in the archive any more")
    request.scope["path_params"] = {"recording_id": address.recording_id, "audio_format": address.audio_format}
    try:
        response = await download(ops, request, None)
    except Refused as error:  # its text names the object, and its store
        if error.status == 416:
            raise
        log.warning("audio was not sent", recording_id=address.recording_id, why=str(error))
        text = "the recording is not in the archive any more" if error.status == 404 else "the audio cannot be played"
        raise Refused(error.status, text) from None
    said = accesses.audio(request)._replace(about=_about(address), why=address.why, by=address.by)
    await accesses.log_answer(ops, request, person, lambda _: said, response)
    return response


async def _answer(request: Request) -> Response:
    ops: Ops = request.app.state.ops
    try:
        if unknown := [name for name in request.query_params if name != "download"]:
            raise Refused(400, f"unknown parameter {unknown[0][:40]!r}; expected download or nothing")
        return await _play(ops, request)
    except Refused as error:
        return answer_problem(request, error.status, str(error), headers=error.headers)
    except reasons.ReasonWanted:
        return answer_problem(request, 428, "this address was made without a reason; make one with `why`")
    except (StoreError, UnreadableRecord, UserError, NotWritten, RedisError, OSError) as error:
        log.error("audio could not be sent", error=f"{type(error).__name__}: {error}")
        return answer_problem(request, 503, "the audio cannot be sent now; try again later")
    except Exception as error:
        log.error("an address of audio failed", error=f"{type(error).__name__}: {error}", exc_info=True)
        return answer_problem(request, 500, "Callvault could not send the audio; see its log for the error")


async def _give(request: Request) -> Response:
    """Send the audio of an address. A browser may ask first whether another origin may send `Range` (CORS preflight)."""
    if request.method == "OPTIONS":
        response = Response(None, 204, _PREFLIGHT)
    elif request.method not in _METHODS:
        allowed = {"Allow": _PREFLIGHT["Access-Control-Allow-Methods"]}
        response = answer_problem(request, 405, "an address of audio takes GET and HEAD", headers=allowed)
    else:
        response = await _answer(request)
    for name, value in (HEADERS | _OF_ANY_ORIGIN).items():
        response.headers[name] = value
    return response


def routes() -> list[Route]:
    """The route of addresses, which need no sign-in: each is checked by itself."""
    return [Route(PATH, _give, methods=[*_METHODS, "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])]
