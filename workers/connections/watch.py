"""`watch_connections`: alerts about faults of external connections before their users notice.

Uploads that failed or hang, releases that failed or expired, numbers that are gone or moved, connections that are inactive
or without valid credentials. Redis keeps what was seen last, so that each fault gets one alert, and its end another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from process.logs import get_logger
from telnyx_api.errors import TelnyxError, UnreadableRows
from telnyx_api.models import ExternalConnection
from telnyx_api.pages import LARGEST_PAGE, read_all
from workers.alerts.kinds import KINDS, Kind, Severity
from workers.connections.document import load
from workers.connections.plan import drift
from workers.engine.lease import take_turn
from workers.engine.one_by_one import OneByOne
from workers.keys import CONNECTION_STATE, DRIFT_LOOKED, REFRESHED, UPLOADS_RETRIED, connection_field
from workers.queue.script import server_seconds, write_when_full
from workers.queue.state import read_state
from workers.reconcile.unreadable import alert_unreadable
from workers.recordings.requests import FaultReport
from workers.runtime import Runtime

log = get_logger()

_DRIFT_SECONDS = 3600
_RETRIED_SECONDS = 30 * 24 * 3600

PENDING = ("pending_upload", "pending", "in_progress")

# THE table of faults, by kind of thing and its state: the severity and the meaning. To add one: a row here.
FAULTS: dict[tuple[str, str], tuple[Severity, str]] = {
    ("connection", "inactive"): ("critical", "calls over it do not work"),
    ("connection", "without valid credentials"): ("critical", "calls over it will fail; renew the credentials"),
    ("upload", "error"): ("warning", "its numbers cannot be used; run `callvault telnyx uploads retry`"),
    ("upload", "partial_success"): ("warning", "some of its numbers cannot be used"),
    ("upload", "stuck"): (
        "warning",
        "it has been pending too long; run `callvault telnyx uploads refresh`",
    ),
    ("release", "failed"): ("warning", "its numbers are still assigned"),
    ("release", "expired"): ("warning", "its numbers are still assigned; begin a new release"),
    ("number", "gone"): ("critical", "it is no longer assigned to the connection"),
    ("number", "moved"): ("warning", "its location has changed, which emergency calls depend on"),
}


class _State(msgspec.Struct):
    """The last known state of one thing.

    Attributes:
        since: seconds since the epoch, by the server's clock.
        where: of a number, its location.
    """

    state: str
    since: float
    where: str = ""


@dataclass(frozen=True)
class _Sight:
    """The current state of one thing.

    Attributes:
        detail: what Telnyx says of its state.
        where: of a number, its location.
        numbers: of an upload, the ids of its numbers.
    """

    kind: str
    id: str
    name: str
    connection_id: str
    state: str
    detail: str = ""
    where: str = ""
    numbers: str = ""


async def watch_connections(runtime: Runtime) -> None:
    """Check every external connection once. What cannot be checked now keeps its last known state.

    Raises:
        TelnyxError: Telnyx does not list the connections; or, after all others were checked, the first error of a list of
            one connection. The next turn checks it again.
    """
    before = await read_state(runtime.redis, CONNECTION_STATE, _State)
    look = _Look(runtime, before, await server_seconds(runtime.redis))
    connections, unreadable = await read_all(runtime.telnyx.external_connections.list(page_size=LARGEST_PAGE))
    if unreadable is not None:
        await alert_unreadable(runtime, unreadable)
    alone = OneByOne(TelnyxError, answers=lambda _: runtime.telnyx.count(runtime.telnyx.external_connections.list))
    for connection in connections:
        for kind, sights in _SIGHTS.items():
            if not alone.is_worth_it(kind):
                look.keep(kind, str(connection.id))
                continue
            async with alone.of(kind, str(connection.id), must=False):
                try:
                    async for sight in sights(runtime, connection):
                        await look.at(sight)
                except UnreadableRows as error:
                    look.keep(kind, str(connection.id))
                    await alert_unreadable(runtime, error)
                except TelnyxError:
                    look.keep(kind, str(connection.id))
                    raise
    if unreadable is not None:  # an unreadable row may be a known connection
        look.keep_others({str(connection.id) for connection in connections})
    after = look.after
    await _alert_lost_numbers(runtime, before, after)
    if after != before or len(after) != await runtime.redis.hlen(CONNECTION_STATE):  # the second: some cannot be read
        rows = (("HSET", CONNECTION_STATE, key, msgspec.json.encode(state)) for key, state in after.items())
        await write_when_full(runtime.redis, ("DEL", CONNECTION_STATE), *rows)
    alone.raise_the_first()


class _Look:
    """One check of everything.

    Args:
        runtime: the worker's parts.
        before: the last known states.
        now: seconds since the epoch, by the server's clock.

    Attributes:
        after: the states to store.
    """

    def __init__(self, runtime: Runtime, before: dict[str, _State], now: float) -> None:
        self._runtime, self._before, self._now = runtime, before, now
        self.after: dict[str, _State] = {}

    async def at(self, sight: _Sight) -> None:
        """Compare one thing with its last known state, and alert about a change."""
        limit = self._runtime.settings.upload_pending_limit.total_seconds()
        key = f"{sight.kind}:{sight.connection_id}:{sight.id}"
        old = self._before.get(key)
        state = sight.state
        if sight.kind == "upload" and state in PENDING and old and self._now - old.since > limit:
            state = "stuck"
        elif sight.kind == "number" and old and old.where and old.where != sight.where:
            state = "moved"
        unchanged = old is not None and (old.state == state or (state in PENDING and old.state in PENDING))
        since = old.since if old is not None and (unchanged or state == "stuck") else self._now
        self.after[key] = _State(state, since, sight.where)
        if not unchanged:
            await _alert_change(self._runtime, sight, state, old)
            await _retry_upload(self._runtime, sight)

    def keep(self, kind: str, connection_id: str) -> None:
        """Keep the last known states of a kind of a connection, except those seen now: the things may still exist."""
        self._keep(lambda key: key.startswith(f"{kind}:{connection_id}:"))

    def keep_others(self, connection_ids: Collection[str]) -> None:
        """Keep the last known states of all other connections."""
        self._keep(lambda key: key.split(":", 2)[1] not in connection_ids)

    def _keep(self, is_meant: Callable[[str], bool]) -> None:
        for key, state in self._before.items():
            if is_meant(key):
                self.after.setdefault(key, state)


def state_of(connection: ExternalConnection) -> str:
    """`good`, or a state of the table of faults."""
    if connection.active is False:
        return "inactive"
    return "without valid credentials" if connection.credential_active is False else "good"


async def _connection(_: Runtime, connection: ExternalConnection) -> AsyncIterator[_Sight]:
    connection_id, name = str(connection.id), str(connection.external_sip_connection)
    yield _Sight("connection", connection_id, name, connection_id, state_of(connection))


async def _uploads(runtime: Runtime, connection: ExternalConnection) -> AsyncIterator[_Sight]:
    connection_id, name = str(connection.id), str(connection.external_sip_connection)
    async for upload in runtime.telnyx.uploads.list(connection_id, page_size=LARGEST_PAGE):
        detail = upload.error_message or ""
        numbers = ",".join(sorted(str(entry.number_id) for entry in upload.tn_upload_entries or ()))
        yield _Sight("upload", str(upload.ticket_id), name, connection_id, str(upload.status), detail, numbers=numbers)


async def _releases(runtime: Runtime, connection: ExternalConnection) -> AsyncIterator[_Sight]:
    connection_id, name = str(connection.id), str(connection.external_sip_connection)
    async for release in runtime.telnyx.releases.list(connection_id, page_size=LARGEST_PAGE):
        detail = release.error_message or ""
        yield _Sight("release", str(release.ticket_id), name, connection_id, str(release.status), detail)


async def _numbers(runtime: Runtime, connection: ExternalConnection) -> AsyncIterator[_Sight]:
    connection_id = str(connection.id)
    async for number in runtime.telnyx.phone_numbers.list(connection_id, page_size=LARGEST_PAGE):
        where = str(number.location_id)
        shown = str(number.telephone_number)
        yield _Sight("number", str(number.number_id), shown, connection_id, "good", where=where)


# What is checked of each connection, by kind; a kind that cannot be listed does not block the others.
_SIGHTS: dict[str, Callable[[Runtime, ExternalConnection], AsyncIterator[_Sight]]] = {
    "connection": _connection,
    "upload": _uploads,
    "release": _releases,
    "number": _numbers,
}


# The operation that shows it, by kind.
_SHOWN_BY = {
    "connection": "external-connections retrieve",
    "upload": "uploads list",
    "release": "releases list",
    "number": "phone-numbers list",
}


async def _alert_change(runtime: Runtime, sight: _Sight, state: str, old: _State | None) -> None:
    fault = FAULTS.get((sight.kind, state))
    what = sight.name if sight.kind == "number" else sight.id
    group = f"{sight.connection_id} {state}"
    if fault is not None:
        severity, meaning = fault
        text = f"Connection {sight.connection_id}: {sight.kind} {what} is {state}: {meaning}."
        text += f" Telnyx says: {sight.detail}" if sight.detail else ""
        advice = f"See `callvault telnyx {_SHOWN_BY[sight.kind]} {sight.connection_id}`."
        await runtime.alerts.send(f"{sight.kind}-fault", group, text, advice, severity)
    elif old is not None and (sight.kind, old.state) in FAULTS and old.state != "moved":
        text = f"Connection {sight.connection_id}: {sight.kind} {what} is {state} again, no longer {old.state}."
        await runtime.alerts.send(f"{sight.kind}-recovered", group, text, "No action needed.")


async def report_fault(runtime: Runtime, report: FaultReport) -> None:
    """Alert about a fault that a webhook reported; its event type is the kind of the alert."""
    kind = KINDS.get(report.event_type, Kind("warning", "see the event", "See the event"))
    text = f"Connection {report.connection_id}: {report.event_type}: {report.reason}: {kind.meaning}."
    text += f" Call leg {report.call_leg_id}." if report.call_leg_id else ""
    await runtime.alerts.send(report.event_type, f"{report.connection_id} {report.reason}", text, f"{kind.remedy}.")


async def _retry_upload(runtime: Runtime, sight: _Sight) -> None:
    """Retry a failed upload, once per cause; numbers that fail again for the same cause are not retried."""
    if sight.kind != "upload" or sight.state not in ("error", "partial_success"):
        return
    if runtime.settings.upload_retry == "never":
        return
    cause = f"{sight.connection_id} {sight.numbers} {sight.detail}"
    is_new, _ = await write_when_full(
        runtime.redis, ("SADD", UPLOADS_RETRIED, cause), ("EXPIRE", UPLOADS_RETRIED, _RETRIED_SECONDS)
    )
    if not is_new:
        return
    try:
        await runtime.telnyx.uploads.retry(sight.connection_id, sight.id)
    except TelnyxError as error:  # the other checks continue
        log.warning("upload could not be retried", ticket_id=sight.id, error=str(error))


async def _alert_lost_numbers(runtime: Runtime, before: dict[str, _State], after: dict[str, _State]) -> None:
    """Alert about numbers that have disappeared from a connection that is still there."""
    for key in before.keys() - after.keys():
        kind, connection_id, number_id = key.split(":", 2)
        if kind == "number" and connection_field(connection_id) in after:
            sight = _Sight("number", number_id, number_id, connection_id, "gone")
            await _alert_change(runtime, sight, "gone", before[key])


async def refresh_operator_connect(runtime: Runtime) -> None:
    """Ask Telnyx to refresh the Operator Connect state, if that is due; the results come as log messages."""
    every = runtime.settings.operator_connect_refresh
    if every is None:
        return
    await take_turn(runtime.redis, REFRESHED, every.total_seconds(), runtime.telnyx.operator_connect.refresh)


async def look_for_drift(runtime: Runtime) -> None:
    """Compare the account with its configuration file every hour; a difference is an alert."""
    path = runtime.settings.connections_file
    if path is not None:
        await take_turn(runtime.redis, DRIFT_LOOKED, _DRIFT_SECONDS, lambda: _look_for_drift(runtime, path))


async def _look_for_drift(runtime: Runtime, path: Path) -> None:
    document = await runtime.in_thread(load, path)
    changes, unread = await drift(runtime.telnyx, document)
    for change in changes:
        fields = ", ".join(difference.path for difference in change.differences) or f"to {change.action}"
        text = f"{change.family}.{change.key} differs from {path.name}: {fields}."
        advice = f"Run `callvault connections drift {path}`, then `apply` the file or change it."
        await runtime.alerts.send("drift", f"{change.family}.{change.key}", text, advice)
    for one in unread:
        text = f"{one.family}.{one.key} cannot be compared with {path.name}: {one.error}."
        await runtime.alerts.send("drift", f"{one.family}.{one.key}", text, "The others were compared.")
