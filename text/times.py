"""Read and write durations as people type them, and instants as Telnyx writes them; all times are UTC."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) *(ms|s|m|h|d|w)", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}|\d{8}", re.ASCII)
_INSTANT = re.compile(rf"(?:{_DAY.pattern})[T ]?\d", re.ASCII)
_DURATIONS = re.compile(rf"(?:{_DURATION.pattern} *)+", re.ASCII)


def parse_duration(text: str) -> timedelta:
    """Read a duration such as `2s`, `15m`, `24h`, `30d` or `1h30m`: each unit once, the longest first.

    Raises:
        ValueError: the text is not a duration, is ambiguous, or is longer than 100 years.
    """
    if "M" in text:
        raise ValueError(f"{text!r} is ambiguous; write minutes as 1m and a month as 30d")
    words = text.strip().lower()
    if not _DURATIONS.fullmatch(words):
        raise ValueError(f"{text!r} is not a duration such as 2s, 15m, 24h or 30d")
    parts = _DURATION.findall(words)
    lengths = [_UNITS[unit] for _, unit in parts]
    if lengths != sorted(set(lengths), reverse=True):
        raise ValueError(f"{text!r} repeats a unit, or has a shorter unit before a longer one")
    seconds = sum(float(amount) * _UNITS[unit] for amount, unit in parts)
    if seconds > 100 * 365 * 86400:
        raise ValueError(f"{text!r} is longer than 100 years")
    return timedelta(seconds=seconds)


def format_duration(seconds: float) -> str:
    """Write seconds as a short duration: `950ms`, `4.2s`, `1m35s`, `2h5m`, `3d`; from a day on, without seconds."""
    if seconds and seconds < 0.9995:
        return f"{round(seconds * 1000)}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = round(seconds) if seconds < 86_400 else round(seconds / 60) * 60
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, rest = divmod(rest, 60)
    return "".join(f"{n}{unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")) if n)


def parse_instant(text: str) -> datetime:
    """Read an ISO 8601 instant as Telnyx writes it; without a time zone, it is UTC.

    Raises:
        ValueError: the text is not an instant of the years 1900 to 2999. Zero values of other languages lie outside.
    """
    instant = datetime.fromisoformat(text.strip())
    if not 1900 <= instant.year <= 2999:
        raise ValueError(f"year {instant.year}")
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def first_instant(*texts: object) -> datetime | None:
    """The first of some values that `parse_instant` can read, or None."""
    for text in texts:
        if isinstance(text, str):
            try:
                return parse_instant(text)
            except ValueError:
                continue
    return None


def parse_day(text: str, today: date | None = None, *, at_end: bool = False) -> date:
    """Read a UTC day: `2026-11-25`, `today`, `yesterday`, `last week`, or `7d` for seven days ago.

    Args:
        text: as above; a week begins on Monday (ISO 8601).
        today: the current day; None: read the clock.
        at_end: return the last day of a week instead of the first.

    Raises:
        ValueError: the text is not a day; an instant is not one either.
    """
    today = today or utc_now().date()
    word = " ".join(text.lower().split())
    if word in ("today", "yesterday"):
        return today - timedelta(days=word == "yesterday")
    if word in ("this week", "last week"):
        monday = today - timedelta(days=today.weekday() + 7 * (word == "last week"))
        return monday + timedelta(days=6 * at_end)
    if re.fullmatch(r"\d+[dw]", word):
        try:
            return today - parse_duration(word)
        except OverflowError:
            raise ValueError(f"{text!r} is too far in the past") from None
    try:
        if not _DAY.fullmatch(word):
            raise ValueError
        return parse_instant(word).date()
    except ValueError:
        shown = text if len(text) <= 40 else text[:40] + "..."
        raise ValueError(f"{shown!r} is not a day such as 2026-11-25, yesterday or 7d") from None


def parse_moment(text: str, today: date | None = None, *, at_end: bool = False) -> datetime:
    """Read an instant such as `2026-11-25T07:30`, UTC unless it names its zone, or the first instant of a day.

    Args:
        text: an instant, or a day as `parse_day` reads it.
        today: the current day; None: read the clock.
        at_end: of a day, return the first instant after it.

    Raises:
        ValueError: the text is neither.
    """
    word = " ".join(text.upper().split())
    if _INSTANT.match(word):
        try:
            return parse_instant(word)
        except ValueError:
            raise ValueError(
                f"{text[:40]!r} is not an instant such as 2026-11-25T07:30 or 2026-11-25T07:30+01:00"
            ) from None
    try:
        after = end_of_day(parse_day(text, today, at_end=at_end))
    except ValueError as error:
        raise ValueError(f"{error}, nor an instant such as 2026-11-25T07:30") from None
    return after if at_end else after - timedelta(days=1)


def end_of_day(day: date) -> datetime:
    """The first instant after a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def utc_now() -> datetime:
    """The current instant, in UTC."""
    return datetime.now(UTC)


def format_instant(instant: datetime) -> str:
    """Write an instant as Telnyx does: ISO 8601, UTC, with microseconds and `Z`."""
    return instant.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"
