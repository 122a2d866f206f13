"""What is searched for: one shape for the command line, the ops pages and the API, read from the same words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta

import msgspec

from config.errors import UsedWrongly
from config.times import end_of_day, format_instant, parse_day, parse_duration
from workers.catalogue.numbers import wanted_number
from workers.catalogue.words import words_query

STATES = ("archived", "kept", "held", "deleted", "erased", "damaged")

# THE table of what can be searched by: the names that the command line, the pages and the API share, each with a line.
FIELDS = {
    "number": "either party",
    "since": "first UTC day",
    "until": "last UTC day",
    "connection": "connection id",
    "session": "call session id",
    "leg": "call leg id",
    "id": "recording id",
    "text": "words that were said",
    "min_duration": "a duration such as 90s",
    "state": f"{', '.join(STATES[:-1])} or {STATES[-1]}",
    "findings": "1: only those in whose audio something was found",
}

_NAMED = re.compile(rf"\b({'|'.join(FIELDS)}):(?:\"([^\"]*)\"|(\S+))")
_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_NUMBER = re.compile(r"(sips?:)?[+(]?[\d\s()./+-]{3,}|(sips?:)?\S+@\S+")


class BadQuery(UsedWrongly):
    """A search that cannot be; the text names the field and says why."""


class Query(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A search; what is None is not asked for.

    Attributes:
        number: of either party: E.164, national, a part of one, or a part of a SIP address.
        since: first UTC day of `started_at`; until: the last.
        leg: call leg id; session: call session id; id: recording id.
        text: words said, see `workers/catalogue/words.py`.
        min_duration_seconds: seconds.
        state: one of `STATES`.
        findings: only recordings in whose audio something was found.
    """

    number: str | None = None
    since: date | None = None
    until: date | None = None
    connection: str | None = None
    session: str | None = None
    leg: str | None = None
    id: str | None = None
    text: str | None = None
    min_duration_seconds: float | None = None
    state: str | None = None
    findings: bool = False


def read_query(words: Mapping[str, str | None]) -> Query:
    """Read a search from words by name, as a command line or a query string has them; empty ones are not asked for.

    Raises:
        BadQuery: one cannot be used.
    """
    given = {name: value.strip() for name, value in words.items() if value is not None and value.strip()}
    plain = {name: given[name] for name in ("connection", "session", "leg", "id") if name in given}
    for name, value in plain.items():
        if len(value) > 200 or not value.isprintable():
            raise BadQuery(f"{name}: not an id")
    if "state" in given and given["state"] not in STATES:
        raise BadQuery(f"state: {given['state'][:40]!r} is none of {', '.join(STATES)}")
    try:
        since = parse_day(given["since"]) if "since" in given else None
        until = parse_day(given["until"], at_end=True) if "until" in given else None
        duration = parse_duration(given["min_duration"]).total_seconds() if "min_duration" in given else None
        if "number" in given:
            wanted_number(given["number"])
        if "text" in given:
            words_query(given["text"])
    except ValueError as error:
        raise BadQuery(str(error)) from None
    if since and until and until < since:
        raise BadQuery(f"until: {until} is before {since}")
    return Query(
        **plain,
        number=given.get("number"),
        since=since,
        until=until,
        text=given.get("text"),
        min_duration_seconds=duration,
        state=given.get("state"),
        findings=given.get("findings", "").lower() in ("1", "true", "yes", "on"),
    )


def read_box(text: str) -> dict[str, str]:
    """The words by name that a person means by what was typed into one box.

    `name:value` and `name:"several words"` are what they say; of the rest an id is an id, digits are a number, a day is
    a day, and anything else was said in the call.
    """
    words = {name: quoted or plain for name, quoted, plain in _NAMED.findall(text)}
    rest = " ".join(_NAMED.sub(" ", text).split())
    if not rest:
        return words
    if _ID.fullmatch(rest):
        return words | {"id": rest}
    try:
        parse_day(rest)
    except ValueError:
        is_number = _NUMBER.fullmatch(rest) is not None
        return words | {"number" if is_number else "text": rest}
    return words | {"since": rest, "until": rest}


def conditions(query: Query) -> tuple[list[str], list[object]]:
    """The conditions of a query in SQL but for numbers and words, and their values."""
    damaged = query.state if query.state == "damaged" else None  # by an index, where each row would be looked at
    rows: tuple[tuple[str, object], ...] = (
        ("r.started_at >= ?", query.since and format_instant(end_of_day(query.since - timedelta(days=1)))),
        ("r.started_at < ?", query.until and format_instant(end_of_day(query.until))),
        ("r.connection_id = ?", query.connection),
        ("r.call_session_id = ?", query.session),
        ("r.call_leg_id = ?", query.leg),
        ("r.recording_id = ?", query.id),
        ("r.duration_ms >= ?", query.min_duration_seconds and query.min_duration_seconds * 1000),
        ("state = ?", query.state),
        ("r.recording_id IN (SELECT recording_id FROM damaged WHERE ? = state OR state <> 'whole')", damaged),
        ("r.findings <> ? ", "" if query.findings else None),
    )
    asked = [(clause, value) for clause, value in rows if value is not None]
    return [clause for clause, _ in asked], [value for _, value in asked]
