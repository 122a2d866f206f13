"""The originals that Telnyx still has, as one table: scheduled for deletion, on hold, or kept, each with its call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, get_args

import msgspec
from starlette.datastructures import QueryParams

from archive.layout import recording_folder, recording_id_of
from config.values import is_id
from service.ops.originals_after import After
from service.ops.parts import Ops
from service.ops.recordings import instant_of
from service.ops.view import View
from text.times import parse_day
from workers.catalogue.query import BadQuery, Query, read_query
from workers.catalogue.rows import Row
from workers.catalogue.search import Hit
from workers.deletion.kept import Holding
from workers.deletion.schedule import DueDeletion

MOST = 100  # of each state

_MOST_LOOKED_AT = 1_000
_LOOKED_AT = (
    f"The schedule was looked up for the latest {_MOST_LOOKED_AT:,} of these recordings; earlier ones may be missing."
)

State = Literal["due", "held", "kept"]
Advice = Literal["hold", "release", "approve"]

_STATES: dict[str, State] = {state: state for state in get_args(State)}

# The query parameters of the page, each with a line of help.
FILTERS = {
    "state": "due, held or kept",
    "connection": "connection id",
    "day": "UTC day of the call",
}


class Original(msgspec.Struct, frozen=True):
    """An original that is not deleted.

    Attributes:
        folder: of its recording in the archive.
        state: `due`: only its time keeps it; `held`: a person's hold does; `kept`: something else does, and `why` says what.
        due_at: when its deletion is scheduled, ISO 8601, UTC; None: it is not scheduled.
        needs_seal: whether it also stays until its day is sealed, which is not known to be done.
        why: why Callvault does not delete it, as of now; None: it would.
        advised: what a person decides next about it; None: nothing, as only a case holds it.
        call: as the catalogue has it; None: the catalogue does not know it yet.
    """

    recording_id: str
    folder: str
    state: State
    due_at: str | None
    needs_seal: bool
    why: str | None
    advised: Advice | None
    call: Row | None


@dataclass(frozen=True)
class Known:
    """What decides about originals besides their time.

    Attributes:
        kept_by: why Callvault would not delete some of them, by folder.
        holds: those in force.
        sealed_first: whether each stays until its day is sealed; None: the archive does not answer.
    """

    kept_by: Mapping[str, str]
    holds: Sequence[Holding]
    sealed_first: bool | None


class Wanted(msgspec.Struct, frozen=True):
    """Which originals a person wants to see; None does not restrict them."""

    state: State | None = None
    connection: str | None = None
    day: date | None = None

    @property
    def query(self) -> Query:
        """The search for their calls."""
        day = None if self.day is None else self.day.isoformat()
        return read_query({"connection": self.connection, "since": day, "until": day})


def read_wanted(params: QueryParams) -> Wanted:
    """Read the filters of a request.

    Raises:
        BadQuery: one is invalid.
    """
    given = {name: value for name in FILTERS if (value := params.get(name, "").strip())}
    state = _STATES.get(given.get("state", ""))
    if "state" in given and state is None:
        raise BadQuery(f"{given['state'][:40]!r} is not a state; expected {FILTERS['state']}", "state")
    if "connection" in given and not is_id(given["connection"]):
        raise BadQuery(f"{given['connection'][:40]!r} is not an id", "connection")
    try:
        day = parse_day(given["day"]) if "day" in given else None
    except ValueError as error:
        raise BadQuery(str(error), "day") from None
    return Wanted(state, given.get("connection"), day)


async def scheduled(ops: Ops, view: View, wanted: Wanted, after: After) -> tuple[list[DueDeletion], int, str | None]:
    """The originals on the deletion schedule, soonest first, 101 at most; how many there are; and why some may be missing.

    The last of 101 only shows that there are more. Of a connection, a day or a scope, those among its latest 1,000 calls.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    last = after.of_schedule
    if view.is_whole and wanted.connection is None and wanted.day is None:
        schedule = ops.runtime.schedule
        entries = await (schedule.entries(MOST + 1) if last is None else schedule.entries_after(last, MOST + 1))
        return [] if after.has_ended("schedule") else entries, await schedule.count(), None
    calls = await view.search(wanted.query, _MOST_LOOKED_AT)
    times = await ops.runtime.schedule.times([_folder(hit) for hit in calls])
    found = sorted((DueDeletion(folder, at) for folder, at in times.items()), key=_in_order)
    count = await ops.runtime.schedule.count() if view.is_whole else len(found)
    why_few = None if len(calls) < _MOST_LOOKED_AT else _LOOKED_AT
    left = [one for one in found if last is None or _in_order(one) > _in_order(last)]
    return [] if after.has_ended("schedule") else left[: MOST + 1], count, why_few


