from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import SettingsError, load_settings
from config.sources import unknown_settings
from text.times import format_duration, format_instant, parse_day, parse_duration, parse_instant, parse_moment

SECRET = "a-very-secret-value"

BAD = {
    "TELNYX_PUBLIC_KEY": ["not base64!", "AAAA", "AAAA,%%"],
    "TELNYX_BASE_URL": ["ftp://x", "http://api.telnyx.com/v2", "nothing", "https://"],
    "REDIS_URL": [f"http://user:{SECRET}@host", "localhost:6379", f"redis://user:{SECRET}#1@host"],
    "CALLVAULT_ARCHIVE_URL": [
        *(
            "ftp://bucket",
            "s3://",
            "file://host/path",
            "/just/a/path",
            "S3://bucket",
            "FILE:///path",
            "file:///",
            "file://",
        ),
        *("s3://bucket/tenant#1", "gs://bucket/tenant?x", "az://container/a#", "file:///path#1", "file:///path?x"),
        *(
            "s3://bucket/a/../b",
            "s3://bucket/..",
            "s3://bucket/./a",
            "file:///a/../b",
            "file:///a/%2e%2e/b",
            "gs://b/...",
        ),
        *("s3://bucket//a", "s3://bucket/a//b", "s3://bucket/a//", "file:////a", "file:///a//b", "s3:///a"),
        *("s3://bucket/a%20b", "az://c/%2e%2e", "file:///a%zz", "file:///a%", "file:///a%2Fb", "file:///a%00b"),
        *(
            "s3://bucket/a b",
            " s3://bucket/a",
            "s3://bucket/a ",
            "file:///a ",
            "file:///a b",
            "s3://bucket/a\nb",
            "s3://b\t/a",
        ),
        *("s3://key:secret@bucket/a", "s3://bucket:9000/a", "s3://bucket\\a", "s3://-/a"),
    ],
    "CALLVAULT_DATA": ["~/callvault", "file:///data"],
    "CALLVAULT_HOLD_CONNECTIONS": ["1;2", '["1", "2"]', "'1'", "*"],
    "CALLVAULT_DELETE_ORIGINALS": ["yes", "Verified "],
    "CALLVAULT_DELETE_AFTER": [
        "soon",
        "-1h",
        "10",
        "1000000d",
        "1M",
        "1 M",
        "1h30M",
        "5Min",
        "1 0m",
        "1m1h",
        "1h1h",
        "1,5h",
        "٣h",
        "+1h",
    ],
    "CALLVAULT_PROOF": ["none"],
    "CALLVAULT_CONCURRENCY": ["0", "1000", "x"],
    "CALLVAULT_LOG_LEVEL": ["loud"],
    "CALLVAULT_TRANSCRIPTIONS": ["wait", "wait soon", "always", "wait 1M"],
    "CALLVAULT_DELETE_BATCH": ["0"],
    "CALLVAULT_DELETE_STOP_PERCENT": ["101"],
    "CALLVAULT_RECONCILE_EVERY": ["hourly", "0s", "0.4ms", "999ms"],
    "CALLVAULT_RECONCILE_OPEN_EVERY": ["0s"],
    "CALLVAULT_RECONCILE_RECENT": ["0d", "23h"],
    "CALLVAULT_RECONCILE_OPEN": ["0s"],
    "CALLVAULT_NOT_FOUND_WAIT": ["0s"],
    "CALLVAULT_OPERATOR_CONNECT_REFRESH": ["0s"],
    "CALLVAULT_UPLOAD_PENDING_LIMIT": ["0s"],
    "CALLVAULT_QUEUE_AGE_LIMIT": ["0m"],
    "CALLVAULT_RETENTION": ["0d"],
    "CALLVAULT_RETENTION_MODE": ["strict"],
    "CALLVAULT_OBJECT_LABELS": ["all"],
    "CALLVAULT_UPLOAD_BUFFER_MIB": ["1"],
    "CALLVAULT_QUIET_HOURS": ["night", "22", "22-25", "22-22", "24-0"],
    "CALLVAULT_ALERT_SEVERITIES": ["audio-finding", "a=loud"],
    "CALLVAULT_LOG_MESSAGES": ["on"],
    "CALLVAULT_UPLOAD_RETRY": ["always"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_an_invalid_setting_gives_one_line_with_its_name_and_what_is_expected(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    line = str(caught.value)
    assert line.startswith(f"{name}: ")
    assert "expected " in line
    assert "\n" not in line
    assert SECRET not in line


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        ("CALLVAULT_RECONCILE_EVERY", "0s", "1s"),
        ("CALLVAULT_RECONCILE_RECENT", "0d", "1d"),
        ("CALLVAULT_UPLOAD_PENDING_LIMIT", "0s", "1ms"),
    ],
)
def test_a_time_that_is_too_short_names_the_least_that_is_accepted(
    name: str, value: str, least: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"the minimum is {least}\); expected .* at least {least}"):
        load_settings()
    monkeypatch.setenv(name, least)
    load_settings()


@pytest.mark.parametrize(
    "url",
    [
        *("s3://bucket", "s3://bucket/a/b", "gs://bucket.example_1/tenant-1", "az://$root/x", "s3://bucket/a.b/..c/é"),
        *("file:///a", "file://localhost/a", "file:///my%20calls/%23%25", "file:///a..b"),
    ],
)
def test_a_valid_archive_address_is_kept_unchanged(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for written in (url, url + "/"):
        monkeypatch.setenv("CALLVAULT_ARCHIVE_URL", written)
        assert load_settings().archive_address == url


def test_secrets_are_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELNYX_API_KEY", SECRET)
    monkeypatch.setenv("REDIS_URL", f"redis://:{SECRET}@host/0")
    assert SECRET not in repr(load_settings())


def test_the_defaults_are_those_of_the_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BAD:
        monkeypatch.delenv(name, raising=False)
    settings = load_settings()
    assert settings.delete_originals == "never"
    assert settings.delete_after == timedelta(hours=24)
    assert settings.telnyx_base_url == "https://api.telnyx.com/v2"
    assert settings.archive_address.endswith("/callvault-data/archive")


@pytest.mark.parametrize(
    "name, value",
    [("DELETE_ORIGINALS", "verified"), ("DELETE_AFTER", "1s"), ("ARCHIVE_URL", "s3://other"), ("LOG_LEVEL", "debug")],
)
def test_a_variable_of_another_program_is_no_setting(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = load_settings()
    monkeypatch.setenv(name, value)
    assert load_settings() == usual


def test_a_value_of_the_command_line_replaces_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLVAULT_DATA", "/one")
    assert load_settings(data_folder=None).data_folder == Path("/one")
    assert load_settings(data_folder=Path("/two")).data_folder == Path("/two")


def test_an_empty_variable_counts_as_not_set_and_the_case_of_a_name_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CALLVAULT_LOG_LEVEL", "")
    assert load_settings().log_level == "info"
    monkeypatch.delenv("CALLVAULT_LOG_LEVEL")
    monkeypatch.setenv("callvault_log_level", "debug")
    assert load_settings().log_level == "debug"


def test_an_unknown_setting_is_reported_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLVAULT_DELETE_ORIGINAL", "verified")
    monkeypatch.setenv("CALLVAULT_DELETE_AFTER", "1h")
    monkeypatch.setenv("CALLVAULT_RECEIVER_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("CALLVAULT_RECEIVER_PORT_80_TCP_ADDR", "10.0.0.1")
    assert unknown_settings() == [
        "CALLVAULT_DELETE_ORIGINAL is not a setting; did you mean CALLVAULT_DELETE_ORIGINALS?"
    ]


def test_a_file_for_a_setting_that_is_no_secret_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELNYX_PUBLIC_KEY_FILE", "/run/secrets/key")
    monkeypatch.setenv("CALLVAULT_OPS_TOKEN_FIL", "x")
    monkeypatch.setenv("callvault_log_levl", "x")
    assert unknown_settings() == [
        "CALLVAULT_LOG_LEVL is not a setting; did you mean CALLVAULT_LOG_LEVEL?",
        "CALLVAULT_OPS_TOKEN_FIL is not a setting; did you mean CALLVAULT_OPS_TOKEN_FILE?",
        "TELNYX_PUBLIC_KEY_FILE is not a setting, because TELNYX_PUBLIC_KEY is no secret; set TELNYX_PUBLIC_KEY itself",
    ]


def test_several_keys_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "A" * 43 + "="
    monkeypatch.setenv("TELNYX_PUBLIC_KEY", f"{key}, {key}")
    assert load_settings().telnyx_public_keys == (key, key)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2),
        ("15m", 900),
        ("24h", 86400),
        ("30d", 2592000),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1h 30m", 5400),
        (" 0.5 h ", 1800),
        ("24H", 86400),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


def test_durations_are_written_short() -> None:
    said = {0: "0s", 0.95: "950ms", 0.9996: "1s", 4.2: "4.2s", 59.97: "1m", 95: "1m35s", 900: "15m", 3599: "59m59s"}
    said |= {3600: "1h", 3661: "1h1m1s", 7500: "2h5m", 86_399.9: "1d", 90_061: "1d1h1m", 259_200: "3d"}
    assert {seconds: format_duration(seconds) for seconds in said} == said


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_survives_a_round_trip_and_other_centuries_are_rejected(instant: datetime) -> None:
    if 1900 <= instant.year <= 2999:
        assert parse_instant(format_instant(instant)) == instant
    else:
        with pytest.raises(ValueError):
            parse_instant(instant.isoformat())


def test_days_are_parsed_as_people_write_them() -> None:
    today = date(2026, 11, 25)
    said = {
        "2026-11-20": date(2026, 11, 20),
        "today": today,
        "yesterday": date(2026, 11, 24),
        "7d": date(2026, 11, 18),
        "20261120": date(2026, 11, 20),
    }
    for text, day in said.items():
        assert parse_day(text, today) == day
    for text in (
        "someday",
        "2026-11-20T23:30:00-02:00",
        "2026-11-20T00:00",
        "2026-W48",
        "0020-11-20",
        "2026-11-31",
        "\u0662d",
    ):
        with pytest.raises(ValueError, match=r"is not a d"):
            parse_day(text)


def test_instants_are_read_where_a_part_of_a_day_is_meant() -> None:
    today = date(2026, 11, 25)
    said = {
        "2026-11-26T07:30": ("2026-11-26T07:30:00", "2026-11-26T07:30:00"),
        "2026-11-26 07:30:15.5": ("2026-11-26T07:30:15.500000", "2026-11-26T07:30:15.500000"),
        "2026-11-26t07:30+01:00": ("2026-11-26T06:30:00", "2026-11-26T06:30:00"),
        "20261126T07": ("2026-11-26T07:00:00", "2026-11-26T07:00:00"),
        "2026-11-26": ("2026-11-26T00:00:00", "2026-11-27T00:00:00"),
        "yesterday": ("2026-11-24T00:00:00", "2026-11-25T00:00:00"),
        "last week": ("2026-11-16T00:00:00", "2026-11-23T00:00:00"),
    }
    for text, bounds in said.items():
        read = [parse_moment(text, today, at_end=at_end).replace(tzinfo=None).isoformat() for at_end in (False, True)]
        assert tuple(read) == bounds, text
    for text, bounds in {
        "2026-10-25T02:30": (
            "2026-10-25T00:30:00",
            "2026-10-25T01:30:00",
        ),  # the clocks show it twice: a case holds both
        "2026-10-25T02:30Z": ("2026-10-25T02:30:00", "2026-10-25T02:30:00"),
        "2026-03-29T02:30": ("2026-03-29T00:30:00", "2026-03-29T01:30:00"),  # they skip it
        "2026-10-25": ("2026-10-24T22:00:00", "2026-10-25T23:00:00"),
    }.items():
        ends = [parse_moment(text, today, at_end=at_end, zone=ZoneInfo("Europe/Berlin")) for at_end in (False, True)]
        assert tuple(end.replace(tzinfo=None).isoformat() for end in ends) == bounds, text
    for text in ("2026-11-26T7h", "2026-11-26T25:00", "2026-11-26T", "2026-11-26T07:30 01:00", "07:30", ""):
        with pytest.raises(ValueError, match="such as 2026-11-25T07:30"):
            parse_moment(text)
