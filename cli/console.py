"""How commands print to a terminal."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from text.counts import many

if TYPE_CHECKING:
    from rich.console import Console

_ON_A_TERMINAL = 50  # rows
_SAY_EVERY_SECONDS = 2.0


def open_console(*, stderr: bool = False) -> Console:
    """A console that prints each line as it is: no wrapping, no markup, no highlighting."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False)


def print_result(line: str, report: dict[str, Any], *, as_json: bool) -> None:
    """Print the result of a command: a line for a person, or the report as the one JSON document of `--json`."""
    if as_json:
        print_json(report)
    else:
        sys.stdout.write(f"{line}\n")


def print_json(report: object) -> None:
    """Print one JSON document on a line of its own."""
    sys.stdout.write(json.dumps(report) + "\n")


def most_rows(limit: int | None, *, is_table: bool = True) -> int | None:
    """How many rows a list prints; None: all.

    Args:
        limit: as `--limit` gives it; 0: all.
        is_table: whether it prints for a person, who gets 50 rows on a terminal unless `--limit` says otherwise.
    """
    if limit is not None:
        return limit or None
    return _ON_A_TERMINAL if is_table and sys.stdout.isatty() else None


def now_and_then(*, at_once: bool = False) -> Callable[[], bool]:
    """A question: is it time for a line about work of which nobody knows the end? Yes at most every two seconds.

    Args:
        at_once: the first answer is yes.
    """
    said_at = -math.inf if at_once else time.monotonic()

    def is_time() -> bool:
        nonlocal said_at
        if time.monotonic() - said_at <= _SAY_EVERY_SECONDS:
            return False
        said_at = time.monotonic()
        return True

    return is_time


def in_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row of a table, with its cells below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def count_line(shown: int, total: int, noun: str) -> str:
    """The last line of a list: `3 holds`, or `50 of 120 holds; 70 more, use --limit 0 for all`."""
    if shown >= total:
        return many(total, noun)
    return f"{shown} of {many(total, noun)}; {total - shown} more, use --limit 0 for all"


def warn_of(doubt: str | None) -> None:
    """Print a doubt about what a command did, if there is one."""
    if doubt is not None:
        sys.stderr.write(f"callvault: {doubt}\n")


def confirmed(question: str, *, err: bool = False) -> bool:
    """Ask a yes-or-no question; returns whether the answer is yes.

    Args:
        question: to ask.
        err: ask on standard error, because standard output is for JSON.

    Raises:
        UsedWrongly: nobody can answer, because standard input has ended.
        KeyboardInterrupt: the answer was Ctrl-C.
    """
    import typer

    from cli.interrupt import raised_at_once
    from text.errors import UsedWrongly

    try:
        with raised_at_once():
            return typer.confirm(question, err=err)
    except typer.Abort as stopped:
        if isinstance(stopped.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        sys.stderr.write("\n")
        raise UsedWrongly("--yes: missing; this command asks first, and standard input has no answer") from None


def bold(text: str, *, is_reversed: bool = False) -> str:
    """A text in bold, or in bold with inverted colours; unchanged if standard output is not a terminal."""
    if not text or not sys.stdout.isatty() or os.environ.get("TERM") in (None, "dumb", "unknown"):
        return text
    return f"\x1b[1{';7' * is_reversed}m{text}\x1b[0m"
