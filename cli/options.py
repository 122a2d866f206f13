"""Options that several commands share."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from config.errors import UsedWrongly
from config.times import parse_day

DataFolder = Annotated[
    Path | None, typer.Option("--data", help="Data folder; default: CALLVAULT_DATA, else ./callvault-data.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output and nothing else there.")]
Since = Annotated[
    str | None, typer.Option(help='First day, UTC: 2026-11-25, yesterday, "last week", or 7d for a week ago.')
]
Until = Annotated[str | None, typer.Option(help="Last day, UTC, written likewise.")]
AudioFolder = Annotated[
    Path | None, typer.Option("--audio", help="Folder of WAV and MP3 files of your own.", exists=True, file_okay=False)
]


def option(name: str) -> str:
    """The option that a person types for a parameter: `--min-duration` for `min_duration`."""
    return f"--{name.replace('_', '-')}"


def day_of(text: str, option: str = "", *, at_end: bool = False) -> date:
    """The UTC day that an option names, or the one argument of a command; see `parse_day`.

    Raises:
        UsedWrongly: it names none; the text says which option.
    """
    try:
        return parse_day(text, at_end=at_end)
    except ValueError as error:
        raise UsedWrongly(f"{option}: {error}" if option else str(error)) from None


def not_empty(**given: str | None) -> None:
    """See that no option was given without a value, as by an empty variable of a script: it would silently ask for everything.

    Raises:
        UsedWrongly: one was.
    """
    for name, value in given.items():
        if value is not None and not value.strip():
            raise UsedWrongly(f"{option(name)}: is empty; leave it out, or give a value")
