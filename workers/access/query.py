"""A search in the access log: one shape for the command line, the page and the API."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo

import msgspec

from text.times import format_instant, parse_moment
from workers.catalogue.query import BadQuery

# THE table of its fields, each with a line of help.
FIELDS = {
    "who": "name of the person or program, in any case",
    "recording": "recording id",
    "since": "first UTC day, or an instant such as 2026-11-25T07:30",
    "until": "last UTC day, or an instant; lines that were written before it",
}
_LONGEST = 200


class AccessQuery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A search; fields that are None do not restrict it.

    Attributes:
        who: the whole name, in any case.
        recording: a recording's id.
        since: the first instant; until: the first instant after the span.
    """

    who: str | None = None
    recording: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> tuple[str, tuple[object, ...]]:
        """The SQL condition, and its values."""
        rows = (
            ("who = ?", self.who and self.who.casefold()),  # as in the index: NOCASE of SQLite knows only ASCII
            ("id IN (SELECT id FROM recordings WHERE recording_id = ?)", self.recording),
            ("at >= ?", self.since and format_instant(self.since)),
            ("at < ?", self.until and format_instant(self.until)),
        )
        asked = [(clause, value) for clause, value in rows if value is not None]
        return " AND ".join(["1", *(clause for clause, _ in asked)]), tuple(value for _, value in asked)


def read_access_query(words: Mapping[str, str | None], zone: tzinfo | None = UTC) -> AccessQuery:
    """Read a search from named values; empty ones are ignored.

    Args:
        words: the values by the names of `FIELDS`.
        zone: of days, and of instants that name none; None: the zone of this machine.

    Raises:
        BadQuery: one is not valid; the text names it.
    """
    given = {name: value.strip() for name, value in words.items() if value is not None and value.strip()}
    fields: dict[str, object] = {}
    for name, value in given.items():
        if name not in FIELDS:
            raise BadQuery(f"unknown field {name[:40]!r}; expected one of {', '.join(FIELDS)}")
        if len(value) > _LONGEST or not value.isprintable():
            raise BadQuery(f"{value[:40]!r} cannot be searched for", name)
        try:
            is_time = name in ("since", "until")
            fields[name] = parse_moment(value, at_end=name == "until", zone=zone) if is_time else value
        except ValueError as error:
            raise BadQuery(str(error), name) from None
    query = msgspec.convert(fields, AccessQuery)
    if query.since and query.until and query.until <= query.since:
        raise BadQuery(f"{given['until']} must be after since ({given['since']})", "until")
    return query


def is_place(text: str) -> bool:
    """Whether a text is the `place` of an entry."""
    return re.fullmatch(r"[0-9TZ:.-]{10,40}~[0-9a-f]{16}", text) is not None
