"""The errors of the Telnyx client. None of them carries the API key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec

from text.counts import many
from text.times import utc_now

if TYPE_CHECKING:
    import httpx

_MOST_NAMED = 3  # of the rows that an error is about


class TelnyxError(Exception):
    """Any failure of a request to Telnyx."""


class ConnectionFailed(TelnyxError):
    """No answer: refused, cut, or no such host.

    Attributes:
        was_sent: whether Telnyx may have seen the request.
    """

    def __init__(self, message: str, *, was_sent: bool) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class TimedOut(ConnectionFailed):
    """No answer in time."""


class UnexpectedAnswer(TelnyxError):
    """An answer that does not match the API documentation: not JSON, or another shape.

    Attributes:
        why: what does not match, without naming the request.
    """

    def __init__(self, message: str, why: str = "") -> None:
        super().__init__(message)
        self.why = why or message


class Inconclusive(TelnyxError):
    """An incomplete list: a row that it lacks may exist."""


class Unsettled(Inconclusive):
    """A list that changed each time that it was read."""


@dataclass(frozen=True)
class UnreadableRow:
    """A row of a list that does not match the API documentation.

    Attributes:
        id: the id of the row; None if it has none.
        why: one line.
    """

    id: str | None
    why: str

    def __str__(self) -> str:
        return f"{self.id or 'a row without an id'} ({self.why})"


class UnreadableRows(Inconclusive):
    """A list was read to its end, without the rows that cannot be read.

    Attributes:
        path: of the list, such as `/recordings`.
        rows: the rows that cannot be read.
    """

    def __init__(self, path: str, rows: Sequence[UnreadableRow]) -> None:
        self.path = path
        self.rows = tuple(rows)
        named = ", ".join(map(str, self.rows[:_MOST_NAMED]))
        more = f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
        super().__init__(f"GET {path}: {many(len(rows), 'row')} cannot be read: {named}{more}")


@dataclass(frozen=True)
class ErrorDetail:
    """One of Telnyx's `errors[]` (developers.telnyx.com/development/api-fundamentals/api-errors).

    Attributes:
        code: numeric text such as `10015`.
        title: what kind of error.
        detail: what exactly; may be empty.
        pointer: JSON pointer or parameter name of the field that is wrong; may be empty.
    """

    code: str
    title: str
    detail: str
    pointer: str

    def __str__(self) -> str:
        text = " ".join(part for part in (self.code, self.title) if part)
        if self.detail and self.detail != self.title:
            text += f": {self.detail}"
        return f"{text} (at {self.pointer})" if self.pointer else text


class StatusError(TelnyxError):
    """Telnyx answered with an error status.

    Attributes:
        status: the HTTP status.
        errors: what Telnyx says about it; may be empty (401 and 403 often have no body).
        request_id: Telnyx's `x-request-id`, to quote to their support; may be empty.
        retry_after_seconds: how long Telnyx asks to wait, if it says so.
    """

    def __init__(self, response: httpx.Response, errors: Sequence[ErrorDetail]) -> None:
        self.status = response.status_code
        self.errors = tuple(errors)
        self.request_id = response.headers.get("x-request-id", "")
        self.retry_after_seconds = _retry_after(response.headers)
        request = response.request
        what = "; ".join(map(str, errors)) or response.reason_phrase
        line = f"{request.method} {request.url.path}: {self.status} {what}"
        super().__init__(f"{line} [request {self.request_id}]" if self.request_id else line)


class BadRequest(StatusError):
    """400 or another 4xx: the request itself is wrong."""


class Unauthorized(StatusError):
    """401: the API key is missing, wrong or withdrawn."""


class Forbidden(StatusError):
    """403: the API key may not do this."""


class NotFound(StatusError):
    """404: the object does not exist."""


class Conflict(StatusError):
    """409: it conflicts with an existing object."""


class Invalid(StatusError):
    """422: a field is wrong; `errors[].pointer` names it."""


class RateLimited(StatusError):
    """429: too many requests."""


class ServerError(StatusError):
    """5xx, or 408 for a request that came too slowly: Telnyx, or the way to it, is in trouble."""


_BY_STATUS: dict[int, type[StatusError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: ServerError,
    409: Conflict,
    422: Invalid,
    429: RateLimited,
}


def error_of(response: httpx.Response, content: bytes) -> StatusError:
    """The error that an answer with an error status and this body stands for."""
    status = response.status_code
    kind = _BY_STATUS.get(status) or (ServerError if status >= 500 else BadRequest)
    return kind(response, _details(content))


def _details(content: bytes) -> list[ErrorDetail]:
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    if not isinstance(body, dict):
        return []
    if isinstance(body.get("errors"), list):
        return [_detail(item) for item in body["errors"][:20] if isinstance(item, dict)]
    if "detail" in body:  # TeXML answers 404 with nothing else
        return [ErrorDetail("", "", str(body["detail"])[:500], "")]
    return []


def _detail(item: dict[str, Any]) -> ErrorDetail:
    source = item.get("source")
    source = source if isinstance(source, dict) else {}
    pointer = source.get("pointer") or source.get("parameter") or ""
    texts = [item.get("code"), item.get("title"), item.get("detail"), pointer]
    return ErrorDetail(*(" ".join(str(text or "")[:500].split()) for text in texts))


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds to wait by `retry-after` (RFC 9110: seconds or a date) or `x-ratelimit-reset` (seconds, by Telnyx).

    A date is compared with the date of the answer. A wrong clock on this machine would make all workers wait for the maximum.
    """
    value = headers.get("retry-after")
    if value is not None:
        try:
            return max(0.0, float(value))
        except ValueError:
            pass
        try:
            now = parsedate_to_datetime(headers["date"]) if "date" in headers else utc_now()
            return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
        except (ValueError, TypeError):
            pass
    if headers.get("x-ratelimit-remaining") == "0" and "x-ratelimit-reset" in headers:
        try:
            return max(0.0, float(headers["x-ratelimit-reset"]))
        except ValueError:
            pass
    return None
