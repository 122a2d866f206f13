"""Answer an operation of `/api/`: read its body, refuse what another site sends, and give the answer as JSON."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from service.ops.page import Operation
from service.ops.parts import Ops
from service.ops.person import Refused

_LARGEST_BYTES = 64 * 1024
_HOW_TO_SEND = (
    "send a token with `Authorization: Bearer TOKEN`; a page sends the CSRF token of its session as `X-CSRF-Token`, so that no "
    "other site can change anything"
)


def answer_of(row: Operation) -> Callable[[Ops, Request], Awaitable[Response]]:
    """What answers the requests of a row."""

    async def answer(ops: Ops, request: Request) -> Response:
        if row.method != "GET":
            if request.state.person.csrf and "x-csrf-token" not in request.headers:
                raise Refused(403, _HOW_TO_SEND)
            ops.access.check_change(request, request.state.person, {})
        body = None if row.body is None else await _read_body(request, row.body)
        found = await row.give(ops, request, body)
        if isinstance(found, Response):
            return found
        return Response(msgspec.json.encode(found), media_type="application/json")

    return answer


async def _read_body(request: Request, kind: type) -> Any:
    """The body of a request, 64 KiB of JSON at most; nothing at all counts as `{}`.

    Raises:
        Refused: it is larger, no JSON, or not as the type says.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LARGEST_BYTES:
            raise Refused(413, "the body is larger than 64 KiB")
    of_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if of_type != "application/json" and (body or of_type):
        raise Refused(415, f"the body is {of_type[:60] or 'of no type'}; send it as Content-Type: application/json")
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        fields = ", ".join(field.encode_name for field in msgspec.structs.fields(kind))
        raise Refused(400, f"the body is not valid: {error}; its fields are {fields}") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refused(400, f"the body is no JSON: {error}") from None
