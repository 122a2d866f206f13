"""`/metrics`: all processes of a receiver, and what workers count."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from lab.processes import Process, callvault, free_port, receiver, wait_for
from lab.servers import RunningSandbox
from lab.webhooks import Signer, signed
from lab.worker import archive, runtime_of
from process.version import own_version
from service.metrics import TABLE
from service.shared_counts import SharedCounts, folder_of_environment, shared_folder
from tests.workers.steps import ask
from text.times import utc_now
from workers.alerts.alerts import Alerts
from workers.damage.damaged import DamagedObjects, KnownDamage
from workers.keys import COUNTED, COUNTS, LAST, SEALED_DAYS, SEALS
from workers.queue.embedded import EmbeddedServer
from workers.queue.history import ARCHIVED, History
from workers.reconcile.reconcile import reconcile
from workers.recordings.requests import ReconcileRequest

Found = dict[tuple[str, tuple[str, ...]], float]


def scrape(url: str) -> Found:
    """The samples of `/metrics` by name and values of labels, over a connection of its own, so of any process."""
    text = httpx.get(f"{url}/metrics", trust_env=False, timeout=20).text
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@contextmanager
def processes_of_a_receiver(count: int, environment: dict[str, str]) -> Iterator[tuple[str, Process]]:
    port = free_port()
    with Process(["callvault", "serve", "--port", str(port), "--processes", str(count)], environment) as process:
        wait_for(lambda: process.output.count("Application startup complete") == count, 60, "the start")
        yield f"http://127.0.0.1:{port}", process


def children_of(pid: int) -> list[int]:
    """The receiver processes that a supervisor has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def test_every_process_of_a_receiver_gives_the_sum_of_all_and_it_never_falls(
    environment: dict[str, str], tmp_path: Path
) -> None:
    signer = Signer()
    accepted = ("callvault_webhooks_total", ("accepted",))
    started = time.time()
    given = environment | {"TELNYX_PUBLIC_KEY": signer.public_key, "TMPDIR": str(tmp_path)}
    with processes_of_a_receiver(3, given) as (url, process):
        seen: list[float] = []

        def look() -> float:
            seen.append(scrape(url).get(accepted, 0.0))
            return seen[-1]

        def send(count: int) -> None:
            for headers, body in signed(signer, None, count):
                answer = httpx.post(f"{url}/webhooks/telnyx", content=body, headers=headers, trust_env=False)
                assert answer.status_code == 200
                look()

        send(24)
        wait_for(lambda: look() == 24, 10, "the sum")
        for _ in range(12):
            assert look() == 24, "whichever process answers"
        found = scrape(url)
        assert found["callvault_webhook_seconds_count", ()] == 24
        assert found["callvault_webhook_seconds_bucket", ("+Inf",)] == 24
        assert abs(found["callvault_start_time_seconds", ()] - started) < 60
        assert {scrape(url)["callvault_start_time_seconds", ()] for _ in range(6)} == {
            found["callvault_start_time_seconds", ()]
        }
        children = children_of(process.pid)
        assert len(children) == 3
        os.kill(children[0], signal.SIGKILL)
        wait_for(lambda: process.output.count("Application startup complete") == 4, 30, "another process")
        send(12)
        wait_for(lambda: look() == 36, 10, "the sum with a process that died")
        assert seen == sorted(seen)
        assert list(tmp_path.glob("callvault-metrics-*"))
        assert process.stop() == 0
    assert not list(tmp_path.glob("callvault-metrics-*")), "the folder is removed"


