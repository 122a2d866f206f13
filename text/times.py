"""Read durations, days and times as people type them; read and write instants as Telnyx writes them, in UTC."""

from __future__ import annotations

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) *(ms|s|m|h|d|w)", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}|\d{8}", re.ASCII)
_INSTANT = re.compile(rf"(?:{_DAY.pattern})[T ]?\d", re.ASCII)
_DURATIONS = re.compile(rf"(?:{_DURATION.pattern} *)+", re.ASCII)
_LONG_UNIT = re.compile(
    r"(\d) *(?:(s)ec(?:ond)?s?|(m)in(?:ute)?s?|(h)(?:ou)?rs?|(d)ays?|(w)eeks?)\b", re.ASCII | re.IGNORECASE
)
_AN = re.compile(r"^an? ", re.IGNORECASE)
_AGO = re.compile(r" ago$", re.IGNORECASE)
_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_MONTHS_AGO = re.compile(r"(\d{1,4}) *(month|year)s?", re.ASCII)
_ZONE = re.compile(r" ?(?:UTC|GMT|Z)$| (?=[+-]\d{2}:?\d{2}$)", re.ASCII)


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


def parse_instant(text: str, zone: tzinfo | None = UTC) -> datetime:
    """Read an ISO 8601 instant as Telnyx writes it.

    Args:
        text: the instant.
        zone: of an instant that names none; None: the zone of this machine.

    Raises:
        ValueError: the text is not an instant of the years 1900 to 2999. Zero values of other languages lie outside.
    """
    instant = datetime.fromisoformat(text.strip())
    if not 1900 <= instant.year <= 2999:
        raise ValueError(f"year {instant.year}")
    if instant.tzinfo is None and zone is not None:
        instant = instant.replace(tzinfo=zone)
    return instant if instant.tzinfo is UTC else instant.astimezone(UTC)


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


@dataclass(frozen=True)
class Span:
    """A time as a person typed it: whole days, or one instant.

    A time of the day that the clocks show twice, or skip, may mean two instants: `begin` is the earlier one, `end` the later.
    So nothing that a person may mean lies outside.

    Attributes:
        begin: the first instant, UTC.
        end: the first instant after it; of an instant, itself.
        days: the first and the last day, in the zone that was asked for; None: it is an instant.
    """

    begin: datetime
    end: datetime
    days: tuple[date, date] | None = None


def parse_span(text: str, now: datetime | None = None, zone: tzinfo | None = UTC) -> Span:
    """Read days or an instant as people type them.

    Days: `2026-11-25`, `2026-11` (a month), `today`, `last week`, `last month`, `7d`, `3 days ago`. Instants: `2h`,
    `90 minutes ago`, `now`, `2026-11-25T07:30`, with a zone as `Z`, `UTC` or `+01:00`. A week begins on Monday (ISO 8601).

    Args:
        text: as above.
        now: the current instant; None: read the clock.
        zone: of days, and of instants that name none; None: the zone of this machine.

    Raises:
        ValueError: the text is neither.
    """
    now = now or utc_now()
    typed = " ".join(text.split())
    word = typed.lower()
    if _INSTANT.match(typed.upper()):
        return Span(*_written_instants(typed, zone))
    if word == "now":
        return Span(now, now)
    today = now.astimezone(zone).date()
    if (days := _days(word, today)) is not None:
        return _whole_days(*days, zone)
    ago = _LONG_UNIT.sub(lambda found: found[1] + found[found.lastindex or 1], _AN.sub("1 ", _AGO.sub("", typed)))
    if re.fullmatch(r"\d+[dw]", ago.lower()):
        day = parse_day(ago, today)
        return _whole_days(day, day, zone)
    if _DURATIONS.fullmatch(ago.lower()):
        instant = now - parse_duration(ago)
        return Span(instant, instant)
    shown = text if len(text) <= 40 else text[:40] + "..."
    raise ValueError(
        f"{shown!r} is not a day such as 2026-11-25, yesterday, 7d or 2026-11 (a month), nor an instant such as "
        "2026-11-25T07:30 or 2h (2 hours ago)"
    )


def _written_instants(typed: str, zone: tzinfo | None) -> tuple[datetime, datetime]:
    """The earliest and the latest instant that a text may mean."""
    try:
        text = _ZONE.sub(lambda found: "Z" if found[0].strip() else "", typed.upper())
        instant = parse_instant(text, zone)
        local = datetime.fromisoformat(text)
        return _both(local, zone) if local.tzinfo is None else (instant, instant)
    except ValueError:
        raise ValueError(
            f"{typed[:40]!r} is not an instant such as 2026-11-25T07:30 or 2026-11-25T07:30+01:00"
        ) from None


