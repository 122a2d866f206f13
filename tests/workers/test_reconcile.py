"""Recovery without webhooks: reconcile, backfill, replayed deliveries; and decisions of people."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archive.layout import recording_folder
from lab.processes import callvault, run_callvault, wait_for
from lab.servers import RunningSandbox
from sandbox.webhooks import recording_payload
from sandbox.world import now, text_of
from tests.workers.steps import ask, assert_archived, committed, folder_of
from tests.workers.test_deletion import DELETING
from text.sizes import format_size
from text.times import parse_instant, utc_now
from workers.keys import CLOCK_QUEUE
from workers.queue.jobs import enqueue
from workers.recordings.requests import TranscriptionRequest, transcription_job

RECONCILING = {"CALLVAULT_RECONCILE_EVERY": "2s", "CALLVAULT_RECONCILE_OPEN_EVERY": "1h"}


def let_reconcile_start(redis: Any) -> None:
    redis.delete("callvault:reconciled:recent", "callvault:reconciled:open")


def past(sandbox: RunningSandbox, days: float, count: int = 1) -> list[Any]:
    started = utc_now() - timedelta(days=days)
    return [
        sandbox.world.add_recording(seconds=1, started_at=started + timedelta(seconds=60 * i)) for i in range(count)
    ]


def test_with_an_empty_redis_reconcile_archives_everything_that_is_missing(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    recent, open_, closed = past(sandbox, 1, 3), past(sandbox, 20, 2), past(sandbox, 60)
    transcription = sandbox.world.add_transcription(open_[0])
    sandbox.world.complete_transcription(transcription)
    let_reconcile_start(redis)
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: all(committed(archive_folder, r) for r in (*recent, *open_)), 60, "the reconcile")
        path = folder_of(archive_folder, open_[0]) / "transcriptions" / f"{transcription['id']}.json"
        wait_for(path.exists)
    assert assert_archived(archive_folder, recent[0])["found_by"] == "reconcile"
    assert committed(archive_folder, closed[0]) is None, "a closed day costs no further request"


def test_reconcile_schedules_the_deletion_of_committed_recordings_still_at_telnyx(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    (recording,) = past(sandbox, 1)
    let_reconcile_start(redis)
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: committed(archive_folder, recording), 60)
    redis.flushall()
    with callvault(["worker"], environment | DELETING, "worker ready"):
        wait_for(lambda: recording.deleted_at, 60, "the deletion after a lost Redis")


def test_a_delivery_that_failed_is_replayed_through_the_table_of_events(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    # The list by created_at lacks this recording, so only the replay finds it.
    (recording,) = past(sandbox, 60)
    event = {
        "record_type": "event",
        "event_type": "call.recording.saved",
        "id": "failed-1",
        "occurred_at": text_of(now()),
        "payload": recording_payload(sandbox.world, recording),
    }
    delivery = {"id": "d", "status": "failed", "started_at": text_of(now()), "finished_at": text_of(now())}
    sandbox.world.deliveries["d"] = delivery | {"webhook": event, "attempts": []}
    let_reconcile_start(redis)
    with callvault(["worker"], environment, "worker ready") as worker:
        record = assert_archived_in(archive_folder, recording, 60)
        worker.wait_for_output('"replayed": 1')
    assert (record["event_id"], record["found_by"]) == ("failed-1", "webhook")


def assert_archived_in(archive_folder: Path, recording: Any, seconds: float) -> dict[str, Any]:
    wait_for(lambda: committed(archive_folder, recording), seconds)
    return assert_archived(archive_folder, recording)


def test_backfill_prices_does_resumes_and_is_then_done(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    recordings = [*past(sandbox, 100, 5), *past(sandbox, 50, 5)]
    arguments = ["backfill", "--since", "120d", "--json"]
    priced = run_callvault([*arguments, "--dry-run"], environment)
    assert priced.returncode == 0, priced.stderr
    report = json.loads(priced.stdout)
    assert (report["found"], report["missing"], report["queued"]) == (10, 10, 0)
    assert (report["seconds"], report["bytes"]) == (10.0, 320_000)
    assert redis.zcard("arq:queue:bulk") == 0
    sandbox.world.complete_transcription(sandbox.world.add_transcription(recordings[0]))
    apart = run_callvault([*arguments[:-1], "--dry-run"], environment).stdout.splitlines()
    assert apart == [
        "found at Telnyx     10 recordings, 1 transcription",
        "not in the archive  10 recordings, 1 transcription",
        "missing audio       10s, about 320.0 kB",
    ]
    report = json.loads(run_callvault([*arguments, "--dry-run"], environment).stdout)
    names = ("found_recordings", "found_transcriptions", "missing_recordings", "missing_transcriptions")
    assert [report[name] for name in names] == [10, 1, 10, 1]
    sandbox.world.transcriptions.clear()

    with callvault(["worker"], environment, "worker ready"):
        done = run_callvault(arguments, environment, seconds=100)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["done"] == 10
        for recording in recordings:
            assert assert_archived(archive_folder, recording)["found_by"] == "backfill"
        again = json.loads(run_callvault(arguments, environment).stdout)
        assert (again["found"], again["missing"]) == (10, 0)
        assert (again["archived_bytes"], again["done_recordings"]) == (0, 0)
    other = run_callvault([*arguments, "--dry-run", "--connection", "none"], environment)
    assert json.loads(other.stdout)["found"] == 0


def test_a_backfill_counts_recordings_transcriptions_and_bytes_apart(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    recordings = past(sandbox, 2, 3)
    sandbox.world.complete_transcription(sandbox.world.add_transcription(recordings[0]))
    with callvault(["backfill", "--since", "3d"], environment) as backfill:
        backfill.wait_for_output("queued; no worker runs: start `callvault worker`, recordings 0/3, transcriptions 0/1")
        with callvault(["worker"], environment, "worker ready"):
            wait_for(lambda: backfill.has_ended, 60, "its end")
        size = sum(path.stat().st_size for path in archive_folder.glob("recordings/**/audio.*"))
        lines = backfill.output.splitlines()
    assert "queued              3 recordings, 1 transcription" in lines
    assert "done                3 recordings, 1 transcription" in lines
    assert f"archived audio      {format_size(size)}" in lines and size > 0


def test_a_resumed_backfill_counts_the_bytes_of_its_earlier_run(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    past(sandbox, 2, 3)
    arguments = ["backfill", "--since", "3d", "--json"]
    with callvault(arguments, environment, "recordings 0/3") as first:
        first.stop()
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: len(list(archive_folder.glob("recordings/**/recording.json"))) == 3)
        report = json.loads(run_callvault(arguments, environment).stdout)
    size = sum(path.stat().st_size for path in archive_folder.glob("recordings/**/audio.*"))
    assert (report["archived_bytes"], report["done_recordings"], report["queued_transcriptions"]) == (size, 3, 0)


def test_a_stopped_backfill_continues_where_it_stopped(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any
) -> None:
    for days in range(1, 60):
        past(sandbox, days, 6)
    sandbox.world.faults.change({"requests_per_second": 40})
    with callvault(["backfill", "--since", "62d"], environment, "found ") as first:
        wait_for(lambda: redis.zcard("arq:queue:bulk") > 100, 30)
        assert first.stop() == 143
        assert "run the same command again to continue" in first.output
    queued = redis.zcard("arq:queue:bulk")
    sandbox.world.faults.change({"requests_per_second": 0})
    before = len(sandbox.world.requests)
    with callvault(["backfill", "--since", "62d"], environment, "Resuming after") as second:
        wait_for(lambda: redis.zcard("arq:queue:bulk") == 59 * 6, 60, "the rest")
        assert second.stop() == 143
    assert queued < 59 * 6
    assert len(sandbox.world.requests) > before


def test_the_work_is_bounded_by_the_queue(sandbox: RunningSandbox, environment: dict[str, str], redis: Any) -> None:
    past(sandbox, 3, 300)
    redis.zadd("arq:queue:bulk", {f"of-another-backfill-{n}": 1 for n in range(1_950)})
    with callvault(["backfill", "--since", "4d"], environment, "found ") as backfill:
        wait_for(lambda: redis.zcard("arq:queue:bulk") > 2_000, 60, "its first jobs")
        time.sleep(1.5)
        assert redis.zcard("arq:queue:bulk") <= 2_100
        backfill.stop()


@pytest.mark.parametrize(
    ("policy", "waits"), [("ignore", False), ("wait 1h", True), ("wait 1s", False), ("require", True)]
)
async def test_deletion_waits_for_transcriptions_where_the_connection_makes_them(
    policy: str,
    waits: bool,
    sandbox: RunningSandbox,
    environment: dict[str, str],
    async_redis: Any,
    redis: Any,
    archive_folder: Path,
) -> None:
    first, second = (sandbox.world.add_recording(seconds=1, connection_id="7") for _ in range(2))
    other = sandbox.world.add_recording(seconds=1, connection_id="8")
    transcription = sandbox.world.add_transcription(first)
    sandbox.world.complete_transcription(transcription)
    request = TranscriptionRequest(transcription_id=transcription["id"], recording_id=first.data["id"])
    await enqueue(async_redis, transcription_job(request))
    settings = environment | DELETING | {"CALLVAULT_TRANSCRIPTIONS": policy}
    with callvault(["worker"], settings, "worker ready"):
        wait_for((archive_folder / "transcribing/7.json").exists)
        for recording in (first, second, other):
            await ask(async_redis, recording)
        wait_for(
            lambda: first.deleted_at and other.deleted_at, what="the deletion of the recordings that need not wait"
        )
        if waits:
            time.sleep(2)
            assert second.deleted_at is None
        else:
            wait_for(lambda: second.deleted_at, 60)


async def test_a_held_original_is_never_deleted_until_it_is_released(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    held, odd, of_held, free = (
        sandbox.world.add_recording(seconds=4, **kind) for kind in ({}, {"silent": True}, {"connection_id": "42"}, {})
    )
    settings = environment | DELETING | {"CALLVAULT_HOLD_CONNECTIONS": "41, 42", "CALLVAULT_DELETE_AFTER": "3s"}
    with callvault(["worker"], settings, "worker ready"):
        for recording in (held, odd, of_held, free):
            await ask(async_redis, recording)
        assert_archived(archive_folder, held)
        done = run_callvault(["deletions", "hold", held.data["id"], "--why", "case 17"], settings)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: free.deleted_at)
        time.sleep(2)
        assert not any(r.deleted_at for r in (held, odd, of_held))
        nothing = run_callvault(["deletions", "release", odd.data["id"], "--why", "listened"], settings)
        assert (nothing.returncode, "has no hold of its own" in nothing.stderr) == (1, True)
        for word, recording in (("release", held), ("approve", odd)):
            done = run_callvault(["deletions", word, recording.data["id"], "--why", "listened"], settings)
            assert done.returncode == 0, done.stderr
        wait_for(lambda: held.deleted_at and odd.deleted_at, what="the deletion after the release")
        time.sleep(1)
        assert of_held.deleted_at is None
    decided = [json.loads(p.read_bytes()) for p in (folder_of(archive_folder, held) / "decisions").iterdir()]
    hold, release = sorted(decided, key=lambda one: str(one["decision"]))
    assert (hold["decision"], release["decision"], release["lifts"]) == ("hold", "release", [hold["id"]])
    assert {p.name for p in (archive_folder / "decisions/recordings" / held.data["id"]).iterdir()} == {
        f"{one['id']}.json" for one in decided
    }
    assert run_callvault(["verify"], settings).returncode == 0
    gone = run_callvault(["deletions", "hold", held.data["id"], "--why", "x"], settings)
    assert (gone.returncode, "its original was already gone (deleted at Telnyx" in gone.stdout) == (0, True)


async def test_a_pause_stops_all_deletions_and_is_shown(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    settings = environment | DELETING
    assert run_callvault(["deletions", "pause", "--why", "moving the bucket"], settings).returncode == 0
    with callvault(["worker"], settings, "worker ready"):
        await ask(async_redis, recording)
        assert_archived(archive_folder, recording)
        time.sleep(4)
        assert recording.deleted_at is None
        listed = json.loads(run_callvault(["deletions", "list", "--json"], settings).stdout)
        assert (listed["paused"], listed["due"], listed["mode"]) == ("moving the bucket", 1, "verified")
        assert run_callvault(["deletions", "resume"], settings).stdout == "resumed\n"
        wait_for(lambda: recording.deleted_at)


async def test_many_damaged_at_once_stop_deletion_and_alert(
    sandbox: RunningSandbox,
    environment: dict[str, str],
    async_redis: Any,
    redis: Any,
    archive_folder: Path,
    receiver_of_alerts: Any,
) -> None:
    recordings = [sandbox.world.add_recording(seconds=1) for _ in range(8)]
    settings = environment | DELETING | {"CALLVAULT_DELETE_AFTER": "6s", "CALLVAULT_ALERT_URLS": receiver_of_alerts.url}
    with callvault(["worker"], settings, "worker ready") as worker:
        for recording in recordings:
            await ask(async_redis, recording)
        for recording in recordings:
            assert_archived(archive_folder, recording)
        for recording in recordings[:4]:
            (folder_of(archive_folder, recording) / "audio.wav").write_bytes(b"a bucket that changed under us")
        wait_for(lambda: redis.get("callvault:deletions:paused"), 30, "the safety stop")
        worker.wait_for_output("deletion-stopped")
        time.sleep(2)
        deleted = sum(r.deleted_at is not None for r in recordings)
        assert deleted < 4, "those due before are deleted, the rest waits"
        assert not any(r.deleted_at for r in recordings[:4])
        wait_for(lambda: any("deletion-stopped" in text for text in receiver_of_alerts.texts), 60, "the alert")
    assert any("callvault deletions resume" in text for text in receiver_of_alerts.texts)


async def test_a_dead_letter_is_listed_retried_and_discarded_by_hand(
    sandbox: RunningSandbox,
    environment: dict[str, str],
    async_redis: Any,
    redis: Any,
    archive_folder: Path,
    receiver_of_alerts: Any,
) -> None:
    recording, other = (sandbox.world.add_recording(seconds=1) for _ in range(2))
    settings = environment | {"CALLVAULT_NOT_FOUND_WAIT": "1s", "CALLVAULT_ALERT_URLS": receiver_of_alerts.url}
    recording.visible_from = other.visible_from = now() + timedelta(hours=1)
    for one in (recording, other):
        await ask(async_redis, one)
    with callvault(["worker"], settings, "worker ready"):
        wait_for(lambda: redis.hlen("callvault:dead-letters") == 2, 30)
        listed = run_callvault(["dead-letters", "list"], settings).stdout
        assert f"archive_recording:{recording.data['id']}" in listed
        assert "not-there-yet" in listed
        letters = json.loads(run_callvault(["dead-letters", "list", "--json"], settings).stdout)["dead_letters"]
        assert all(len(letter["attempts"]) >= 2 for letter in letters)
        recording.visible_from = now() - timedelta(hours=1)
        job_id = f"archive_recording:{recording.data['id']}"
        assert run_callvault(["dead-letters", "retry", job_id], settings).stdout == "1 queued again\n"
        assert_archived(archive_folder, recording)
        assert run_callvault(["dead-letters", "discard", "--all"], settings).stdout == "1 discarded\n"
        assert run_callvault(["dead-letters", "discard", job_id], settings).returncode == 1
        assert run_callvault(["dead-letters", "retry"], settings).returncode == 2
        wait_for(lambda: receiver_of_alerts.texts, 60, "the alert")
    assert len([t for t in receiver_of_alerts.texts if "dead-letter" in t]) == 1, "one message for one cause"
    assert redis.hlen("callvault:dead-letters") == 0


def test_a_full_disk_stops_nothing_for_good(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    """A limit on file sizes ends writes half-way, as a full disk does."""
    from lab.processes import CALLVAULT, Process

    (recording,) = past(sandbox, 0.01)
    big = sandbox.world.add_recording(seconds=120)
    let_reconcile_start(redis)
    worker = Process(["prlimit", "--fsize=1000000", *CALLVAULT, "worker"], environment)
    worker.start()
    try:
        wait_for(lambda: committed(archive_folder, recording), 60)
        wait_for(lambda: any("attempts" in k for k in redis.scan_iter("callvault:attempts:*")), 30)
        assert committed(archive_folder, big) is None
        assert not (folder_of(archive_folder, big) / "audio.wav").exists()
    finally:
        worker.kill()
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: committed(archive_folder, big), 60, "the recording, once there is room")
    assert_archived(archive_folder, big)


async def test_bulk_work_yields_while_webhooks_jobs_wait_too_long(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    redis.zadd("arq:queue", {"stuck": (time.time() - 1000) * 1000})
    redis.set("arq:in-progress:stuck", "1")  # unclaimed, as when all workers are busy
    redis.set("arq:job:stuck", "x")
    await ask(async_redis, recording, found_by="backfill")
    with callvault(["worker"], environment, "worker ready"):
        time.sleep(5)
        assert committed(archive_folder, recording) is None
        redis.zrem("arq:queue", "stuck")
        wait_for(lambda: committed(archive_folder, recording))


def test_an_original_gone_before_our_request_is_recorded_as_gone_not_as_deleted_by_us(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    """Somebody else deleted it; or a worker did, died before its receipt, and Redis was lost on top of it."""
    recording, other = past(sandbox, 1, 2)
    let_reconcile_start(redis)
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: committed(archive_folder, recording) and committed(archive_folder, other), 60)
    sandbox.world.recordings[recording.data["id"]].deleted_at = text_of(now())
    redis.flushall()
    with callvault(["worker"], environment | DELETING, "worker ready"):
        wait_for((folder_of(archive_folder, recording) / "gone.json").exists, 60, "the record of what was gone")
        wait_for((folder_of(archive_folder, other) / "deleted.json").exists, 60, "the receipt of the other")
    assert not (folder_of(archive_folder, recording) / "deleted.json").exists()


def test_a_recording_without_a_usable_date_is_archived_by_its_creation_and_ends_no_reconcile(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    """They are the newest, so a reconcile that ended there would miss all others."""
    (sound,) = past(sandbox, 0.01)
    odd = [sandbox.world.add_recording(seconds=1) for _ in range(2)]
    for one, date in zip(odd, ("not an instant", "0001-01-01T00:00:00Z"), strict=True):
        one.data["recording_started_at"] = date
    let_reconcile_start(redis)
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: committed(archive_folder, sound), 60)
        for one in odd:
            folder = recording_folder(parse_instant(one.data["created_at"]), one.data["id"])
            wait_for((archive_folder / folder / "recording.json").exists, 60, "the archiving of the odd one")


def test_a_stopping_worker_does_not_wait_for_reconcile(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    sandbox.world.faults.change({"requests_per_second": 1})  # two requests a day of thirty: a minute
    let_reconcile_start(redis)
    with callvault(["worker"], environment | RECONCILING, "worker ready") as worker:
        wait_for(lambda: any(r["path"].startswith("/v2/recordings") for r in sandbox.world.requests), 40, "a reconcile")
        started = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - started < 10
    assert any(job.startswith("reconcile:") for job in redis.zrange(CLOCK_QUEUE, 0, -1)), (
        "another worker starts it again"
    )


def test_a_backfill_reports_what_was_given_up(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    sound, broken = past(sandbox, 1, 2)
    folder = folder_of(archive_folder, broken)
    folder.mkdir(parents=True)
    (folder / "audio.wav").write_bytes(b"something else")
    with callvault(["worker"], environment, "worker ready"):
        done = run_callvault(["backfill", "--since", "3d", "--json"], environment, seconds=90)
        (later,) = past(sandbox, 2, 1)
        again = run_callvault(["backfill", "--since", "3d", "--json"], environment, seconds=90)
    report = json.loads(done.stdout)
    assert (done.returncode, report["queued"], report["done"], report["given_up"]) == (1, 2, 1, 1)
    assert committed(archive_folder, sound) is not None
    report = json.loads(again.stdout)
    assert committed(archive_folder, later) is not None
    assert (report["queued"], report["done"]) == (1, 1), "earlier dead letters do not count for this run"
    assert (again.returncode, report["given_up"]) == (1, 1), "and still waits for a person"
