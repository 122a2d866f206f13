"""`callvault config`: the settings in force, and where each comes from."""

from __future__ import annotations

import sys

from cli.console import print_json
from cli.options import DataFolder, Json, settings_and_up

_WIDEST = 40  # a longer value moves its own source only


def command(data: DataFolder = None, json: Json = False) -> None:
    """Show each setting in force and its source.

    Sources are the default, the environment, a file of a secret, the command line, or a running `callvault
    up`. Secrets are hidden: a fingerprint shows only whether two are the same. Exit status 2: a setting cannot
    be used.

    Example: callvault config
    """
    from config.sources import settings_in_force, unknown_settings

    settings, from_up = settings_and_up(data)
    rows = settings_in_force(settings, () if data is None else ("data_folder",), from_up)
    if json:
        report = {"settings": [row._asdict() for row in rows], "unknown": unknown_settings()}
        print_json(report)
        return
    cells = [(row.name, row.value or "unset", row.file or row.source) for row in rows]
    name_width, value_width = (max(len(row[column]) for row in cells) for column in (0, 1))
    value_width = min(value_width, _WIDEST)
    sys.stdout.write("".join(f"{n:<{name_width}}  {v:<{value_width}}  {s}\n" for n, v, s in cells))
