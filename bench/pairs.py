"""Compare two things: measure them alternately in one run.

The result is the median and the spread of the ratios.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

PAIRS = 5


@dataclass
class Result:
    """A row of the results.

    Attributes:
        what: what was measured.
        against: the other side.
        ours: our median in `unit`; `theirs` is the other side's median.
        ratio: the median of the ratios of ours to theirs, pair by pair.
        spread: the smallest and largest of those ratios.
        goal: for the ratio, such as `>= 0.85`; with a unit, for ours, such as `<= 10 s`.
        note: command lines, and why a goal is missed.
    """

    what: str
    against: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    spread: tuple[float, float]
    goal: str
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the goal is met."""
        sign, number, *unit = self.goal.split()
        measured = self.ours if unit else self.ratio
        return measured >= float(number) if sign == ">=" else measured <= float(number)

    def row(self) -> str:
        """A row of the table in Markdown."""
        spread = f"{self.spread[0]:.2f} to {self.spread[1]:.2f}"
        sides = f"{self.ours:,.4g} | {self.theirs:,.4g} {self.unit}"
        met = "yes" if self.is_met else "no"
        return f"| {self.what} | {self.against} | {sides} | **{self.ratio:.2f}** ({spread}) | {self.goal} | {met} |"


def log(text: str) -> None:
    """Print progress on standard error."""
    print(text, file=sys.stderr, flush=True)


def alternate(
    what: str,
    against: str,
    ours: Callable[[], float],
    theirs: Callable[[], float],
    *,
    unit: str,
    goal: str,
    note: str = "",
    pairs: int = PAIRS,
) -> Result:
    """Measure both sides in turn; every second pair starts with theirs.

    Args:
        what: see `Result`; likewise against, unit, goal, note.
        ours: measures our side once.
        theirs: measures the other side once.
        pairs: how many pairs.
    """
    mine, other = [], []
    for i in range(pairs):
        first, second = (ours, theirs) if i % 2 == 0 else (theirs, ours)
        a, b = first(), second()
        if i % 2:
            a, b = b, a
        mine.append(a)
        other.append(b)
        log(f"  {what} / {against}: {a:,.4g} / {b:,.4g} {unit}")
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    return Result(
        what,
        against,
        statistics.median(mine),
        statistics.median(other),
        unit,
        statistics.median(ratios),
        (min(ratios), max(ratios)),
        goal,
        note,
    )


def once(what: str, against: str, ours: float, theirs: float, *, unit: str, goal: str, note: str = "") -> Result:
    """The result of one run; see `Result`."""
    ratio = ours / theirs
    return Result(what, against, ours, theirs, unit, ratio, (ratio, ratio), goal, note)
