"""The page of connections: state, uploads, releases and numbers from Telnyx, log messages from the archive."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
from redis.exceptions import RedisError
from starlette.requests import Request

from archive.records import LogMessageRecord
from archive.stores.store import StoreError
from config.values import is_id
from service.ops.parts import Ops
from telnyx_api.errors import NotFound, TelnyxError
from telnyx_api.models import ExternalConnection, Release, Upload
from telnyx_api.pages import LARGEST_PAGE, read_all
from text.times import parse_day, utc_now
from workers.catalogue.query import BadQuery
from workers.connections.log_messages import read_log_messages, still_there
from workers.connections.watch import state_of

_DAYS = 30
_MOST_DAYS = 366
_MOST = 200
_ARCHIVE_SECONDS = 5


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
        kind: `zoom` or `operator_connect`.
        state: `good`, `inactive` or `without valid credentials`.
        numbers: 200 at most.
    """

    id: str
    kind: str
    state: str
    uploads: list[Ticket]
    releases: list[Ticket]
    numbers: list[Number]


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
        problem: why Telnyx did not answer; None: it did.
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
    rows: list[LogMessageRecord] = []
    messages_problem = None
    try:
        reading = asyncio.to_thread(read_log_messages, ops.runtime.archive, since, words["connection"], words["code"])
        async with asyncio.timeout(_ARCHIVE_SECONDS):
            rows = await reading
    except StoreError as error:
        messages_problem = f"The archive: {error}"
    except TimeoutError:
        messages_problem = f"The archive did not answer within {_ARCHIVE_SECONDS} s"
    try:
        there = await still_there(ops.redis)
    except (RedisError, OSError):
        there = None
    problem = None
    connections: list[Connection] = []
    try:
        async with asyncio.timeout(15):
            listed, unreadable = await read_all(ops.runtime.telnyx.external_connections.list(page_size=LARGEST_PAGE))
            problem = None if unreadable is None else str(unreadable)
            for one in listed:
                try:
                    connections += [await _connection(ops, one)]
                except TelnyxError as error:  # the others are shown
                    problem = f"Callvault could not read connection {one.id}: {error}"
    except TelnyxError as error:
        problem = f"Callvault could not ask Telnyx: {error}"
    except TimeoutError:
        problem = "Telnyx did not answer within 15 s"
    return Connections(
        connections, [_message(row, there) for row in reversed(rows[-_MOST:])], problem, messages_problem
    )


async def _connection(ops: Ops, one: ExternalConnection) -> Connection:
    telnyx, connection_id = ops.runtime.telnyx, str(one.id)
    uploads = [_upload(u) async for u in telnyx.uploads.list(connection_id, page_size=LARGEST_PAGE)]
    releases = [_release(r) async for r in telnyx.releases.list(connection_id, page_size=LARGEST_PAGE)]
    numbers: list[Number] = []
    async for n in telnyx.phone_numbers.list(connection_id, page_size=LARGEST_PAGE):
        numbers.append(Number(str(n.number_id), str(n.telephone_number), n.location_id and str(n.location_id)))
        if len(numbers) == _MOST:
            break
    return Connection(connection_id, str(one.external_sip_connection), state_of(one), uploads, releases, numbers)


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
