"""What `/api/` answers when it fails: a problem document (RFC 9457), the same for every path and method.

`error` repeats `detail`: earlier versions answered with it alone, and programs read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple
from urllib.parse import quote

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

_URN = "urn:callvault:problem:"
_AGAIN_SECONDS = 10  # after a part was away; it is asked for anew with each request

Kind = Literal[
    "invalid-request",
    "not-signed-in",
    "not-allowed",
    "not-found",
    "method-not-allowed",
    "conflict",
    "ended",
    "too-large",
    "not-json",
    "not-satisfiable",
    "reason-missing",
    "too-many-requests",
    "failed",
    "telnyx-away",
    "unavailable",
    "redis-away",
    "archive-away",
]


class Known(NamedTuple):
    """A kind of problem: its status, its title, and what a program does about it, for docs/api.md."""

    status: int
    title: str
    advice: str


# THE table of problems. The first of a status is its kind, unless the answer names another.
PROBLEMS: dict[Kind, Known] = {
    "invalid-request": Known(400, "The request is not valid", "mend it; `detail` names what is wrong"),
    "not-signed-in": Known(401, "The request has no valid token", "send an API token that works"),
    "not-allowed": Known(403, "The token may not do this", "use a token with one of the roles that `detail` names"),
    "not-found": Known(404, "There is nothing here", "check the path and the id"),
    "method-not-allowed": Known(
        405, "The path does not take this method", "the header `Allow` has those that it takes"
    ),
    "conflict": Known(
        409, "The recording is not in a state for this", "read the recording; `detail` says what is in the way"
    ),
    "ended": Known(410, "The address does not work any more", "make a new one"),
    "too-large": Known(413, "The body is too large", "send less"),
    "not-json": Known(415, "The body is not JSON", "send `Content-Type: application/json`"),
    "not-satisfiable": Known(416, "The range is outside the audio", "`Content-Range` has the length"),
    "reason-missing": Known(428, "A reason is asked for", "say why: `why` in the query or the body (access-log.md)"),
    "too-many-requests": Known(429, "Too many requests", "wait for as many seconds as `Retry-After` says"),
    "failed": Known(500, "Callvault failed", "look into its log; a retry is safe"),
    "telnyx-away": Known(502, "Telnyx does not answer, or refuses the request", "try again later"),
    "unavailable": Known(503, "Callvault cannot answer now", "try again after `Retry-After` seconds"),
    "redis-away": Known(503, "Redis does not answer", "try again after `Retry-After` seconds"),
    "archive-away": Known(503, "The archive cannot be read", "try again after `Retry-After` seconds"),
}
_OF_STATUS: dict[int, Kind] = {known.status: kind for kind, known in reversed(PROBLEMS.items())}


class Problem(msgspec.Struct, frozen=True):
    """A problem, as RFC 9457 has it.

    Attributes:
        type: a URN of its kind; see docs/api.md.
        title: of its kind; the same each time.
        status: of the answer.
        detail: what failed, and what to do; one line for a person.
        instance: the path that was asked for.
        error: the same as `detail`.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    error: str


def is_of_api(path: str) -> bool:
    """Whether a path belongs to `/api/`."""
    return path == "/api" or path.startswith("/api/")


def answer_problem(
    request: Request, status: int, detail: str, kind: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """The answer of `/api/` to a request that failed.

    Args:
        request: the request.
        status: of the answer; 207 and others without a kind are sent as `about:blank`.
        detail: what failed, in one line.
        kind: a key of `PROBLEMS`, where the status alone does not say it.
        headers: more of them.
    """
    known = PROBLEMS[found] if (found := _kind_of(status, kind)) is not None else None
    title = known.title if known is not None else "The request was not done"
    of_type = _URN + found if found is not None else "about:blank"
    body = Problem(of_type, title, status, detail, _instance(request), detail)
    return Response(
        msgspec.json.encode(body),
        status,
        _headers_for(status, request) | dict(headers or {}),
        "application/problem+json",
    )


def example(kind: Kind, detail: str, instance: str) -> Problem:
    """A problem of a kind, as the OpenAPI document shows it."""
    known = PROBLEMS[kind]
    return Problem(_URN + kind, known.title, known.status, detail, instance, detail)


def _kind_of(status: int, kind: str) -> Kind | None:
    named = next((one for one in PROBLEMS if one == kind and PROBLEMS[one].status == status), None)
    return named or _OF_STATUS.get(status)


def _headers_for(status: int, request: Request) -> dict[str, str]:
    if status == 503:
        return {"Retry-After": str(_AGAIN_SECONDS)}
    if status != 401:
        return {}
    was_given = "authorization" in Headers(scope=request.scope)
    return {"WWW-Authenticate": 'Bearer error="invalid_token"' if was_given else "Bearer"}


def _instance(request: Request) -> str:
    """The path, without the signed part of an address of audio, which is a secret."""
    path = str(request.scope["path"])
    return "/api/audio" if path.startswith("/api/audio/") else quote(path[:300])
