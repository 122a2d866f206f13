"""`watch_connections`: faults of external connections, told before their users notice.

Uploads that failed or hang, releases that failed or expired, numbers that are gone or moved, connections that are inactive
or without valid credentials. What was seen last is kept in Redis, so that each change is told once, and its end too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import msgspec

from config.logs import get_logger
from workers.alerts.kinds import KINDS, Kind, Severity
from workers.connections.document import load
from workers.connections.plan import plan
from workers.jobs.payloads import FaultReport
from workers.keys import CONNECTION_STATE, DRIFT_LOOKED, REFRESHED, UPLOADS_RETRIED, connection_field
from workers.queue.script import server_seconds
from workers.queue.state import read_state
from workers.runtime import Runtime
from workers.telnyx.client import LARGEST_PAGE
from workers.telnyx.errors import TelnyxError
from workers.telnyx.models import ExternalConnection

log = get_logger()

_DRIFT_SECONDS = 3600
_RETRIED_SECONDS = 30 * 24 * 3600

PENDING = ("pending_upload", "pending", "in_progress")

# THE table of what is a fault, by what it is about and its state: how severe, and what it means. To add one: a row here.
FAULTS: dict[tuple[str, str], tuple[Severity, str]] = {
    ("connection", "inactive"): ("critical", "calls over it do not work"),
    ("connection", "without valid credentials"): ("critical", "calls over it will fail; renew the credentials"),
    ("upload", "error"): ("warning", "its numbers cannot be used; `callvault telnyx uploads retry` tries again"),
    ("upload", "partial_success"): ("warning", "some of its numbers cannot be used"),
    ("upload", "stuck"): (
        "warning",
        "it has been pending too long; `callvault telnyx uploads refresh` has Telnyx look",
    ),
    ("release", "failed"): ("warning", "its numbers are still assigned"),
    ("release", "expired"): ("warning", "its numbers are still assigned; begin a new release"),
    ("number", "gone"): ("critical", "it is no longer assigned to the connection"),
    ("number", "moved"): ("warning", "it is at another location than before, which emergency calls depend on"),
}


class _State(msgspec.Struct):
    """What was last seen of one thing; `since` in seconds since the epoch, by the server's clock."""

    state: str
    since: float
    where: str = ""


@dataclass(frozen=True)
class _Sight:
    """What is seen of one thing now."""

    kind: str
    id: str
    name: str
    connection_id: str
    state: str
    detail: str = ""
    where: str = ""


async def watch_connections(runtime: Runtime) -> None:
    """Look at every external connection once.

    Raises:
        TelnyxError: Telnyx is away; the next turn looks again.
    """
    before = await read_state(runtime.redis, CONNECTION_STATE, _State)
    now = await server_seconds(runtime.redis)
    limit = runtime.settings.upload_pending_limit.total_seconds()
    after: dict[str, _State] = {}
    async for connection in runtime.telnyx.external_connections.list(page_size=LARGEST_PAGE):
        async for sight in _sights(runtime, connection):
            key = f"{sight.kind}:{sight.connection_id}:{sight.id}"
            old = before.get(key)
            state = sight.state
            if sight.kind == "upload" and state in PENDING and old and now - old.since > limit:
                state = "stuck"
            elif sight.kind == "number" and old and old.where and old.where != sight.where:
                state = "moved"
            unchanged = old is not None and (old.state == state or (state in PENDING and old.state in PENDING))
            since = old.since if old is not None and (unchanged or state == "stuck") else now
            after[key] = _State(state, since, sight.where)
            if not unchanged:
                await _tell(runtime, sight, state, old)
                await _retry_upload(runtime, sight)
    await _tell_of_lost_numbers(runtime, before, after)
    async with runtime.redis.pipeline(transaction=True) as pipe:
        pipe.delete(CONNECTION_STATE)
        if after:
            pipe.hset(CONNECTION_STATE, mapping={key: msgspec.json.encode(state) for key, state in after.items()})
        await pipe.execute()


def state_of(connection: ExternalConnection) -> str:
    """`good`, or a state of the table of faults."""
    if connection.active is False:
        return "inactive"
    return "without valid credentials" if connection.credential_active is False else "good"


async def _sights(runtime: Runtime, connection: ExternalConnection) -> AsyncIterator[_Sight]:
    connection_id, name = str(connection.id), str(connection.external_sip_connection)
    yield _Sight("connection", connection_id, name, connection_id, state_of(connection))
    async for upload in runtime.telnyx.uploads.list(connection_id, page_size=LARGEST_PAGE):
        detail = upload.error_message or ""
        numbers = ",".join(sorted(str(entry.number_id) for entry in upload.tn_upload_entries or ()))
        yield _Sight("upload", str(upload.ticket_id), name, connection_id, str(upload.status), detail, numbers)
    async for release in runtime.telnyx.releases.list(connection_id, page_size=LARGEST_PAGE):
        detail = release.error_message or ""
        yield _Sight("release", str(release.ticket_id), name, connection_id, str(release.status), detail)
    async for number in runtime.telnyx.phone_numbers.list(connection_id, page_size=LARGEST_PAGE):
        where = str(number.location_id)
        shown = str(number.telephone_number)
        yield _Sight("number", str(number.number_id), shown, connection_id, "good", where=where)


