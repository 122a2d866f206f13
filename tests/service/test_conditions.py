"""The matrix: each condition on each surface for people and machines."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from lab.processes import callvault, callvault_here, free_port, receiver, wait_for
from lab.servers import RunningSandbox
from process.version import own_version
from text.times import format_instant, utc_now
from workers.conditions import CONDITIONS
from workers.damage.damaged import DamagedObjects, KnownDamage
from workers.deletion.schedule import DeletionSchedule
from workers.disposal.looked import Looked
from workers.disposal.stop import Stop
from workers.engine.attempts import Attempts, DeadLetter
from workers.keys import (
    ARCHIVE,
    CASES_WRONG,
    CLOCKS,
    DAMAGED_KNOWN,
    DISPOSAL_LOOKED,
    DISPOSAL_STOPPED,
    LIVE_DUTIES,
    MAIN_QUEUE,
    RETENTION_DIFFERS,
    RETENTION_UNREADABLE,
    UNSEALED,
    UNSEALED_WHY,
    WORKER,
)
from workers.queue.embedded import EmbeddedServer
from workers.running import Running, publish

Cause = Callable[[Any, Path], Awaitable[None]]


async def a_worker(redis: Any) -> None:
    """Write the heartbeat of a live worker to Redis."""
    await redis.hset(LIVE_DUTIES, "one:1:a", "{}")
    await redis.set(WORKER + "one:1:a", "1")


async def job_without_a_worker(redis: Any, archive: Path) -> None:
    await redis.zadd(MAIN_QUEUE, {"a-job": time.time() * 1000 + 60_000})


async def damage(redis: Any, archive: Path) -> None:
    found = KnownDamage("damaged", "reads back with another SHA-256", "verify", format_instant(utc_now()))
    await DamagedObjects(redis).report("recordings/2026/01/02/r-1/audio.wav", found)


async def too_much_past_its_term(redis: Any, archive: Path) -> None:
    stop = Stop("s1", recordings=14, size_bytes=1, of=20, most=10, gone=0, rules_number=2, at=format_instant(utc_now()))
    await redis.set(DISPOSAL_STOPPED, msgspec.json.encode(stop))


async def unread_register(redis: Any, archive: Path) -> None:
    await a_worker(redis)


async def failing_jobs(redis: Any, archive: Path) -> None:
    await Attempts(redis).record_failing(["a-job"], "outage", "StoreError: no answer", 60)


async def wrong_clock(redis: Any, archive: Path) -> None:
    await a_worker(redis)
    await redis.set(DAMAGED_KNOWN, time.time())
    await redis.hset(CLOCKS, "one:1:a", -3_456_000.0)


async def old_job(redis: Any, archive: Path) -> None:
    await a_worker(redis)
    await redis.set(DAMAGED_KNOWN, time.time())
    await redis.zadd(MAIN_QUEUE, {"a-job": (time.time() - 1000) * 1000})


async def dead_letter(redis: Any, archive: Path) -> None:
    await Attempts(redis).bury(DeadLetter("j", "archive_recording", {}, MAIN_QUEUE, "rejected", "no", "x", []))


async def full(redis: Any, archive: Path) -> None:
    """Lower the limit as the administrator; Callvault's user may not."""


async def pause(redis: Any, archive: Path) -> None:
    await DeletionSchedule(redis).show_pause("the bucket moves")


async def overdue_day(redis: Any, archive: Path) -> None:
    day = (utc_now() - timedelta(days=30)).date().isoformat()
    await redis.zadd(UNSEALED, {day: time.time() + 3600})
    await redis.hset(UNSEALED_WHY, day, "one recording is not archived yet")


async def disposal_ended(redis: Any, archive: Path) -> None:
    await redis.set(DISPOSAL_LOOKED, msgspec.json.encode(Looked(time.time() - 7200)))


async def unreadable_rules(redis: Any, archive: Path) -> None:
    await redis.set(RETENTION_UNREADABLE, "retention/00000001.json: not retention rules")


async def unreadable_case(redis: Any, archive: Path) -> None:
    await redis.set(CASES_WRONG, "cases/c1/00000001.json: not a case")


async def other_rules(redis: Any, archive: Path) -> None:
    await redis.set(RETENTION_DIFFERS, "retention.toml differs from rules 1 in force: default")


