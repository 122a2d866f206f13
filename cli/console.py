"""How commands print to a terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def open_console(*, stderr: bool = False) -> Console:
    """A console that prints each line as it is: no wrapping, no markup, no highlighting."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False)


def bold(text: str, *, is_reversed: bool = False) -> str:
    """A text in bold, or in bold with inverted colours; unchanged if standard output is not a terminal."""
    if not text or not sys.stdout.isatty() or os.environ.get("TERM") in (None, "dumb", "unknown"):
        return text
    return f"\x1b[1{';7' * is_reversed}m{text}\x1b[0m"
