"""A search query: one shape for the command line, the ops pages and the API, with the same names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, tzinfo
from functools import partial
from typing import Any

import msgspec

from text.counts import many
from text.errors import UsedWrongly
from text.numbers import wanted_number
from text.times import format_instant, is_written_instant, parse_day, parse_duration, parse_moment
from workers.catalogue.words import words_query

STATES = ("archived", "kept", "held", "deleted", "disposed", "erased", "damaged")

# THE table of search fields: the names that the command line, the pages and the API share, each with a line of help.
FIELDS = {
    "number": "either party",
    "since": "first UTC day, or an instant such as 2026-11-25T07:30",
    "until": "last UTC day, or an instant; calls that began before it",
    "connection": "connection id",
    "session": "call session id",
    "leg": "call leg id",
    "id": "recording id",
    "text": "spoken words",
    "min_duration": "shortest length, such as 90s",
    "max_duration": "longest length, such as 10m",
    "state": f"{', '.join(STATES[:-1])} or {STATES[-1]}",
    "findings": "1: only recordings with findings in the audio; 0: all",
    "case": "case id: the recordings that it holds, or held until it was closed",
}

# A name, a colon and a value. The scheme of a SIP address is not a name.
_NAMED = re.compile(r"(?<!\S)(?!(?:sips?|tel):)([A-Za-z][\w-]*):(?:\"([^\"]*)\"|(\S*))")
_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_NUMBER = re.compile(r"[+(]?[\d\s()./+-]{3,}|(?:sips?|tel):\S+|\S+@\S*|@\S+|.*<\S+>.*")
_LONGEST_BOX = 1_000
_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


class BadQuery(UsedWrongly):
    """An invalid search; the text names the field and the reason.

    Attributes:
        field: the name of the field in the pages and the API; empty: no single field is wrong.
        why: what is wrong with it.
    """

    def __init__(self, why: str, field: str = "") -> None:
        super().__init__(f"{field}: {why}" if field else why)
        self.field = field
        self.why = why


class Query(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A search; fields that are None do not restrict it.

    Attributes:
        number: of either party: E.164, national, a part of one, or a part of a SIP address.
        since: the first instant of `started_at`; until: the first instant after the span.
        leg: call leg id; session: call session id; id: recording id.
        text: words of a transcription, see `workers/catalogue/words.py`.
        min_duration_seconds, max_duration_seconds: shortest and longest length, in seconds.
        state: one of `STATES`.
        findings: only recordings with a finding.
        case: id of a case.
    """

    number: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    connection: str | None = None
    session: str | None = None
    leg: str | None = None
    id: str | None = None
    text: str | None = None
    min_duration_seconds: float | None = None
    max_duration_seconds: float | None = None
    state: str | None = None
    findings: bool = False
    case: str | None = None


def read_query(words: Mapping[str, str | None], zone: tzinfo | None = UTC) -> Query:
    """Read a search from named values, as in a command line or a query string; empty ones are ignored.

    Args:
        words: the values by the names of `FIELDS`.
        zone: of days, and of instants that name none; None: the zone of this machine.

    Raises:
        BadQuery: one is invalid.
    """
    given = {name: value.strip() for name, value in words.items() if value is not None and value.strip()}
    fields: dict[str, object] = {}
    moment = partial(parse_moment, zone=zone)
    readers = _READERS | {"since": moment, "until": partial(moment, at_end=True)}
    for name, value in given.items():
        read = readers.get(name)
        if read is None:
            raise BadQuery(f"unknown field {name[:40]!r}; {_KNOWN}")
        try:
            fields[_NAMES.get(name, name)] = read(value)
        except ValueError as error:
            raise BadQuery(str(error), name) from None
    query = msgspec.convert(fields, Query)
    if query.since and query.until and query.until <= query.since:
        raise BadQuery(f"{given['until']} must be after since ({given['since']})", "until")
    shortest, longest = query.min_duration_seconds, query.max_duration_seconds
    if shortest is not None and longest is not None and longest < shortest:
        raise BadQuery(
            f"{given['max_duration']} is shorter than min_duration ({given['min_duration']})", "max_duration"
        )
    return query


def read_box(text: str) -> dict[str, str]:
    """Parse the text of the search box into named values.

    `name:value` and `name:"several words"` name the field. Of the rest, an id, digits and a day are recognised, and all
    else is searched in transcriptions. A word that contains a colon must be in quotes.

    Raises:
        BadQuery: a name is unknown or given twice.
    """
    if len(text) > _LONGEST_BOX:
        raise BadQuery(f"q: {many(len(text), 'character')}; at most {_LONGEST_BOX} are allowed")
    words: dict[str, str] = {}
    quoted = re.split(r'((?<!\S)"[^"]*")', text)  # what stands in quotes by itself names nothing
    for piece in quoted[::2]:
        for name, in_quotes, plain in _NAMED.findall(piece):
            if name not in FIELDS:
                raise BadQuery(f"unknown field {name[:40]!r}; {_KNOWN}. Put words with a colon in quotes")
            if not (in_quotes or plain).strip():
                raise BadQuery(f"{name}: no value after the colon")
            _put(words, name, in_quotes or plain)
    rest = " ".join(" ".join(p if n % 2 else _NAMED.sub(" ", p) for n, p in enumerate(quoted)).split())
    if not rest:
        return words
    if _ID.fullmatch(rest):
        _put(words, "id", rest)
    elif _is_day(rest):
        _put(words, "since", rest)
        _put(words, "until", rest)
    elif is_written_instant(rest):
        raise BadQuery(f"{rest[:40]} is an instant; write since:{rest[:40]} or until:{rest[:40]}")
    else:
        _put(words, "number" if _NUMBER.fullmatch(rest) else "text", rest)
    return words


