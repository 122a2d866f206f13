"""`callvault cases`: holds by a query, those to come too, until the case is closed."""

from __future__ import annotations

import sys
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cli.console import count_line, most_rows, print_json, print_result, warn_of
from cli.options import (
    By,
    Connection,
    DataFolder,
    Json,
    Leg,
    Limit,
    Number,
    Recording,
    Session,
    SinceTime,
    UntilTime,
    Utc,
    Why,
    by_option,
    run_in_service,
    settings_of,
    zone_of,
)
from cli.usage import group
from text.counts import many
from text.errors import UserError
from text.printable import printable
from text.sizes import format_size
from text.times import first_instant, format_column, format_duration, parse_instant
from text.user import user_name

if TYPE_CHECKING:
    from archive.cases import Case
    from workers.catalogue.in_cases import CaseCounts
    from workers.deletion.decided import Decided
    from workers.runtime import Runtime

command = group("Open, list or close cases: holds by a search.")

CaseId = Annotated[
    str, typer.Argument(metavar="ID", help="ID of the case, as `cases list` shows it.", show_default=False)
]
_SHOWN = 10  # recordings of a case, the latest


@command.command("open")
def open_case(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What people call the case.", show_default=False)],
    why: Why,
    number: Number = None,
    since: SinceTime = None,
    until: UntilTime = None,
    utc: Utc = False,
    connection: Connection = None,
    session: Session = None,
    leg: Leg = None,
    id: Recording = None,
    by: By = None,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Open a case: it holds every recording that matches all options, also those to come.

    Until you close it, no original of them is deleted at Telnyx and nothing of them is erased or disposed of.
    Where Telnyx does not say what an option asks for, such as the numbers of a conference, the recording is
    held too. Exit status 1: a deletion was sent before the case was open. See docs/cases.md.

    Example: callvault cases open "Doe v. Example" --number +13125550100 --since 2026-01-01 --why "letter of 20 November"
    """
    from cli.accessed import logged_change
    from cli.ids import whole_or_doubtful
    from workers.catalogue.query import BadQuery, read_query, write_box
    from workers.deletion import cases
    from workers.deletion.decided import too_late

    asked = {
        "number": number,
        "since": since,
        "until": until,
        "connection": connection,
        "session": session,
        "leg": leg,
        "id": id,
    }
    try:
        query = cases.case_query(read_query(asked, zone_of(utc)))
    except BadQuery as error:
        raise by_option(error) from None
    doubt = None
    if query.id is not None:
        whole, doubt = whole_or_doubtful(query.id, data)
        query = msgspec.structs.replace(query, id=whole)
    words = write_box(_to_the_second(msgspec.to_builtins(query)))

    async def work(runtime: Runtime) -> tuple[Case, Decided]:
        async with logged_change(runtime, "open", about=f"case {name}", query=words, why=why, by=by):
            return await cases.open_case(runtime, name, query, why, by or user_name())

    case, decided = run_in_service(data, work, needs_redis=False)
    warn_of(doubt)
    counts = _count_now(data, case)
    held, count = "recordings to come", None if counts is None else counts.recordings
    if counts is not None:
        before = f" ({_disposed(counts)})" if counts.disposed else ""
        held = f"{many(counts.recordings, 'recording')} now{before}, and those to come"
    unknown = "".join(f"; unknown: {line}" for line in decided.unknown)
    report = _report(case) | msgspec.to_builtins(decided) | {"is_as_meant": decided.is_as_meant, "recordings": count}
    print_result(f"{printable(case.title)} is open and holds {held}{too_late(decided)}{unknown}", report, as_json=json)
    return 0 if decided.is_as_meant else 1


def _to_the_second(words: dict[str, str]) -> dict[str, str]:
    """The words of a case's search with times that a person reads."""
    times = {name: words[name] for name in ("since", "until") if name in words}
    return words | {name: f"{parse_instant(at):%Y-%m-%dT%H:%M:%SZ}" for name, at in times.items()}


def _count_now(data: Path | None, case: Case) -> CaseCounts | None:
    """Count what a case that was just opened holds; None, after a line that says why, if that cannot be counted."""
    import sqlite3

    from redis.exceptions import RedisError

    from archive.stores.store import StoreError
    from cli.catalogue import opened, up_to_date
    from workers.catalogue.in_cases import count_case

    try:
        settings = settings_of(data)
        with opened(settings) as (catalogue, archive):
            up_to_date(settings, catalogue, archive, says_how=False)
            return count_case(catalogue.path, case)
    except (UserError, StoreError, RedisError, OSError, sqlite3.Error) as error:
        sys.stderr.write(f"callvault: the case is open; what it holds cannot be counted now: {error}\n")
        return None


@command.command("list")
def list_cases(limit: Limit = None, utc: Utc = False, data: DataFolder = None, json: Json = False) -> None:
    """List all cases, the open ones first.

    Example: callvault cases list
    """
    from archive.cases import read_cases

    found = run_in_service(data, lambda runtime: runtime.in_thread(read_cases, runtime.archive), needs_redis=False)
    rows = found[: most_rows(limit, is_table=not json)]
    if json:
        print_json({"cases": [_report(case) for case in rows], "count": len(found)})
        return
    for case in rows:
        sys.stdout.write(f"{_line(case, zone_of(utc))}\n")
    sys.stdout.write(f"{count_line(len(rows), len(found), 'case')}\n")


@command.command("show")
def show_case(
    case_id: CaseId,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Most rows; 0: all. [default: 10]", min=0, max=10**9)
    ] = None,
    utc: Utc = False,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Show a case: what it asks for, who opened it and why, and its recordings.

    It lists the latest recordings; `callvault find --case ID` lists all.

    Example: callvault cases show ID
    """
    from archive.cases import read_cases
    from cli.accessed import log_reading
    from cli.catalogue import opened, up_to_date
    from cli.find import write_table
    from workers.catalogue.in_cases import count_case
    from workers.catalogue.inventory import described
    from workers.catalogue.query import Query
    from workers.catalogue.reach import EVERYTHING
    from workers.catalogue.search import search_all
    from workers.deletion.cases import find_case

    settings, zone = settings_of(data), zone_of(utc)
    with opened(settings) as (catalogue, archive):
        case = find_case(read_cases(archive), case_id)
        up_to_date(settings, catalogue, archive)
        counts = count_case(catalogue.path, case)
        most = _SHOWN if limit is None else limit or None
        hits = list(search_all(catalogue.path, Query(case=case.id), EVERYTHING, most))
        if hits:
            log_reading(settings, archive, "find", query=f"case:{case.id}", found=counts.recordings + counts.erased)
    if json:
        shown = {
            "counts": msgspec.to_builtins(counts),
            "count": counts.recordings,
            "recordings": [*map(described, hits)],
        }
        print_json(_report(case) | shown)
        return
    sys.stdout.write(f"{_line(case, zone)}\n")
    for line in _in_words(counts, zone):
        sys.stdout.write(f"{line}\n")
    write_table(hits, zone)
    sys.stdout.write(f"{count_line(len(hits), counts.recordings + counts.erased, 'recording')}\n")


@command.command("close")
def close_case(case_id: CaseId, why: Why, by: By = None, data: DataFolder = None, json: Json = False) -> None:
    """Close a case: it holds nothing any more.

    A recording that another case or a hold keeps stays. The next reconcile puts the originals of the others on
    the deletion schedule, if deletion is turned on.

    Example: callvault cases close ID --why "settled"
    """
    from cli.accessed import logged_change
    from workers.deletion import cases

    async def work(runtime: Runtime) -> Case:
        async with logged_change(runtime, "close", about=f"case {case_id}", why=why, by=by):
            return await cases.close_case(runtime, case_id, why, by or user_name())

    case = run_in_service(data, work, needs_redis=False)
    line = f"{printable(case.title)} is closed; what no other case or hold keeps is free"
    print_result(line, _report(case), as_json=json)


def _report(case: Case) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(case)
    del shown["is_open"], shown["number"]
    return {"id": shown.pop("id"), "name": shown.pop("name"), "state": "open" if case.is_open else "closed"} | shown


def _line(case: Case, zone: tzinfo | None) -> str:
    from workers.deletion.cases import in_words

    if case.problem is not None:
        return printable(f"{case.id}  cannot be read, so it holds every recording: {case.problem}")
    zone_name, (opened, closed) = format_column([first_instant(case.opened_at), first_instant(case.closed_at)], zone)
    state = f"{'open since' if case.is_open else 'opened'} {opened} {zone_name}, by {case.opened_by}: {case.why}"
    if not case.is_open:
        state += f"; closed {closed}, by {case.closed_by}: {case.closed_why}"
    return printable(f"{case.id}  {case.name}  ({in_words(case.query, zone)})  {state}")


def _disposed(counts: CaseCounts) -> str:
    return f"{counts.disposed} of them disposed of under a retention rule, in whole or in part"


def _in_words(counts: CaseCounts, zone: tzinfo | None) -> list[str]:
    length, size = format_duration(counts.seconds), format_size(counts.bytes)
    lines = [f"{many(counts.recordings, 'recording')}, {length}, {size}; {counts.deleted} deleted at Telnyx"]
    if counts.first is not None:
        zone_name, ends = format_column([first_instant(counts.first), first_instant(counts.last)], zone)
        lines.append(f"calls from {ends[0]} to {ends[1]} ({zone_name})")
    if counts.unsure:
        lines.append(
            f"{counts.unsure} of them may not belong to it: Telnyx does not say what the case asks for, so it holds them too"
        )
    if counts.damaged:
        lines.append(f"{counts.damaged} of them damaged: run `callvault verify`")
    if counts.disposed:
        lines.append(_disposed(counts))
    if counts.erased:
        lines.append(f"{counts.erased} more were erased")
    return lines
