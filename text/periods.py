"""Periods of the calendar, such as `5 years`: read, written, and added to an instant in a time zone."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal, NamedTuple

from text.counts import many

Unit = Literal["day", "month", "year"]

_PERIOD = re.compile(r"(\d{1,6}) *(d|days?|w|weeks?|mo|months?|y|years?)", re.ASCII)
_UNITS: dict[str, tuple[Unit, int]] = {"d": ("day", 1), "w": ("day", 7), "m": ("month", 1), "y": ("year", 1)}
_OF_THIS_MACHINE = ("localtime", "posixrules", "Factory")  # another zone on another machine
_MOST: dict[Unit, int] = {"day": 36_525, "month": 1_200, "year": 100}


class Period(NamedTuple):
    """A number of days, months or years; at most a hundred years.

    Attributes:
        number: how many, at least 1.
        unit: of what.
    """

    number: int
    unit: Unit

    def __str__(self) -> str:
        return many(self.number, self.unit)

    def after(self, start: datetime, zone: tzinfo = UTC) -> datetime:
        """The end of the period, never earlier than it says.

        It is the same time of the day in the zone. Where a month has no such day, the period ends on the first of the next
        month: a year from 29 February ends on 1 March. Where the clocks skip or repeat that time, the later instant counts.

        Args:
            start: an instant with a zone, until the year 2999.
            zone: where days, months and years are counted.

        Returns:
            The end, UTC.
        """
        began = start.astimezone(zone)
        day = self._day_after(began.date())
        at = datetime.combine(day, began.time())
        return max(at.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))

    def _day_after(self, day: date) -> date:
        if self.unit == "day":
            return day + timedelta(days=self.number)
        months = self.number * (12 if self.unit == "year" else 1)
        year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
        try:
            return date(year, month + 1, day.day)
        except ValueError:
            return date(year, month + 2, 1)  # such a month is never December


@lru_cache(256)
def parse_period(text: str) -> Period:
    """Read a period such as `90 days`, `6 weeks`, `18 months`, `5 years`, `90d` or `5y`.

    Raises:
        ValueError: it is something else, is zero, or is longer than a hundred years.
    """
    found = _PERIOD.fullmatch(" ".join(text.lower().split()))
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a period such as 90 days, 18 months or 5 years")
    unit, times = _UNITS[found[2][0]]
    count = int(found[1]) * times
    if not 1 <= count <= _MOST[unit]:
        raise ValueError(f"{text[:40]!r} is not between 1 day and 100 years")
    return Period(count, unit)


@lru_cache(64)
def zone_of(name: str) -> tzinfo:
    """The time zone of a name such as `UTC` or `Europe/Berlin`.

    Raises:
        ValueError: this machine knows no such zone.
    """
    if name == "UTC":
        return UTC
    try:
        if name in _OF_THIS_MACHINE:
            raise KeyError(name)
        from zoneinfo import ZoneInfo  # most commands read no rules

        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name[:60]!r} is not a time zone such as UTC or Europe/Berlin") from None