async def _tell(runtime: Runtime, sight: _Sight, state: str, old: _State | None) -> None:
    fault = FAULTS.get((sight.kind, state))
    what = sight.name if sight.kind == "number" else sight.id
    group = f"{sight.connection_id} {state}"
    if fault is not None:
        severity, meaning = fault
        text = f"Connection {sight.connection_id}: {sight.kind} {what} is {state}: {meaning}."
        text += f" Telnyx says: {sight.detail}" if sight.detail else ""
        advice = f"See `callvault telnyx {_family(sight.kind)} list {sight.connection_id}`."
        if sight.kind == "connection":
            advice = f"See `callvault telnyx external-connections retrieve {sight.connection_id}`."
        await runtime.alerts.send(f"{sight.kind}-fault", group, text, advice, severity)
    elif old is not None and (sight.kind, old.state) in FAULTS and old.state != "moved":
        text = f"Connection {sight.connection_id}: {sight.kind} {what} is {state} again, no longer {old.state}."
        await runtime.alerts.send(f"{sight.kind}-recovered", group, text, "Nothing is to be done.")


async def report_fault(runtime: Runtime, report: FaultReport) -> None:
    """Tell of a fault that a webhook told of; its event type is the kind of its alert."""
    kind = KINDS.get(report.event_type, Kind("warning", "see the event", "see the event"))
    text = f"Connection {report.connection_id}: {report.event_type}: {report.reason}: {kind.meaning}."
    text += f" Call leg {report.call_leg_id}." if report.call_leg_id else ""
    advice = f"{kind.remedy[0].upper()}{kind.remedy[1:]}."
    await runtime.alerts.send(report.event_type, f"{report.connection_id} {report.reason}", text, advice)


async def _retry_upload(runtime: Runtime, sight: _Sight) -> None:
    """Try a failed upload again, once for each cause; the same numbers failing for the same cause are not tried again."""
    if sight.kind != "upload" or sight.state not in ("error", "partial_success"):
        return
    if runtime.settings.upload_retry == "never":
        return
    if not await runtime.redis.sadd(UPLOADS_RETRIED, f"{sight.connection_id} {sight.where} {sight.detail}"):
        return
    await runtime.redis.expire(UPLOADS_RETRIED, _RETRIED_SECONDS)
    try:
        await runtime.telnyx.uploads.retry(sight.connection_id, sight.id)
    except TelnyxError as error:  # the look at all the other things goes on
        log.warning("an upload could not be tried again", ticket_id=sight.id, error=str(error))


def _family(kind: str) -> str:
    return {"upload": "uploads", "release": "releases", "number": "phone-numbers"}.get(kind, "external-connections")


async def _tell_of_lost_numbers(runtime: Runtime, before: dict[str, _State], after: dict[str, _State]) -> None:
    """Numbers that were there at the last look, of a connection that still is."""
    for key in before.keys() - after.keys():
        kind, connection_id, number_id = key.split(":", 2)
        if kind == "number" and connection_field(connection_id) in after:
            sight = _Sight("number", number_id, number_id, connection_id, "gone")
            await _tell(runtime, sight, "gone", before[key])


async def refresh_operator_connect(runtime: Runtime) -> None:
    """Have Telnyx read the Operator Connect state again, if it is time; its results come as log messages."""
    every = runtime.settings.operator_connect_refresh
    if every is None:
        return
    if await runtime.redis.set(REFRESHED, "1", nx=True, px=int(every.total_seconds() * 1000)):
        await runtime.telnyx.operator_connect.refresh()


async def look_for_drift(runtime: Runtime) -> None:
    """Compare the account with the file of its configuration, every hour; a difference is an alert."""
    path = runtime.settings.connections_file
    if path is None or not await runtime.redis.set(DRIFT_LOOKED, "1", nx=True, ex=_DRIFT_SECONDS):
        return
    document = await runtime.in_thread(load, path)
    for change in await plan(runtime.telnyx, document):
        fields = ", ".join(difference.path for difference in change.differences) or f"to {change.action}"
        text = f"{change.family}.{change.key} is not as {path.name} says: {fields}."
        advice = f"See `callvault connections drift {path}`, then `apply` it or change the file."
        await runtime.alerts.send("drift", f"{change.family}.{change.key}", text, advice)
