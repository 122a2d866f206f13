"""What the service runs with, as commands and pages show it: real receivers and workers, and a shell with other settings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from config.settings import names_of_settings, names_same_in
from lab.processes import callvault, callvault_here, receiver, run_callvault, wait_for
from lab.worker import settings_of
from workers.keys import RUNNING, RUNNING_ALIVE
from workers.running import differences, publish, read_running, running_here

SECRET = "KEY-of-the-service"


@pytest.fixture
def of_workers(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a service that deletes."""
    return environment | {
        "CALLVAULT_DELETE_ORIGINALS": "verified",
        "CALLVAULT_OPS_TOKEN": "a-token-of-the-pages",
        "CALLVAULT_ALERT_SEVERITIES": "drift=off",
    }


def status(environment: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(callvault_here(["status", "--json"], environment)[1])
    return found


def differing(environment: dict[str, str]) -> list[dict[str, Any]]:
    return [one for one in status(environment)["conditions"] if one["kind"] == "settings-differ"]


def test_commands_show_what_the_service_runs_with_and_where_this_shell_differs(
    environment: dict[str, str], of_workers: dict[str, str], redis: Any
) -> None:
    shell = environment | {"CALLVAULT_LOG_LEVEL": "debug", "CALLVAULT_RETENTION": "365d"}
    with (
        callvault(["worker"], of_workers, "worker ready") as first,
        callvault(["worker"], of_workers, "worker ready"),
        receiver(of_workers) as (client, _),
    ):
        wait_for(lambda: len(status(shell)["processes"]) == 3)
        found = status(shell)
        assert [one["kind"] for one in found["processes"]] == ["worker", "worker", "receiver"]
        assert {one["settings"]["CALLVAULT_DELETE_ORIGINALS"] for one in found["processes"]} == {"verified"}
        assert all(one["archive_id"] for one in found["processes"] if one["kind"] == "worker")
        disks = [{"data folder", "archive"}] * 3
        wait_for(lambda: [set(one["disk_free_bytes"]) for one in status(shell)["processes"]] == disks)
        assert differing(shell) == [] and found["deletions"]["mode"] == "verified"
        assert found["differs_here"] == [
            {"name": "CALLVAULT_DELETE_ORIGINALS", "here": "never", "workers": {"verified": 2}},
            {"name": "CALLVAULT_RETENTION", "here": "365d", "workers": {"unset": 2}},
        ]
        assert status(of_workers)["differs_here"] == []
        said = "this shell has CALLVAULT_DELETE_ORIGINALS=never; 2 workers run with CALLVAULT_DELETE_ORIGINALS=verified"

        text = callvault_here(["status"], shell)[1]
        assert said.removeprefix("this shell ") in text and "\nworkers " in text and "\nreceivers " in text
        for command in (["deletions", "list"], ["deletions", "duties"]):
            assert f"callvault: {said}\n" in run_callvault(command, shell).stderr
            output = json.loads(callvault_here([*command, "--json"], shell)[1])
            assert output["differs_here"] == found["differs_here"]
        rows = {row["check"]: row for row in json.loads(callvault_here(["doctor", "--json"], shell)[1])["checks"]}
        assert said in rows["service's settings"]["found"] and rows["service's settings"]["good"]

        headers = {"authorization": "Bearer a-token-of-the-pages"}
        overview = client.get("/api/overview", headers=headers).json()
        assert len(overview["status"]["processes"]) == 3
        page = client.get("/ops", headers=headers).text
        assert page.count("<td>worker</td>") == 2 and page.count("<td>receiver</td>") == 1
        page = client.get("/ops/deletions", headers=headers).text
        assert page.count('<td>CALLVAULT_DELETE_ORIGINALS</td><td class="long">verified</td>') == 2
        shown = json.dumps(found) + text + page + json.dumps(overview) + str(redis.hgetall(RUNNING))
        assert "a-token-of-the-pages" not in shown and of_workers["TELNYX_API_KEY"] not in shown

        assert first.stop() == 0
        assert len(status(shell)["processes"]) == 2, "a worker that stops withdraws what it ran with"


def test_two_workers_with_different_settings_are_a_problem_until_one_is_restarted(of_workers: dict[str, str]) -> None:
    other = of_workers | {"TELNYX_API_KEY": SECRET, "CALLVAULT_CONCURRENCY": "3"}
    with callvault(["worker"], of_workers, "worker ready"), callvault(["worker"], other, "worker ready") as second:
        found = wait_for(lambda: differing(of_workers))
        assert [one["about"] for one in found] == ["TELNYX_API_KEY"], "each may run as many jobs as it likes"
        assert SECRET not in json.dumps(status(of_workers))
        assert second.stop() == 0
        assert differing(of_workers) == []


async def test_a_process_that_is_gone_disappears_and_what_cannot_be_read_counts_as_lost(
    environment: dict[str, str], async_redis: Any
) -> None:
    own = await running_here(settings_of(environment), "worker", "one:1:a")
    await publish(async_redis, own)
    await async_redis.hset(RUNNING, "two:1:b", "{not json")
    await async_redis.zadd(RUNNING_ALIVE, {"two:1:b": 4e9, "three:1:c": 1.0})
    await async_redis.hset(RUNNING, "three:1:c", "{}")
    assert await read_running(async_redis) == [own]
    await publish(async_redis, own)
    assert await async_redis.hkeys(RUNNING) == [b"one:1:a"], "rows of the past and of the future are removed"
    await async_redis.zadd(RUNNING_ALIVE, {"one:1:a": 1.0})
    assert await read_running(async_redis) == []


async def test_a_secret_that_is_not_set_here_is_no_difference(environment: dict[str, str]) -> None:
    workers = [await running_here(settings_of(environment), "worker", "one:1:a")]
    without = {name: value for name, value in environment.items() if name != "TELNYX_API_KEY"}
    assert differences(settings_of(without), workers) == []
    (found,) = differences(settings_of(environment | {"TELNYX_API_KEY": SECRET}), workers)
    assert found.name == "TELNYX_API_KEY" and "fingerprint" in found.sentence and SECRET not in found.sentence


def test_every_setting_says_which_processes_share_it() -> None:
    groups = [names_same_in(group) for group in ("service", "workers", "nothing")]
    assert all(groups) and {name for group in groups for name in group} == {*names_of_settings()}
    assert "CALLVAULT_DELETE_ORIGINALS" in groups[0] and "CALLVAULT_CONCURRENCY" in groups[2]
