"""`callvault doctor`, with and without problems."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from lab.processes import callvault, free_port, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.stores import s3_weak
from lab.webhooks import Signer
from sandbox.main import furnish


def checks(environment: dict[str, str], *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = run_callvault(["doctor", "--json", *options], environment)
    report = json.loads(done.stdout)
    return done.returncode, {row["check"]: row for row in report["checks"]}


def test_all_is_good_and_a_test_alert_arrives(
    sandbox: RunningSandbox, environment: dict[str, str], receiver_of_alerts: Any
) -> None:
    for _ in range(3):  # more than one page of the smallest size
        sandbox.world.add_recording(seconds=0.5)
    status, found = checks(environment | {"CALLVAULT_ALERT_URLS": receiver_of_alerts.url}, "--alert")
    assert (status, [name for name, row in found.items() if not row["good"]]) == (0, [])
    assert re.match(r"Valkey ([89]|\d\d)\.\d+\.\d+, accepts writes", found["Redis"]["found"]), "by its own name"
    assert "This is a test" in receiver_of_alerts.texts[0]
    told = run_callvault(["doctor"], environment)
    assert "good   Telnyx API" in told.stdout
    assert told.stderr == "", "no request is left behind"


def test_each_problem_is_shown_with_its_fix(environment: dict[str, str], redis: Any) -> None:
    redis.config_set("appendonly", "no")
    redis.config_set("maxmemory", "1gb")
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        wrong = environment | {
            "TELNYX_API_KEY": "wrong",
            "TELNYX_PUBLIC_KEY": "",
            "CALLVAULT_ARCHIVE_URL": "file:///proc/x",
            "CALLVAULT_ALERT_URLS": "json://127.0.0.1:1",
            "CALLVAULT_ALERT_SEVERITIES": "audio-findings=off",
        }
        status, found = checks(wrong, "--alert")
    finally:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", "0")
        redis.config_set("appendonly", "yes")
    assert status == 1
    bad = {name for name, row in found.items() if not row["good"]}
    assert bad == {
        *("webhook key", "webhook deliveries", "webhook URLs", "Telnyx API"),
        *("Redis persistence", "Redis eviction", "archive", "disk", "alerts", "test alert"),
    }
    assert found["test alert"]["found"] == "1 of 1 address refused it: number 1 (json)"
    assert all(found[name]["advice"] for name in bad)
    assert "401" in found["Telnyx API"]["found"]
    assert found["alerts"]["advice"] == "did you mean audio-finding?"


def test_a_wrong_witness_is_found_where_no_alert_is_sent(environment: dict[str, str]) -> None:
    status, found = checks(environment | {"CALLVAULT_WITNESS_URLS": "nothing-of-apprise"})
    assert (status, found["alerts"]["good"]) == (1, False)
    assert found["alerts"]["found"] == "CALLVAULT_WITNESS_URLS has an address that Apprise cannot use"


def test_the_doctor_finds_faults_that_settings_cannot_show(
    sandbox: RunningSandbox, environment: dict[str, str], tmp_path: Path
) -> None:
    """A foreign webhook URL, refused deliveries, a wrong clock, a store without locks."""
    furnish(sandbox.world)
    port = free_port()
    good = f"http://127.0.0.1:{port}/webhooks/telnyx"
    other = {"TELNYX_PUBLIC_KEY": Signer().public_key}
    first, second = list(sandbox.world.connections.values())[:2]
    first["webhook_event_url"], second["webhook_event_url"] = good, good.replace("/telnyx", "/other")
    with callvault(["serve", "--port", str(port)], environment | other, "Uvicorn running"):
        sandbox.control("calls", count=2, webhook_url=good)  # the receiver does not know the key
        wait_for(lambda: any(d["status"] == "failed" for d in sandbox.world.deliveries.values()), 40)
        status, found = checks(environment)
        assert status == 1
        assert "401: TELNYX_PUBLIC_KEY belongs to another account" in found["webhook deliveries"]["advice"]
        assert "/webhooks/other: the path must be /webhooks/telnyx" in found["webhook URLs"]["found"]
        second["webhook_event_url"] = good
        assert checks(environment)[1]["webhook URLs"]["good"]
        second["webhook_event_url"] = f"{sandbox.world.base_url}/webhooks/telnyx"
        assert "an unsigned webhook; a receiver answers 401" in checks(environment)[1]["webhook URLs"]["found"]
    second["webhook_event_url"] = None
    assert "cannot be reached from this machine" in checks(environment)[1]["webhook URLs"]["found"]
    first["webhook_event_url"] = None
    row = checks(environment)[1]["webhook URLs"]
    assert row["good"] and "without a webhook URL" in row["found"] and row["advice"]


def test_a_wrong_clock_is_reported(environment: dict[str, str], tmp_path: Path) -> None:
    wrong = "import time\n_true = time.time\ntime.time = lambda: _true() + 400\n"
    (tmp_path / "sitecustomize.py").write_text(wrong)
    _, found = checks(environment | {"PYTHONPATH": str(tmp_path)})
    assert not found["clock"]["good"]
    assert re.search(r"clock is 6m(39|4\d)s ahead of Redis's", found["clock"]["found"])


def test_the_rights_of_a_bucket_are_tried_on_the_probe_alone(environment: dict[str, str], tmp_path: Path) -> None:
    with s3_weak(tmp_path) as store:
        with_store = environment | store.make_archive()
        _, found = checks(with_store)
    assert "can list, cannot overwrite, objects proven by" in found["archive"]["found"] and found["archive"]["good"]
    assert found["archive's rights"]["found"] == "these credentials can delete objects"
    assert found["archive's rights"]["good"] and found["archive's rights"]["advice"]
    _, found = checks(with_store)
    assert not found["archive"]["good"]
    assert found["archive's rights"]["found"].startswith("cannot be checked: "), "a store that is away denies nothing"
