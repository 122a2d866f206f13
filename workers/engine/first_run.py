"""Whether a job runs for the first time, so that what it asks for in advance is hardly ever asked for in vain."""

from __future__ import annotations

from contextvars import ContextVar

_IS_FIRST: ContextVar[bool] = ContextVar("is_first_run", default=False)


def note_run(number: int) -> None:
    """Note which run of its job the current task is, counted from 1."""
    _IS_FIRST.set(number == 1)


def is_first_run() -> bool:
    """Whether the current task is the first run of a job; no where nobody has noted it."""
    return _IS_FIRST.get()
