"""One recording from webhook to archive, with a real worker process, a real Redis and a sandbox over HTTP."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from arq.worker import Retry

from lab.processes import callvault, free_port, wait_for
from lab.servers import RunningSandbox
from tests.workers.steps import ask, assert_archived, committed, folder_of, request_of
from text.times import parse_instant, utc_now
from workers.engine.run import job
from workers.keys import (
    ARCHIVE,
    CLOCK_QUEUE,
    CONNECTION_NAMES,
    COUNTS,
    DAMAGED_KNOWN,
    LAST,
    NO_WORKER,
    UNSEALED,
    UNSEALED_KNOWN,
    WRITTEN,
    WRITTEN_EPOCH,
)
from workers.queue.jobs import enqueue
from workers.recordings.archive_recording import archive_recording
from workers.recordings.requests import RecordingRequest, TranscriptionRequest, transcription_job
from workers.runtime import Runtime


async def test_a_recording_is_archived_as_it_was_served(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=3, formats=("wav", "mp3"))
    await ask(async_redis, recording)
    with callvault(["worker"], environment, "worker ready") as worker:
        record = assert_archived(archive_folder, recording)
        assert worker.stop() == 0
    assert (record["event_id"], record["found_by"]) == ("event-1", "webhook")
    assert record["audio"] == {
        "format": "wav",
        "channels": 2,
        "sample_rate_hz": 8000,
        "duration_ms": 3000,
        "findings": [],
    }
    assert sandbox.world.misuse == [], "the API key is never sent to a download address"
    assert list((archive_folder / ".incoming").iterdir()) == []


async def test_nothing_is_left_in_redis_when_the_work_is_done(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    sandbox.world.faults.change({"api_503": 0.5, "seed": 3})
    await ask(async_redis, recording)
    with callvault(["worker"], environment, "worker ready") as worker:
        assert_archived(archive_folder, recording)
        wait_for(lambda: redis.exists(f"arq:job:archive_recording:{recording.data['id']}") == 0)
        sandbox.world.faults.change({"api_503": 0})
        assert worker.stop() == 0
    lasting = {key for key in redis.scan_iter() if redis.ttl(key) == -1}
    # The archive's id, what the clock has started, the bounded change feed, the day to be sealed,
    # the record of the last worker that stopped, the counters of metrics, and the names of connections.
    kept = {
        ARCHIVE,
        CLOCK_QUEUE,
        CONNECTION_NAMES,
        DAMAGED_KNOWN,
        NO_WORKER,
        WRITTEN,
        WRITTEN_EPOCH,
        UNSEALED,
        UNSEALED_KNOWN,
        COUNTS,
        LAST,
    }
    assert lasting <= kept
    ours = [key for key in redis.scan_iter() if recording.data["id"] in key]
    assert ours == []


@pytest.mark.parametrize("known", ["call_leg_id", "call_session_id", "call_control_id"])
async def test_a_recording_is_found_when_the_webhook_has_no_id(
    known: str, sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    earlier = parse_instant("2026-11-20T10:00:00Z")
    first = sandbox.world.add_recording(seconds=1, started_at=earlier, leg_id="leg", session_id="session")
    second = sandbox.world.add_recording(seconds=1, leg_id="leg", session_id="session")
    second.data["call_control_id"] = first.data["call_control_id"] = "control"
    times = {"started_at": second.data["recording_started_at"], "ended_at": second.data["recording_ended_at"]}
    request = request_of(second, **times | {"recording_id": None, known: second.data[known]})
    await archive_recording(runtime, request)
    assert_archived(archive_folder, second)
    assert committed(archive_folder, first) is None


async def test_an_id_is_enough_whatever_times_the_webhook_gives(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    times = {"started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:01:00Z"}
    await archive_recording(runtime, request_of(recording, **times))
    assert_archived(archive_folder, recording)


async def test_a_conference_recording_without_id_is_found(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1, source="conference")
    by_conference = {"recording_id": None, "started_at": None, "conference_id": recording.data["conference_id"]}
    await archive_recording(runtime, request_of(recording, **by_conference))
    assert_archived(archive_folder, recording)


async def test_an_expired_download_address_is_renewed(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    sandbox.world.faults.change({"download_expired": 0.6, "seed": 1})
    await ask(async_redis, recording)
    with callvault(["worker"], environment, "worker ready"):
        assert_archived(archive_folder, recording)
    assert sandbox.world.faults.counts["download_expired"] >= 1


async def test_a_webhook_that_arrives_before_the_api_knows_its_recording_is_retried(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path
) -> None:
    sandbox.world.faults.change({"not_found_seconds": 2})
    recording = sandbox.world.add_recording(seconds=1)
    await ask(async_redis, recording)
    with callvault(["worker"], environment, "worker ready"):
        assert_archived(archive_folder, recording)


@pytest.mark.parametrize("fault", ["download_cut", "download_500", "download_page"])
async def test_a_broken_download_is_repaired(
    fault: str, sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=20)
    sandbox.world.faults.change({fault: 0.6, "seed": 1})
    await ask(async_redis, recording)
    with callvault(["worker"], environment, "worker ready"):
        assert_archived(archive_folder, recording)
    assert sandbox.world.faults.counts[fault] >= 1


async def test_jobs_wait_for_an_unreachable_download_host_and_none_is_given_up(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telnyx_api.downloads._LONGEST_WAIT_SECONDS", 0.01)
    recording = sandbox.world.add_recording(seconds=1)
    there, sandbox.world.base_url = sandbox.world.base_url, f"http://127.0.0.1:{free_port()}"
    function = job(archive_recording, RecordingRequest, "arq:queue").coroutine
    context = {"runtime": runtime, "job_id": "one", "job_try": 1, "enqueue_time": utc_now()}
    for _ in range(12):  # more than a failing download gets
        with pytest.raises(Retry):
            await function(context, {"recording_id": recording.data["id"]})
    assert redis.hlen("callvault:dead-letters") == 0
    assert {json.loads(row)["cause"] for row in redis.lrange("callvault:attempts:one", 0, -1)} == {"outage"}
    sandbox.world.base_url = there
    await function(context, {"recording_id": recording.data["id"]})
    assert_archived(archive_folder, recording)


async def test_a_trickling_download_gives_up_its_slot_and_is_retried_later(
    sandbox: RunningSandbox,
    runtime: Runtime,
    redis: Any,
    archive_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged: Callable[[], str],
) -> None:
    monkeypatch.setattr("telnyx_api.downloads._PACE_SECONDS", 0.5)
    recording = sandbox.world.add_recording(seconds=20)
    sandbox.world.faults.change({"download_bytes_per_second": 100})
    function = job(archive_recording, RecordingRequest, "arq:queue").coroutine
    context = {"runtime": runtime, "job_id": "one", "job_try": 1, "enqueue_time": utc_now()}
    with pytest.raises(Retry):
        await function(context, {"recording_id": recording.data["id"]})
    assert "download too slow" in logged()
    (attempt,) = (json.loads(row) for row in redis.lrange("callvault:attempts:one", 0, -1))
    assert attempt["cause"] == "outage" and "CALLVAULT_LEAST_DOWNLOAD_RATE" in attempt["error"]
    sandbox.world.faults.change({"download_bytes_per_second": 0})
    await function(context, {"recording_id": recording.data["id"]})
    assert_archived(archive_folder, recording)


async def test_an_error_page_is_never_archived_as_audio_and_becomes_a_dead_letter(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    sandbox.world.faults.change({"download_page": 1})
    await ask(async_redis, recording)
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: redis.hlen("callvault:dead-letters"), 40, "the dead letter")
        wait_for(lambda: redis.exists(f"arq:job:archive_recording:{recording.data['id']}") == 0)
    letter = json.loads(next(iter(redis.hgetall("callvault:dead-letters").values())))
    assert (letter["cause"], letter["function"], len(letter["attempts"])) == ("not-audio", "archive_recording", 4)
    assert letter["payload"]["recording_id"] == recording.data["id"]
    assert all("text instead of audio" in attempt["error"] for attempt in letter["attempts"])
    assert not folder_of(archive_folder, recording).exists()


async def test_a_killed_workers_recording_is_finished_by_another(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=60)
    sandbox.world.faults.change({"download_bytes_per_second": 300_000})
    await ask(async_redis, recording)
    with (
        callvault(["worker"], environment, "worker ready") as first,
        callvault(["worker"], environment, "worker ready") as second,
    ):
        holder = wait_for(lambda: redis.hvals("callvault:leases"), what="the lease")[0]
        killed = first if f":{first.pid}:" in holder else second
        time.sleep(0.5)
        killed.stop(signal.SIGKILL)
        sandbox.world.faults.change({"download_bytes_per_second": 0})
        started = time.monotonic()
        wait_for(lambda: committed(archive_folder, recording), 35, "the recording's archive")
        assert time.monotonic() - started < 30
        assert_archived(archive_folder, recording)


async def test_a_stopped_worker_finishes_what_it_does(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=30)
    sandbox.world.faults.change({"download_bytes_per_second": 400_000})
    await ask(async_redis, recording)
    with callvault(["worker"], environment, "worker ready") as worker:
        wait_for(lambda: redis.hlen("callvault:leases"))
        assert worker.stop() == 0
    assert_archived(archive_folder, recording)
    assert redis.zcard("arq:queue") == 0


async def test_a_job_run_twice_has_the_same_result(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    await archive_recording(runtime, request_of(recording, started_at=None))
    assert_archived(archive_folder, recording)
    before = (folder_of(archive_folder, recording) / "recording.json").read_bytes()
    await archive_recording(runtime, request_of(recording, "event-2", started_at=None))
    assert (folder_of(archive_folder, recording) / "recording.json").read_bytes() == before
    assert recording.served == {"wav": 1}


async def test_audio_left_by_an_interrupted_run_is_reused(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    audio = recording.audio["wav"]
    folder = folder_of(archive_folder, recording)
    folder.mkdir(parents=True)
    (folder / "audio.wav").write_bytes(b"".join(audio.read(0, audio.size)))
    await archive_recording(runtime, request_of(recording, started_at=None))
    assert_archived(archive_folder, recording)


async def test_other_audio_under_the_same_key_is_a_conflict_and_never_overwritten(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    folder = folder_of(archive_folder, recording)
    folder.mkdir(parents=True)
    (folder / "audio.wav").write_bytes(b"something else")
    await ask(async_redis, recording)
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: redis.hlen("callvault:dead-letters"))
    assert json.loads(redis.hvals("callvault:dead-letters")[0])["cause"] == "conflict"
    assert (folder / "audio.wav").read_bytes() == b"something else"
    assert not (folder / "recording.json").exists()


async def test_a_transcription_in_progress_is_fetched_again_until_it_is_completed(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    transcription = sandbox.world.add_transcription(recording)
    request = TranscriptionRequest(transcription_id=transcription["id"], recording_id=recording.data["id"])
    await enqueue(async_redis, transcription_job(request))
    path = folder_of(archive_folder, recording) / "transcriptions" / f"{transcription['id']}.json"
    with callvault(["worker"], environment, "worker ready") as worker:
        worker.wait_for_output("in-progress")
        assert not path.exists()
        sandbox.world.complete_transcription(transcription)
        wait_for(path.exists)
    record = json.loads(path.read_bytes())
    assert record == {"schema": "callvault.transcription/1", "transcription": transcription}


async def test_a_recording_that_telnyx_does_not_list_yet_is_waited_for_though_the_call_has_another(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path
) -> None:
    earlier = parse_instant("2026-11-20T10:00:00Z")
    first = sandbox.world.add_recording(seconds=1, started_at=earlier, leg_id="leg")
    sandbox.world.faults.change({"not_found_seconds": 5})
    second = sandbox.world.add_recording(seconds=1, leg_id="leg")
    times = {"started_at": second.data["recording_started_at"], "ended_at": second.data["recording_ended_at"]}
    await ask(async_redis, second, recording_id=None, call_leg_id="leg", **times)
    with callvault(["worker"], environment, "worker ready"):
        assert_archived(archive_folder, second)
    assert committed(archive_folder, first) is not None
