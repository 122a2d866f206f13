"""Bars over time as SVG, without scripts or outside hosts, and with a text for screen readers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

_HEIGHT = 96  # pixels of the bars
_BELOW = 20  # pixels of the times below
_GAP = 0.2  # of the width of a bar
_TOPS = (1, 2, 4, 6, 8, 10)  # and their multiples by a power of ten: each has a whole half
_MARGIN = 6  # per cent, at both ends, in which a text below would be cut off


@dataclass(frozen=True)
class Tick:
    """A text below a chart.

    Attributes:
        place: from the left, in per cent.
    """

    place: float
    text: str


def best_top(largest: float) -> float:
    """The value at the top of a scale: the smallest round one that is not below the largest value; 0 for 0."""
    if largest <= 0:
        return 0
    unit = 10.0 ** math.floor(math.log10(largest))
    return next(top * unit for top in _TOPS if top * unit >= largest * (1 - 1e-9))


def place_of(index: int, count: int) -> float | None:
    """Where a bar begins, in per cent from the left; None: a text there would be cut off."""
    place = 100 * index / count
    return round(place, 2) if _MARGIN <= place <= 100 - _MARGIN else None


def bars(values: Sequence[float | None], top: float, ticks: Sequence[Tick], label: str) -> Markup:
    """A bar for each value, the oldest on the left, as wide as its place.

    Args:
        values: one for each bar; None or 0: no bar.
        top: the value of a bar of full height.
        ticks: the texts below.
        label: the chart in words.
    """
    path = "".join(
        f"M{i + _GAP / 2:g} 100V{100 - height:.4g}h{1 - _GAP:g}V100z"
        for i, value in enumerate(values)
        if value and (height := max(2.0, min(100.0, value / top * 100)))
    )
    lines = "".join(f"M0 {y}H{len(values)}" for y in (0.5, 50, 99.5))
    below = Markup("").join(
        Markup('<text x="{0}%" y="{1}">{2}</text><line x1="{0}%" x2="{0}%" y1="{3}" y2="{4}"/>').format(
            tick.place, _HEIGHT + _BELOW - 5, tick.text, _HEIGHT, _HEIGHT + 4
        )
        for tick in ticks
    )
    return Markup(
        '<svg role="img" aria-label="{}" width="100%" height="{}"><svg viewBox="0 0 {} 100" width="100%" height="{}" '
        'preserveAspectRatio="none"><path class="lines" d="{}"/><rect class="here" width="1" height="100" x="-2"/>'
        '<path d="{}"/></svg>{}</svg>'
    ).format(label, _HEIGHT + _BELOW, len(values), _HEIGHT, lines, path, below)
