"""The evidence pages: the chain of seals as a calendar, one day compared with Telnyx, commands for auditors."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

import msgspec
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from archive import kinds, layout
from archive.seals import Chain, Link
from service.ops.parts import Ops
from service.ops.person import Refused
from service.ops.seal import SealOf, file_of_seal, look_at_seals
from telnyx_api.errors import TelnyxError
from text.times import parse_day, utc_now
from workers.reconcile.reconcile import count_at_telnyx
from workers.seals.chain import read_chain
from workers.seals.waiting import UnsealedDays

_WEEKS = 14

State = Literal["sealed", "open", "waits", "broken", "nothing"]

COMMANDS = (
    ("callvault verify --seals", "check every seal: manifest, place in the chain, signature and time stamp"),
    ("callvault verify --deep", "read and hash every object"),
    ("python3 verify_archive.py FOLDER", "check a downloaded bucket without installing Callvault"),
    ("sha256sum -c seals/0000000001.sha256", "check one sealed day of a downloaded bucket"),
)


class Day(msgspec.Struct, frozen=True):
    """A UTC day and its seals.

    Attributes:
        state: `sealed`, also if a further seal will follow; `open`: not due yet; `waits`: due, and `why` says what delays
            it; `broken`: one of its seals does not match the previous one; `nothing`: the day has nothing to seal.
        seals: their sequence numbers.
        recordings: number of recordings in its seals.
    """

    day: str
    state: State
    seals: list[int]
    recordings: int
    why: str | None


class Evidence(msgspec.Struct, frozen=True):
    """The chain of seals, and the days of the last 14 weeks, the oldest first.

    Attributes:
        broken: where the chain is broken; None: every seal matches the previous one.
    """

    seals: int
    last: str | None
    broken: str | None
    days: list[Day]


class DayCounts(msgspec.Struct, frozen=True):
    """One day: what the archive holds and what Telnyx counts.

    Attributes:
        archived: number of commit records; deleted: of receipts; erased: of erasure records.
        at_telnyx: number of recordings at Telnyx; None: unknown, and `note` says why.
        broken: where the chain is broken; None: every seal matches the previous one.
        later_seals: how many seals come after the last of this day.
    """

    day: str
    state: State
    why: str | None
    archived: int
    deleted: int
    erased: int
    transcriptions: int
    at_telnyx: int | None
    note: str | None
    seals: list[SealOf]
    broken: str | None
    later_seals: int


async def look(ops: Ops, request: Request) -> Evidence:
    """The calendar.

    Raises:
        StoreError, UnreadableRecord: the chain cannot be read.
    """
    chain, waiting = await _read(ops)
    broken = _broken(chain)
    today = utc_now().date()
    first = today - timedelta(days=today.weekday() + 7 * (_WEEKS - 1))
    days = [_day(chain, waiting, broken, first + timedelta(days=n)) for n in range((today - first).days + 1)]
    last = chain.links[-1].seal.day if chain.links else None
    return Evidence(len(chain.links), last, next(iter(broken.values()), None), days)


async def look_at_day(ops: Ops, request: Request) -> DayCounts:
    """One day.

    Raises:
        Refused: the path names no day.
        StoreError, UnreadableRecord: the archive cannot be read.
    """
    day = day_in_path(request)
    found = await read_day(ops, day)
    counts = await asyncio.to_thread(_count, ops, day)
    at_telnyx = note = None
    try:
        at_telnyx = await count_at_telnyx(ops.runtime, day)
    except TelnyxError as error:
        note = f"Callvault could not ask Telnyx: {error}"
    if at_telnyx is None and note is None:
        note = "Telnyx did not report how many recordings it has"
    seals = await look_at_seals(ops, found.links)
    return DayCounts(
        day.isoformat(), found.day.state, found.day.why, *counts, at_telnyx, note, seals, found.broken, found.later
    )


def day_in_path(request: Request) -> date:
    """The day that the path of a request names.

    Raises:
        Refused: it names none.
    """
    try:
        return parse_day(request.path_params["day"])
    except ValueError as error:
        raise Refused(404, str(error)) from None


@dataclass(frozen=True)
class DayOfChain:
    """A day with its place in the chain.

    Attributes:
        day: as the calendar has it.
        links: its seals that count.
        broken: where the whole chain is broken; None: every seal matches the previous one.
        later: how many seals come after its last.
    """

    day: Day
    links: Sequence[Link]
    broken: str | None
    later: int


async def read_day(ops: Ops, day: date) -> DayOfChain:
    """A day with its seals.

    Raises:
        StoreError, UnreadableRecord: the chain cannot be read.
    """
    chain, waiting = await _read(ops)
    broken, links = _broken(chain), chain.of_day(day)
    later = len(chain.links) - links[-1].seal.sequence if links else 0
    return DayOfChain(_day(chain, waiting, broken, day), links, next(iter(broken.values()), None), later)


async def _read(ops: Ops) -> tuple[Chain, dict[date, tuple[float, str | None]]]:
    """The chain and the days that are not sealed; without Redis, the chain alone."""
    try:
        return await read_chain(ops.runtime), await UnsealedDays(ops.redis).all()
    except (RedisError, OSError):
        chain = Chain(ops.runtime.archive)
        await asyncio.to_thread(chain.refresh)
        return chain, {}


def _broken(chain: Chain) -> dict[str, str]:
    """The days with a seal that does not match the previous one."""
    before, found = None, {}
    for link in chain.links:
        if link.seal.previous_sha256 != before:
            found[link.seal.day] = f"seal {link.seal.sequence} does not match seal {link.seal.sequence - 1}"
        before = link.sha256
    return found


def _day(chain: Chain, waiting: dict[date, tuple[float, str | None]], broken: dict[str, str], day: date) -> Day:
    links = chain.of_day(day)
    state: State = "sealed" if links else "nothing"
    why = None
    if day in waiting:
        at, why = waiting[day]
        is_due = why is not None or at <= utc_now().timestamp()
        state = "waits" if is_due else "sealed" if links else "open"  # later objects get a further seal
        why = why or ("the next run seals it" if state == "waits" else None)
    if day.isoformat() in broken:
        state, why = "broken", broken[day.isoformat()]
    recordings = sum(link.seal.recordings for link in links)
    return Day(day.isoformat(), state, [link.seal.sequence for link in links], recordings, why)


def _count(ops: Ops, day: date) -> tuple[int, int, int, int]:
    listed = ops.runtime.archive.store.list(layout.day_prefix(day))
    found = Counter(kinds.kind_of(stored.key) for stored in listed)
    return found[kinds.COMMIT], found[kinds.RECEIPT], found[kinds.ERASURE], found[kinds.TRANSCRIPTION]


async def manifest(ops: Ops, request: Request) -> Response:
    """The manifest of a seal, in the format of `sha256sum -c`.

    Raises:
        Refused: no seal has this number.
        StoreError: the archive cannot be read now.
    """
    sequence = request.path_params["sequence"]
    key = layout.seal_key(min(sequence, 10**10 - 1), "sha256")
    if await asyncio.to_thread(ops.runtime.archive.store.stat, key) is None:
        raise Refused(404, f"no manifest {key} in the archive")
    headers = {"Content-Disposition": f'attachment; filename="{sequence:010d}.sha256"'}
    return StreamingResponse(ops.runtime.archive.store.read(key), 200, headers, "text/plain")


async def seal_file(ops: Ops, request: Request) -> Response:
    """A file of a seal of a day: the seal, its manifest, its signature or its time stamp.

    Raises:
        Refused: the path names no day, or no such file.
        StoreError, UnreadableRecord: the archive cannot be read now.
    """
    return await file_of_seal(ops, request.path_params["name"], (await read_day(ops, day_in_path(request))).links)
