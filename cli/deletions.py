"""`callvault deletions`: what is to be deleted at Telnyx, what a person decides about it, and what workers are set to do."""

from __future__ import annotations

import asyncio
import getpass
import json as json_module
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from cli.options import DataFolder, Json
from config.counts import many
from config.errors import UsedWrongly, UserError
from config.settings import load_settings
from config.times import format_duration
from config.values import is_id
from workers.archive.records import Duties, UnreadableRecord
from workers.archive.stores.store import StoreError
from workers.jobs import decisions
from workers.jobs.decisions import Decided, is_known_at_telnyx, too_late, what_follows
from workers.jobs.duties import retire_unit, stated_duties, unit_of, workers_duties
from workers.jobs.kept import what_keeps_each
from workers.jobs.may_delete import why_paused
from workers.queue.embedded import redis_of
from workers.runtime import Runtime, runtime_at
from workers.telnyx.errors import TelnyxError

app = typer.Typer(help="Originals that are to be deleted at Telnyx.", no_args_is_help=True, rich_markup_mode=None)

RecordingId = Annotated[str | None, typer.Argument(help="The recording's id.", show_default=False)]
ConnectionId = Annotated[str | None, typer.Option("--connection", help="All recordings of this connection instead.")]
Why = Annotated[str, typer.Option(help="Why; it is written into the archive.")]
PauseWhy = Annotated[str, typer.Option(help="Why; it is written into the archive.")]
By = Annotated[str | None, typer.Option(help="Who decides; default: the user of this machine.")]

T = TypeVar("T")


def _run(data: Path | None, work: Callable[[Runtime], Awaitable[T]], *, needs_telnyx: bool = False) -> T:
    settings = load_settings(data_folder=data)

    async def run(url: str) -> T:
        async with runtime_at(settings, url, needs_telnyx=needs_telnyx) as runtime:
            return await work(runtime)

    with redis_of(settings, is_there=True) as url:
        return asyncio.run(run(url))


@app.command("list")
def list_deletions(data: DataFolder = None, json: Json = False) -> None:
    """List what is due next, and whether deletion is paused.

    Example: callvault deletions list
    """

    async def work(runtime: Runtime) -> tuple[Any, ...]:
        due, paused, duties, problem, kept = runtime.due, None, None, None, {}
        entries = await due.entries()
        try:
            paused = await runtime.in_thread(why_paused, runtime.archive)
            duties = await workers_duties(runtime)
            kept = await what_keeps_each(runtime, [entry.folder for entry in entries])
        except (StoreError, UnreadableRecord) as error:
            paused, problem = await due.paused(), str(error)
        return await due.count(), entries, paused, duties, problem, kept

    count, entries, paused, duties, problem, kept = _run(data, work)
    mode = "unknown" if duties is None else duties.delete_originals
    if json:
        rows = [{"folder": entry.folder, "due_at": entry.due_at, "kept": kept.get(entry.folder)} for entry in entries]
        told = {"mode": mode, "paused": paused, "due": count, "first": rows}
        told |= {"duties": msgspec.to_builtins(duties), "archive_problem": problem}
        sys.stdout.write(json_module.dumps(told) + "\n")
        return
    now = time.time()
    for entry in entries:
        wait = entry.due_at - now
        when = "due" if wait <= 0 else f"in {format_duration(wait)}"
        stays = f"  stays: {kept[entry.folder]}" if entry.folder in kept else ""
        sys.stdout.write(f"{when:<10} {entry.folder}{stays}\n")
    state = {"verified": "running", "never": "never; `callvault deletions duties` says whose setting that is"}.get(mode)
    state = f"paused: {paused}" if paused else state or f"unknown ({problem})"
    sys.stdout.write(f"{many(count, 'original')} on the list; deletion: {state}\n")


