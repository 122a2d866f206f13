"""The rules of Prometheus: each by promtool, and some by a real Prometheus that scrapes real processes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml

from lab.processes import Missing, Process, callvault, free_port, program, receiver, wait_for
from tests.test_deploy import LOADER
from workers.engine.attempts import Attempts, DeadLetter
from workers.keys import MAIN_QUEUE

ROOT = Path(__file__).parent.parent
FILE = ROOT / "deploy/prometheus/alerts.yml"
RULES = {rule["alert"]: rule for rule in yaml.load(FILE.read_text(), LOADER)["groups"][0]["rules"]}


def tool(name: str) -> str:
    """The path of a program of Prometheus; the test is skipped with the reason if it cannot be had here."""
    try:
        return program(name, "prometheus")
    except Missing as error:
        pytest.skip(f"{error}; {name} checks the rules of deploy/prometheus")


class Case(NamedTuple):
    """What must raise an alert, and what must not.

    Attributes:
        fires: series and their values, minute by minute, as promtool writes them.
        quiet: the same without an alert.
        at: when to look.
        labels: of the alert, besides its severity.
    """

    fires: dict[str, str]
    quiet: dict[str, str]
    at: str
    labels: dict[str, str] | None = None


def _condition(kind: str) -> dict[str, str]:
    return {f'callvault_conditions{{kind="{kind}",severity="critical",instance="{one}"}}': "" for one in ("a", "b")}


def _with(series: dict[str, str], *values: str) -> dict[str, str]:
    return dict(zip(series, values, strict=True))


_REDIS = 'callvault_redis_up{job="callvault",instance="a"}'
_UP = 'up{job="callvault",instance="a"}'
_REFUSED, _UNVERIFIED = (f'callvault_webhooks_total{{outcome="{one}"}}' for one in ("unavailable", "unverified"))
_SLOW = {f'callvault_webhook_seconds_bucket{{le="{le}"}}': rate for le, rate in (("1", "0+90x20"), ("2", "0+100x20"))}
_FAST = dict.fromkeys(_SLOW, "0+100x20") | {'callvault_webhook_seconds_bucket{le="+Inf"}': "0+100x20"}
_SLOW['callvault_webhook_seconds_bucket{le="+Inf"}'] = "0+100x20"
_WORKER = 'callvault_processes{kind="worker",version="1"}'
_AGE = "callvault_last_reconcile_age_seconds"
_FREE = 'callvault_disk_free_bytes{host="one",place="archive",instance="a"}'
_FAILED = 'callvault_alerts_total{outcome="failed"}'

CASES: dict[str, Case] = {
    "CallvaultReceiverDown": Case({_UP: "1 0x10"}, {_UP: "1 0 1x10"}, "5m", {"job": "callvault", "instance": "a"}),
    "CallvaultRedisDown": Case({_REDIS: "1 0x10"}, {_REDIS: "1x10"}, "3m", {"job": "callvault", "instance": "a"}),
    "CallvaultRedisFull": Case(
        _with(_condition("redis-full"), "0 1x9", "0x10"), _with(_condition("redis-full"), "0x10", "0x10"), "4m"
    ),
    "CallvaultWebhooksRefused": Case({_REFUSED: "0+5x20"}, {_REFUSED: "7x20"}, "12m", {"outcome": "unavailable"}),
    "CallvaultWebhooksUnverified": Case(
        {_UNVERIFIED: "0+60x40"}, {_UNVERIFIED: "0+1x40"}, "35m", {"outcome": "unverified"}
    ),
    "CallvaultSlowAnswers": Case(_SLOW, _FAST, "18m"),
    "CallvaultNoWorker": Case(
        _with(_condition("no-worker"), "0 1x9", "0 1x9"), _with(_condition("no-worker"), "0 1 0x9", "0x10"), "4m"
    ),
    "CallvaultDamaged": Case(
        _with(_condition("damaged"), "3x10", "3x10"), _with(_condition("damaged"), "0x10", "0x10"), "4m"
    ),
    "CallvaultChainBroken": Case(
        {'callvault_damaged_objects{of="seals"}': "0 2x10"},
        {'callvault_damaged_objects{of="seals"}': "0x10", 'callvault_damaged_objects{of="recordings"}': "2x10"},
        "4m",
    ),
    "CallvaultJobsWait": Case(
        {'callvault_oldest_job_seconds{queue="main"}': "0+60x20"},
        {
            'callvault_oldest_job_seconds{queue="main"}': "100x20",
            'callvault_oldest_job_seconds{queue="bulk"}': "9999x20",
        },
        "15m",
        {"queue": "main"},
    ),
    "CallvaultJobsFail": Case(
        {'callvault_jobs_failing{cause="outage"}': "1x20", 'callvault_jobs_failing{cause="refused"}': "0x20"},
        {'callvault_jobs_failing{cause="outage"}': "1x4 0x20"},
        "12m",
        {"cause": "outage"},
    ),
    "CallvaultDeadLetters": Case({"callvault_dead_letters": "0 2x10"}, {"callvault_dead_letters": "0x10"}, "4m"),
    "CallvaultDayUnsealed": Case(
        {"callvault_oldest_unsealed_day_seconds": "700000x80"},
        {"callvault_oldest_unsealed_day_seconds": "500000x80"},
        "70m",
    ),
    "CallvaultReconcileOld": Case(
        {_AGE: "14000+60x200", _WORKER: "2x200"}, {_AGE: "0+60x59 0+60x59 0+60x80", _WORKER: "2x200"}, "150m"
    ),
    "CallvaultAlertsFail": Case({_FAILED: "0x5 1x10"}, {_FAILED: "3x20"}, "8m"),
    "CallvaultDiskFull": Case({_FREE: "3e9 1e9x10"}, {_FREE: "3e9x10"}, "8m", {"host": "one", "place": "archive"}),
    "CallvaultProcessesDiffer": Case(
        _with(_condition("settings-differ"), "0 1x50", "0 1x50"),
        _with(_condition("settings-differ"), "0 1x10 0x50", "0x60"),
        "40m",
        {"kind": "settings-differ"},
    ),
}


def _promtool(tmp_path: Path, tests: list[dict[str, Any]]) -> None:
    path = tmp_path / "alerts.test.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(FILE)], "evaluation_interval": "30s", "tests": tests}))
    done = subprocess.run([tool("promtool"), "test", "rules", str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def _test_of(name: str, series: dict[str, str], at: str, labels: dict[str, str] | None) -> dict[str, Any]:
    """A test of promtool: the alert fires with these labels; None: it does not fire."""
    alert = RULES[name]
    expected = (
        [] if labels is None else [{"exp_labels": alert["labels"] | labels, "exp_annotations": alert["annotations"]}]
    )
    return {
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": expected}],
    }


def test_promtool_accepts_the_rules() -> None:
    for command in (["check", "rules", str(FILE)], ["check", "config", str(FILE.with_name("prometheus.yml"))]):
        done = subprocess.run([tool("promtool"), *command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_a_case() -> None:
    assert {*CASES} == {*RULES}


@pytest.mark.parametrize("name", CASES)
def test_a_rule_fires_for_its_fault_and_not_otherwise(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    _promtool(
        tmp_path, [_test_of(name, case.fires, case.at, case.labels or {}), _test_of(name, case.quiet, case.at, None)]
    )


def test_without_any_receiver_and_without_any_reconcile_the_rules_fire_too(tmp_path: Path) -> None:
    none = _test_of("CallvaultReceiverDown", {'up{job="other"}': "1x200"}, "5m", {"job": "callvault"})
    never = _test_of("CallvaultReconcileOld", {_WORKER: "2x200"}, "150m", {})
    unused = _test_of("CallvaultReconcileOld", {_UP: "1x200"}, "150m", None)
    _promtool(tmp_path, [none, never, unused])


@contextmanager
def prometheus(folder: Path, ports: list[int]) -> Iterator[Callable[[], set[str]]]:
    """Run Prometheus on receivers, with the rules as they are but for their waits; gives a function for the alerts that fire."""
    folder.mkdir()
    # What a rule waits for is a matter of patience; promtool has tested it.
    (folder / "alerts.yml").write_text(re.sub(r"\n\s+for: \w+", "", FILE.read_text()))
    config = yaml.safe_load(FILE.with_name("prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        tool("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
    ]
    with Process([*command, f"--web.listen-address=127.0.0.1:{port}"], limit_seconds=300) as process:

        def ask(path: str) -> Any:
            try:
                return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False, timeout=10)
            except httpx.HTTPError:
                assert not process.has_ended, process.output
                return None

        def firing() -> set[str]:
            answer = ask("/api/v1/alerts")
            alerts = json.loads(answer.text)["data"]["alerts"] if answer else []
            return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

        def scraped() -> bool:
            answer = ask("/api/v1/targets")
            targets = json.loads(answer.text)["data"]["activeTargets"] if answer else []
            return bool(targets) and all(one["health"] == "up" for one in targets)

        wait_for(lambda: (answer := ask("/-/ready")) and answer.status_code == 200, 60, "the start of Prometheus")
        wait_for(scraped, 30, "a scrape of each receiver")
        yield firing


async def test_a_real_prometheus_reports_real_faults(
    environment: dict[str, str], async_redis: Any, redis: Any, tmp_path: Path
) -> None:
    with (
        callvault(["worker"], environment, "worker ready") as worker,
        receiver(environment) as (_, one),
        receiver(environment) as (_, two),
        prometheus(tmp_path / "prometheus", [one.port, two.port]) as firing,
    ):
        usual = {"CallvaultReconcileOld"}  # nothing has been compared yet, and the rule does not wait here
        if "CallvaultDiskFull" in firing():
            usual |= {"CallvaultDiskFull"}  # true of this machine
        wait_for(lambda: firing() <= usual, 30, "no alert of a service that is well")

        await Attempts(async_redis).bury(
            DeadLetter("j", "archive_recording", {}, MAIN_QUEUE, "rejected", "no", "2026-11-25T10:00:00.000000Z", [])
        )
        wait_for(lambda: "CallvaultDeadLetters" in firing(), 30, "the alert of a dead letter")
        await Attempts(async_redis).discard("j")
        wait_for(lambda: "CallvaultDeadLetters" not in firing(), 30, "its end")

        assert worker.stop() == 0
        wait_for(lambda: "CallvaultNoWorker" in firing(), 60, "the alert that no worker runs")
        assert "CallvaultReceiverDown" not in firing()

        two.kill()
        wait_for(lambda: "CallvaultReceiverDown" in firing(), 30, "the alert of a killed receiver")
        assert "CallvaultNoWorker" in firing(), "the other receiver still reports"
