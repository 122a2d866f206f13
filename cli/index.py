"""`callvault index`: update the search catalogue, or rebuild it from the archive."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from cli.console import print_json
from cli.options import DataFolder, Json, settings_of
from text.counts import many
from text.sizes import format_size
from text.times import format_duration


def command(
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Rebuild it from the archive alone.")] = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Update or rebuild the search catalogue.

    `callvault find` and the ops pages update it by themselves.

    Example: callvault index --rebuild
    """
    from cli.catalogue import opened, up_to_date

    settings, started = settings_of(data), time.monotonic()
    with opened(settings, rebuild=rebuild) as (catalogue, archive):
        up_to_date(settings, catalogue, archive)
        count, path = catalogue.count(), catalogue.path
    seconds = time.monotonic() - started
    size = path.stat().st_size
    if json:
        report = {"recordings": count, "bytes": size, "path": str(path), "seconds": round(seconds, 2)}
        print_json(report)
    else:
        sys.stdout.write(f"{many(count, 'recording')}, {format_size(size)}, {format_duration(seconds)}: {path}\n")
    return 0
