"""Text from outside, before a person sees it."""

from __future__ import annotations


def printable(text: str) -> str:
    """A text with spaces for control characters, which a terminal would obey, and for those that turn the direction of text."""
    return "".join(c if c.isprintable() else " " for c in text)
