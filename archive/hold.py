"""A hold, as the archive has it; Redis shows a pause, which is a hold of everything."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from text.times import format_moment


class Hold(msgspec.Struct, frozen=True):
    """A hold that no release has lifted.

    Attributes:
        why: the reason.
        by: who placed it; empty if unknown.
        at: when, ISO 8601, UTC; empty if unknown.
    """

    why: str
    by: str = ""
    at: str = ""

    def __str__(self) -> str:
        placed = [*([f"by {self.by}"] if self.by else []), *([f"since {format_moment(self.at)}"] if self.at else [])]
        text = f"{self.why} ({', '.join(placed)})" if placed else self.why
        line = " ".join(text.split())  # one line, whoever wrote it
        return "".join(letter if letter.isprintable() else "?" for letter in line)


def together(holds: Iterable[Hold]) -> Hold | None:
    """Several holds of one thing as one: each reason and person once, since the first; None without holds."""
    rows = sorted(holds, key=lambda hold: hold.at)
    if not rows:
        return None
    by = ", ".join(dict.fromkeys(hold.by for hold in rows if hold.by))
    return Hold("; ".join(sorted({hold.why for hold in rows})), by, rows[0].at)
