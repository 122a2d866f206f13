"""`callvault dead-letters`: jobs that failed for good."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cli.console import count_line, most_rows, print_json, print_result
from cli.options import By, DataFolder, Json, Limit, Utc, Why, service_of, zone_of
from cli.usage import group
from text.counts import many
from text.errors import UsedWrongly, UserError
from text.printable import printable
from text.times import first_instant, format_column, format_moment
from text.user import user_name

if TYPE_CHECKING:
    from archive.records import NotArchived, TranscriptionNotArchived
    from config.settings import Settings
    from workers.engine.attempts import Attempts

command = group("List, retry or discard jobs that failed for good.")

JobId = Annotated[
    str | None, typer.Argument(metavar="JOB", help="Job ID, as `dead-letters list` shows it.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="All dead letters.")]


def _on_attempts(data: Any, work: Callable[[Attempts], Awaitable[Any]], change: tuple[str, str] | None = None) -> Any:
    """Do something with the dead letters; `change`: the word of the access log for it, and what it is about."""
    from cli.accessed import Here, logged_change
    from workers.engine.attempts import Attempts
    from workers.engine.connect import connect_command

    async def run(settings: Settings, url: str) -> Any:
        redis = await connect_command(url, connections=4)
        try:
            if change is None:
                return await work(Attempts(redis))
            what, about = change
            async with logged_change(Here(redis, settings), what, about=f"dead-letters {about}"):
                return await work(Attempts(redis))
        finally:
            await redis.aclose()

    with service_of(data) as (settings, url):
        return asyncio.run(run(settings, url))


@command.command("list")
def list_letters(limit: Limit = None, utc: Utc = False, data: DataFolder = None, json: Json = False) -> None:
    """List dead letters: job, cause, error, what to do.

    Newest last; --limit keeps the newest.

    Example: callvault dead-letters list
    """
    from workers.engine.failure_classes import advice_of

    found = _on_attempts(data, lambda attempts: attempts.letters())
    letters = found[-(most_rows(limit, is_table=not json) or len(found)) :]
    if json:
        print_json({"dead_letters": msgspec.to_builtins(letters), "count": len(found)})
        return
    zone_name, times = format_column([first_instant(letter.died_at) for letter in letters], zone_of(utc))
    if letters:
        sys.stdout.write(f"job; cause, attempts, failed ({zone_name})\n")
    for died, letter in zip(times, letters, strict=True):
        sys.stdout.write(
            f"{printable(letter.job_id)}\n  {letter.cause}, {many(len(letter.attempts), 'attempt')}, failed {died}\n"
        )
        sys.stdout.write(f"  {printable(letter.error)}\n  {advice_of(letter.cause)}\n")
    sys.stdout.write(f"{count_line(len(letters), len(found), 'dead letter')}\n")


@command.command("retry")
def retry_letters(job_id: JobId = None, every: All = False, data: DataFolder = None, json: Json = False) -> None:
    """Retry one dead letter, or all.

    Example: callvault dead-letters retry --all
    """
    done = _each("retry", job_id, every, data, lambda attempts, one, _: attempts.retry(one))
    print_result(f"{done} queued again", {"retried": done}, as_json=json)


@command.command("discard")
def discard_letters(job_id: JobId = None, every: All = False, data: DataFolder = None, json: Json = False) -> None:
    """Discard one dead letter, or all.

    Example: callvault dead-letters discard archive_recording:ID
    """
    done = _each("discard", job_id, every, data, lambda attempts, one, died_at: attempts.discard(one, died_at))
    print_result(f"{done} discarded", {"discarded": done}, as_json=json)


@command.command("accept")
def accept_letter(
    what: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="ID of the recording or its beginning, or job ID; for a transcription, its job ID.",
            show_default=False,
        ),
    ],
    why: Why,
    by: By = None,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Seal a day without a recording that Telnyx cannot provide.

    For a recording or transcription that Telnyx lists but does not deliver. Callvault asks Telnyx once more
    and archives it if it can; otherwise the archive records your decision.

    Example: callvault dead-letters accept ID --why "support says that it is empty"
    """
    from cli.accessed import logged_change
    from cli.ids import choose, is_surely_whole
    from workers.reconcile.not_archived import accept_not_archived
    from workers.reconcile.not_transcribed import accept_transcription
    from workers.runtime import runtime_at

    is_transcription = what.startswith("archive_transcription:")
    id_ = what.removeprefix("archive_recording:").removeprefix("archive_transcription:")
    kind, person = "transcription" if is_transcription else "recording", by or user_name()

    async def accept(settings: Settings, url: str) -> NotArchived | TranscriptionNotArchived | None:
        nonlocal id_
        async with runtime_at(settings, url) as runtime:
            if not is_surely_whole(id_):
                jobs = [letter.job_id.partition(":") for letter in await runtime.attempts.letters()]
                ids = sorted(name for job, _, name in jobs if job == f"archive_{kind}" and name.startswith(id_))
                id_ = choose(id_, ids)
            accept_it = accept_transcription if is_transcription else accept_not_archived
            recordings, about = ([], f"transcription {id_}") if is_transcription else ([id_], "")
            async with logged_change(runtime, "accept", recordings, about=about, why=why, by=by):
                return await accept_it(runtime, id_, why, person)

    with service_of(data) as (settings, url):
        record = asyncio.run(accept(settings, url))
    report = {"kind": kind, "id": id_, "is_archived": record is None, "record": msgspec.to_builtins(record)}
    if record is None:
        print_result(f"{kind} {id_} is archived: Telnyx delivered it this time", report, as_json=json)
        return
    line = (
        f"its day can be sealed without it, as recorded at {format_moment(record.at, None)} ({record.by}: {record.why})"
    )
    print_result(f"{kind} {id_} is not archived: {record.answer}; {line}", report, as_json=json)


def _each(
    what: str, job_id: str | None, every: bool, data: Any, act: Callable[[Attempts, str, str | None], Awaitable[bool]]
) -> int:
    """Act on one dead letter or on all; returns how many it changed."""
    if (job_id is None) == (not every):
        raise UsedWrongly("give a job ID, or --all")

    async def work(attempts: Attempts) -> int:
        if job_id is None:
            done = [await act(attempts, letter.job_id, letter.died_at) for letter in await attempts.letters()]
        else:
            done = [await act(attempts, job_id, None)]
        if job_id is not None and not any(done):
            raise UserError(f"no dead letter {job_id}; run `callvault dead-letters list` to see all")
        return sum(done)

    return int(_on_attempts(data, work, (what, job_id or "all")))
