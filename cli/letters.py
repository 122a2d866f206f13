"""`callvault dead-letters`: jobs that were given up."""

from __future__ import annotations

import asyncio
import getpass
import json as json_module
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
import typer

from cli.options import DataFolder, Json
from config.counts import many
from config.errors import UsedWrongly, UserError
from config.settings import load_settings
from workers.archive.records import NotArchived, TranscriptionNotArchived
from workers.jobs.causes import advice_of
from workers.queue.attempts import Attempts
from workers.queue.connect import connect_command
from workers.queue.embedded import redis_of

dead_letters = typer.Typer(help="Jobs that were given up.", no_args_is_help=True, rich_markup_mode=None)

JobId = Annotated[str | None, typer.Argument(help="Its job id.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="All of them.")]


def _on_redis(data: Any, work: Callable[[Any], Awaitable[Any]]) -> Any:
    settings = load_settings(data_folder=data)

    async def run(url: str) -> Any:
        redis = await connect_command(url, connections=4)
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
            f"{letter.job_id}\n  {letter.cause}, {many(len(letter.attempts), 'attempt')}, given up {letter.died_at}\n"
        )
        sys.stdout.write(f"  {letter.error}\n  {advice_of(letter.cause)}\n")
    sys.stdout.write(f"{many(len(letters), 'dead letter')}\n")


@dead_letters.command("retry")
def retry_letters(job_id: JobId = None, every: All = False, data: DataFolder = None) -> None:
    """Enqueue one again, or all of them.

    Example: callvault dead-letters retry --all
    """
    sys.stdout.write(f"{_each(job_id, every, data, lambda attempts, one, _: attempts.retry(one))} enqueued again\n")


@dead_letters.command("discard")
def discard_letters(job_id: JobId = None, every: All = False, data: DataFolder = None) -> None:
    """Drop one for good, or all of them.

    Example: callvault dead-letters discard archive_recording:ID
    """
    sys.stdout.write(f"{_each(job_id, every, data, Attempts.discard)} discarded\n")


@dead_letters.command("accept")
def accept_letter(
    what: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The id of the recording, or of its job; for a transcription, the id of its job.",
            show_default=False,
        ),
    ],
    why: Annotated[str, typer.Option(help="Why; it is written into the archive.")],
    by: Annotated[str | None, typer.Option(help="Who decides; default: the user of this machine.")] = None,
    data: DataFolder = None,
) -> None:
    """Have a day sealed without a recording or transcription that Telnyx lists and does not give; it is on record in the archive.

    It is asked for once more. If it can be had it is archived instead.

    Example: callvault dead-letters accept ID --why "support says that it is empty"
    """
    from workers.jobs.not_archived import accept_not_archived
    from workers.jobs.not_transcribed import accept_transcription
    from workers.runtime import runtime_at

    settings = load_settings(data_folder=data)
    is_transcription = what.startswith("archive_transcription:")
    id_ = what.removeprefix("archive_recording:").removeprefix("archive_transcription:")
    kind, person = "transcription" if is_transcription else "recording", by or getpass.getuser()

    async def accept(url: str) -> NotArchived | TranscriptionNotArchived | None:
        async with runtime_at(settings, url) as runtime:
            accept_it = accept_transcription if is_transcription else accept_not_archived
            return await accept_it(runtime, id_, why, person)

    with redis_of(settings, is_there=True) as url:
        record = asyncio.run(accept(url))
    if record is None:
        sys.stdout.write(f"{kind} {id_} is archived: {'it' if is_transcription else 'its audio'} could be had\n")
        return
    line = f"its day is sealed without it, on record since {record.at} ({record.by}: {record.why})"
    sys.stdout.write(f"{kind} {id_} is not archived: {record.answer}; {line}\n")


def _each(
    job_id: str | None, every: bool, data: Any, act: Callable[[Attempts, str, str | None], Awaitable[bool]]
) -> int:
    """Act on one letter, or on all that there are now, each with its time; returns how many it was done to."""
    if (job_id is None) == (not every):
        raise UsedWrongly("give a job id, or --all")

    async def work(redis: Any) -> int:
        attempts = Attempts(redis)
        if job_id is None:
            done = [await act(attempts, letter.job_id, letter.died_at) for letter in await attempts.letters()]
        else:
            done = [await act(attempts, job_id, None)]
        if job_id is not None and not any(done):
            raise UserError(f"there is no dead letter {job_id}; see `callvault dead-letters list`")
        return sum(done)

    return int(_on_redis(data, work))
