"""Where a page of originals ends, so that the next one goes on there: in the schedule, and in both lists of recordings."""

from __future__ import annotations

import math
from typing import NamedTuple
from urllib.parse import quote, unquote

from text.errors import UserError
from workers.deletion.schedule import DueDeletion

_END = "end"  # of a list of which nothing is left


class After(NamedTuple):
    """The last of a page in each list; empty: it begins there; `end`: nothing is left of it.

    Attributes:
        schedule: when the last is due, and its folder; held, kept: the place of the last hit.
    """

    schedule: str = ""
    held: str = ""
    kept: str = ""

    @property
    def of_schedule(self) -> DueDeletion | None:
        """The last entry of the schedule; None: it begins there."""
        if not self.schedule or self.has_ended("schedule"):
            return None
        due_at, _, folder = self.schedule.partition("~")
        return DueDeletion(folder, float(due_at))

    def has_ended(self, name: str) -> bool:
        """Whether nothing is left of a list."""
        return str(getattr(self, name)) == _END

    def __str__(self) -> str:
        return "|".join(quote(place, safe="~/:") for place in self)


def read_after(text: str | None) -> After:
    """Where a page begins, from the `after` of the one before.

    Raises:
        UserError: no page has returned that.
    """
    if not text:
        return After()
    try:
        found = After(*map(unquote, text.split("|")))
        entry = found.of_schedule
        if entry is not None and not (math.isfinite(entry.due_at) and entry.folder):
            raise ValueError
    except (TypeError, ValueError):
        raise UserError("after: not a value that a previous page returned") from None
    return found


def next_after(entries: tuple[DueDeletion | None, bool], *places: tuple[str, bool]) -> str | None:
    """Where the next page begins; None: this was the last.

    Args:
        entries: the last entry of the schedule on this page, and whether there are more.
        places: of both lists, the place of the last hit, and whether there are more.
    """
    last, is_more = entries
    schedule = _END if last is None or not is_more else f"{last.due_at!r}~{last.folder}"
    after = After(schedule, *(place if more else _END for place, more in places))
    return None if all(map(after.has_ended, After._fields)) else str(after)
