"""`callvault deletions`: the deletion schedule, holds, pauses, approvals, and the workers' rules."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer

from archive.hold import Hold
from cli.console import count_line, most_rows, print_json, print_result, warn_of
from cli.options import ID_HELP, By, DataFolder, Json, Limit, RecordingId, Why, run_in_service, settings_of
from cli.usage import group
from text.counts import many
from text.errors import UsedWrongly, UserError
from text.printable import printable
from text.times import format_duration, format_instant, format_moment
from text.user import user_name
from workers.deletion.decided import NO_REASON, Decided, to_know

if TYPE_CHECKING:
    from archive.decision_records import Duties
    from workers.running import Difference
    from workers.runtime import Runtime

command = group("List, pause, hold or approve deletions at Telnyx.\n\nExample: callvault deletions list")

SomeRecordingId = Annotated[str | None, typer.Argument(metavar="ID", help=ID_HELP, show_default=False)]
ConnectionId = Annotated[
    str | None, typer.Option("--connection", metavar="ID", help="All recordings of this connection.")
]

T = TypeVar("T")


def _change(
    data: Path | None,
    what: str,
    work: Callable[[Runtime], Awaitable[T]],
    *recordings: str,
    about: str = "",
    why: str = "",
    by: str | None = None,
    needs_redis: bool = True,
) -> T:
    """Do something that changes what is decided, after a line about it in the access log."""
    from cli.accessed import logged_change

    async def logged(runtime: Runtime) -> T:
        async with logged_change(runtime, what, recordings, about=about, why=why, by=by):
            return await work(runtime)

    return run_in_service(data, logged, needs_redis=needs_redis)


@command.command("list")
def list_deletions(
    limit: Annotated[
        int, typer.Option(metavar="N", help="Most originals, soonest first; 0: all.", min=0, max=10**9)
    ] = 100,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """List the originals that are scheduled for deletion.

    It shows when each is due, what keeps it, and whether deletion is paused.

    Example: callvault deletions list
    """
    from archive.layout import recording_id_of
    from archive.records import UnreadableRecord
    from archive.stores.store import StoreError
    from cli.accessed import log_list
    from workers.deletion.duties import workers_duties
    from workers.deletion.kept import what_keeps_each
    from workers.deletion.may_delete import pause_of

    async def work(runtime: Runtime) -> tuple[Any, ...]:
        due, pause, duties, problem, kept = runtime.schedule, None, None, None, {}
        entries = await due.entries(limit)
        if entries:
            await log_list(runtime, "deletions", len(entries))
        try:
            pause = await runtime.in_thread(pause_of, runtime.archive)
            duties = await workers_duties(runtime)
            kept = await what_keeps_each(runtime, [entry.folder for entry in entries])
        except (StoreError, UnreadableRecord) as error:
            pause, problem = await due.pause(), str(error)
        return await due.count(), entries, pause, duties, problem, kept, await _differs_here(runtime)

    count, entries, pause, duties, problem, kept, differs = run_in_service(data, work, needs_archive=False)
    mode = "unknown" if duties is None else duties.delete_originals
    if json:
        rows = [
            {
                "recording_id": recording_id_of(entry.folder),
                "folder": entry.folder,
                "due_at": entry.due_at,
                "deletion_due_at": format_instant(datetime.fromtimestamp(entry.due_at, UTC)),
                "kept": kept.get(entry.folder),
            }
            for entry in entries
        ]
        report = {"mode": mode, "paused": pause and pause.why, "due": count, "first": rows}
        report |= {"paused_by": pause and pause.by, "paused_at": pause and pause.at}
        report |= {"duties": msgspec.to_builtins(duties), "archive_problem": problem}
        report["differs_here"] = msgspec.to_builtins(differs)
        print_json(report)
        return
    _warn_of(differs)
    now = time.time()
    for entry in entries:
        wait = entry.due_at - now
        when = "not due" if entry.folder in kept else "due" if wait <= 0 else f"in {format_duration(wait)}"
        keeps = f"  kept: {kept[entry.folder]}" if entry.folder in kept else ""
        sys.stdout.write(f"{when:<10} {entry.folder}{keeps}\n")
    state = {"verified": "on", "never": "off; `callvault deletions duties` shows which setting turns it off"}.get(mode)
    state = f"paused: {pause}" if pause is not None else state or "unknown"
    if problem is not None:
        state += f"; cannot check what keeps each original: {problem}"
    more = f" ({count - len(entries)} more, use --limit 0 for all)" if count > len(entries) else ""
    sys.stdout.write(f"{many(count, 'original')} scheduled{more}; deletion: {state}\n")


@command.command("holds")
def list_holds(limit: Limit = None, data: DataFolder = None, json: Json = False) -> None:
    """List active holds: what, why, by whom, since when.

    Example: callvault deletions holds
    """
    from cli.accessed import log_list
    from workers.deletion.kept import Holding, standing

    async def work(runtime: Runtime) -> list[Holding]:
        found = await runtime.in_thread(standing, runtime.archive)
        if found:
            await log_list(runtime, "holds", len(found))
        return found

    found = run_in_service(data, work, needs_redis=False)
    rows = found[: most_rows(limit, is_table=not json)]
    if json:
        print_json({"holds": msgspec.to_builtins(rows), "count": len(found)})
        return
    for one in rows:
        sys.stdout.write(f"{printable(one.what)}: {one}\n")
    sys.stdout.write(f"{count_line(len(rows), len(found), 'active hold')}\n")


@command.command("duties")
def show_duties(
    retire: Annotated[
        str | None, typer.Option("--retire", metavar="UNIT", help="Ignore the rules of a unit that is gone for good.")
    ] = None,
    by: By = None,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """List the deletion rules of the workers; the strictest apply.

    A unit is the workers on one Redis. Each unit publishes its settings in the archive, and every worker
    obeys the strictest of them.

    Example: callvault deletions duties
    """
    from archive.decisions import held_connections
    from workers.deletion.duties import retire_unit, stated_duties, unit_of, workers_duties

    async def work(runtime: Runtime) -> tuple[dict[str, Duties], Duties, str, dict[str, str], list[Difference]]:
        if retire is not None:
            await runtime.in_thread(retire_unit, runtime.archive, retire, by or user_name())
        stated = await runtime.in_thread(stated_duties, runtime.archive)
        held = await runtime.in_thread(held_connections, runtime.archive)
        effective, differs = await workers_duties(runtime), await _differs_here(runtime)
        return stated, effective, unit_of(runtime.settings), held, differs

    if retire is None:
        stated, effective, own, held, differs = run_in_service(data, work)
    else:
        stated, effective, own, held, differs = _change(data, "retire", work, about=f"unit {retire}", by=by)
    rows = [*stated.values()]
    if json:
        report = {"units": msgspec.to_builtins(rows), "effective": msgspec.to_builtins(effective), "own": own}
        report |= {"held_by_decision": held, "differs_here": msgspec.to_builtins(differs)}
        print_json(report)
        return
    _warn_of(differs)
    for one in rows:
        name = f"{one.unit}{' (this one)' if one.unit == own else ''}"
        sys.stdout.write(
            f"{name}{', retired' if one.retired else ''}\n  {_in_words(one)}\n  {one.by}, {format_moment(one.at, None)}\n"
        )
    sys.stdout.write(f"in effect for all workers\n  {_in_words(effective)}\n")
    decided = "; ".join(f"{connection} ({why})" for connection, why in held.items()) or "none"
    sys.stdout.write(f"  connections held by a decision: {decided} (`callvault deletions holds` lists all holds)\n")


async def _differs_here(runtime: Runtime) -> list[Difference]:
    from workers.running import differences, read_running

    return differences(runtime.settings, await read_running(runtime.redis))


def _warn_of(differs: list[Difference]) -> None:
    """Warn that the settings of this shell are not those of the workers, which delete by their own."""
    for one in differs:
        sys.stderr.write(f"callvault: {one.sentence}\n")


def _in_words(duties: Duties) -> str:
    held = ", ".join(duties.hold_connections) or "none"
    when = ", once the day is sealed" if duties.sealed_first else ""
    delete = (
        "never" if duties.delete_originals == "never" else f"after {format_duration(duties.delete_after_seconds)}{when}"
    )
    return f"delete originals: {delete}; connections held by a setting: {held}; transcriptions: {duties.transcriptions}"


@command.command("pause")
def pause(why: Why = NO_REASON, by: By = None, data: DataFolder = None, json: Json = False) -> int:
    """Pause all deletions at Telnyx.

    The pause is recorded in the archive, and every worker of this archive obeys it.

    Example: callvault deletions pause --why "bucket is being moved"
    """
    from workers.deletion import decisions
    from workers.deletion.may_delete import pause_of

    async def work(runtime: Runtime) -> tuple[Decided, Hold | None]:
        decided = await decisions.pause(runtime, why, by or user_name())
        return decided, await runtime.in_thread(pause_of, runtime.archive)

    decided, standing_pause = _change(data, "pause", work, why=why, by=by, needs_redis=False)
    line = f"{'paused' if decided.is_new else 'already paused'}: {standing_pause}"
    return _report(line, decided, {"paused": msgspec.to_builtins(standing_pause)}, json)


@command.command("resume")
def resume(why: Why = NO_REASON, by: By = None, data: DataFolder = None, json: Json = False) -> None:
    """Resume deletions.

    Example: callvault deletions resume
    """
    from workers.deletion import decisions

    person = by or user_name()
    was_paused = _change(data, "resume", lambda runtime: decisions.resume(runtime, why, person), why=why, by=by)
    line = "resumed" if was_paused else "not paused; nothing changed"
    print_result(line, {"paused": None, "is_new": was_paused}, as_json=json)


@command.command("hold")
def hold(
    why: Why,
    recording_id: SomeRecordingId = None,
    connection: ConnectionId = None,
    by: By = None,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Hold a recording, or all recordings of a connection.

    Its original is not deleted and nothing is erased until you release the hold. The hold is in force when
    this command ends. Exit status 1: a deletion was sent before that, or no such recording exists.

    Example: callvault deletions hold ID --why "case 17"
    """
    from workers.deletion import decisions

    (name, doubt), person = _one(recording_id, connection, data), by or user_name()

    async def work(runtime: Runtime) -> Decided:
        if connection is not None:
            return await decisions.hold_connection(runtime, connection, why, person)
        return await decisions.hold(runtime, name, why, person)

    what = name if connection is None else f"connection {name}"
    recordings, about = ([name], "") if connection is None else ([], f"connection {name}")
    decided = _change(data, "hold", work, *recordings, about=about, why=why, by=by, needs_redis=False)
    if connection is not None:
        _warn_if_unknown(connection, data)
    warn_of(doubt)
    report: dict[str, Any] = {"recording_id": None if connection else name, "connection_id": connection}
    return _report(f"{what} is on hold", decided, report | {"is_held": True}, json)


