"""Small charts as SVG, without scripts or outside hosts, and with a text for screen readers."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

_WIDTH, _HEIGHT, _GAP = 288, 48, 0.25


def bars(values: Sequence[float | None], what: str, unit: str = "") -> Markup:
    """A bar for each step, the oldest on the left.

    Args:
        values: one for each step; None: not measured.
        what: the name and period of the values, for the text of the chart.
        unit: of the values.
    """
    known = [value for value in values if value is not None]
    top = max(known, default=0)
    width = _WIDTH / max(1, len(values))
    shapes = [
        f'<rect x="{i * width:.1f}" y="{_HEIGHT - height:.1f}" width="{width * (1 - _GAP):.1f}" height="{height:.1f}"/>'
        for i, value in enumerate(values)
        if value and (height := max(1.0, value / top * _HEIGHT))
    ]
    label = f"{what}: {f'at most {top:g}{unit}' if top else 'none'}"
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<line x1="0" y1="{}" x2="{}" y2="{}"/>{}</svg>'
    ).format(_WIDTH, _HEIGHT, label, _HEIGHT, _WIDTH, _HEIGHT, Markup("").join(map(Markup, shapes)))