async def archive_away(redis: Any, archive: Path) -> None:
    archive.rename(archive.with_name("away"))


async def two_workers(redis: Any, **other: Any) -> None:
    """Publish what two workers run with; the second one with something other."""
    await a_worker(redis)
    await redis.set(DAMAGED_KNOWN, time.time())
    one = Running(
        "one:1:a", "worker", "one", own_version(), format_instant(utc_now()), None, {"CALLVAULT_PROOF": "store"}
    )
    two = msgspec.structs.replace(one, id="two:1:b", host="two")
    await publish(redis, one)
    await publish(redis, msgspec.structs.replace(two, **other))


async def other_settings(redis: Any, archive: Path) -> None:
    await two_workers(redis, settings={"CALLVAULT_PROOF": "read-back"})


async def other_version(redis: Any, archive: Path) -> None:
    await two_workers(redis, version="9.9")


CAUSES: dict[str, tuple[Cause, str]] = {
    "archive-away": (archive_away, "that its disk is mounted"),
    "redis-full": (full, "% of its memory is used"),
    "no-worker": (job_without_a_worker, "nothing is archived, deleted or sealed; 1 job waits"),
    "damaged": (damage, "recordings/2026/01/02/r-1/audio.wav: reads back with another SHA-256 (found by verify"),
    "not-known": (unread_register, "no worker has read the archive's list of damaged objects"),
    "jobs-fail": (failing_jobs, "outage: StoreError: no answer"),
    "clocks": (wrong_clock, "the clock of worker one:1:a is 40d behind Redis'"),
    "pressure": (old_job, "the oldest job has waited 100"),
    "dead-letters": (dead_letter, "1"),
    "paused": (pause, "the bucket moves"),
    "disposal-stopped": (
        too_much_past_its_term,
        "14 recordings are past the term of applied rules 2, of 20 in sealed days",
    ),
    "disposal-waits": (disposal_ended, "`callvault worker --dispose` has not looked for 2h"),
    "unsealed": (overdue_day, "one recording is not archived yet"),
    "cases-wrong": (unreadable_case, "cases/c1/00000001.json: not a case"),
    "retention-unreadable": (unreadable_rules, "retention/00000001.json: not retention rules"),
    "retention-differs": (other_rules, "differs from rules 1 in force: default"),
    "settings-differ": (other_settings, "CALLVAULT_PROOF is store in 1 worker and read-back in 1 worker"),
    "versions-differ": (other_version, "9.9 in 1 process"),
}


