"""`callvault dead-letters` and `callvault deletions`: what was given up, what is to be deleted, what a person decides."""

from __future__ import annotations

import asyncio
import json as json_module
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
import typer

from cli.options import DataFolder, Json
from config.errors import UserError
from config.settings import load_settings
from config.times import format_duration
from workers.jobs.causes import advice_of
from workers.jobs.decisions import decide
from workers.queue.attempts import Attempts
from workers.queue.connect import connect_worker
from workers.queue.due import DueList
from workers.queue.embedded import redis_of
from workers.runtime import runtime_at

dead_letters = typer.Typer(help="Jobs that were given up.", no_args_is_help=True, rich_markup_mode=None)
deletions = typer.Typer(help="Originals that are to be deleted at Telnyx.", no_args_is_help=True, rich_markup_mode=None)

JobId = Annotated[str | None, typer.Argument(help="Its job id.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="All of them.")]
RecordingId = Annotated[str, typer.Argument(help="The recording's id.", show_default=False)]
Why = Annotated[str, typer.Option(help="Why; it is written into the archive.")]


def _on_redis(data: Any, work: Callable[[Any], Awaitable[Any]]) -> Any:
    settings = load_settings(data_folder=data)

    async def run(url: str) -> Any:
        redis = connect_worker(url, connections=4)
        try:
            return await work(redis)
        finally:
            await redis.aclose()

    with redis_of(settings, is_there=True) as url:
        return asyncio.run(run(url))


def _print_json(value: Any) -> None:
    sys.stdout.write(json_module.dumps(value) + "\n")


@dead_letters.command("list")
def list_letters(data: DataFolder = None, json: Json = False) -> None:
    """List them: job, cause, error, what to do.

    Example: callvault dead-letters list
    """
    letters = _on_redis(data, lambda redis: Attempts(redis).letters())
    if json:
        _print_json({"dead_letters": msgspec.to_builtins(letters)})
        return
    for letter in letters:
        sys.stdout.write(
            f"{letter.job_id}\n  {letter.cause}, {len(letter.attempts)} attempts, given up {letter.died_at}\n"
        )
        sys.stdout.write(f"  {letter.error}\n  {advice_of(letter.cause)}\n")
    sys.stdout.write(f"{len(letters)} dead letters\n")


@dead_letters.command("retry")
def retry_letters(job_id: JobId = None, every: All = False, data: DataFolder = None) -> None:
    """Enqueue one again, or all of them.

    Example: callvault dead-letters retry --all
    """
    sys.stdout.write(f"{_each(job_id, every, data, Attempts.retry)} enqueued again\n")


@dead_letters.command("discard")
def discard_letters(job_id: JobId = None, every: All = False, data: DataFolder = None) -> None:
    """Drop one for good, or all of them.

    Example: callvault dead-letters discard archive_recording:ID
    """
    sys.stdout.write(f"{_each(job_id, every, data, Attempts.discard)} discarded\n")


def _each(job_id: str | None, every: bool, data: Any, act: Callable[[Attempts, str], Awaitable[bool]]) -> int:
    if (job_id is None) == (not every):
        raise typer.BadParameter("give a job id, or --all")

    async def work(redis: Any) -> int:
        attempts = Attempts(redis)
        ids = [letter.job_id for letter in await attempts.letters()] if job_id is None else [job_id]
        done = [await act(attempts, one) for one in ids]
        if job_id is not None and not any(done):
            raise UserError(f"there is no dead letter {job_id}; see `callvault dead-letters list`")
        return sum(done)

    return int(_on_redis(data, work))


@deletions.command("list")
def list_deletions(data: DataFolder = None, json: Json = False) -> None:
    """List what is due next, and whether deletion is paused.

    Example: callvault deletions list
    """

    async def work(redis: Any) -> tuple[Any, ...]:
        due = DueList(redis)
        return await due.count(), await due.entries(), await due.paused()

    count, entries, paused = _on_redis(data, work)
    mode = load_settings().delete_originals
    if json:
        rows = [{"folder": entry.folder, "due_at": entry.due_at} for entry in entries]
        _print_json({"mode": mode, "paused": paused, "due": count, "first": rows})
        return
    now = time.time()
    for entry in entries:
        wait = entry.due_at - now
        sys.stdout.write(f"{'due' if wait <= 0 else 'in ' + format_duration(wait):<10} {entry.folder}\n")
    state = (
        f"paused: {paused}"
        if paused
        else "never, by this command's CALLVAULT_DELETE_ORIGINALS"
        if mode == "never"
        else "running"
    )
    sys.stdout.write(f"{count} originals on the list; deletion: {state}\n")


@deletions.command("pause")
def pause(
    why: Annotated[str, typer.Option(help="Why; shown until it is resumed.")] = "by hand", data: DataFolder = None
) -> None:
    """Delete nothing until resumed.

    Example: callvault deletions pause --why "bucket is being moved"
    """
    _on_redis(data, lambda redis: DueList(redis).pause(why))
    sys.stdout.write("paused\n")


@deletions.command("resume")
def resume(data: DataFolder = None) -> None:
    """Go on deleting.

    Example: callvault deletions resume
    """
    was_paused = _on_redis(data, lambda redis: DueList(redis).resume())
    sys.stdout.write("resumed\n" if was_paused else "it was not paused\n")


@deletions.command("hold")
def hold(recording_id: RecordingId, why: Why, data: DataFolder = None) -> None:
    """Never delete an original, whatever else is set, until it is released.

    Example: callvault deletions hold ID --why "case 17"
    """
    _decide(recording_id, "hold", why, data)
    sys.stdout.write(f"{recording_id} is on hold\n")


@deletions.command("release")
def release(recording_id: RecordingId, why: Why, data: DataFolder = None) -> None:
    """Let an original go that is on hold, or in whose audio something was found.

    Example: callvault deletions release ID --why "listened to it"
    """
    _decide(recording_id, "release", why, data)
    sys.stdout.write(f"{recording_id} is released; it is deleted once it is due\n")


def _decide(recording_id: str, decision: Any, why: str, data: Any) -> None:
    settings = load_settings(data_folder=data)

    async def run(url: str) -> None:
        async with runtime_at(settings, url) as runtime:
            await decide(runtime, recording_id, decision, why)

    with redis_of(settings, is_there=True) as url:
        asyncio.run(run(url))
