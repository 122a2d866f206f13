"""Days and times as people type them, and the zone in which commands read and show them."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from archive import layout
from lab.processes import run_callvault, run_each
from lab.servers import RunningSandbox
from tests.seals.small import SmallArchive, ago
from text.times import format_column, format_moment, parse_span, utc_now

NOW = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)  # a Wednesday


@pytest.mark.parametrize(
    "text, first, last",
    [
        ("2026-11-25", "2026-11-25", "2026-11-25"),
        ("20261125", "2026-11-25", "2026-11-25"),
        ("today", "2026-11-25", "2026-11-25"),
        ("Yesterday", "2026-11-24", "2026-11-24"),
        ("last  week", "2026-11-16", "2026-11-22"),
        ("this week", "2026-11-23", "2026-11-29"),
        ("last month", "2026-10-01", "2026-10-31"),
        ("this month", "2026-11-01", "2026-11-30"),
        ("2024-02", "2024-02-01", "2024-02-29"),
        ("7d", "2026-11-18", "2026-11-18"),
        ("3 days ago", "2026-11-22", "2026-11-22"),
        ("2 weeks ago", "2026-11-11", "2026-11-11"),
        ("a month ago", "2026-10-25", "2026-10-25"),
        ("9 months ago", "2026-02-25", "2026-02-25"),
        ("1 year ago", "2025-11-25", "2025-11-25"),
    ],
)
def test_a_day_is_read_as_people_write_it(text: str, first: str, last: str) -> None:
    span = parse_span(text, NOW)
    assert span.days == (date.fromisoformat(first), date.fromisoformat(last))
    assert span.begin.isoformat() == f"{first}T00:00:00+00:00"
    assert (span.end - timedelta(days=1)).isoformat() == f"{last}T00:00:00+00:00"


@pytest.mark.parametrize(
    "text, instant",
    [
        ("now", "10:30"),
        ("2h", "08:30"),
        ("2 hours ago", "08:30"),
        ("an hour ago", "09:30"),
        ("90m", "09:00"),
        ("1 hour 30 minutes ago", "09:00"),
        ("2026-11-25T07:30", "07:30"),
        ("2026-11-25 07:30Z", "07:30"),
        ("2026-11-25 07:30 UTC", "07:30"),
        ("2026-11-25T07:30+01:00", "06:30"),
        ("2026-11-25 07:30 +0100", "06:30"),
        ("2026-11-25 07:30 -02:00", "09:30"),
    ],
)
def test_an_instant_is_read_as_people_write_it(text: str, instant: str) -> None:
    span = parse_span(text, NOW)
    assert (span.days, f"{span.begin:%H:%M}", span.end) == (None, instant, span.begin)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "07:30", "2026-13", "2026-11-31", "-2h", "2x", "9999 years ago", "99999999h", "3M", "2026-11-26T7h"],
)
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a|nor an instant|too far|longer than 100 years|ambiguous"):
        parse_span(text, NOW)


def test_a_day_of_a_zone_begins_at_its_midnight_and_may_have_23_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    span = parse_span("2026-03-29", NOW, berlin)
    assert (span.begin.isoformat(), span.end.isoformat()) == ("2026-03-28T23:00:00+00:00", "2026-03-29T22:00:00+00:00")
    assert parse_span("2026-11-25 07:30", NOW, berlin).begin.isoformat() == "2026-11-25T06:30:00+00:00"
    assert parse_span("today", datetime(2026, 11, 25, 23, 30, tzinfo=UTC), berlin).days == (date(2026, 11, 26),) * 2


def test_a_column_names_its_zone_once_unless_the_clocks_changed_between_its_rows() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert format_column([NOW, None], UTC) == ("UTC", ["2026-11-25 10:30:00", ""])
    assert format_column([NOW], berlin) == ("UTC+01:00", ["2026-11-25 11:30:00"])
    twice = [datetime(2026, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1)]
    cells = ["2026-10-25 02:30:00+02:00", "2026-10-25 02:30:00+01:00"]
    assert format_column(twice, berlin) == ("local time", cells)


def test_a_moment_in_a_sentence_names_its_zone_and_no_fraction() -> None:
    assert format_moment("2026-11-25T10:30:00.123456Z") == "2026-11-25 10:30:00 UTC"
    assert format_moment(NOW, ZoneInfo("Asia/Kolkata")) == "2026-11-25 16:00:00 UTC+05:30"
    assert format_moment("written by hand") == "written by hand"


RAW = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}")


def test_no_command_about_retention_prints_a_raw_time_to_a_person(
    here: dict[str, str], redis_url: str, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(
        'zone = "Europe/Berlin"\n[default]\nkeep = "5 years"\n[rules.short]\nconnections = ["1"]\nkeep = "1 day"\n'
    )
    own = sandbox.environment | here | {"REDIS_URL": redis_url}
    assert run_callvault(["deletions", "hold", "11-one", "--why", "case 17"], own).returncode in (0, 1)
    said = []
    for words in (
        ["plan", str(rules)],
        ["apply", str(rules), "--yes"],
        ["apply", str(rules)],
        ["plan"],
        ["explain", "11-one"],
    ):
        done = run_callvault(["retention", *words], own)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout + done.stderr)
    assert [text for text in said if RAW.search(text) or re.search(r"\d{2}Z\b", text)] == []
    assert "UTC+05:30" in said[2] and "UTC+05:30" in said[3], "of this machine: when rules were applied"
    assert "UTC+01:00 (Europe/Berlin)" in said[4] and " UTC)" in said[4], "of the rules: ends; holds name their zone"


def test_a_status_and_the_doctor_name_the_zone_of_their_times(here: dict[str, str], redis_url: str) -> None:
    own = here | {"REDIS_URL": redis_url}
    status, doctor = run_callvault(["status"], own).stdout, run_callvault(["doctor"], own).stdout
    for said, what in ((status, ", sealed "), (doctor, ", created ")):
        (line,) = [line for line in said.splitlines() if what in line]
        assert "UTC+05:30" in line and not RAW.search(line), said


@pytest.fixture
def here(tmp_path: Path) -> dict[str, str]:
    """A machine in Kolkata, five and a half hours ahead, with a call that began at 22:30 UTC eleven days ago."""
    small = SmallArchive(tmp_path / "archive", {"id": "ab" * 16})
    key = layout.commit_key(small.folder(11, "11-one"))
    record = small.read(key)
    record["recording"]["recording_started_at"] = f"{ago(11)}T22:30:00.000000Z"
    small.write(key, record)
    return {
        "CALLVAULT_ARCHIVE_URL": small.root.as_uri(),
        "CALLVAULT_DATA": str(tmp_path / "data"),
        "TZ": "Asia/Kolkata",
    }


def test_find_reads_and_shows_local_time_and_utc_on_demand(here: dict[str, str]) -> None:
    def found(*arguments: str) -> bool:
        done = run_callvault(["find", "--json", *arguments], here)
        assert done.returncode == 0, done.stderr
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert all(
            row["started_at"] == f"{ago(11)}T22:30:00.000000Z" for row in rows if row["recording_id"] == "11-one"
        )
        return any(row["recording_id"] == "11-one" for row in rows)

    its_day, next_day = str(ago(11)), str(ago(10))
    assert not found("--since", its_day, "--until", its_day) and found("--since", next_day, "--until", next_day)
    assert found("--utc", "--since", its_day, "--until", its_day)
    assert found("--since", f"{next_day} 04:00", "--until", f"{next_day} 04:01")
    assert not found("--since", f"{next_day} 03:59", "--until", f"{next_day} 04:00"), "the end is not included"
    assert found("--utc", "--since", f"{its_day} 22:30", "--until", f"{its_day}T22:31")
    assert found("--since", f"{its_day}T22:30Z", "--until", f"{its_day} 22:31 UTC")
    assert found(f'since:"{next_day} 04:00"', "until:2h")

    shown = run_callvault(["find", "--id", "11-one"], here).stdout.splitlines()
    assert shown[0].startswith("started (UTC+05:30)  ") and shown[1].startswith(f"{next_day} 04:00:00"), shown
    shown = run_callvault(["find", "--id", "11-one", "--utc"], here).stdout.splitlines()
    assert shown[0].startswith("started (UTC)  ") and shown[1].startswith(f"{its_day} 22:30:00"), shown


def test_commands_of_whole_days_keep_to_utc_days_and_say_which_day_a_time_is_in(here: dict[str, str]) -> None:
    day = str(ago(11))
    done = run_callvault(["verify", "--json", "--since", day, "--until", day], here)
    assert (json.loads(done.stdout)["recordings"], "whole UTC days" in done.stderr) == (2, False)
    done = run_callvault(["verify", "--json", "--since", f"{ago(10)} 01:00", "--until", f"{day}T23:00:00Z"], here)
    assert json.loads(done.stdout)["recordings"] == 2
    assert f"--since {ago(10)} 01:00: this command takes whole UTC days, so from {day}\n" in done.stderr
    assert f"--until {day}T23:00:00Z: this command takes whole UTC days, so to {day}\n" in done.stderr
    done = run_callvault(["verify", "--json", "--since", day, "--until", f"{ago(10)}T00:00Z"], here)
    assert f"so to {day}\n" in done.stderr, "midnight ends the day before"


@pytest.mark.parametrize("command", ["verify", "backfill", "logs list", "find", "access-log"])
def test_a_time_that_cannot_be_is_refused_by_every_command_that_takes_one(command: str, here: dict[str, str]) -> None:
    far = str(utc_now().date() + timedelta(days=3))
    cases = [("--since", "soon"), ("--since", ""), ("--since", "99999999d")]
    cases += [("--until", "soon"), ("--until", " ")] if command != "logs list" else []
    cases += (
        [("--since", far)] if command not in ("find", "access-log") else []
    )  # a search finds nothing, and does not say that all is well
    needed = {"--until": ["--since", "7d"] if command == "backfill" else []}
    asked = [[*command.split(), *needed.get(option, []), option, text] for option, text in cases]
    for (option, text), done in zip(cases, run_each(asked, here), strict=True):
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert done.stderr.startswith(f"callvault: {option}: ") and done.stderr.count("\n") == 1, done.stderr
        assert text != "soon" or "such as 2026-11-25" in done.stderr
    if command != "logs list":
        done = run_callvault([*command.split(), "--since", "2026-11", "--until", "2026-10"], here)
        assert done.returncode == 2 and done.stderr.startswith("callvault: --until: 2026-10"), done.stderr
