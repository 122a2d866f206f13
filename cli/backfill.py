"""`callvault backfill`: compare past days with Telnyx, and have the workers archive what is missing."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from cli.options import (
    SINCE_DAY,
    DataFolder,
    Json,
    Until,
    first_day,
    last_day,
    refuse_future,
    refuse_reversed,
    service_of,
)
from text.times import utc_now


def command(
    since: Annotated[str, typer.Option(metavar="DAY", help=SINCE_DAY)],
    until: Until = None,
    connection: Annotated[str | None, typer.Option(metavar="ID", help="Only recordings of this connection.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; report how much is missing.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Archive recordings that Telnyx already has.

    A worker must be running. If you stop this command, the same command continues where it stopped.
    Exit status 1: a job failed for good, or a day could not be compared; 130: you stopped it.

    Example: callvault backfill --since 30d --dry-run
    """
    from cli.past_days import Backfill

    today = utc_now().date()
    first, last = first_day(since) or today, last_day(until)
    if last is None:
        refuse_future(first, today)
    refuse_reversed(first, last)
    with service_of(data) as (settings, url):
        return asyncio.run(Backfill(settings, first, last or today, connection, dry_run).run(url, json))
