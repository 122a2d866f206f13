"""The template filters: how values appear on the pages."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, tzinfo
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from archive import layout
from config.values import is_local_host
from service.ops.letters import what_of
from service.ops.life import Said
from text.counts import many
from text.printable import printable
from text.sizes import format_size
from text.times import format_duration, parse_instant, utc_now
from workers.catalogue.words import pieces
from workers.conditions import Condition

_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def zone_of(name: str) -> tzinfo:
    """The time zone that a reader's browser names (IANA); UTC if this machine does not know it."""
    try:
        return UTC if name in ("", "UTC") else ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return UTC


def _written(context: Context, text: str | None, form: str) -> Markup:
    if not text:
        return Markup("")
    try:
        instant = parse_instant(text)
    except ValueError:
        return escape(text)
    shown = instant.astimezone(context["zone"]).strftime(form)
    return Markup('<time datetime="{}" title="{:%Y-%m-%d %H:%M:%S} UTC">{}</time>').format(text, instant, shown)


@pass_context
def when(context: Context, text: str | None) -> Markup:
    """An instant in the reader's zone, to the second; any other text unchanged."""
    return _written(context, text, "%Y-%m-%d %H:%M:%S")


@pass_context
def when_zone(context: Context, text: str | None) -> Markup:
    """As `when`, with the zone behind it."""
    return _written(context, text, "%Y-%m-%d %H:%M:%S %Z")


@pass_context
def time_of(context: Context, text: str | None) -> Markup:
    """The time of an instant in the reader's zone, without the day."""
    return _written(context, text, "%H:%M:%S")


def relative(text: str | None) -> Markup:
    """An instant as the time until it or since it, such as `in 3 hours`; any other text unchanged."""
    try:
        instant = parse_instant(text or "")
    except ValueError:
        return escape(text or "")
    seconds = (instant - utc_now()).total_seconds()
    size, unit = next(((size, unit) for size, unit in _UNITS if abs(seconds) >= size), _UNITS[-1])
    words = many(number := round(abs(seconds) / size), unit)
    shown = "now" if not number else f"in {words}" if seconds > 0 else f"{words} ago"
    return Markup('<time class="relative" datetime="{}" title="{:%Y-%m-%d %H:%M:%S} UTC">{}</time>').format(
        text, instant, shown
    )


@pass_context
def day_of(context: Context, text: str | None) -> str:
    """The day of an instant in the reader's zone, such as `Thu 26 Nov 2026`; empty if unknown."""
    try:
        return f"{parse_instant(text or '').astimezone(context['zone']):%a %-d %b %Y}"
    except ValueError:
        return ""


@pass_context
def connection(context: Context, connection_id: str) -> Markup:
    """A connection by its name, with its id on hover; by its id if it has no name."""
    name = context["names"].get(connection_id)
    if name is None:
        return Markup('<span class="id">{}</span>').format(connection_id)
    return Markup('<span class="name" title="connection {}">{}</span>').format(connection_id, name)


@pass_context
def has_name(context: Context, connection_id: str | None) -> bool:
    """Whether a connection is known by a name."""
    return connection_id in context["names"]


# What the states of a search mean for the archived copy and for the original at Telnyx.
_STATES = {
    "kept": "archived; original kept",
    "held": "archived; on hold",
    "deleted": "archived; original deleted at Telnyx",
    "disposed": "audio disposed of under a retention rule",
}


def date_picker(value: str | None) -> Markup:
    """The attributes of a field for a day: a picker, unless it holds another form of a day, such as `7d`."""
    is_day = not value or re.fullmatch(r"\d{4}-\d{2}-\d{2}", value)
    return Markup('type="date"') if is_day else Markup('type="text"')


def length(milliseconds: float | None) -> str:
    """Milliseconds as a short duration; empty if unknown."""
    return "" if milliseconds is None else format_duration(milliseconds / 1000)


def seconds(value: float | None) -> str:
    """Seconds as a short duration; empty if unknown."""
    return "" if value is None else format_duration(value)


def marked(words: str) -> Markup:
    """An excerpt with the matching words marked."""
    return Markup("").join(Markup("<mark>{}</mark>").format(p) if is_hit else escape(p) for p, is_hit in pieces(words))


def is_here(url: str) -> bool:
    """Whether a URL leads to this machine or a private network, where Telnyx cannot send anything."""
    return is_local_host(urlsplit(url).hostname or "")


def with_marks(said: Said) -> Markup:
    """A transcription with the words that were searched for marked; each links to about when it is said."""
    shown, at = Markup(""), 0
    for mark in said.marks:
        word: Markup | str = said.text[mark.start : mark.end]
        if mark.about_seconds is not None:
            about = f"about {format_duration(mark.about_seconds)} from the beginning"
            word = Markup('<a href="#t={}" title="{}">{}</a>').format(mark.about_seconds, about, word)
        shown += said.text[at : mark.start] + Markup("<mark>{}</mark>").format(word)
        at = mark.end
    return shown + said.text[at:]


