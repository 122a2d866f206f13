"""`callvault backfill`: compare past days with Telnyx, and have the workers archive what is missing."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from cli.options import DataFolder, Json, Until, day_of, refuse_reversed, service_of
from text.times import utc_now


def command(
    since: Annotated[
        str, typer.Option(metavar="DAY", help="First UTC day: 2026-11-25, yesterday, or 30d (30 days ago).")
    ],
    until: Until = None,
    connection: Annotated[str | None, typer.Option(metavar="ID", help="Only recordings of this connection.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; report how much is missing.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Archive recordings that Telnyx already has.

    A worker must be running. If you stop this command, the same command continues where it stopped.
    Exit status 1: it was stopped, a job failed for good, or a day could not be compared.

    Example: callvault backfill --since 30d --dry-run
    """
    from cli.past_days import Backfill
    from cli.supervisor import stop_signals

    first = day_of(since, "--since")
    last = day_of(until, "--until", at_end=True) if until else utc_now().date()
    refuse_reversed(first, last)
    with service_of(data) as (settings, url), stop_signals() as asked_to_stop:
        return asyncio.run(Backfill(settings, first, last, connection, dry_run, asked_to_stop).run(url, json))
