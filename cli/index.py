"""`callvault index`: the catalogue brought up to date, or built anew from the archive alone."""

from __future__ import annotations

import json
import sys
import time

from cli.catalogue import opened, up_to_date
from config.counts import many
from config.settings import Settings
from config.sizes import format_size
from config.times import format_duration


def run(settings: Settings, *, rebuild: bool, as_json: bool) -> int:
    """Bring it up to date; returns the exit status."""
    started = time.monotonic()
    with opened(settings, rebuild=rebuild) as (catalogue, archive):
        up_to_date(settings, catalogue, archive)
        count, path = catalogue.count(), catalogue.path
    seconds = time.monotonic() - started
    size = path.stat().st_size
    if as_json:
        report = {"recordings": count, "bytes": size, "path": str(path), "seconds": round(seconds, 2)}
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        sys.stdout.write(f"{many(count, 'recording')}, {format_size(size)}, {format_duration(seconds)}: {path}\n")
    return 0
