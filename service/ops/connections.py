"""The page of connections: state, uploads, releases and numbers from Telnyx, log messages from the archive."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import nullcontext, suppress
from datetime import date, timedelta
from typing import TypeVar

import msgspec
from redis.exceptions import RedisError
from starlette.requests import Request

from archive.records import LogMessageRecord
from archive.stores.store import StoreError
from config.values import is_id
from service.ops.parts import Ops
from telnyx_api.errors import NotFound, StatusError, TelnyxError
from telnyx_api.models import ExternalConnection, PhoneNumber, Release, Upload
from telnyx_api.pages import LARGEST_PAGE
from text.times import parse_day, utc_now
from workers.catalogue.query import BadQuery
from workers.connections.log_messages import read_log_messages, still_there
from workers.connections.names import keep_names, name_of, read_names
from workers.connections.watch import FAULTS, state_of

_DAYS = 30
_MOST_DAYS = 366
_MOST = 200
_ARCHIVE_SECONDS = 5
_LIST_SECONDS = 8
_PART_SECONDS = 8
_AT_ONCE = 4  # lists of one kind; each kind has its own places, so one that hangs delays no other kind

_AGAIN = "Reload this page to try again."
_SHOWN = 20  # rows of a table on the page; the API has all

KINDS = {"zoom": "Zoom", "operator_connect": "Operator Connect"}

T = TypeVar("T")


class Ticket(msgspec.Struct, frozen=True):
    """An upload or a release of numbers; Telnyx does not report when an upload was created."""

    id: str
    status: str
    error: str | None
    created_at: str | None


class Number(msgspec.Struct, frozen=True):
    """A phone number of a connection, with its location for emergency calls."""

    id: str
    number: str
    location_id: str | None


class Connection(msgspec.Struct, frozen=True):
    """An external connection.

    Attributes:
        name: as Telnyx has it, else from its tags; None: it has neither.
        kind: `zoom` or `operator_connect`.
        state: `good`, `inactive` or `without valid credentials`.
        numbers: 200 at most.
        problems: why a list is empty or not complete, by its name: `uploads`, `releases`, `numbers`.
    """

    id: str
    name: str | None
    kind: str
    state: str
    uploads: list[Ticket]
    releases: list[Ticket]
    numbers: list[Number]
    problems: dict[str, str]


class Message(msgspec.Struct, frozen=True):
    """A log message.

    Attributes:
        id: None if Telnyx gave none; such a message cannot be dismissed.
        is_at_telnyx: whether the last poll found it at Telnyx; True also if unknown.
    """

    id: str | None
    code: str
    title: str
    detail: str
    connection_id: str | None
    number: str | None
    first_seen_at: str
    occurrence: int
    is_at_telnyx: bool


class Connections(msgspec.Struct, frozen=True):
    """The external connections, and the log messages of the last 30 days, the newest first, 200 at most.

    Attributes:
        problem: why the connections could not be listed, or not all; None: they were.
        messages_problem: why the log messages could not be read; None: they were.
    """

    connections: list[Connection]
    messages: list[Message]
    problem: str | None
    messages_problem: str | None


async def look(ops: Ops, request: Request) -> Connections:
    """Read them all; `connection`, `code` and `since` of the query filter the log messages.

    Raises:
        BadQuery: `since` is not a day or too long ago, or `connection` is not an id.
        StoreError: the archive could not be opened.
    """
    words = {name: request.query_params.get(name) or None for name in ("connection", "code", "since")}
    since = utc_now().date() - timedelta(days=_DAYS)
    try:
        since = parse_day(words["since"]) if words["since"] else since
    except ValueError as error:
        raise BadQuery(f"since: {error}") from None
    if since < utc_now().date() - timedelta(days=_MOST_DAYS):
        raise BadQuery(
            f"since: at most {_MOST_DAYS} days ago; run `callvault logs list --since {since}` for older ones"
        )
    if words["connection"] is not None and not is_id(words["connection"]):
        raise BadQuery("connection: not an id")
    (connections, problem), (rows, there, messages_problem) = await asyncio.gather(
        _connections(ops), _messages(ops, since, words["connection"], words["code"])
    )
    return Connections(connections, [_message(row, there) for row in rows], problem, messages_problem)


async def _messages(
    ops: Ops, since: date, connection: str | None, code: str | None
) -> tuple[list[LogMessageRecord], set[str] | None, str | None]:
    """The latest log messages, the ids of those still at Telnyx if they are known, and why there are no messages."""
    rows: list[LogMessageRecord] = []
    problem = there = None
    try:
        reading = asyncio.to_thread(read_log_messages, ops.runtime.archive, since, connection, code)
        async with asyncio.timeout(_ARCHIVE_SECONDS):
            rows = await reading
    except StoreError as error:
        problem = f"The archive: {error}"
    except TimeoutError:
        problem = f"The archive did not answer within {_ARCHIVE_SECONDS} s"
    with suppress(RedisError, OSError):
        there = await still_there(ops.redis)
    return rows[: -_MOST - 1 : -1], there, problem


async def _connections(ops: Ops) -> tuple[list[Connection], str | None]:
    """All external connections with their lists, and why there may be more. Each list is read apart."""
    telnyx = ops.runtime.telnyx
    places = {name: asyncio.Semaphore(_AT_ONCE) for name in ("uploads", "releases", "numbers")}
    listed, problem = await _part(
        "the external connections", _LIST_SECONDS, telnyx.external_connections.list(page_size=LARGEST_PAGE)
    )
    known: dict[str, str] = {}
    with suppress(RedisError, OSError):  # also before the workers have read the names
        known = await read_names(ops.redis)
        new = {str(one.id): name for one in listed if (name := name_of(one)) and str(one.id) not in known}
        await keep_names(ops.redis, new, is_complete=False)

    async def read(name: str, rows: AsyncIterable[T], of: str) -> tuple[list[T], str | None]:
        return await _part(f"the {name} of {of}", _PART_SECONDS, rows, places[name])

    async def connection(one: ExternalConnection) -> Connection:
        id_, name = str(one.id), known.get(str(one.id)) or name_of(one)
        found = await asyncio.gather(
            read("uploads", telnyx.uploads.list(id_, page_size=LARGEST_PAGE), name or id_),
            read("releases", telnyx.releases.list(id_, page_size=LARGEST_PAGE), name or id_),
            read("numbers", _first(telnyx.phone_numbers.list(id_, page_size=LARGEST_PAGE)), name or id_),
        )
        (uploads, _), (releases, _), (numbers, _) = found
        return Connection(
            id_,
            name,
            str(one.external_sip_connection),
            state_of(one),
            [_upload(upload) for upload in uploads],
            [_release(release) for release in releases],
            [Number(str(n.number_id), str(n.telephone_number), n.location_id) for n in numbers],
            {part: why for part, (_, why) in zip(places, found, strict=True) if why is not None},
        )

    return list(await asyncio.gather(*map(connection, listed))), problem


async def _part(
    what: str, seconds: float, rows: AsyncIterable[T], place: asyncio.Semaphore | None = None
) -> tuple[list[T], str | None]:
    """Read one list within a time; what Telnyx sent until then, and one line that says why that is not all."""
    found: list[T] = []

    async def read() -> None:
        async with place or nullcontext():
            async for row in rows:
                found.append(row)  # noqa: PERF401  a comprehension would lose them with an error

    try:
        async with asyncio.timeout(seconds):
            await read()
    except TimeoutError:
        return found, f"Telnyx did not send {what} within {seconds:g} s. {_AGAIN}"
    except StatusError as error:
        why = "".join(f": {one}" for one in error.errors[:1]).rstrip(".")
        return found, f"Telnyx answered {error.status} to the request for {what}{why}. {_AGAIN}"
    except TelnyxError as error:
        return found, f"Telnyx did not send {what}: {str(error).rstrip('.')}. {_AGAIN}"
    return found, None


async def _first(rows: AsyncIterable[PhoneNumber]) -> AsyncIterator[PhoneNumber]:
    """The first rows of a list, so that no more pages are asked for than are shown."""
    count = 0
    async for row in rows:
        yield row
        if (count := count + 1) == _MOST:
            return


def first_tickets(kind: str, tickets: Sequence[Ticket]) -> list[Ticket]:
    """What a table of the page shows of uploads or releases: the first of them, faults before all others.

    Args:
        kind: `upload` or `release`.
        tickets: all.
    """
    return sorted(tickets, key=lambda one: (kind, one.status) not in FAULTS)[:_SHOWN]


def _upload(upload: Upload) -> Ticket:
    return Ticket(str(upload.ticket_id), str(upload.status), upload.error_message, None)


def _release(release: Release) -> Ticket:
    return Ticket(str(release.ticket_id), str(release.status), release.error_message, release.created_at)


def _message(row: LogMessageRecord, there: set[str] | None) -> Message:
    said = row.message
    meta = said.get("meta") or {}
    return Message(
        id=said.get("id"),
        code=str(said.get("code")),
        title=str(said.get("title") or ""),
        detail=str(said.get("detail") or ""),
        connection_id=meta.get("external_connection_id"),
        number=meta.get("telephone_number"),
        first_seen_at=row.first_seen_at,
        occurrence=row.occurrence,
        is_at_telnyx=there is None or said.get("id") in there,
    )


async def dismiss(ops: Ops, form: dict[str, str]) -> str:
    """Dismiss a log message at Telnyx."""
    try:
        await ops.runtime.telnyx.log_messages.dismiss(form["id"])
    except NotFound:
        return f"log message {form['id']} is no longer at Telnyx; it was already dismissed"
    return f"log message {form['id']} is dismissed at Telnyx; the archive keeps it"


async def retry_upload(ops: Ops, form: dict[str, str]) -> str:
    """Retry a failed upload."""
    await ops.runtime.telnyx.uploads.retry(form["connection"], form["id"])
    return f"Telnyx retries upload {form['id']}"


async def refresh(ops: Ops, form: dict[str, str]) -> str:
    """Ask Telnyx to refresh the Operator Connect state."""
    await ops.runtime.telnyx.operator_connect.refresh()
    return "Telnyx refreshes the Operator Connect state and reports the result as log messages"
