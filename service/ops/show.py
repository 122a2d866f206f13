"""The template filters: how values appear on the pages."""

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
    """An instant, UTC, to the second; any other text unchanged."""
    if not text:
        return Markup("")
    try:
        instant: datetime = parse_instant(text)
    except ValueError:
        return escape(text)
    shown = f"{instant:%Y-%m-%d %H:%M:%S}"
    return Markup('<time datetime="{}">{}</time>').format(text, shown)


def length(milliseconds: float | None) -> str:
    """Milliseconds as a short duration; empty if unknown."""
    return "" if milliseconds is None else format_duration(milliseconds / 1000)


def seconds(value: float | None) -> str:
    """Seconds as a short duration; empty if unknown."""
    return "" if value is None else format_duration(value)


def marked(words: str) -> Markup:
    """An excerpt with the matching words marked."""
    return Markup("").join(Markup("<mark>{}</mark>").format(p) if is_hit else escape(p) for p, is_hit in pieces(words))


def sentence(text: str) -> str:
    """A text as a sentence, with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" if text else ""


def commands(text: str) -> Markup:
    """A text with its parts in backticks as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


_PAGES = {
    "dead-letters": "/ops/dead-letters",
    "paused": "/ops/deletions",
    "unsealed": "/ops/evidence",
}


def link(condition: Condition) -> str:
    """The page that shows the subject of a condition; empty if there is no such page."""
    place = layout.recording_of(condition.about)
    if condition.kind == "damaged" and place is not None:
        return f"/ops/recordings/{quote(place[1], safe='')}"
    return "/ops/evidence" if condition.about.startswith("seals/") else _PAGES.get(condition.kind, "")


def by_kind(conditions: Sequence[Condition]) -> list[list[Condition]]:
    """Adjacent conditions of one kind, grouped."""
    return [list(same) for _, same in itertools.groupby(conditions, key=lambda one: one.kind)]


def count(number: int) -> str:
    """A number with thousands separators."""
    return f"{number:,}"


def day_or_month(day: str) -> str:
    """The number of a day, or the month on its first day."""
    parsed = date.fromisoformat(day)
    return f"{parsed:%b}" if parsed.day == 1 else f"{parsed.day}"


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
