"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_PLAIN_SECONDS = 2.0


@contextmanager
def progress(console: Console, **totals: int) -> Iterator[Callable[..., None]]:
    """Show how far several counts have come.

    Args:
        console: where to.
        totals: what each count grows to, by its name; underscores show as blanks.

    Yields:
        A function that takes the counts by the same names.
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
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {n: bars.add_task(titles[n].ljust(width), total=total, rate="") for n, total in totals.items()}
        started = time.monotonic()

        def bar(**counts: int) -> None:
            for name, count in counts.items():
                rate = count / max(time.monotonic() - started, 0.001)
                bars.update(tasks[name], completed=count, rate=f"{rate:,.0f}/s")

        yield bar


def _plain(console: Console, totals: dict[str, int], titles: dict[str, str]) -> Callable[..., None]:
    said = [0.0]

    def plain(**counts: int) -> None:
        is_done = all(counts[name] >= totals[name] for name in counts)
        if is_done or time.monotonic() - said[0] > _PLAIN_SECONDS:
            said[0] = time.monotonic()
            line = ", ".join(f"{titles[name]} {count}/{totals[name]}" for name, count in counts.items())
            console.print(line, highlight=False)

    return plain
