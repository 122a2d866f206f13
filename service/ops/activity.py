"""What the charts of the overview show: a question each, over the last hour, day or month, in the reader's zone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

import msgspec

from service.ops.charts import Tick, best_top, place_of
from text.times import format_duration
from workers.catalogue.query import BadQuery
from workers.queue.history import DAY, HOUR, MONTH, quantile

DEFAULT = "day"


class Counts(msgspec.Struct, frozen=True):
    """The counts of a span, as Redis has them.

    Attributes:
        began: of the first step, in seconds since the epoch; the steps follow each other without a gap.
        step_seconds: of each.
        rows: of each step, by name.
    """

    began: int
    step_seconds: int
    rows: list[dict[str, int]]


@dataclass(frozen=True)
class Question:
    """What one chart answers.

    Attributes:
        name: of its element on the page.
        title: above the chart.
        value: of one step; None: nothing was measured.
        write: a value as a text.
        in_all: the value of the whole span, from the values of its steps.
    """

    name: str
    title: str
    value: Callable[[Mapping[str, int]], float | None]
    write: Callable[[float], str]
    in_all: Callable[[Sequence[float]], float]


def webhooks_of(counts: Mapping[str, int]) -> int:
    """How many webhooks were answered."""
    return sum(n for name, n in counts.items() if name.startswith("webhook:"))


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _seconds(value: float) -> str:
    return format_duration(value)


# THE table of charts. To add one: a row.
QUESTIONS = (
    Question("webhooks", "Webhooks", webhooks_of, _number, sum),
    Question("archived", "Recordings archived", lambda counts: counts.get("archived", 0), _number, sum),
    Question("deleted", "Originals deleted", lambda counts: counts.get("deleted", 0), _number, sum),
    Question("answer", "Webhook latency, p99", lambda counts: quantile(counts, "answer", 0.99), _seconds, max),
    Question(
        "archiving",
        "Webhook to archive, p95",
        lambda counts: quantile(counts, "job:archive_recording", 0.95),
        _seconds,
        max,
    ),
)


@dataclass(frozen=True)
class Span:
    """What a person may choose.

    Attributes:
        of: the steps in Redis.
        words: the span in words.
        bar: a bar of its charts in words.
        bars: the most that are shown.
        starts: the beginning of the bar that an instant belongs to.
        label: how the beginning of a bar is written.
        ticks: which beginnings stand below a chart, and how.
    """

    of: tuple[int, int]
    words: str
    bar: str
    bars: int
    starts: Callable[[datetime], datetime]
    label: str
    ticks: Callable[[datetime], str]


def _minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def _half_hour(at: datetime) -> datetime:
    return at.replace(minute=at.minute // 30 * 30, second=0, microsecond=0)


def _day(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


SPANS: dict[str, Span] = {
    "hour": Span(
        HOUR, "the last hour", "a minute", 60, _minute, "%H:%M", lambda at: f"{at:%H:%M}" * (not at.minute % 15)
    ),
    "day": Span(
        DAY,
        "the last 24 hours",
        "30 minutes",
        48,
        _half_hour,
        "%a %H:%M",
        lambda at: f"{at:%H:%M}" * (not at.hour % 6 and not at.minute),
    ),
    "month": Span(
        MONTH, "the last 30 days", "a day", 30, _day, "%a %-d %b", lambda at: f"{at:%-d %b}" * (not at.weekday())
    ),
}


@dataclass(frozen=True)
class Chart:
    """One chart.

    Attributes:
        values: of each bar; None: nothing was measured.
        written: the same as texts.
        in_all: the value of the whole span as a text; `most`: the largest of a bar, and when.
        top: the value at the top of the scale; 0: there is no value.
        scale: the labels of the scale, the highest first.
    """

    name: str
    title: str
    values: list[float | None]
    written: list[str]
    in_all: str
    most: str
    top: float
    scale: list[str]


@dataclass(frozen=True)
class Activity:
    """The charts of one span.

    Attributes:
        labels: of the bars, the oldest first.
        ticks: what stands below each chart.
        since: the first bar that has counts, if it is not the first of all; empty: nothing is missing at the beginning.
        is_empty: whether no bar has counts.
    """

    span: Span
    labels: list[str]
    ticks: list[Tick]
    charts: list[Chart]
    since: str
    is_empty: bool


def read_span(text: str | None) -> str:
    """The name of a span that a person has chosen.

    Raises:
        BadQuery: there is no such span.
    """
    if text is not None and text not in SPANS:
        raise BadQuery(f"{text[:40]!r} is not a span; expected {', '.join(SPANS)}", "span")
    return text or DEFAULT


def activity(counts: Counts, name: str, zone: tzinfo) -> Activity:
    """The charts of a span.

    Args:
        counts: of the span.
        name: of the span.
        zone: of the reader: days begin there at midnight, and times are written in it.
    """
    span = SPANS[name]
    bars: dict[datetime, Counter[str]] = {}
    for index, row in enumerate(counts.rows):
        at = datetime.fromtimestamp(counts.began + index * counts.step_seconds, UTC)
        bars.setdefault(span.starts(at.astimezone(zone)), Counter()).update(row)
    # An hour that repeats when the clocks go back is one bar, and the first bar may have lost its beginning.
    shown = list(bars.items())[-span.bars :]
    starts = [start for start, _ in shown]
    labels = [start.strftime(span.label) for start in starts]
    first = next((i for i, (_, row) in enumerate(shown) if row), None)
    return Activity(
        span,
        labels,
        [
            Tick(place, text)
            for i, start in enumerate(starts)
            if (text := span.ticks(start)) and (place := place_of(i, len(starts)))
        ],
        [_chart(question, [row for _, row in shown], labels) for question in QUESTIONS],
        labels[first] if first else "",
        first is None,
    )


def _chart(question: Question, rows: Sequence[Mapping[str, int]], labels: Sequence[str]) -> Chart:
    values = [question.value(row) for row in rows]
    known = [value for value in values if value is not None]
    largest = max(known, default=0.0)
    unit = 60 if question.write is _seconds and largest > 60 else 1  # half of the scale is then whole minutes
    top = best_top(largest / unit) * unit
    scale = [question.write(top), question.write(top / 2) if top != 1 else "", "0"] if top else ["", "", "0"]
    return Chart(
        question.name,
        question.title,
        values,
        ["–" if value is None else question.write(value) for value in values],
        question.write(question.in_all(known)) if known else "none",
        f"{question.write(largest)}, {labels[values.index(largest)]}" if largest else "",
        top,
        scale,
    )
