"""What a check of `callvault doctor` is, and what it may find."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from config.settings import Settings


class Wrong(Exception):
    """A failed check: what is wrong, and how to fix it."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.advice = advice


class Noted(Exception):
    """A passed check with something worth knowing, and advice."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(what)
        self.advice = advice


Check = Callable[[Settings, Any], Awaitable[str]]
