"""Write a number with its noun, for commands, pages, alerts and errors."""

from __future__ import annotations


def many(number: int, one: str, more: str = "") -> str:
    """A number with its noun, and its verb if it has one: `1 seal`, `1200 seals`, `1 job waits`.

    Args:
        number: of things.
        one: the singular: `seal`, `address`, `job waits`.
        more: the plural; empty: the regular plural of `one`.
    """
    if number == 1:
        return f"1 {one}"
    return f"{number} {more or one + ('es' if one.endswith('s') else 's')}"
