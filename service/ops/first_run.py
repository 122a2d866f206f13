"""What the overview shows while the archive is empty: how its first recording comes, and how far the way there is open."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec

from archive.stores.store import StoreError
from service.ops.activity import Counts, webhooks_of
from service.ops.parts import Ops
from telnyx_api.errors import TelnyxError
from telnyx_api.models import WebhookDelivery
from text.times import format_instant

_SECONDS = 5  # for one look at the archive, and for one request to Telnyx
_FRESH_SECONDS = 60
_DELIVERIES = 20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_GOOD = ("accepted", "duplicate", "kept")


class Delivery(msgspec.Struct, frozen=True):
    """The last webhook that Telnyx tried to deliver, to whatever URL.

    Attributes:
        is_delivered: whether it was answered with a 2xx.
        at: when Telnyx began, as it writes it; url: where to; answer: the HTTP status of the answer; None: unknown.
    """

    is_delivered: bool
    at: str | None
    url: str | None
    answer: int | None


class AtTelnyx(msgspec.Struct, frozen=True):
    """What Telnyx says.

    Attributes:
        recordings: how many recordings it has; None: unknown, and `problem` says why.
        delivery: the last delivery; None: there was none, or that is unknown.
    """

    recordings: int | None = None
    delivery: Delivery | None = None
    problem: str | None = None


class FirstRun(msgspec.Struct, frozen=True):
    """The way to the first recording.

    Attributes:
        webhook_at: the last minute or ten minutes in which a webhook came, ISO 8601, UTC; None: in 24 hours none came.
        is_accepted: whether one of that time was accepted; else all were refused.
        outcomes: the webhooks of that time by outcome.
        at_telnyx: what Telnyx says.
        sandbox: the URL that makes calls, if this service runs against a Telnyx on this machine.
        days: the days before today that Callvault fetches by itself.
    """

    webhook_at: str | None
    is_accepted: bool
    outcomes: dict[str, int]
    at_telnyx: AtTelnyx
    sandbox: str | None
    days: int


async def first_run(ops: Ops, spans: Mapping[str, Counts]) -> FirstRun | None:
    """The way to the first recording; None if the archive has one, or cannot be asked now.

    Args:
        ops: the parts of the pages.
        spans: the counts of the last hour and day.
    """
    if ops.is_filled or any(row.get("archived") for span in spans.values() for row in span.rows):
        ops.is_filled = True
        return None
    try:
        async with asyncio.timeout(_SECONDS):
            ops.is_filled = await ops.runtime.in_thread(_has_recordings, ops)
    except (StoreError, TimeoutError):
        return None
    if ops.is_filled:
        return None
    at, outcomes = _last_webhooks(spans)
    base = ops.settings.telnyx_base_url.rstrip("/")
    is_here = urlsplit(base).hostname in _LOOPBACK
    return FirstRun(
        at,
        any(outcomes.get(name) for name in _GOOD),
        outcomes,
        await _at_telnyx(ops),
        f"{base.removesuffix('/v2')}/_sandbox/calls" if is_here else None,
        ops.settings.reconcile_open.days,
    )


def _has_recordings(ops: Ops) -> bool:
    return next(iter(ops.runtime.archive.store.list("recordings/")), None) is not None


def _last_webhooks(spans: Mapping[str, Counts]) -> tuple[str | None, dict[str, int]]:
    """When the last webhooks came, as exactly as the counts say it, and these by outcome."""
    for span in (spans["hour"], spans["day"]):
        for index in reversed(range(len(span.rows))):
            row = span.rows[index]
            if webhooks_of(row):
                at = datetime.fromtimestamp(span.began + index * span.step_seconds, UTC)
                found = {name.removeprefix("webhook:"): n for name, n in row.items() if name.startswith("webhook:")}
                return format_instant(at), found
    return None, {}


async def _at_telnyx(ops: Ops) -> AtTelnyx:
    """Ask Telnyx, at most once a minute."""
    if ops.at_telnyx is None or time.monotonic() - ops.at_telnyx[0] > _FRESH_SECONDS:
        ops.at_telnyx = time.monotonic(), await _ask(ops)
    return ops.at_telnyx[1]


async def _ask(ops: Ops) -> AtTelnyx:
    if not ops.runtime.has_api_key:
        return AtTelnyx(problem="TELNYX_API_KEY is not set for this receiver, so it cannot ask Telnyx")
    telnyx = ops.runtime.telnyx
    delivery = None
    try:
        async with asyncio.timeout(_SECONDS):
            count = await telnyx.count(telnyx.recordings.list)
            with suppress(TelnyxError):  # the count is known
                page = await telnyx.first_page(telnyx.webhook_deliveries.list, page_size=_DELIVERIES)
                delivery = _delivery(max(page.items, key=lambda one: one.started_at or "", default=None))
    except TimeoutError:
        return AtTelnyx(problem=f"Telnyx did not answer within {_SECONDS} s")
    except TelnyxError as error:
        return AtTelnyx(problem=f"Callvault could not ask Telnyx: {error}")
    return AtTelnyx(count, delivery, None if count is not None else "Telnyx did not say how many recordings it has")


def _delivery(last: WebhookDelivery | None) -> Delivery | None:
    if last is None:
        return None
    http: dict[str, Any] = (last.attempts or [{}])[-1].get("http") or {}
    url, answer = (http.get("request") or {}).get("url"), (http.get("response") or {}).get("status")
    return Delivery(
        last.status == "delivered",
        last.started_at,
        url if isinstance(url, str) else None,
        answer if isinstance(answer, int) and answer else None,
    )
