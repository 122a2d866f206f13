"""The overview page: health, queues, and the work of the last hour and day."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
from redis.exceptions import RedisError
from starlette.requests import Request

from archive.stores.store import StoreError
from service.ops.activity import Counts, read_span, webhooks_of
from service.ops.first_run import FirstRun, first_run
from service.ops.may import PROVE
from service.ops.parts import Ops
from service.ops.person import Person
from text.errors import UserError
from text.times import format_instant, parse_instant, utc_now
from workers import acknowledged
from workers.alerts.alerts import Alert
from workers.conditions import Condition, condition
from workers.keys import ALERTS
from workers.looks import known_conditions
from workers.queue.history import DAY, HOUR, MONTH, quantile, read_history
from workers.queue.script import server_seconds
from workers.status import Status, read_status

_ALERTS_SHOWN = 20
_FRESH_SECONDS = 1.5  # less than the pages' own two seconds
_MONTH_FRESH_SECONDS = 60
_WORK_OF_QUEUES = {
    "main": "webhooks and alerts",
    "bulk": "backfill and reconcile",
    "clock": "scheduled work",
    "seals": "seals",
}
_OF_PEOPLE = frozenset({"unusual-access"})  # alerts that say what the access log does
_TOTALS = ("archived", "archived_bytes", "deleted", "deleted_bytes")


class LastAlert(Alert, frozen=True, kw_only=True):
    """The last alert of its kind and group, and the number of earlier ones that Redis still has."""

    more: int = 0


_ALERT = msgspec.json.Decoder(LastAlert)


class Span(msgspec.Struct, frozen=True):
    """What happened in each step of a span of time, the oldest first.

    Attributes:
        began_at: the beginning of the first step, ISO 8601, UTC.
        step_seconds: of a step.
        webhooks: answered; likewise archived: recordings, and deleted: originals.
        answer_p99_seconds: 99 of 100 webhooks were answered within; None without any.
        archive_p95_seconds: from the webhook's acceptance to the commit record, 95 of 100 within.
    """

    began_at: str
    step_seconds: int
    webhooks: list[int]
    archived: list[int]
    deleted: list[int]
    answer_p99_seconds: list[float | None]
    archive_p95_seconds: list[float | None]


class Waiting(msgspec.Struct, frozen=True):
    """Something that waits.

    Attributes:
        what: its name; `page`: where it is shown, empty: nowhere.
        count: of it; `oldest_seconds`: for how long the oldest has waited; None: unknown, or it is for later.
        note: a few words about it.
    """

    what: str
    page: str
    count: int
    oldest_seconds: float | None
    note: str


class Overview(msgspec.Struct, frozen=True):
    """The state now, and the work of the last hour, 24 hours and 31 days.

    Attributes:
        conditions: what is wrong, the worst first; empty: healthy.
        problems: the same, one sentence each.
        status: as `callvault status` shows it; None while Redis or the archive does not answer.
        outcomes: webhooks of the last day by outcome; events: events of the last day by type.
        totals: of the last day: archived, archived_bytes, deleted, deleted_bytes; None while Redis does not answer.
        before: the same of the 24 hours before; None if Redis has no counts of them.
        waiting: what waits, the oldest first.
        alerts: the last one of each kind and group, the newest first, at most 20. Those about what people took are only for
            roles that may read the access log.
        first_run: how the first recording comes; None: the archive has one, or does not answer.
    """

    conditions: list[Condition]
    problems: list[str]
    status: Status | None
    hour: Span | None
    day: Span | None
    month: Span | None
    outcomes: dict[str, int]
    events: dict[str, int]
    totals: dict[str, int] | None
    before: dict[str, int] | None
    waiting: list[Waiting]
    alerts: list[LastAlert]
    first_run: FirstRun | None


class Looked(msgspec.Struct, frozen=True):
    """The overview, and what its charts are made from: the counts by the name of their span, none while Redis is away."""

    overview: Overview
    counts: dict[str, Counts]


async def look(ops: Ops, request: Request | None = None) -> Looked:
    """Read the overview. A part that does not answer is a problem on the page, never an error page.

    One reading serves all who watch for 1.5 seconds, because each lists the archive for new seals.

    Raises:
        BadQuery: the request names no known span.
    """
    if request is not None:
        read_span(request.query_params.get("span"))
    async with ops.looking:
        if ops.overview is None or time.monotonic() - ops.overview[0] > _FRESH_SECONDS:
            ops.overview = time.monotonic(), await _look(ops)
        looked = ops.overview[1]
    return looked if request is None else shown_to(request.state.person, looked)


def shown_to(person: Person, looked: Looked) -> Looked:
    """What a person sees of an overview that all share."""
    if person.reach(PROVE).grants:
        return looked
    alerts = [alert for alert in looked.overview.alerts if alert.kind not in _OF_PEOPLE]
    return msgspec.structs.replace(looked, overview=msgspec.structs.replace(looked.overview, alerts=alerts))


async def _look(ops: Ops) -> Looked:
    found: list[Condition] = []
    status: Status | None = None
    spans: dict[str, Counts] = {}
    counts: Counter[str] = Counter()
    before: Counter[str] = Counter()
    alerts: list[LastAlert] = []
    first = None
    try:
        await ops.redis.ping()
        alerts = _last(await ops.redis.lrange(ALERTS, 0, -1))
        now = await server_seconds(ops.redis)
        spans = {
            "hour": await _counts(ops, HOUR, now),
            "day": await _counts(ops, DAY, now),
            "month": await _month(ops, now),
        }
        for row in spans["day"].rows:
            counts.update(row)
        for row in await read_history(ops.redis, DAY, now - DAY[0] * DAY[1]):
            before.update(row)
        try:
            status = await read_status(ops.runtime)
            found = status.conditions
            first = None if status.archive_problem else await first_run(ops, spans)
        except StoreError as error:  # it cannot even be opened
            away = [condition("archive-away", str(error))]
            found = await known_conditions(ops.redis, ops.settings, away)
    except (RedisError, OSError):
        found, spans = [condition("redis-away", "the receiver answers webhooks with 503 until it does")], {}
    overview = Overview(
        conditions=found,
        problems=[one.sentence for one in found],
        status=status,
        hour=_span(spans.get("hour")),
        day=_span(spans.get("day")),
        month=_span(spans.get("month")),
        outcomes=_named(counts, "webhook:"),
        events=_named(counts, "event:"),
        totals={name: counts[name] for name in _TOTALS} if spans else None,
        before={name: before[name] for name in _TOTALS} if before else None,
        waiting=[] if status is None else _waiting(status),
        alerts=alerts,
        first_run=first,
    )
    return Looked(overview, spans)


async def _counts(ops: Ops, span: tuple[int, int], now: float) -> Counts:
    step, steps = span
    return Counts((int(now // step) - steps + 1) * step, step, await read_history(ops.redis, span, now))


async def _month(ops: Ops, now: float) -> Counts:
    """The counts of a month; they are hundreds of hashes, so one reading serves for a minute."""
    if ops.month is None or time.monotonic() - ops.month[0] > _MONTH_FRESH_SECONDS:
        ops.month = time.monotonic(), await _counts(ops, MONTH, now)
    return ops.month[1]


def _last(rows: Sequence[bytes]) -> list[LastAlert]:
    groups: dict[tuple[str, str], list[LastAlert]] = {}
    for row in rows:
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):  # counts as lost
            alert = _ALERT.decode(row)
            groups.setdefault((alert.kind, alert.group), []).append(alert)
    shown = list(groups.values())[:_ALERTS_SHOWN]
    return [msgspec.structs.replace(first, more=len(others)) for first, *others in shown]


def _span(counts: Counts | None) -> Span | None:
    if counts is None:
        return None
    return Span(
        format_instant(datetime.fromtimestamp(counts.began, UTC)),
        counts.step_seconds,
        [webhooks_of(row) for row in counts.rows],
        [row.get("archived", 0) for row in counts.rows],
        [row.get("deleted", 0) for row in counts.rows],
        [quantile(row, "answer", 0.99) for row in counts.rows],
        [quantile(row, "job:archive_recording", 0.95) for row in counts.rows],
    )


def _waiting(status: Status) -> list[Waiting]:
    """What waits: the oldest first, then what is for later."""
    found = [
        Waiting(
            f"Jobs: {_WORK_OF_QUEUES[name]}",
            "",
            queue.jobs,
            queue.oldest_seconds or None,
            f"{queue.later} scheduled for later" if queue.later else "running or due",
        )
        for name, queue in status.queues.items()
    ]
    since = next((one.since for one in status.conditions if one.kind == "dead-letters"), None)
    days = status.seals
    longest = max((day.over_for_seconds for day in days.overdue), default=None)
    mode = {"never": "deletion is off", "unknown": "unknown"}.get(status.deletions.mode, "after the grace period")
    found += [
        Waiting("Dead letters", "/ops/dead-letters", status.dead_letters, _age(since), "wait for a person"),
        Waiting("Days to seal", "/ops/evidence", days.days_open, longest, f"{len(days.overdue) or 'none'} overdue"),
        Waiting(
            "Originals on the deletion schedule",
            "/ops/deletions",
            status.deletions.due,
            None,
            "paused" if status.deletions.paused else mode,
        ),
    ]
    return sorted((one for one in found if one.count), key=lambda one: -(one.oldest_seconds or 0))


def _age(since: str | None) -> float | None:
    try:
        return None if since is None else max(0.0, (utc_now() - parse_instant(since)).total_seconds())
    except ValueError:
        return None


async def acknowledge(ops: Ops, form: dict[str, str]) -> str:
    """Note that a person has seen a condition.

    Raises:
        UserError: the condition is over.
    """
    wanted = form["id"]
    ops.overview = None
    one = next((one for one in (await look(ops)).overview.conditions if one.id == wanted), None)
    if one is None:
        raise UserError("this is no longer wrong, so there is nothing to note")
    seen = acknowledged.Acknowledgement(form["by"], await server_seconds(ops.redis), one.what)
    await acknowledged.acknowledge(ops.redis, wanted, seen)
    return f"noted for 24 hours that {form['by']} has seen: {one.heading}"


def _named(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in counts.most_common() if name.startswith(prefix)}
