"""`callvault seal`: seal a day by hand, or all whose time has come; sign seals by hand."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from datetime import date
from typing import Any

from cli.console import open_console
from cli.progress import progress
from config.counts import many
from config.settings import Settings
from config.sizes import format_size
from workers.archive.records import UnreadableRecord
from workers.archive.seals import Link
from workers.jobs.seals import Waits, seal
from workers.jobs.signing import complete, sign_by_hand
from workers.jobs.unsealed import FindUnsealedRequest, days_without_a_seal, find_unsealed
from workers.queue.script import server_seconds
from workers.queue.written import UnsealedDays
from workers.runtime import Runtime, runtime_at
from workers.status import next_of, open_days
from workers.telnyx.errors import StatusError


def run(settings: Settings, url: str, *, day: date | None, as_json: bool) -> int:
    """Seal a day, or with None all that are due; returns the exit status: 1 if one has to wait."""
    return asyncio.run(_run(settings, url, day, as_json))


async def _run(settings: Settings, url: str, day: date | None, as_json: bool) -> int:
    async with runtime_at(settings, url) as runtime:
        days = [day] if day is not None else await _due(runtime)
        outcomes: list[tuple[date, Any]] = []
        with progress(open_console(stderr=True), days=len(days)) as show:
            for one in days:
                outcomes.append((one, await _seal(runtime, one)))
                show(days=len(outcomes))
        stamp = await complete(runtime)
        now, waiting = await server_seconds(runtime.redis), UnsealedDays(runtime.redis)
        left, due = await waiting.all(), await waiting.overdue(now)
    still = open_days(len(left), len(due), next_of(left, now))
    return _tell(outcomes, stamp, still, as_json)


async def _seal(runtime: Runtime, day: date) -> Link | Waits | None:
    """Seal one day; what Telnyx does not answer about it keeps no other from its seal."""
    try:
        return await seal(runtime, day, by_hand=True)
    except StatusError as error:
        return Waits(str(error))


async def _due(runtime: Runtime) -> list[date]:
    await find_unsealed(runtime, FindUnsealedRequest())
    days, now = UnsealedDays(runtime.redis), await server_seconds(runtime.redis)
    with suppress(UnreadableRecord):  # each day on the list says then why it cannot be sealed
        await days.add_missing(await days_without_a_seal(runtime), now)
    return list(await days.overdue(now))


def sign(settings: Settings, url: str, *, first: int, last: int, as_json: bool) -> int:
    """Sign the seals of these numbers, both inclusive, at a person's word; returns the exit status."""
    return asyncio.run(_sign(settings, url, first, last, as_json))


async def _sign(settings: Settings, url: str, first: int, last: int, as_json: bool) -> int:
    async with runtime_at(settings, url, needs_telnyx=False) as runtime:
        links = await sign_by_hand(runtime, first, last)
    if as_json:
        rows = [{"sequence": one.seal.sequence, "day": one.seal.day, "sha256": one.sha256} for one in links]
        sys.stdout.write(json.dumps({"signed": rows}) + "\n")
    else:
        for one in links:
            sys.stdout.write(f"seal {one.seal.sequence}, {one.seal.day}, SHA-256 {one.sha256}: signed\n")
    return 0


def _tell(outcomes: list[tuple[date, Any]], stamp: str | None, still: str, as_json: bool) -> int:
    waits = [outcome for _, outcome in outcomes if isinstance(outcome, Waits)]
    if as_json:
        rows = [{"day": day.isoformat()} | _described(outcome) for day, outcome in outcomes]
        sys.stdout.write(json.dumps({"days": rows, "time_stamp": stamp}) + "\n")
        return 1 if waits else 0
    for day, outcome in outcomes:
        if isinstance(outcome, Waits):
            sys.stdout.write(f"{day}  not sealed: {outcome.why}\n")
        elif outcome is None:
            sys.stdout.write(f"{day}  nothing to seal\n")
        else:
            sealed = outcome.seal
            counts = f"{many(sealed.recordings, 'recording')}, {many(sealed.transcriptions, 'transcription')}"
            if not sealed.bytes:
                counts = "nothing"
            elif not (sealed.recordings or sealed.transcriptions):
                counts = "what has come beside its recordings since its last seal"
            sys.stdout.write(f"{day}  seal {sealed.sequence}: {counts}, {format_size(sealed.bytes)}\n")
    if not outcomes:
        sys.stdout.write(f"{still}\n")
    if stamp is not None:
        sys.stdout.write(f"no time stamp yet: {stamp}\n")
    return 1 if waits else 0


def _described(outcome: Link | Waits | None) -> dict[str, Any]:
    if isinstance(outcome, Waits):
        return {"sealed": False, "why": outcome.why}
    if outcome is None:
        return {"sealed": False, "why": "nothing to seal"}
    return {"sealed": True, "sequence": outcome.seal.sequence, "recordings": outcome.seal.recordings}