def _in_order(one: DueDeletion) -> tuple[float, bytes]:
    return one.due_at, one.folder.encode()  # as Redis orders members


async def in_state(view: View, state: Literal["held", "kept"], wanted: Wanted, reader: View, after: After) -> list[Hit]:
    """The latest recordings in a state of a search, 101 at most; the last of 101 only shows that there are more.

    Args:
        view: what the person sees.
        state: of a search.
        wanted: which to show.
        reader: what the person may read; the words spoken in others are left out.
        after: where the page begins.

    Raises:
        UserError: `after` is no value of a previous page.
    """
    if after.has_ended(state):
        return []
    place = getattr(after, state) or None
    found = await view.search(msgspec.structs.replace(wanted.query, state=state), MOST + 1, place)
    readable = await reader.of_ids([hit.row.recording_id for hit in found])
    return [
        hit if hit.row.recording_id in readable else msgspec.structs.replace(hit, opening=None, words=None)
        for hit in found
    ]


def as_table(
    wanted: Wanted, entries: Sequence[DueDeletion], calls: Mapping[str, Hit], hits: Sequence[Hit], known: Known
) -> list[Original]:
    """One row for each original: the scheduled ones first, soonest first, then the latest calls.

    Args:
        wanted: which to show.
        entries: of the schedule.
        calls: what the catalogue knows of them, by id.
        hits: the recordings on hold, and those that are kept for a finding.
        known: what else decides about them.
    """
    due_at = {entry.folder: instant_of(entry.due_at) for entry in entries}
    of_schedule = {entry.folder: calls.get(recording_id_of(entry.folder)) for entry in entries}
    others = {_folder(hit): hit for hit in sorted(hits, key=lambda hit: hit.row.started_at or "", reverse=True)}
    held: dict[tuple[str, str], str] = {(hold.scope, hold.subject): str(hold) for hold in known.holds}
    held |= {("case", hold.subject): f"held by {hold.what}: {hold}" for hold in known.holds if hold.scope == "case"}
    rows = [
        _original(folder, hit, due_at.get(folder), known, held)
        for folder, hit in (of_schedule | {f: hit for f, hit in others.items() if f not in of_schedule}).items()
    ]
    return [row for row in rows if wanted.state in (None, row.state)]


def _original(
    folder: str, hit: Hit | None, due_at: str | None, known: Known, held: Mapping[tuple[str, str], str]
) -> Original:
    recording_id, kept = recording_id_of(folder), known.kept_by.get(folder)
    row = None if hit is None else hit.row
    hold = held.get(("recording", recording_id)) or held.get(("connection", (row and row.connection_id) or ""))
    of_cases = "; ".join(held.get(("case", id_), f"held by case {id_}") for id_ in (hit.cases if hit else ()))
    state: State = "due"
    advised: Advice | None = "hold"
    if hold is not None or (hit is not None and hit.state == "held"):
        why = "; ".join(filter(None, (hold, of_cases)))
        state, advised, kept = "held", "release" if hold or not of_cases else None, why or kept or "on hold"
    elif hit is not None and hit.state == "kept":
        state, advised, kept = "kept", "approve", kept or f"findings not approved: {', '.join(hit.row.findings)}"
    elif kept is not None:
        state = "kept"
    needs_seal = bool(known.sealed_first) and (row is None or row.seal is None)
    return Original(recording_id, folder, state, due_at, needs_seal, kept, advised, row)


def _folder(hit: Hit) -> str:
    return recording_folder(hit.row.date, hit.row.recording_id)
