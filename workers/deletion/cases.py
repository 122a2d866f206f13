"""Open and close cases. A case holds recordings by a query, those to come too; `archive/cases.py` says which.

As with a hold: once a case is open, no worker sends a deletion that it forbids, and the answer says whether one was sent before.
"""

from __future__ import annotations

from datetime import UTC, tzinfo

import msgspec

from archive.archive import ArchiveConflict
from archive.cases import Case, belongs, facts_of, new_id, put_case, read_cases
from archive.decision_records import CaseQuery, CaseRecord
from archive.records import CommitRecord
from config.values import is_id
from text.counts import many
from text.errors import UserError
from text.times import format_instant, format_moment, parse_instant, utc_now
from workers.catalogue.query import BadQuery, Query
from workers.deletion.decided import Decided
from workers.deletion.whereabouts import moment_of, what_left_before
from workers.keys import CASES_OPEN, CASES_WRONG
from workers.queue.script import write_when_full
from workers.runtime import Runtime

FIELDS = CaseQuery.__struct_fields__  # what a case may ask for
_LONGEST_NAME = 200  # characters
_TRIES = 5
_NOTED_SECONDS = 3600
_REMEMBERED_SECONDS = 30 * 86_400


def case_query(query: Query) -> CaseQuery:
    """The query of a case, from a search.

    Raises:
        BadQuery: it asks for nothing, or for what a commit record does not say.
    """
    given = msgspec.structs.asdict(query)
    asked = {name: value for name, value in given.items() if value is not None and value is not False}
    if other := next((name for name in asked if name not in FIELDS), None):
        name = other.removesuffix("_seconds")
        raise BadQuery(f"a case cannot be limited by this; expected {', '.join(FIELDS)}", name)
    if not asked:
        raise BadQuery(f"a case needs at least one of {', '.join(FIELDS)}; to stop all deletion, pause it")
    for name in ("connection", "session", "leg", "id"):
        if name in asked and not is_id(str(asked[name])):
            raise BadQuery(f"{str(asked[name])[:40]!r} cannot be an id", name)
    ends = {name: format_instant(asked[name]) for name in ("since", "until") if name in asked}
    for name, end in ends.items():
        try:
            parse_instant(end)
        except ValueError:  # a record with it could not be read, so the case would hold everything
            raise BadQuery("expected a time from 1900 to 2999, in UTC", name) from None
    return CaseQuery(**asked | ends)


async def open_case(runtime: Runtime, name: str, query: CaseQuery, why: str, by: str) -> tuple[Case, Decided]:
    """Open a case: from now on it holds every recording that matches, also those to come.

    Raises:
        UserError: the name or the reason is missing or unusable.
        StoreError: the archive did not take it; nothing is held.
    """
    if not why.strip():
        raise UserError("--why: give a reason; the archive keeps it")
    if not name.strip() or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise UserError(f"NAME: expected 1 to {many(_LONGEST_NAME, 'printable character')}; {name[:80]!r} is not")
    now = format_instant(utc_now())
    row = CaseRecord(id=new_id(), number=1, state="open", name=name.strip(), query=query, why=why, by=by, at=now)
    since = await moment_of(runtime)
    await runtime.in_thread(put_case, runtime.archive, row)

    def concerns(record: CommitRecord) -> bool:
        return belongs(query, facts_of(record)) is not False

    case = Case(id=row.id, name=row.name, query=query, number=1, is_open=True, why=why, opened_by=by, opened_at=now)
    return case, await what_left_before(runtime, concerns, since)


async def close_case(runtime: Runtime, case_id: str, why: str, by: str) -> Case:
    """Close a case: it holds nothing any more. A recording is free once no other case and no hold keeps it.

    A case that cannot be read is closed too.

    Raises:
        UserError: no reason is given, there is no such case, or it was closed before.
        StoreError: the archive did not take it; the case still holds.
    """
    if not why.strip():
        raise UserError("--why: give a reason; the archive keeps it")
    for _ in range(_TRIES):
        case = find_case(await runtime.in_thread(read_cases, runtime.archive), case_id)
        if not case.is_open:
            raise UserError(
                f"{case.title} was closed before, at {format_moment(case.closed_at or '')} by {case.closed_by}: {case.closed_why}"
            )
        if not case.number:
            raise UserError(f"{case.problem}")
        now = format_instant(utc_now())
        row = CaseRecord(
            id=case.id, number=case.number + 1, state="closed", name=case.name, query=case.query, why=why, by=by, at=now
        )
        try:
            await runtime.in_thread(put_case, runtime.archive, row)
        except ArchiveConflict:  # somebody else has just closed it
            continue
        return find_case(await runtime.in_thread(read_cases, runtime.archive), case_id)
    raise UserError(f"{case_id}: others keep changing this case; run `callvault cases list`, and try again")


async def watch_cases(runtime: Runtime) -> None:
    """Note in Redis which cases cannot be read, or are missing although a worker has seen them open.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away.
    """
    found = await runtime.in_thread(read_cases, runtime.archive)
    seen = set((await runtime.redis.get(CASES_OPEN) or b"").decode().split())
    missing = sorted(seen - {case.id for case in found})
    wrong = [case.problem for case in found if case.problem is not None]
    wrong += [f"case {case_id} is missing from the archive; a worker saw it open before" for case_id in missing]
    is_open = {case.id for case in found if case.is_open and case.number}
    lasts = ("KEEPTTL",) if missing else ("EX", str(_REMEMBERED_SECONDS))  # so that the note ends some time
    await write_when_full(runtime.redis, ("SET", CASES_OPEN, " ".join(sorted({*is_open, *missing})), *lasts))
    if wrong:
        await write_when_full(runtime.redis, ("SET", CASES_WRONG, "; ".join(wrong), "EX", str(_NOTED_SECONDS)))
    else:
        await runtime.redis.delete(CASES_WRONG)


def find_case(cases: list[Case], case_id: str) -> Case:
    """The case with an id.

    Raises:
        UserError: no case has it.
    """
    for case in cases:
        if case.id == case_id:
            return case
    raise UserError(f"no case {case_id[:60]!r}; `callvault cases list` shows all")


def in_words(query: CaseQuery, zone: tzinfo | None = UTC) -> str:
    """What a case asks for, in one line.

    Args:
        query: of the case.
        zone: of its times; None: the zone of this machine.
    """
    asked = msgspec.to_builtins(query)
    ends = {}
    for name in ("since", "until"):
        if name in asked:
            ends[name] = format_moment(asked[name], zone)
    return ", ".join(f"{name} {value}" for name, value in (asked | ends).items()) or "every recording"