def _both(local: datetime, zone: tzinfo | None) -> tuple[datetime, datetime]:
    """The earlier and the later instant of a time of the day, which differ where the clocks show it twice or skip it."""
    first, second = sorted(local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    return first, second


def _days(word: str, today: date) -> tuple[date, date] | None:
    """The first and the last day of a day, week or month; None: the text is none of them."""
    month = today.replace(day=1)
    if word in ("this month", "last month"):
        return _month(month if word == "this month" else _months_before(month, 1))
    if found := _MONTH.fullmatch(word):
        try:
            return _month(parse_instant(f"{found[1]}-{found[2]}-01").date())
        except ValueError:
            raise ValueError(f"{word!r} is not a month such as 2026-11") from None
    if found := _MONTHS_AGO.fullmatch(_AN.sub("1 ", _AGO.sub("", word))):
        day = _months_before(today, int(found[1]) * (12 if found[2] == "year" else 1))
        return day, day
    try:
        return parse_day(word, today), parse_day(word, today, at_end=True)
    except ValueError:
        return None


def _month(first: date) -> tuple[date, date]:
    return first, first.replace(day=calendar.monthrange(first.year, first.month)[1])


def _months_before(day: date, months: int) -> date:
    """The same day some months earlier, or the last day of that month if it has no such day.

    Raises:
        ValueError: that is before 1900.
    """
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    if year < 1900:
        raise ValueError(f"{months} months ago is too far in the past")
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _whole_days(first: date, last: date, zone: tzinfo | None) -> Span:
    def midnights(day: date) -> tuple[datetime, datetime]:
        return _both(datetime(day.year, day.month, day.day, tzinfo=zone), zone)

    return Span(midnights(first)[0], midnights(last + timedelta(days=1))[1], (first, last))


def parse_moment(text: str, today: date | None = None, *, at_end: bool = False, zone: tzinfo | None = UTC) -> datetime:
    """Read an instant such as `2026-11-25T07:30`, or the first instant of a day.

    Args:
        text: an instant or days, as `parse_span` reads them.
        today: the current day; None: read the clock.
        at_end: of days, return the first instant after them.
        zone: as for `parse_span`.

    Raises:
        ValueError: the text is neither.
    """
    now = None if today is None else datetime(today.year, today.month, today.day, 12, tzinfo=zone).astimezone(UTC)
    span = parse_span(text, now, zone)
    return span.end if at_end else span.begin


def is_written_instant(text: str) -> bool:
    """Whether a text is an instant such as `2026-11-25T07:30`."""
    typed = " ".join(text.split())
    try:
        return bool(_INSTANT.match(typed.upper()) and _written_instants(typed, UTC))
    except ValueError:
        return False


def end_of_day(day: date) -> datetime:
    """The first instant after a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def utc_now() -> datetime:
    """The current instant, in UTC."""
    return datetime.now(UTC)


def format_instant(instant: datetime) -> str:
    """Write an instant as Telnyx does: ISO 8601, UTC, with microseconds and `Z`."""
    in_utc = instant if instant.tzinfo is UTC else instant.astimezone(UTC)
    return in_utc.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def format_moment(at: str | datetime, zone: tzinfo | None = UTC) -> str:
    """Write one instant in a sentence for a person, to the second and with its zone: `2026-11-25 10:30:00 UTC`.

    Args:
        at: the instant; any other text, such as a damaged object has, stays as it is.
        zone: to write it in; None: the zone of this machine. UTC is for texts whose readers may be anywhere.
    """
    try:
        instant = parse_instant(at) if isinstance(at, str) else at
    except ValueError:
        return str(at)
    zone_name, (cell,) = format_column([instant], zone)
    return f"{cell} {zone_name}"


def format_column(instants: Sequence[datetime | None], zone: tzinfo | None) -> tuple[str, list[str]]:
    """Write the instants of a table to the second, and name their zone once.

    Args:
        instants: of the rows; None: unknown.
        zone: to write them in; None: the zone of this machine.

    Returns:
        The zone for the heading, and the cells. If the clocks changed between the rows, each cell names its offset.
    """
    local = [None if one is None else one.astimezone(zone) for one in instants]
    offsets = {_offset(one) for one in local if one is not None}
    is_same = len(offsets) <= 1
    cells = ["" if one is None else f"{one:%Y-%m-%d %H:%M:%S}{'' if is_same else _offset(one)}" for one in local]
    if not is_same:
        return "local time", cells
    return "UTC" + "".join(offsets - {"+00:00"}), cells


def _offset(instant: datetime) -> str:
    return instant.isoformat(timespec="seconds")[19:]
