"""The originals that Telnyx still has, as one table: scheduled for deletion, on hold, or kept, each with its call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Literal, get_args

import msgspec
from starlette.datastructures import QueryParams

from archive.layout import Scope, recording_folder, recording_id_of
from config.values import is_id
from service.ops.parts import Ops
from service.ops.recordings import instant_of, shown
from text.times import parse_day
from workers.catalogue.query import BadQuery, Query, read_query
from workers.catalogue.rows import Row
from workers.catalogue.search import Hit, search, search_ids
from workers.deletion.kept import Holding
from workers.deletion.schedule import DueDeletion

MOST = 100  # of each state

_MOST_LOOKED_AT = 1_000

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
        why: why Callvault does not delete it, as of now; None: it would.
        advised: what a person decides next about it, if anything.
        call: as the catalogue has it; None: the catalogue does not know it yet.
    """

    recording_id: str
    folder: str
    state: State
    due_at: str | None
    why: str | None
    advised: Advice
    call: Row | None


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


async def scheduled(ops: Ops, wanted: Wanted) -> list[DueDeletion]:
    """The originals on the deletion schedule, soonest first, 100 at most.

    Of a connection or a day, those among its latest 1,000 calls.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    if wanted.connection is None and wanted.day is None:
        return await ops.runtime.schedule.entries(MOST)
    calls = await ops.catalogue.ask(lambda path: search(path, wanted.query, _MOST_LOOKED_AT))
    times = await ops.runtime.schedule.times([_folder(hit) for hit in calls])
    return sorted((DueDeletion(folder, at) for folder, at in times.items()), key=lambda one: one.due_at)[:MOST]


async def in_state(ops: Ops, state: str, wanted: Wanted, *, can_read: bool) -> list[Hit]:
    """The latest recordings in a state of a search, 100 at most.

    Without the words spoken in them, for a person who may not read those.
    """
    query = msgspec.structs.replace(wanted.query, state=state)
    hits = await ops.catalogue.ask(lambda path: search(path, query, MOST))
    found = [shown(ops, hit) for hit in hits]
    return found if can_read else [msgspec.structs.replace(hit, opening=None, words=None) for hit in found]


async def calls_of(ops: Ops, recording_ids: Sequence[str]) -> dict[str, Hit]:
    """What the catalogue knows of some recordings, by id."""
    hits = await ops.catalogue.ask(lambda path: search_ids(path, recording_ids))
    return {recording_id: shown(ops, hit) for recording_id, hit in hits.items()}


def as_table(
    wanted: Wanted,
    entries: Sequence[DueDeletion],
    kept_by: Mapping[str, str],
    calls: Mapping[str, Hit],
    holds: Sequence[Holding],
    hits: Sequence[Hit],
) -> list[Original]:
    """One row for each original: the scheduled ones first, soonest first, then the latest calls.

    Args:
        wanted: which to show.
        entries: of the schedule.
        kept_by: why Callvault would not delete some of them, by folder.
        calls: what the catalogue knows of them, by id.
        holds: those in force.
        hits: the recordings on hold, and those that are kept for a finding.
    """
    due_at = {entry.folder: instant_of(entry.due_at) for entry in entries}
    known = {entry.folder: calls.get(recording_id_of(entry.folder)) for entry in entries}
    others = {_folder(hit): hit for hit in sorted(hits, key=lambda hit: hit.row.started_at or "", reverse=True)}
    held = {(hold.scope, hold.subject): str(hold) for hold in holds}
    rows = [
        _original(folder, hit, due_at.get(folder), kept_by.get(folder), held)
        for folder, hit in (known | {folder: hit for folder, hit in others.items() if folder not in known}).items()
    ]
    return [row for row in rows if wanted.state in (None, row.state)]


def _original(
    folder: str, hit: Hit | None, due_at: str | None, kept: str | None, held: Mapping[tuple[Scope, str], str]
) -> Original:
    recording_id = recording_id_of(folder)
    connection = "" if hit is None else hit.row.connection_id or ""
    hold = held.get(("recording", recording_id)) or held.get(("connection", connection))
    state: State = "due"
    advised: Advice = "hold"
    if hold is not None or (hit is not None and hit.state == "held"):
        state, advised, kept = "held", "release", hold or kept or "on hold"
    elif hit is not None and hit.state == "kept":
        state, advised, kept = "kept", "approve", kept or f"findings not approved: {', '.join(hit.row.findings)}"
    elif kept is not None:
        state = "kept"
    return Original(recording_id, folder, state, due_at, kept, advised, None if hit is None else hit.row)


def _folder(hit: Hit) -> str:
    return recording_folder(hit.row.date, hit.row.recording_id)
