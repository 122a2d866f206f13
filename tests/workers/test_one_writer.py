"""Each recording has one writer at a time, even on a store that breaks its promises."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from arq.worker import Retry

from archive.proof import hash_object
from archive.readers import COMMIT_RECORD
from archive.stores.store import StoreError
from lab.servers import RunningSandbox
from lab.stores import environ, s3_weak
from lab.worker import runtime_of
from sandbox.world import Recording
from tests.workers.steps import request_of
from workers.engine.lease import HeldElsewhere
from workers.engine.run import job
from workers.keys import ATTEMPTS, WRITER, WRITTEN
from workers.recordings.archive_recording import archive_recording
from workers.recordings.requests import RecordingRequest
from workers.recordings.writing import sole_writer
from workers.runtime import Runtime

TIMES = 25


def by_leg(recording: Recording) -> RecordingRequest:
    return RecordingRequest(event_id="event-2", call_leg_id=recording.data["call_leg_id"])


async def until_done(runtime: Runtime, request: RecordingRequest) -> None:
    while True:
        try:
            return await archive_recording(runtime, request)
        except HeldElsewhere:
            await asyncio.sleep(0.01)


async def test_two_jobs_of_one_recording_never_overwrite_each_other_on_a_store_without_conditions(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, tmp_path: Path
) -> None:
    with s3_weak(tmp_path / "s3") as store, environ(store.environment):
        async with runtime_of(environment | store.make_archive(), async_redis) as runtime:
            for n in range(TIMES):
                recording = sandbox.world.add_recording(seconds=0.1 + n / 10)
                await asyncio.gather(until_done(runtime, request_of(recording)), until_done(runtime, by_leg(recording)))
            written: dict[str, set[bytes]] = {}
            for _, fields in await async_redis.xrange(WRITTEN):
                written.setdefault(fields[b"key"].decode(), set()).add(fields[b"data"])
            assert len(written) == TIMES
            for key, contents in written.items():
                assert contents == {runtime.archive.read_small(key)}, "the announced record is the stored one"
                record = COMMIT_RECORD.read(runtime.archive.read_small(key), key)
                for o in record.objects:
                    assert hash_object(runtime.archive.store, o.key) == o.sha256


async def test_nothing_is_committed_once_another_archive_lies_there(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    await archive_recording(runtime, request_of(recording))
    (archive_folder / "archive.json").unlink()
    other = sandbox.world.add_recording(seconds=1)
    with pytest.raises(StoreError, match=r"archive\.json is gone"):
        await archive_recording(runtime, request_of(other))
    assert not list(archive_folder.rglob(f"{other.data['id']}/recording.json"))


async def test_a_second_job_waits_for_the_first_and_counts_no_failure(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    function = job(archive_recording, RecordingRequest, "arq:queue").coroutine
    async with sole_writer(runtime.redis, recording.data["id"]):
        payload = {"recording_id": recording.data["id"], "event_id": "event-1"}
        for job_try, seconds in ((1, 2), (3, 8), (50, 30)):
            with pytest.raises(Retry) as again:
                await function({"runtime": runtime, "job_id": "one", "job_try": job_try}, payload)
            assert again.value.defer_score is not None and abs(again.value.defer_score - seconds * 1000) < 1000
        assert redis.exists(ATTEMPTS + "one") == 0
        with pytest.raises(HeldElsewhere):
            await archive_recording(runtime, by_leg(recording))
    assert redis.keys(WRITER + "*") == []
    await archive_recording(runtime, request_of(recording))
    assert recording.served == {"wav": 1}


async def test_a_lease_ends_soon_after_its_worker(runtime: Runtime, redis: Any) -> None:
    async with sole_writer(runtime.redis, "r"):
        assert 0 < redis.pttl(WRITER + "r") <= 15_000


async def test_a_writer_that_has_lost_its_lease_stops(
    runtime: Runtime, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.engine.lease._RENEW_SECONDS", 0.02)
    with pytest.raises(HeldElsewhere, match="another job took the lease of recording r"):
        async with sole_writer(runtime.redis, "r"):
            redis.set(WRITER + "r", "another")
            await asyncio.sleep(10)
    assert redis.get(WRITER + "r") == "another"
    redis.delete(WRITER + "r")
    async with sole_writer(runtime.redis, "r"):
        redis.delete(WRITER + "r")  # Redis is lost, and nobody else has it
        while not redis.exists(WRITER + "r"):
            await asyncio.sleep(0.01)


async def test_a_half_written_object_of_another_writer_is_read_again_before_it_counts_as_damaged(
    runtime: Runtime, archive_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, key = runtime.archive, "recordings/2026/11/25/r/audio.wav"
    path = archive_folder / key
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half of i")
    monkeypatch.setattr("time.sleep", lambda _: path.write_bytes(b"half of it"))
    assert archive.put(key, b"half of it", "audio/wav").size == 10