def test_a_receiver_without_a_writable_disk_still_counts(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    monkeypatch.delenv("CALLVAULT_SERVE_METRICS", raising=False)
    with shared_folder():
        assert folder_of_environment() is None


def test_metrics_outlive_a_temporary_folder_that_the_system_empties(tmp_path: Path) -> None:
    registry, folder = CollectorRegistry(), tmp_path / "counts"
    counter = Counter("seen", "What was seen.", registry=registry)
    folder.mkdir()
    shared = SharedCounts(folder, registry)
    counter.inc(3)

    def total() -> list[float]:
        return [s.value for one in shared.collect() for s in one.samples if s.name == "seen_total"]

    assert total() == [3]
    for file in folder.iterdir():
        file.unlink()
    shared.write()
    assert total() == [3], "the file is written again"
    shutil.rmtree(folder)
    shared.write()
    assert total() == [3], "without the folder, those of this process"


async def test_one_scrape_shows_the_work_of_workers_on_another_machine(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any
) -> None:
    """Two workers and a receiver that share nothing but Redis."""
    given = environment | {
        "CALLVAULT_DELETE_ORIGINALS": "verified",
        "CALLVAULT_DELETE_AFTER": "1ms",
        "CALLVAULT_SEAL_AFTER": "1h",
    }
    with (
        callvault(["worker"], given, "worker ready"),
        callvault(["worker"], given, "worker ready"),
        receiver(environment) as (_, process),
    ):
        workers = ("callvault_processes", ("worker", own_version()))
        before = wait_for(lambda: (one := scrape(process.url)).get(workers) == 2 and one, 60, "both workers")
        assert before["callvault_recordings_archived_total", ()] == before["callvault_seals", ()] == 0
        assert ("callvault_last_archived_age_seconds", ()) not in before, "not known is not zero"
        assert before["callvault_build_info", (own_version(),)] == before["callvault_redis_up", ()] == 1
        made = [sandbox.world.add_recording(seconds=0.5, started_at=utc_now() - timedelta(days=3)) for _ in range(5)]
        for one in made:
            await ask(async_redis, one, started_at=one.data["recording_started_at"])

        def archived() -> Found | None:
            found = scrape(process.url)
            both = ("callvault_recordings_archived_total", "callvault_originals_deleted_total")
            return (
                found if [found[name, ()] for name in both] == [5, 5] else None
            )  # each worker counts every two seconds

        found = wait_for(archived, 60, "five archived and deleted recordings", every_seconds=0.3)
        assert found["callvault_recordings_archived_total", ()] == 5
        assert found["callvault_archived_bytes_total", ()] > 5 * 8_000
        assert found["callvault_deleted_bytes_total", ()] == found["callvault_archived_bytes_total", ()]
        assert 0 <= found["callvault_last_archived_age_seconds", ()] < 60
        sealed = wait_for(lambda: (one := scrape(process.url))["callvault_seals", ()] and one, 60, "a seal")
        assert 0 <= sealed["callvault_last_seal_age_seconds", ()] < 60
        assert sealed["callvault_sealed_days", ()] >= 1

        def places() -> set[str]:
            return {labels[1] for name, labels in scrape(process.url) if name == "callvault_disk_free_bytes"}

        wait_for(
            lambda: places() == {"data folder", "archive"}, 60, "the disks, which are published when they were read"
        )

        sandbox.world.faults.change({"api_500": 1.0})
        stuck = sandbox.world.add_recording(seconds=0.5)
        await ask(async_redis, stuck)
        failing = wait_for(
            lambda: (one := scrape(process.url))["callvault_job_failures_total", ("outage",)] and one, 60, "a failure"
        )
        assert failing["callvault_job_failures_total", ("refused",)] == 0


async def test_ages_of_the_last_reconcile_and_seal_and_damage_are_shown(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any
) -> None:
    async with runtime_of(environment, async_redis) as runtime:
        await archive(runtime, sandbox.world.add_recording(seconds=0.5))
        today = utc_now().date().isoformat()
        await reconcile(runtime, ReconcileRequest(since=today, until=today))
        at = float(redis.hget(LAST, "reconciled"))
        redis.hset(LAST, "reconciled", at - 1000)
    damaged = DamagedObjects(async_redis)
    row = KnownDamage("missing", "is gone", "verify", "2026-11-25T10:00:00.000000Z")
    for key in ("recordings/2026/01/02/r-1/audio.wav", "seals/0000000001.json", "seals/0000000001.sha256", "x/y"):
        await damaged.report(key, row)
    with receiver(environment) as (_, process):
        found = scrape(process.url)
        assert 1000 <= found["callvault_last_reconcile_age_seconds", ()] < 1060
        assert {of: found["callvault_damaged_objects", (of,)] for of in ("recordings", "seals", "other")} == {
            "recordings": 1,
            "seals": 2,
            "other": 1,
        }
        assert ("callvault_last_seal_age_seconds", ()) not in found
        redis.hset(SEALS, "1", "{not json")
        assert scrape(process.url)["callvault_seals", ()] == 1, "a row that cannot be read ends no scrape"


def test_every_metric_of_the_table_is_shown_and_no_other(environment: dict[str, str], redis: Any) -> None:
    redis.hset(LAST, mapping={ARCHIVED: time.time(), "reconciled": time.time()})
    with receiver(environment) as (client, process):
        client.post("/webhooks/telnyx", content=b"{}")
        wait_for(lambda: any(name == "callvault_disk_free_bytes" for name, _ in scrape(process.url)))
        text = client.get("/metrics").text
        shown = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE ")}
        shown = {name: kind for name, kind in shown.items() if not name.endswith("_created")}
        optional = {"callvault_last_seal_age_seconds", "callvault_sealed_days", "callvault_events_total"}
        assert {row.name: row.type for row in TABLE.values() if row.name not in optional} == {
            name: kind for name, kind in shown.items() if name not in optional
        }
        assert text.count("# HELP callvault_conditions ") == 1


def test_a_value_in_redis_that_is_no_number_has_no_series_and_hides_no_other(
    environment: dict[str, str], redis: Any
) -> None:
    redis.hset(LAST, mapping={ARCHIVED: "yesterday", "reconciled": time.time()})
    redis.hset(COUNTS, mapping={ARCHIVED: "1e", "deleted": "nan", "archived_bytes": 7})
    redis.set(SEALED_DAYS, "many")
    with receiver(environment) as (_, process):
        found = {name: value for (name, _), value in scrape(process.url).items()}
    assert not found.keys() & {
        "callvault_last_archived_age_seconds",
        "callvault_recordings_archived_total",
        "callvault_originals_deleted_total",
        "callvault_sealed_days",
    }
    assert found["callvault_archived_bytes_total"] == 7 and "callvault_last_reconcile_age_seconds" in found


def test_without_redis_only_what_is_of_the_receiver_is_shown(environment: dict[str, str], tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path / "valkey")
    server.start()
    with receiver(environment | {"REDIS_URL": server.url}) as (client, process):
        client.post("/webhooks/telnyx", content=b"{}")
        assert scrape(process.url)["callvault_dead_letters", ()] == 0
        server.stop()
        found = {name for name, _ in scrape(process.url)}
        assert "callvault_dead_letters" not in found and "callvault_recordings_archived_total" not in found
        assert found >= {"callvault_webhooks_total", "callvault_start_time_seconds", "callvault_build_info"}
        assert scrape(process.url)["callvault_redis_up", ()] == 0


async def test_alerts_that_were_sent_and_that_failed_are_counted(
    environment: dict[str, str], async_redis: Any, receiver_of_alerts: Any
) -> None:
    stamina.set_testing(True, attempts=1)
    try:
        for number, url in enumerate([receiver_of_alerts.url, f"json://127.0.0.1:{free_port()}/"]):
            alerts = Alerts(async_redis, [url])
            await alerts.send("drift", f"group {number}", "It differs.", "Look.")
            await alerts.send("drift", f"group {number}", "It still differs.", "Look.")
            await alerts.close()
    finally:
        stamina.set_testing(False)
    with receiver(environment) as (_, process):
        found = scrape(process.url)
    assert [found["callvault_alerts_total", (outcome,)] for outcome in ("sent", "failed")] == [1, 1]


async def test_counts_are_added_once_whatever_happens_to_redis(async_redis: Any, redis: Any) -> None:
    one, two = History(async_redis), History(async_redis)
    one.add(ARCHIVED, 5)
    await one.flush()
    two.add(ARCHIVED, 1)
    two.add("job:archive_recording<1")
    await two.flush()
    assert redis.hgetall(COUNTS) == {ARCHIVED: "6"}, "charts alone are not kept"

    one.add(ARCHIVED)
    one._written.clear()  # as if the answer to the last write was lost
    await one.flush()
    assert redis.hget(COUNTS, ARCHIVED) == "7"

    before = {key: redis.hgetall(key) for key in (COUNTS, *redis.keys(f"{COUNTED}*"))}
    one.add(ARCHIVED, 3)
    await one.flush()
    for key, row in before.items():  # a failover loses the last write
        redis.hset(key, mapping=row)
    one.add(ARCHIVED)
    await one.flush()
    assert redis.hget(COUNTS, ARCHIVED) == "11", "the next write makes it good"

    redis.flushall()
    one.add(ARCHIVED, 2)
    await one.flush()
    assert redis.hget(COUNTS, ARCHIVED) == "2", "a Redis without data counts from zero"
    assert redis.ttl(next(iter(redis.keys(f"{COUNTED}*")))) > 0
