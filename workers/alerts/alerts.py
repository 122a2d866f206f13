"""Alerts: logged, kept for the ops pages, and delivered by Apprise; one message per group and window.

Delivery runs in the background and never delays the work. A failed delivery is retried, and then logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, cast

import msgspec
from redis.exceptions import RedisError

from config.values import QuietHours
from process.logs import get_logger
from text.counts import many
from text.times import format_instant, utc_now
from workers.alerts.delivery import NotDelivered, deliver
from workers.alerts.head import head_line
from workers.alerts.kinds import KINDS, Severity
from workers.keys import ALERT_COUNTS, ALERT_GROUP, ALERTS, COUNTS
from workers.queue.script import Script, write_when_full

log = get_logger()


DELIVERIES = "alerts:"  # + outcome, `sent` or `failed`: a count for the metrics
_KEPT = 500
_MOST_OF_A_GROUP = 50  # kept and logged per window, so that an outage which every job reports hides no other alert
_WINDOW_SECONDS = 900
_MOST_UNDER_WAY = 100

_RECORD = Script(__package__, "record_alert.lua")


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person must know.

    Attributes:
        kind: a row of the table of kinds, such as `dead-letter`.
        group: what it is about; one message is sent per kind and group within 15 minutes.
        text: what happened, on which object.
        advice: the command or page for the next step.
        at: ISO 8601, UTC.
    """

    kind: str
    severity: Severity
    group: str
    text: str
    advice: str
    at: str


class Alerts:
    """The alerts of one process.

    Args:
        redis: where alerts are kept and grouped.
        urls: Apprise URLs; may be empty.
        quiet_hours: when only critical alerts are delivered.
        severities: the user's, by kind; `off` turns delivery of a kind off.
    """

    def __init__(
        self,
        redis: Any,
        urls: Sequence[str] = (),
        quiet_hours: QuietHours | None = None,
        severities: Mapping[str, str] | None = None,
    ) -> None:
        self._redis = redis
        self._urls = tuple(urls)
        self._quiet_hours = quiet_hours
        self._severities = severities or {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def send(self, kind: str, group: str, text: str, advice: str, severity: Severity | None = None) -> None:
        """Send an alert. Never raises, so that an alert cannot break the work that it reports.

        The first of a group and window is delivered, fifty are kept and logged, and all are counted.

        Args:
            kind: a row of the table of kinds, which has its severity.
            group: what it is about.
            text: what happened, on which object.
            advice: the command or page for the next step.
            severity: for kinds whose alerts each set their own.
        """
        own = self._severities.get(kind)
        severity = severity or (KINDS[kind].severity if kind in KINDS else None) or "warning"
        severity = cast(Severity, own) if own not in (None, "off") else severity
        alert = Alert(kind=kind, severity=severity, group=group, text=text, advice=advice, at=format_instant(utc_now()))
        is_first, is_kept, before, field = True, True, "", f"{kind}:{group}"
        keys = (ALERT_GROUP + field, ALERT_COUNTS, ALERTS)
        arguments = (field, _WINDOW_SECONDS, alert.at, msgspec.json.encode(alert), _MOST_OF_A_GROUP, _KEPT)
        try:
            is_first, is_kept, unsent, since = await _RECORD(self._redis, keys, arguments)
            if unsent:
                before = (
                    f"{many(int(unsent), 'earlier alert')} of this group since {since.decode()}, not sent one by one."
                )
        except (RedisError, OSError):
            pass  # delivered twice rather than not at all
        if is_kept:
            write_log = {"info": log.info, "warning": log.warning, "critical": log.error}[severity]
            write_log("alert", kind=kind, severity=severity, group=group, text=text, advice=advice)
        is_quiet = self._quiet_hours is not None and self._quiet_hours.holds(utc_now().hour) and severity != "critical"
        if is_first and self._urls and own != "off" and not is_quiet and len(self._under_way) < _MOST_UNDER_WAY:
            task = asyncio.create_task(self._deliver(alert, before))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Wait a few seconds for deliveries under way."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=5)

    async def _deliver(self, alert: Alert, before: str) -> None:
        kinds: dict[Severity, Literal["info", "warning", "failure"]]
        kinds = {"info": "info", "warning": "warning", "critical": "failure"}
        head = None
        with suppress(RedisError, OSError):  # without the head rather than not at all
            head = await head_line(self._redis)
        body = "\n".join(line for line in (alert.text, before, alert.advice, alert.at, head) if line)
        outcome = "sent"
        try:
            await deliver(self._urls, f"Callvault: {alert.kind}", body, kinds[alert.severity])
        except NotDelivered:
            outcome = "failed"
            log.error("alert not delivered", kind=alert.kind, group=alert.group)
        with suppress(RedisError, OSError):
            await write_when_full(self._redis, ("HINCRBY", COUNTS, f"{DELIVERIES}{outcome}", 1))
