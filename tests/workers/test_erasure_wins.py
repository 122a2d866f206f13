"""An erased recording stays erased, whatever job was running, at whatever step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from archive.archive import Archive, ArchiveConflict
from archive.erase import erase, erase_what_is_left
from archive.removal_records import Erasure
from archive.stores.store import Store, StoreRefused
from lab.servers import RunningSandbox
from lab.stores import environ, s3_weak
from lab.worker import runtime_of
from sandbox.audio import make_wav
from sandbox.world import Recording, now, text_of
from tests.workers.steps import folder_of, request_of
from text.errors import UserError
from workers.engine.lease import HeldElsewhere
from workers.keys import ALERTS, DELETIONS_DUE, WRITER
from workers.reconcile.not_transcribed import accept_transcription
from workers.recordings.archive_recording import archive_recording
from workers.recordings.repair import repair_recording
from workers.recordings.requests import RepairRequest, TranscriptionRequest
from workers.recordings.transcriptions import archive_transcription
from workers.recordings.writing import sole_writer
from workers.runtime import Runtime

_MOST_STEPS = 60


class Interrupted:
    """A store that calls a function before its n-th request."""

    def __init__(self, store: Store, step: int, happens: Callable[[], None]) -> None:
        self._store = store
        self._left = step
        self._happens = happens

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("put", "stat", "read", "list", "ask_stat", "ask_free"):
            return found

        def asked(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                self._happens()
            return found(*arguments, **named)

        return asked


@pytest.fixture
async def runtime(environment: dict[str, str], async_redis: Any) -> AsyncIterator[Runtime]:
    deleting = {"CALLVAULT_DELETE_ORIGINALS": "verified"}
    async with runtime_of(environment, async_redis, **deleting) as made:
        yield made


def erase_now(store: Store, folder: str, recording_id: str) -> None:
    """An erasure that does not see the lease: another Redis, or a lost one."""
    archive = Archive(store)
    record = Erasure(recording_id=recording_id, objects=[], why="request", by="dpo", erased_at="2026-11-25T10:00:00Z")
    archive.put_erasure(folder, record)
    erase_what_is_left(archive, folder)


async def at_each_step(
    runtime: Runtime,
    redis: Any,
    archive_folder: Path,
    make: Callable[[], Awaitable[tuple[Recording, Callable[[], Awaitable[None]]]]],
) -> int:
    """Run a job repeatedly, on recordings erased one step later each time; returns the steps."""
    store = runtime.archive.store
    for step in range(1, _MOST_STEPS):
        recording, run = await make()
        path, is_erased = folder_of(archive_folder, recording), False
        folder = str(path.relative_to(archive_folder)) + "/"

        def happens(folder: str = folder, recording_id: str = recording.data["id"]) -> None:
            nonlocal is_erased
            is_erased = True
            redis.zrem(DELETIONS_DUE, folder)
            erase_now(store, folder, recording_id)

        runtime.archive.store = Interrupted(store, step, happens)
        try:
            await run()
        finally:
            runtime.archive.store = store
        if not is_erased:
            return step - 1
        left = [p.name for p in path.rglob("*") if p.is_file()]
        assert left == ["erased.json"], f"at step {step}"
        assert await runtime.redis.zscore(DELETIONS_DUE, folder) is None, f"at step {step}"
        await run()
        assert [p.name for p in path.rglob("*") if p.is_file()] == ["erased.json"], f"run again after step {step}"
    raise AssertionError("it never ends")


async def test_an_erasure_wins_against_archiving_at_each_step(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    async def make() -> tuple[Recording, Callable[[], Awaitable[None]]]:
        recording = sandbox.world.add_recording(seconds=0.2)
        return recording, lambda: archive_recording(runtime, request_of(recording))

    assert await at_each_step(runtime, redis, archive_folder, make) >= 5


async def test_an_erasure_wins_at_each_step_in_a_bucket_that_is_asked_for_several_things_at_once(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, tmp_path: Path
) -> None:
    with s3_weak(tmp_path / "s3") as bucket, environ(bucket.environment):
        settings = environment | bucket.make_archive()
        async with runtime_of(settings, async_redis, CALLVAULT_DELETE_ORIGINALS="verified") as runtime:

            async def make() -> tuple[Recording, Callable[[], Awaitable[None]]]:
                recording = sandbox.world.add_recording(seconds=0.2)
                return recording, lambda: archive_recording(runtime, request_of(recording))

            folder = tmp_path / "s3" / settings["CALLVAULT_ARCHIVE_URL"].removeprefix("s3://")
            assert await at_each_step(runtime, redis, folder, make) >= 7


async def test_an_erasure_wins_against_another_content_at_each_step(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    async def make() -> tuple[Recording, Callable[[], Awaitable[None]]]:
        recording = sandbox.world.add_recording(seconds=0.2)
        await archive_recording(runtime, request_of(recording))
        recording.audio["wav"] = make_wav("other", 0.2, 2)
        recording.data["updated_at"] = text_of(now())
        return recording, lambda: archive_recording(runtime, request_of(recording, "event-2"))

    assert await at_each_step(runtime, redis, archive_folder, make) >= 6


async def test_an_erasure_wins_against_a_transcription_at_each_step(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    async def make() -> tuple[Recording, Callable[[], Awaitable[None]]]:
        recording = sandbox.world.add_recording(seconds=0.2)
        await archive_recording(runtime, request_of(recording))
        transcription = sandbox.world.add_transcription(recording)
        sandbox.world.complete_transcription(transcription)
        request = TranscriptionRequest(transcription_id=transcription["id"], recording_id=recording.data["id"])
        return recording, lambda: archive_transcription(runtime, request)

    assert await at_each_step(runtime, redis, archive_folder, make) >= 3


async def test_an_erasure_wins_against_a_transcription_that_is_not_archived_at_each_step(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    async def make() -> tuple[Recording, Callable[[], Awaitable[None]]]:
        recording = sandbox.world.add_recording(seconds=0.2)
        await archive_recording(runtime, request_of(recording))
        transcription = sandbox.world.add_transcription(recording)
        sandbox.world.complete_transcription(transcription)
        transcription["transcription_text"] = None
        sandbox.world.faults.change({"answers": {f"/recording_transcriptions/{transcription['id']}": 404}})

        async def accept() -> None:
            with suppress(UserError):
                await accept_transcription(runtime, transcription["id"], "why", "Ann")

        return recording, accept

    assert await at_each_step(runtime, redis, archive_folder, make) >= 3


async def test_an_erasure_wins_against_a_repair_at_each_step(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    async def make() -> tuple[Recording, Callable[[], Awaitable[None]]]:
        recording = sandbox.world.add_recording(seconds=0.2)
        await archive_recording(runtime, request_of(recording))
        path = folder_of(archive_folder, recording)
        (path / "audio.wav").unlink()
        request = RepairRequest(folder=str(path.relative_to(archive_folder)) + "/")
        return recording, lambda: repair_recording(runtime, request)

    assert await at_each_step(runtime, redis, archive_folder, make) >= 5


async def test_a_transcription_that_telnyx_touches_without_another_word_stays_as_it_was_archived(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.2)
    await archive_recording(runtime, request_of(recording))
    transcription = sandbox.world.add_transcription(recording)
    sandbox.world.complete_transcription(transcription)
    request = TranscriptionRequest(transcription_id=transcription["id"], recording_id=recording.data["id"])
    await archive_transcription(runtime, request)
    path = folder_of(archive_folder, recording) / "transcriptions" / f"{transcription['id']}.json"
    first = path.read_bytes()
    transcription["updated_at"] = text_of(now())
    await archive_transcription(runtime, request)
    assert path.read_bytes() == first
    transcription["transcription_text"] = "other words"
    with pytest.raises(ArchiveConflict):
        await archive_transcription(runtime, request)
    assert path.read_bytes() == first


async def test_a_transcription_of_an_erased_recording_is_no_dead_letter(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.2)
    await archive_recording(runtime, request_of(recording))
    path = folder_of(archive_folder, recording)
    erase_now(runtime.archive.store, str(path.relative_to(archive_folder)) + "/", recording.data["id"])
    gone = TranscriptionRequest(transcription_id="gone", recording_id=recording.data["id"])
    await archive_transcription(runtime, gone)
    assert [p.name for p in path.rglob("*") if p.is_file()] == ["erased.json"]


async def test_a_worker_that_may_not_delete_asks_for_another_erasure(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(key: str) -> None:
        raise StoreRefused(f"{key}: Access Denied")

    recording = sandbox.world.add_recording(seconds=0.2)
    await archive_recording(runtime, request_of(recording))
    folder = str(folder_of(archive_folder, recording).relative_to(archive_folder)) + "/"
    record = Erasure(recording_id=recording.data["id"], objects=[], why="x", by="y", erased_at="2026-11-25T10:00:00Z")
    runtime.archive.put_erasure(folder, record)
    monkeypatch.setattr(runtime.archive.store, "erase", refused)
    await archive_recording(runtime, request_of(recording, "event-2"))
    (alert,) = [json.loads(row) for row in redis.lrange(ALERTS, 0, -1)]
    assert alert["kind"] == "erasure-incomplete"
    assert "2 objects were written there since" in alert["text"]


async def test_an_erasure_and_a_job_wait_for_each_other(sandbox: RunningSandbox, runtime: Runtime) -> None:
    recording = sandbox.world.add_recording(seconds=20)
    sandbox.world.faults.change({"download_bytes_per_second": 1_000_000})
    archiving = asyncio.create_task(archive_recording(runtime, request_of(recording)))
    while not await runtime.redis.exists(WRITER + recording.data["id"]):
        await asyncio.sleep(0.005)
    with pytest.raises(HeldElsewhere):
        async with sole_writer(runtime.redis, recording.data["id"], 0):
            pass
    async with sole_writer(runtime.redis, recording.data["id"], 30):
        assert archiving.done(), "the erasure starts once the job has ended"
        with pytest.raises(HeldElsewhere):
            await archive_recording(runtime, request_of(recording))


async def test_a_second_erasure_reports_what_it_did_this_time(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.2)
    await archive_recording(runtime, request_of(recording))
    path = folder_of(archive_folder, recording)
    folder = str(path.relative_to(archive_folder)) + "/"
    first = erase(runtime.archive, folder, "request", "dpo")
    assert (first.is_first, first.keys) == (True, [f"{folder}audio.wav", f"{folder}recording.json"])
    (path / "transcriptions").mkdir()
    (path / "transcriptions" / "late.json").write_text("{}")
    second = erase(runtime.archive, folder, "another reason", "another")
    assert (second.is_first, second.keys) == (False, [layout.transcription_key(folder, "late")])
    assert second.record == first.record
    assert erase(runtime.archive, folder, "x", None).keys == []
