"""`callvault doctor`, good and with something wrong."""

from __future__ import annotations

import json
from typing import Any

from tests.parts import run_callvault


def checks(environment: dict[str, str], *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = run_callvault(["doctor", "--json", *options], environment)
    report = json.loads(done.stdout)
    return done.returncode, {row["check"]: row for row in report["checks"]}


def test_all_is_good_and_a_test_alert_arrives(environment: dict[str, str], receiver_of_alerts: Any) -> None:
    status, found = checks(environment | {"CALLVAULT_ALERT_URLS": receiver_of_alerts.url}, "--alert")
    assert (status, [name for name, row in found.items() if not row["good"]]) == (0, [])
    assert "This is a test" in receiver_of_alerts.texts[0]
    assert "good   Telnyx API" in run_callvault(["doctor"], environment).stdout


def test_what_is_wrong_is_told_with_how_to_mend_it(environment: dict[str, str], redis: Any) -> None:
    redis.config_set("appendonly", "no")
    redis.config_set("maxmemory", "1gb")
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        wrong = environment | {
            "TELNYX_API_KEY": "wrong",
            "TELNYX_PUBLIC_KEY": "",
            "CALLVAULT_ARCHIVE_URL": "file:///proc/x",
        }
        status, found = checks(wrong, "--alert")
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", "0")
        redis.config_set("appendonly", "yes")
    assert status == 1
    bad = {name for name, row in found.items() if not row["good"]}
    assert bad == {"webhook key", "Telnyx API", "Redis persistence", "Redis eviction", "archive", "test alert"}
    assert all(found[name]["advice"] for name in bad)
    assert "401" in found["Telnyx API"]["found"]
