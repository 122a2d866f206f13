"""Progress of long work: a bar on a terminal; elsewhere a line every few seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from text.times import format_duration

_PLAIN_SECONDS = 2.0
_UNCHANGED_SECONDS = 30.0  # how often an unchanged line is repeated


@contextmanager
def progress(console: Console, **totals: int) -> Iterator[Callable[..., None]]:
    """Show the progress of several counts.

    Args:
        console: where to print.
        totals: the final value of each count by its name; underscores print as spaces.

    Yields:
        A function that takes the counts by the same names, and a note to print beside them.
    """
    titles = {name: name.replace("_", " ") for name in totals}
    if not console.is_terminal:
        yield _plain(console, totals, titles)
        return
    width = max(map(len, titles.values()))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} {task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {n: bars.add_task(titles[n].ljust(width), total=total, rate="", note="") for n, total in totals.items()}
        started = time.monotonic()

        def bar(note: str = "", **counts: int) -> None:
            for name, count in counts.items():
                rate = count / max(time.monotonic() - started, 0.001)
                bars.update(tasks[name], completed=count, rate=f"{rate:,.1f}/s", note=note)

        yield bar


def _plain(console: Console, totals: dict[str, int], titles: dict[str, str]) -> Callable[..., None]:
    started = time.monotonic()
    shown_at, shown, has_shown_done = 0.0, dict[str, int](), False

    def plain(note: str = "", **counts: int) -> None:
        nonlocal shown_at, shown, has_shown_done
        is_done = all(counts[name] >= totals[name] for name in counts)
        wait = _PLAIN_SECONDS if counts != shown else _UNCHANGED_SECONDS
        if (is_done and not has_shown_done) or time.monotonic() - shown_at > wait:
            shown_at, shown, has_shown_done = time.monotonic(), counts, is_done
            parts = [f"{titles[name]} {count}/{totals[name]}" for name, count in counts.items()]
            first = next(iter(counts))
            if 0 < counts[first] < totals[first]:
                left = (time.monotonic() - started) / counts[first] * (totals[first] - counts[first])
                parts.append(f"{format_duration(math.ceil(left))} left")
            console.print(", ".join(([note] if note else []) + parts))

    return plain