def write_box(words: Mapping[str, str]) -> str:
    """Write named values as `read_box` reads them; one with a phrase in quotes cannot be quoted, so it goes last, unnamed."""
    rest = {name: value for name, value in words.items() if '"' in value and re.search(r'^"|\s', value)}
    named = {name: f'"{value}"' if re.search(r"\s", value) else value for name, value in words.items()}
    return " ".join([*(f"{name}:{value}" for name, value in named.items() if name not in rest), *rest.values()])


def join(words: Mapping[str, str | None], more: Mapping[str, str]) -> dict[str, str | None]:
    """Merge the named values of two sources.

    Raises:
        BadQuery: both name the same.
    """
    joined = dict(words)
    for name, value in more.items():
        _put(joined, name, value)
    return joined


def _put(words: dict[str, Any], name: str, value: str) -> None:
    if words.get(name) is not None and str(words[name]).strip():
        raise BadQuery("given twice", name)
    words[name] = value


def _is_day(text: str) -> bool:
    try:
        parse_day(text)
    except ValueError:
        return False
    return True


def _id(text: str) -> str:
    if len(text) > 200 or not text.isprintable() or " " in text:
        raise ValueError(f"{text[:40]!r} is not an id")
    return text


def _number(text: str) -> str:
    wanted_number(text)
    return text


def _text(text: str) -> str:
    words_query(text)
    return text


def _seconds(text: str) -> float:
    return parse_duration(text).total_seconds()


def _state(text: str) -> str:
    if text not in STATES:
        raise ValueError(f"{text[:40]!r} is not a state; expected {FIELDS['state']}")
    return text


def _yes_or_no(text: str) -> bool:
    if text.lower() not in (*_YES, *_NO):
        raise ValueError(f"{text[:40]!r} is not 1 or 0")
    return text.lower() in _YES


_READERS: dict[str, Callable[[str], object]] = {
    "number": _number,
    "connection": _id,
    "session": _id,
    "leg": _id,
    "id": _id,
    "text": _text,
    "min_duration": _seconds,
    "max_duration": _seconds,
    "state": _state,
    "findings": _yes_or_no,
    "case": _id,
}
_NAMES = {"min_duration": "min_duration_seconds", "max_duration": "max_duration_seconds"}
_KNOWN = f"expected one of {', '.join(FIELDS)}"


# What is true of all recordings in a state, and has an index of its own.
_FEW = {
    "erased": "r.erased_at IS NOT NULL",
    "disposed": "r.disposed_at IS NOT NULL",
    "deleted": "r.deleted_at IS NOT NULL",
    "archived": "r.deleted_at IS NULL AND r.erased_at IS NULL",
}


def conditions(query: Query) -> tuple[list[str], list[object]]:
    """The SQL conditions of a query, except for numbers and words, and their values."""
    whole = "whole" if query.state == "damaged" else None  # by an index, instead of a look at each row
    # A plus keeps SQLite from sorting all that an index of lengths finds; `search.py` uses it where it finds few.
    rows: tuple[tuple[str, object], ...] = (
        ("r.started_at >= ?", query.since and format_instant(query.since)),
        ("r.started_at < ?", query.until and format_instant(query.until)),
        ("r.connection_id = ?", query.connection),
        ("r.call_session_id = ?", query.session),
        ("r.call_leg_id = ?", query.leg),
        ("r.recording_id = ?", query.id),
        ("+r.duration_ms >= ?", query.min_duration_seconds and query.min_duration_seconds * 1000),
        ("+r.duration_ms <= ?", query.max_duration_seconds and query.max_duration_seconds * 1000),
        ("state = ?", query.state),
        ("r.recording_id IN (SELECT recording_id FROM damaged WHERE state <> ?)", whole),
    )
    asked = [(clause, value) for clause, value in rows if value is not None]
    # Without a value, so that SQLite sees that an index of such rows alone has all of them (sqlite.org/partialindex.html).
    few = {
        "r.findings <> ''": query.findings or query.state == "kept",
        **{clause: query.state == state for state, clause in _FEW.items()},
    }
    clauses = [*(clause for clause, _ in asked), *(clause for clause, is_asked in few.items() if is_asked)]
    return clauses, [value for _, value in asked]