def sentence(text: str) -> str:
    """A text as a sentence, with a capital and a full stop; the name of a field at its beginning stays as it is."""
    is_field = text.partition(" ")[0].endswith(":")
    return f"{text[:1] if is_field else text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" if text else ""


def commands(text: str) -> Markup:
    """A text with its parts in backticks as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


_PAGES = {
    "dead-letters": "/ops/dead-letters",
    "jobs-fail": "/ops/dead-letters",
    "paused": "/ops/deletions",
    "settings-differ": "/ops/deletions",
}


def link(condition: Condition) -> str:
    """The page that shows the subject of a condition; empty if there is no such page."""
    place = layout.recording_of(condition.about)
    if condition.kind == "damaged" and place is not None:
        return f"/ops/recordings/{quote(place[1], safe='')}"
    if condition.kind == "unsealed":
        return f"/ops/evidence/{quote(condition.about, safe='')}"
    return "/ops/evidence" if condition.about.startswith("seals/") else _PAGES.get(condition.kind, "")


def by_kind(conditions: Sequence[Condition]) -> list[list[Condition]]:
    """Adjacent conditions of one kind, grouped."""
    return [list(same) for _, same in itertools.groupby(conditions, key=lambda one: one.kind)]


def trend(now: int, before: int | None) -> str:
    """A count, and how it differs from the span before it, in words."""
    if before is None:
        return "the 24 hours before: unknown"
    change = f"{'▲' if now > before else '▼'} {abs(now - before) / before:.0%}, " if before and now != before else ""
    return f"{change}{before:,} in the 24 hours before"


def count(number: int) -> str:
    """A number with thousands separators."""
    return f"{number:,}"


def address(path: str, params: Mapping[str, str], **changes: str | None) -> str:
    """The address of a page with the filters of another, some of them changed; None and empty ones are left out."""
    filters = {name: value for name, value in {**params, **changes}.items() if value and name != "after"}
    return f"{path}?{urlencode(filters)}" if filters else path


def weekday(day: str) -> str:
    """A day of the archive with its weekday, such as `Thu 26 Nov 2026`."""
    return f"{date.fromisoformat(day):%a %-d %b %Y}"


def day_or_month(day: str) -> str:
    """The number of a day, or the month on its first day."""
    parsed = date.fromisoformat(day)
    return f"{parsed:%b}" if parsed.day == 1 else f"{parsed.day}"


# What the words of the access log mean to a person; any other is shown as it is.
_ACCESSES = {
    "look": "looked at",
    "read": "read",
    "play": "played",
    "download": "downloaded",
    "levels": "got the levels of",
    "search": "searched for",
    "find": "searched for",
    "export": "exported",
    "inventory": "took the inventory of",
    "get": "copied the audio of",
    "transcript": "copied the transcript of",
    "hold": "held",
    "release": "released",
    "approve": "approved the findings of",
    "erase": "erased",
    "dispose": "disposed of",
    "approve-disposal": "approved the disposal",
    "apply-rules": "applied",
    "certificate": "certified the destruction of",
    "open": "opened",
    "close": "closed",
    "address": "made an address of the audio of",
    "restore": "asked for the restore of",
    "link": "made an address of",
    "cancel": "cancelled",
    "remove": "removed",
    "share": "shared",
    "evidence": "opened the shared",
    "acknowledge": "noted",
    "dismiss": "dismissed",
    "retire": "retired",
    "retry-upload": "retried the upload of",
    "refresh": "refreshed",
    "pause": "paused deletion",
    "resume": "resumed deletion",
    "sign-in": "signed in",
    "sign-in-refused": "was refused a sign-in",
    "retry": "retried",
    "discard": "discarded",
    "list": "looked at the list of",
    "telnyx": "called Telnyx:",
    "accept": "accepted without its audio",
    "repair": "restored the audio of",
    "backfill": "archived what Telnyx has of",
    "seal": "sealed",
    "sign": "signed",
    "apply": "changed at Telnyx:",
    "create-token": "made the API token",
    "revoke-token": "revoked the API token",
    "not-allowed": "was not allowed to open",
}


def access_in_words(what: str) -> str:
    """A word of the access log as a person reads it, the same for one, for several and for those of a cause."""
    return _ACCESSES.get(what.removesuffix("-group").removesuffix("-selected"), what)


ZONE_COOKIE = "callvault_zone"  # set by ops.js

FILTERS: dict[str, Callable[..., Any]] = {
    "when_zone": when_zone,
    "time_of": time_of,
    "day_of": day_of,
    "connection": connection,
    "has_name": has_name,
    "date_picker": date_picker,
    "state_in_words": lambda state: _STATES.get(state, state),
    "access_in_words": access_in_words,
    "size": lambda count: format_size(count or 0),
    "when": when,
    "relative": relative,
    "length": length,
    "seconds": seconds,
    "marked": marked,
    "with_marks": with_marks,
    "count": count,
    "trend": trend,
    "many": many,
    "what_of": what_of,
    "length_of": len,
    "sentence": sentence,
    "printable": printable,
    "is_here": is_here,
    "by_kind": by_kind,
    "commands": commands,
    "link": link,
    "day_or_month": day_or_month,
    "weekday": weekday,
}