def _warn_if_unknown(connection: str, data: Path | None) -> None:
    """Warn that a connection has no recordings: a mistyped ID would hold nothing."""
    from redis.exceptions import RedisError

    from archive.stores.store import StoreError
    from cli.catalogue import opened, searched, up_to_date
    from telnyx_api.errors import TelnyxError
    from workers.catalogue.query import Query
    from workers.deletion.whereabouts import is_known_at_telnyx

    settings = settings_of(data)
    try:
        if run_in_service(data, lambda runtime: is_known_at_telnyx(runtime, connection), needs_redis=False):
            return
        with opened(settings) as (catalogue, archive):
            up_to_date(settings, catalogue, archive, says_how=False)
            if searched(settings, catalogue, archive, Query(connection=connection)):
                return
        line = f"connection {connection} has no recordings in the archive or at Telnyx; check the ID"
    except (UserError, StoreError, TelnyxError, RedisError, OSError) as error:
        line = f"cannot check for recordings of connection {connection}: {error}"
    sys.stderr.write(f"callvault: {line}. The hold is active, and applies to future recordings, too\n")


@command.command("release")
def release(
    why: Why,
    recording_id: SomeRecordingId = None,
    connection: ConnectionId = None,
    by: By = None,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Release the holds of a recording or a connection.

    `callvault deletions holds` lists them. An original that is kept for findings in its audio needs
    `deletions approve` instead.

    Example: callvault deletions release ID --why "case 17 is closed"
    """
    from workers.deletion import decisions

    (name, doubt), person = _one(recording_id, connection, data), by or user_name()
    if connection is not None:
        held = _change(
            data,
            "release",
            lambda runtime: decisions.release_connection(runtime, connection, why, person),
            about=f"connection {name}",
            why=why,
            by=by,
        )
        still = "" if held is None else f", but still on hold: {held}"
        about: dict[str, Any] = {"recording_id": None, "connection_id": name, "still_held": msgspec.to_builtins(held)}
        print_result(f"connection {name} is released{still}", about, as_json=json)
        return
    released = _change(
        data, "release", lambda runtime: decisions.release(runtime, name, why, person), name, why=why, by=by
    )
    warn_of(doubt)
    report = {"recording_id": name, "connection_id": None} | msgspec.to_builtins(released)
    print_result(f"{name} is released; {released.follows}", report | {"follows": released.follows}, as_json=json)


@command.command("approve")
def approve(recording_id: RecordingId, why: Why, by: By = None, data: DataFolder = None, json: Json = False) -> None:
    """Allow the deletion of an original with findings.

    Findings are oddities in the audio, or content that changed at Telnyx. Until you approve them, the
    original is kept.

    Example: callvault deletions approve ID --why "listened to it"
    """
    from workers.deletion import decisions

    (name, doubt), person = _whole(recording_id, data), by or user_name()
    findings, released = _change(
        data, "approve", lambda runtime: decisions.approve(runtime, name, why, person), name, why=why, by=by
    )
    warn_of(doubt)
    report = {"recording_id": name, "approved": [*findings], "kept": released.kept, "follows": released.follows}
    print_result(f"{name}: approved {', '.join(findings)}; {released.follows}", report, as_json=json)


def _one(recording_id: str | None, connection: str | None, data: Path | None) -> tuple[str, str | None]:
    """The ID of a recording or a connection, and a doubt as `_whole` has it."""
    if (recording_id is None) == (connection is None):
        raise UsedWrongly("give the ID of a recording, or --connection and the ID of a connection")
    if connection is not None:
        return _id(connection, "--connection"), None
    return _whole(recording_id or "", data)


def _whole(recording_id: str, data: Path | None) -> tuple[str, str | None]:
    from cli.ids import whole_or_doubtful

    return whole_or_doubtful(_id(recording_id), data)


def _id(text: str, name: str = "ID") -> str:
    from config.values import is_id

    if not is_id(text):
        raise UsedWrongly(f"{name}: {text!r} is not a Telnyx ID")
    return text


def _report(line: str, decided: Decided, report: dict[str, Any], as_json: bool) -> int:
    report |= msgspec.to_builtins(decided) | {"is_as_meant": decided.is_as_meant}
    print_result(f"{line}{to_know(decided)}", report, as_json=as_json)
    return 0 if decided.is_as_meant else 1
