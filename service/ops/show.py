"""How values are written on the pages."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any
from urllib.parse import quote

from markupsafe import Markup, escape

from archive import layout
from text.counts import many
from text.sizes import format_size
from text.times import format_duration, parse_instant
from workers.catalogue.words import pieces
from workers.conditions import Condition


def when(text: str | None) -> Markup:
    """An instant, UTC, to the second; what cannot be read as one, as it is."""
    if not text:
        return Markup("")
    try:
        instant: datetime = parse_instant(text)
    except ValueError:
        return escape(text)
    shown = f"{instant:%Y-%m-%d %H:%M:%S}"
    return Markup('<time datetime="{}">{}</time>').format(text, shown)


def length(milliseconds: float | None) -> str:
    """A duration in milliseconds the short way; empty where it is not known."""
    return "" if milliseconds is None else format_duration(milliseconds / 1000)


def seconds(value: float | None) -> str:
    """A duration in seconds the short way."""
    return "" if value is None else format_duration(value)


def marked(words: str) -> Markup:
    """Words around those that were looked for, which are marked."""
    return Markup("").join(Markup("<mark>{}</mark>").format(p) if is_hit else escape(p) for p, is_hit in pieces(words))


def sentence(text: str) -> str:
    """A sentence with its beginning and its end."""
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" if text else ""


def commands(text: str) -> Markup:
    """What stands between backticks, as commands are written."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


_PAGES = {
    "dead-letters": "/ops/dead-letters",
    "paused": "/ops/deletions",
    "unsealed": "/ops/evidence",
}


def link(condition: Condition) -> str:
    """The page that shows what a condition is about; empty if no page does."""
    place = layout.recording_of(condition.about)
    if condition.kind == "damaged" and place is not None:
        return f"/ops/recordings/{quote(place[1], safe='')}"
    return "/ops/evidence" if condition.about.startswith("seals/") else _PAGES.get(condition.kind, "")


def by_kind(conditions: Sequence[Condition]) -> list[list[Condition]]:
    """Conditions of one kind together, in the order that they have."""
    return [list(same) for _, same in itertools.groupby(conditions, key=lambda one: one.kind)]


def count(number: int) -> str:
    """A number with its thousands apart."""
    return f"{number:,}"


def day_or_month(day: str) -> str:
    """The number of a day; of the first of a month, the month."""
    told = date.fromisoformat(day)
    return f"{told:%b}" if told.day == 1 else f"{told.day}"


FILTERS: dict[str, Callable[..., Any]] = {
    "size": lambda count: format_size(count or 0),
    "when": when,
    "length": length,
    "seconds": seconds,
    "marked": marked,
    "count": count,
    "many": many,
    "length_of": len,
    "sentence": sentence,
    "by_kind": by_kind,
    "commands": commands,
    "link": link,
    "day_or_month": day_or_month,
}
