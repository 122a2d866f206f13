"""How commands speak to a person."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def open_console(*, stderr: bool = False) -> Console:
    """A console that says each line as it is, whatever it holds: not wrapped, not coloured by what it looks like."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False)


def bold(text: str, *, is_reversed: bool = False) -> str:
    """A text as a terminal shows it in bold, and with its colours the other way round; as it is where no terminal shows it."""
    if not text or not sys.stdout.isatty() or os.environ.get("TERM") in (None, "dumb", "unknown"):
        return text
    return f"\x1b[1{';7' * is_reversed}m{text}\x1b[0m"