def metrics_of(client: httpx.Client) -> dict[str, float]:
    """`callvault_conditions` by kind."""
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("callvault_conditions{")]
    return {line.partition('kind="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_every_state_has_its_row_in_this_matrix() -> None:
    assert set(CAUSES) | {"redis-away"} == set(CONDITIONS)


@pytest.mark.parametrize("kind", CAUSES)
async def test_every_surface_shows_a_problem_until_it_is_over(
    kind: str, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    cause, said = CAUSES[kind]
    told = CONDITIONS[kind]
    with receiver(environment) as (client, _):
        assert (client.get("/readyz").json(), callvault_here(["status"], environment)[0]) == ({"status": "ok"}, 0)
        assert client.get("/api/overview").json()["conditions"] == []
        await cause(async_redis, archive_folder)
        if kind == "redis-full":

            def is_refused() -> bool:  # what Redis uses falls for a moment, as it frees what earlier tests left
                redis.config_set("maxmemory", int(redis.info("memory")["used_memory"] * 1.05))
                return bool(client.get("/readyz").status_code == 503)

            wait_for(is_refused, 15)

        status, output = callvault_here(["status", "--json"], environment)
        (found,) = [one for one in json.loads(output)["conditions"] if one["kind"] == kind]
        assert status == 1
        if kind == "archive-away":
            assert json.loads(output)["deletions"]["mode"] == "unknown"
            assert "cannot check what keeps each original: " in callvault_here(["deletions", "list"], environment)[1]
        status, text = callvault_here(["status"], environment)
        assert status == 1 and said in text and found["advice"] in text
        assert said in found["what"] and found["advice"] and found["severity"] == told.severity

        _, output = callvault_here(["doctor", "--json"], environment)
        (known,) = [row for row in json.loads(output)["checks"] if row["check"] == "known problems"]
        if kind != "archive-away":  # the row of the archive shows this
            assert said in known["found"] and known["good"] == (told.severity == "warning")

        overview = wait_for(lambda: (o := client.get("/api/overview").json())["conditions"] and o, 5)
        (shown,) = [one["what"] for one in overview["conditions"] if one["kind"] == kind]
        assert said in shown and f"{told.heading}: {shown}" in overview["problems"]
        page = client.get("/ops").text
        assert told.heading.replace("'", "&#39;") in page and "Healthy" not in page

        ready = client.get("/readyz")
        assert ready.status_code == (503 if kind == "redis-full" else 200)
        if kind != "archive-away":  # a receiver needs no archive
            assert kind in [one["kind"] for one in ready.json()["conditions"]]
            counted = metrics_of(client)
            assert counted[kind] == 1.0 and set(counted) == set(CONDITIONS) - {"archive-away"}

        redis.delete(MAIN_QUEUE, *(key for key in redis.keys("callvault:*") if key != ARCHIVE))
        redis.config_set("maxmemory", 0)
        if kind == "archive-away":
            archive_folder.with_name("away").rename(archive_folder)
        wait_for(lambda: client.get("/api/overview").json()["conditions"] == [], 5)
        assert client.get("/readyz").json() == {"status": "ok"}
        assert callvault_here(["status"], environment)[0] == 0


def test_without_redis_nothing_is_reported_as_good(environment: dict[str, str], tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "valkey")
    server.start()
    environment = environment | {"REDIS_URL": server.url}
    with receiver(environment) as (client, _):
        server.stop()
        overview = client.get("/api/overview").json()
        assert [one["kind"] for one in overview["conditions"]] == ["redis-away"]
        assert overview["totals"] is None and overview["status"] is None
        page = client.get("/ops").text
        assert "unknown" in page and "Healthy" not in page
        assert client.get("/readyz").status_code == 503
        assert metrics_of(client) == {"redis-away": 1.0}
        environment = environment | {"REDIS_URL": f"redis://127.0.0.1:{free_port()}"}
        status, output = callvault_here(["doctor", "--json"], environment)
        rows = {row["check"]: row["found"] for row in json.loads(output)["checks"]}
        assert status == 1 and rows["Redis"].startswith("a write failed: ")
        assert rows["known problems"] == rows["Redis persistence"] == "skipped: Redis does not answer"


def test_without_a_worker_every_surface_and_an_alert_show_it_within_half_a_minute(
    sandbox: RunningSandbox, environment: dict[str, str], receiver_of_alerts: Any
) -> None:
    environment = environment | {"CALLVAULT_ALERT_URLS": receiver_of_alerts.url}
    started = time.monotonic()
    with receiver(environment) as (client, _):
        wait_for(lambda: client.get("/readyz").json().get("conditions"), 30, "that no worker runs")
        assert client.get("/readyz").json()["conditions"][0]["kind"] == "no-worker"
        wait_for(lambda: client.get("/api/overview").json()["problems"], 5)
        assert callvault_here(["status"], environment)[0] == 1
        wait_for(lambda: receiver_of_alerts.texts, 10, "the alert")
        assert receiver_of_alerts.texts[0].lower().count("no worker runs") == 1, "there is one alert"
        assert time.monotonic() - started < 40
        with callvault(["worker"], environment, "worker ready"):
            wait_for(lambda: "conditions" not in client.get("/readyz").json(), 20, "that one runs")


def test_the_last_worker_to_stop_records_that_no_worker_runs(environment: dict[str, str], redis: Any) -> None:
    """Without a receiver and without waiting jobs, nothing else would report it."""
    with (
        callvault(["worker"], environment, "worker ready") as first,
        callvault(["worker"], environment, "worker ready") as last,
    ):
        assert redis.hlen(LIVE_DUTIES) == 2, "who says that it is ready is counted"
        assert first.stop() == 0
        assert "no-worker" not in callvault_here(["status", "--json"], environment)[1]
        assert last.stop() == 0
    status, output = callvault_here(["status", "--json"], environment)
    assert status == 1 and [one["kind"] for one in json.loads(output)["conditions"]] == ["no-worker"]
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: callvault_here(["status"], environment)[0] == 0, 20)