@app.command("duties")
def show_duties(
    retire: Annotated[
        str | None, typer.Option("--retire", help="This unit is gone for good: its duties count no more.")
    ] = None,
    by: By = None,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """List what the workers of each unit (of each Redis) are set to do with originals; the strictest counts for all.

    Example: callvault deletions duties
    """

    async def work(runtime: Runtime) -> tuple[dict[str, Duties], Duties, str]:
        if retire is not None:
            await runtime.in_thread(retire_unit, runtime.archive, retire, by or getpass.getuser())
        stated = await runtime.in_thread(stated_duties, runtime.archive)
        return stated, await workers_duties(runtime), unit_of(runtime.settings)

    stated, effective, own = _run(data, work)
    rows = [*stated.values()]
    if json:
        told = {"units": msgspec.to_builtins(rows), "effective": msgspec.to_builtins(effective), "own": own}
        sys.stdout.write(json_module.dumps(told) + "\n")
        return
    for one in rows:
        name = f"{one.unit}{' (this one)' if one.unit == own else ''}"
        sys.stdout.write(f"{name}{' retired' if one.retired else ''}\n  {_in_words(one)}\n  {one.by}, {one.at}\n")
    sys.stdout.write(f"what counts for all workers\n  {_in_words(effective)}\n")


def _in_words(duties: Duties) -> str:
    held = ", ".join(duties.hold_connections) or "none"
    when = " and its day is sealed" if duties.sealed_first else ""
    delete = (
        "never" if duties.delete_originals == "never" else f"after {format_duration(duties.delete_after_seconds)}{when}"
    )
    return f"delete originals: {delete}; connections on hold: {held}; transcriptions: {duties.transcriptions}"


@app.command("pause")
def pause(why: PauseWhy = "by hand", by: By = None, data: DataFolder = None) -> None:
    """Delete nothing until resumed, wherever a worker of this archive runs.

    Example: callvault deletions pause --why "bucket is being moved"
    """
    decided = _run(data, lambda runtime: decisions.pause(runtime, why, by or getpass.getuser()))
    _end("paused" if decided.is_new else "it was paused already", decided)


@app.command("resume")
def resume(why: PauseWhy = "by hand", by: By = None, data: DataFolder = None) -> None:
    """Go on deleting.

    Example: callvault deletions resume
    """
    was_paused = _run(data, lambda runtime: decisions.resume(runtime, why, by or getpass.getuser()))
    sys.stdout.write("resumed\n" if was_paused else "it was not paused\n")


@app.command("hold")
def hold(
    why: Why,
    recording_id: RecordingId = None,
    connection: ConnectionId = None,
    by: By = None,
    data: DataFolder = None,
) -> None:
    """Never delete an original, or those of a connection, whatever else is set, until the hold is lifted.

    Once this has answered, no deletion of it leaves; one that had left before is said, and the exit status is 1.

    Example: callvault deletions hold ID --why "case 17"
    """
    name, person = _one(recording_id, connection), by or getpass.getuser()

    async def work(runtime: Runtime) -> Decided:
        if connection is not None:
            return await decisions.hold_connection(runtime, connection, why, person)
        return await decisions.hold(runtime, name, why, person)

    what = name if connection is None else f"connection {name}"
    decided = _run(data, work, needs_telnyx=True)
    if connection is not None:
        _warn_if_unknown(connection, data)
    _end(f"{what} is on hold", decided)


def _warn_if_unknown(connection: str, data: Path | None) -> None:
    """Say that no recording of a connection is known: a mistyped id would hold nothing, and nobody would know."""
    from cli.catalogue import opened, up_to_date
    from workers.catalogue.query import Query
    from workers.catalogue.search import search

    settings = load_settings(data_folder=data)
    try:
        if _run(data, lambda runtime: is_known_at_telnyx(runtime, connection), needs_telnyx=True):
            return
        with opened(settings) as (catalogue, archive):
            up_to_date(settings, catalogue, archive, says_how=False)
            if search(catalogue.path, Query(connection=connection), 1):
                return
        line = f"no recording of connection {connection} is known, neither in the archive nor at Telnyx: check the id"
    except (UserError, StoreError, TelnyxError) as error:
        line = f"whether a recording of connection {connection} is known cannot be seen now: {error}"
    sys.stderr.write(f"callvault: {line}. The hold stands all the same, for recordings to come too\n")


@app.command("release")
def release(
    why: Why,
    recording_id: RecordingId = None,
    connection: ConnectionId = None,
    by: By = None,
    data: DataFolder = None,
) -> None:
    """Lift the holds that stand now. What was found in the audio of a recording is let go by `approve`.

    Example: callvault deletions release ID --why "case 17 is closed"
    """
    name, person = _one(recording_id, connection), by or getpass.getuser()
    if connection is not None:
        held = _run(data, lambda runtime: decisions.release_connection(runtime, connection, why, person))
        still = "" if held is None else f"; it is on hold all the same: {held}"
        sys.stdout.write(f"connection {name} is released{still}\n")
        return
    kept = _run(data, lambda runtime: decisions.release(runtime, name, why, person), needs_telnyx=True)
    sys.stdout.write(f"{name} is released; {what_follows(kept)}\n")


@app.command("approve")
def approve(
    recording_id: Annotated[str, typer.Argument(help="The recording's id.", show_default=False)],
    why: Why,
    by: By = None,
    data: DataFolder = None,
) -> None:
    """Let an original go in spite of what was found in its audio, or of another content that Telnyx has shown.

    Example: callvault deletions approve ID --why "listened to it"
    """
    person = by or getpass.getuser()
    findings, kept = _run(
        data, lambda runtime: decisions.approve(runtime, _id(recording_id), why, person), needs_telnyx=True
    )
    sys.stdout.write(f"{recording_id}: approved {', '.join(findings)}; {what_follows(kept)}\n")


def _one(recording_id: str | None, connection: str | None) -> str:
    if (recording_id is None) == (connection is None):
        raise UsedWrongly("give a recording's id, or --connection with the id of one")
    return _id(recording_id or connection or "")


def _id(text: str) -> str:
    if not is_id(text):
        raise UsedWrongly(f"{text!r} cannot be an id of Telnyx")
    return text


def _end(line: str, decided: Decided) -> None:
    sys.stdout.write(f"{line}{too_late(decided)}\n")
    if decided.came_too_late:
        raise typer.Exit(1)
