"""How commands speak to a person."""

from __future__ import annotations

from rich.console import Console


def open_console(*, stderr: bool = False) -> Console:
    """A console that says each line as it is, whatever it holds: not wrapped, not coloured by what it looks like."""
    return Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False)
