"""How a number and what it counts are written: THE way for commands, pages, alerts and errors."""

from __future__ import annotations


def many(number: int, one: str, more: str = "") -> str:
    """A number with its noun, and its verb if it has one: `1 seal`, `1200 seals`, `1 job waits`.

    Args:
        number: how many.
        one: the words for a single one: `seal`, `address`, `job waits`.
        more: the words for any other number; empty: `one` with the ending of the plural.
    """
    if number == 1:
        return f"1 {one}"
    return f"{number} {more or one + ('es' if one.endswith('s') else 's')}"
