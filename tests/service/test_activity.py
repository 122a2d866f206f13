"""The charts of the overview: one span at a time, in the reader's zone, with every value as text."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service.ops.activity import Counts, activity
from tests.workers.steps import pages
from workers.keys import HISTORY
from workers.queue.history import DAY, HOUR, MONTH


def _count(redis: Any, span: tuple[int, int], ago_seconds: float, **counts: int) -> None:
    named = {name.replace("_", ":"): n for name, n in counts.items()}
    redis.hset(f"{HISTORY}{span[0]}:{int((time.time() - ago_seconds) // span[0])}", mapping=named)


def test_each_span_has_its_own_counts_and_the_others_are_a_link_away(
    tmp_path: Path, redis_url: str, redis: Any
) -> None:
    _count(redis, HOUR, 600, archived=3, webhook_accepted=4)
    _count(redis, DAY, 7200, archived=50)
    _count(redis, MONTH, 20 * 86400, archived=1234, deleted=7)
    with pages({}, tmp_path, redis_url) as (client, _):
        for span, archived, deleted in (("hour", "3", "0"), ("day", "50", "0"), ("month", "1,234", "7")):
            page = client.get("/ops", params={"span": span}).raise_for_status().text
            assert f"Recordings archived <b>{archived}</b>" in page, span
            assert f"Originals deleted <b>{deleted}</b>" in page, span
            assert [name for name in ("hour", "day", "month") if f'href="/ops?span={name}#charts"' in page] == [
                "hour",
                "day",
                "month",
            ]
            assert f'span={span}#charts" aria-current="true"' in page
            assert f'sse-connect="/ops/live?span={span}"' in page, "an update shows the same span"
            assert page.count('role="img"') == 5, "a chart for each question"
            assert page.count('type="range"') == 5, "values by keyboard"
            assert "At most " in page
        assert "Recordings archived <b>50</b>" in client.get("/ops").text, "the last day, unless another is chosen"
        assert client.get("/ops?span=week").status_code == 400
        assert "expected hour, day, month" in client.get("/ops?span=week").text
        assert client.get("/ops/live?span=week").status_code == 400
        refused = client.get("/api/overview?span=hour")
        assert refused.status_code == 400, "the API has all spans"
        month = client.get("/api/overview").json()["month"]
        assert (sum(month["archived"]), sum(month["deleted"]), len(month["webhooks"])) == (1234, 7, 31 * 24)
        began = datetime.fromisoformat(month["began_at"])
        at = began + timedelta(seconds=month["step_seconds"] * month["archived"].index(1234))
        assert abs(datetime.now(UTC) - timedelta(days=20) - at) < timedelta(hours=2)


def test_the_table_has_the_values_that_the_bars_show(tmp_path: Path, redis_url: str, redis: Any) -> None:
    _count(redis, DAY, 3 * 3600, archived=17, webhook_accepted=20, deleted=2)
    with pages({}, tmp_path, redis_url) as (client, _):
        page = client.get("/ops").text
    table = page.partition('<details id="values">')[2].partition("</table>")[0]
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th>((?:<td>[^<]*</td>)+)</tr>', table)
    assert len(rows) == 48
    (row,) = [re.findall("<td>([^<]*)</td>", cells) for _, cells in rows if "<td>17</td>" in cells]
    assert row == ["20", "17", "2", "–", "–"]
    assert "Redis has no counts before" in page, "what is not known is not shown as nothing"


def test_times_are_in_the_readers_zone(tmp_path: Path, redis_url: str, redis: Any) -> None:
    _count(redis, HOUR, 300, archived=1)
    with pages({}, tmp_path, redis_url) as (client, _):
        for zone in ("Asia/Tokyo", "America/New_York"):
            client.cookies.set("callvault_zone", zone)
            page = client.get("/ops?span=hour").text
            there = {f"{datetime.now(ZoneInfo(zone)) - timedelta(minutes=n):%H:%M}" for n in (4, 5, 6)}
            assert any(f"At most 1, {at}" in page for at in there), zone
            assert f"Times are in {zone}<" in page


def _counts(first: datetime, step: timedelta, steps: int) -> Counts:
    return Counts(int(first.timestamp()), int(step.total_seconds()), [{"archived": 1} for _ in range(steps)])


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"])
def test_a_bar_of_a_month_is_a_day_of_the_reader(zone: str) -> None:
    """Also of 23 and 25 hours: in November 2026 the clocks of New York go back."""
    first = datetime(2026, 10, 27, 10, tzinfo=UTC)
    shown = activity(_counts(first, timedelta(hours=1), 31 * 24), "month", ZoneInfo(zone))
    assert len(shown.labels) == 30 == len(set(shown.labels))
    archived = next(chart for chart in shown.charts if chart.name == "archived").values
    assert set(archived[:-1]) <= {23, 24, 25}
    assert (25 in archived) == (zone == "America/New_York")
    assert [tick.text for tick in shown.ticks] and all(0 < tick.place < 100 for tick in shown.ticks)


def test_a_scale_is_round_and_a_span_without_counts_says_so() -> None:
    first = datetime(2026, 11, 26, 9, tzinfo=UTC)
    counts = Counts(
        int(first.timestamp()), 60, [{"archived": 7, "answer<0.25": 1, "job:archive_recording<1800": 1}] * 60
    )
    charts = {chart.name: chart for chart in activity(counts, "hour", UTC).charts}
    assert charts["archived"].scale == ["8", "4", "0"] and charts["archived"].in_all == "420"
    assert charts["answer"].scale == ["400ms", "200ms", "0"]
    assert charts["archiving"].scale == ["40m", "20m", "0"]
    assert (charts["deleted"].scale, charts["deleted"].most) == (["", "", "0"], "")
    nothing = activity(Counts(int(first.timestamp()), 60, [{}] * 60), "hour", UTC)
    assert nothing.is_empty and nothing.charts[0].in_all == "0"
    assert nothing.charts[3].in_all == "none", "no latency was measured"
