"""`callvault seal`: seal a day or all due days by hand; sign seals by hand."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import open_console, print_json
from cli.options import DataFolder, Json, day_of, service_of
from text.counts import many
from text.errors import UsedWrongly
from text.sizes import format_size

if TYPE_CHECKING:
    from archive.seals import Link
    from config.settings import Settings
    from workers.runtime import Runtime
    from workers.seals.seal import Waits


def command(
    day: Annotated[
        str | None, typer.Argument(metavar="DAY", help="UTC day, such as 2026-11-25.", show_default=False)
    ] = None,
    due: Annotated[bool, typer.Option("--due", help="Seal every day that is due.")] = False,
    sign: Annotated[
        str | None,
        typer.Option("--sign", metavar="N", help="Sign unsigned seals: number 7, or 1-7.", show_default=False),
    ] = None,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Seal finished days, or sign seals, by hand.

    Workers seal each finished day by themselves. A day is compared with Telnyx first. Exit status 1: a day
    cannot be sealed yet.

    Example: callvault seal --due
    """
    if [day is not None, due, sign is not None].count(True) != 1:
        raise UsedWrongly("give a day, --due, or --sign with a number")
    if sign is not None:
        numbers = re.fullmatch(r"([1-9]\d{0,9})(?:-([1-9]\d{0,9}))?", sign, re.ASCII)
        if numbers is None:
            raise UsedWrongly(f"--sign: cannot use {sign!r}; expected a number such as 7, or a range such as 1-7")
        if int(numbers[2] or numbers[1]) < int(numbers[1]):
            raise UsedWrongly(f"--sign: cannot use {sign!r}; the last number is before the first")
        with service_of(data) as (settings, url):
            return asyncio.run(_sign(settings, url, int(numbers[1]), int(numbers[2] or numbers[1]), json))
    chosen = day_of(day) if day else None
    with service_of(data) as (settings, url):
        return asyncio.run(_seal_days(settings, url, chosen, json))


async def _seal_days(settings: Settings, url: str, day: date | None, as_json: bool) -> int:
    from cli.accessed import logged_change
    from cli.progress import progress
    from workers.queue.script import server_seconds
    from workers.runtime import runtime_at
    from workers.seals.signing import complete
    from workers.seals.waiting import UnsealedDays
    from workers.status import next_of, open_days

    async with runtime_at(settings, url) as runtime:
        days = [day] if day is not None else await _due(runtime)
        outcomes: list[tuple[date, Any]] = []
        with progress(open_console(stderr=True), days=len(days)) as show:
            for one in days:
                async with logged_change(runtime, "seal", about=f"day {one}"):
                    outcomes.append((one, await _seal(runtime, one)))
                show(days=len(outcomes))
        stamp = await complete(runtime)
        now, waiting = await server_seconds(runtime.redis), UnsealedDays(runtime.redis)
        left, due = await waiting.all(), await waiting.overdue(now)
    still = open_days(len(left), len(due), next_of(left, now))
    return _print(outcomes, stamp, still, as_json)


async def _seal(runtime: Runtime, day: date) -> Link | Waits | None:
    """Seal a day. If Telnyx refuses to answer about it, the next days are still sealed."""
    from telnyx_api.errors import StatusError
    from workers.seals.seal import Waits, seal

    try:
        return await seal(runtime, day, by_hand=True)
    except StatusError as error:
        return Waits(str(error))


async def _due(runtime: Runtime) -> list[date]:
    from archive.records import UnreadableRecord
    from workers.queue.script import server_seconds
    from workers.recordings.requests import FindUnsealedRequest
    from workers.seals.unsealed import days_without_a_seal, find_unsealed
    from workers.seals.waiting import UnsealedDays

    await find_unsealed(runtime, FindUnsealedRequest())
    days, now = UnsealedDays(runtime.redis), await server_seconds(runtime.redis)
    with suppress(UnreadableRecord):  # `_seal` reports it for each due day
        await days.add_missing(await days_without_a_seal(runtime), now)
    return list(await days.overdue(now))


async def _sign(settings: Settings, url: str, first: int, last: int, as_json: bool) -> int:
    from cli.accessed import logged_change
    from workers.runtime import runtime_at
    from workers.seals.signing import sign_by_hand

    async with (
        runtime_at(settings, url, needs_telnyx=False) as runtime,
        logged_change(runtime, "sign", about=f"seals {first} to {last}"),
    ):
        links = await sign_by_hand(runtime, first, last)
    if as_json:
        rows = [{"sequence": one.seal.sequence, "day": one.seal.day, "sha256": one.sha256} for one in links]
        print_json({"signed": rows})
    else:
        for one in links:
            sys.stdout.write(f"seal {one.seal.sequence}, {one.seal.day}, SHA-256 {one.sha256}: signed\n")
    return 0


def _print(outcomes: list[tuple[date, Any]], stamp: str | None, still: str, as_json: bool) -> int:
    from workers.seals.seal import Waits

    waits = [outcome for _, outcome in outcomes if isinstance(outcome, Waits)]
    if as_json:
        rows = [{"day": day.isoformat()} | _described(outcome) for day, outcome in outcomes]
        print_json({"days": rows, "time_stamp": stamp})
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
                counts = "objects added to its recordings since its last seal"
            sys.stdout.write(f"{day}  seal {sealed.sequence}: {counts}, {format_size(sealed.bytes)}\n")
    if not outcomes:
        sys.stdout.write(f"{still}\n")
    if stamp is not None:
        sys.stdout.write(f"no time stamp yet: {stamp}\n")
    return 1 if waits else 0


def _described(outcome: Link | Waits | None) -> dict[str, Any]:
    from workers.seals.seal import Waits

    if isinstance(outcome, Waits):
        return {"sealed": False, "why": outcome.why}
    if outcome is None:
        return {"sealed": False, "why": "nothing to seal"}
    return {"sealed": True, "sequence": outcome.seal.sequence, "recordings": outcome.seal.recordings}
