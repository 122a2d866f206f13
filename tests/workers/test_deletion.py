"""An original from archiving to deletion, with a real worker, a real Redis and a sandbox over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.processes import callvault, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.stores import environ, s3_weak
from lab.worker import archive, delete_what_is_due, own_runtime, runtime_of
from sandbox.world import Recording
from tests.workers.steps import alerts, ask, assert_archived, committed, folder_of, has_left
from workers.deletion.deletion import start_deletions
from workers.engine.failure_classes import FAILURE_CLASSES
from workers.keys import CLOCK_QUEUE, DELETIONS_BACK_OFF, DELETIONS_DUE, LEASES
from workers.recordings.requests import TranscriptionRequest
from workers.recordings.transcriptions import archive_transcription

DELETING = {"CALLVAULT_DELETE_ORIGINALS": "verified", "CALLVAULT_DELETE_AFTER": "1s"}
AT_ONCE = DELETING | {"CALLVAULT_DELETE_AFTER": "0s"}


async def test_nothing_is_deleted_while_deletion_is_off(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    async with own_runtime(environment | {"CALLVAULT_DELETE_AFTER": "0s"}) as runtime:
        await archive(runtime, recording)
        assert_archived(archive_folder, recording)
        await async_redis.zadd(
            DELETIONS_DUE, {f"{folder_of(Path(), recording)}/": 0}
        )  # as another worker may have written
        await start_deletions(runtime)
        assert await async_redis.zcard(CLOCK_QUEUE) == 0, "no deletion starts"
        await delete_what_is_due(runtime)  # and one that another worker began deletes nothing
    assert recording.deleted_at is None
    assert not [r for r in sandbox.world.requests if r["method"] == "DELETE" or r["path"].endswith("/delete")]


async def test_originals_go_in_bulk_after_the_grace_and_leave_a_receipt(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    recordings = [sandbox.world.add_recording(seconds=1) for _ in range(5)]
    transcription = sandbox.world.add_transcription(recordings[0])
    sandbox.world.complete_transcription(transcription)
    for recording in recordings:
        await ask(async_redis, recording)
    with callvault(["worker"], environment | DELETING, "worker ready"):
        receipts = [folder_of(archive_folder, r) / "deleted.json" for r in recordings]
        wait_for(lambda: all(path.exists() for path in receipts[1:]))
        # The recording with a transcription waits until that is archived too; it has no webhook here.
        transcribed = folder_of(archive_folder, recordings[0]) / "transcriptions" / f"{transcription['id']}.json"
        wait_for(transcribed.exists)
        assert recordings[0].deleted_at is None
        redis.zadd("callvault:deletions:due", dict.fromkeys(redis.zrange("callvault:deletions:due", 0, -1), 0))
        wait_for(receipts[0].exists)
        wait_for(lambda: redis.zcard("callvault:deletions:due") == 0)
    assert all(r.deleted_at for r in recordings)
    for recording, receipt in zip(recordings, receipts, strict=True):
        record = json.loads((receipt.parent / "recording.json").read_bytes())
        assert recording.deleted_at > record["archived_at"]
        told = json.loads(receipt.read_bytes())
        assert told["recording_id"] == recording.data["id"]
        assert told["objects"] == record["objects"]
    assert json.loads(receipts[0].read_bytes())["transcription_ids"] == [transcription["id"]]


@pytest.mark.parametrize(
    "damage", ["altered", "cut", "gone", "record gone", "{}", "of no object", "of another recording", "of its objects"]
)
async def test_a_damaged_object_blocks_its_deletion_and_is_reported(
    damage: str,
    sandbox: RunningSandbox,
    environment: dict[str, str],
    redis: Any,
    archive_folder: Path,
    logged: Callable[[], str],
) -> None:
    recording, sound = (sandbox.world.add_recording(seconds=1) for _ in range(2))
    async with own_runtime(environment | AT_ONCE) as runtime:
        await archive(runtime, recording, sound)
        assert_archived(archive_folder, recording)
        assert redis.zcard(DELETIONS_DUE) == 2
        audio, record = (folder_of(archive_folder, recording) / name for name in ("audio.wav", "recording.json"))
        data = audio.read_bytes()
        if damage == "altered":
            audio.write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
        elif damage == "cut":
            audio.write_bytes(data[:-1])
        elif damage == "gone":
            audio.unlink()
        elif damage == "record gone":
            record.unlink()
        elif damage == "{}":
            record.write_bytes(b"{}")
        else:
            told, other = (
                json.loads((folder_of(archive_folder, r) / record.name).read_bytes()) for r in (recording, sound)
            )
            told["objects"] = other["objects"] if damage == "of its objects" else []
            record.write_text(json.dumps(other if damage == "of another recording" else told))
        await delete_what_is_due(runtime)
        assert "deletion blocked: the archive is damaged" in logged()
        assert sound.deleted_at
        await delete_what_is_due(runtime)
    assert recording.deleted_at is None


@pytest.mark.parametrize(
    ("kind", "finding"),
    [
        ({"silent": True}, "silent-channel"),
        ({"duration_millis": 60_000}, "duration"),
        ({"channels": 1}, "channels"),
        ({"channels": 1, "formats": ("mp3",)}, "channels"),
    ],
)
async def test_audio_that_differs_from_its_description_is_archived_and_its_original_kept(
    kind: dict[str, Any],
    finding: str,
    sandbox: RunningSandbox,
    environment: dict[str, str],
    archive_folder: Path,
) -> None:
    recording = sandbox.world.add_recording(seconds=4, **kind)
    recording.data["channels"] = "dual"
    async with own_runtime(environment | AT_ONCE) as runtime:
        await archive(runtime, recording)
        record = assert_archived(archive_folder, recording)
        await delete_what_is_due(runtime)
    assert record["audio"]["findings"] == [finding]
    assert recording.deleted_at is None


async def test_a_refused_bulk_deletion_is_halved(
    sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path
) -> None:
    recordings = [sandbox.world.add_recording(seconds=1) for _ in range(7)]
    sandbox.world.faults.change({"bulk_delete_limit": 2})
    async with own_runtime(environment | AT_ONCE) as runtime:
        await archive(runtime, *recordings)
        await delete_what_is_due(runtime)
    assert all((folder_of(archive_folder, r) / "deleted.json").exists() for r in recordings)
    assert all(r.deleted_at for r in recordings)


async def test_an_original_that_telnyx_keeps_is_not_reported_as_deleted(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path, logged: Callable[[], str]
) -> None:
    recordings = [sandbox.world.add_recording(seconds=1) for _ in range(3)]
    sandbox.world.faults.change({"bulk_delete_ignores": 1})
    async with own_runtime(environment | AT_ONCE) as runtime:
        await archive(runtime, *recordings)
        await delete_what_is_due(runtime)
    assert "deleted but still there" in logged()
    assert not list(archive_folder.rglob("deleted.json"))
    assert redis.zcard(DELETIONS_DUE) == 3, "their turn comes again"


async def test_a_damaged_transcription_blocks_the_deletion_of_its_recording(
    sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path, logged: Callable[[], str]
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    transcription = sandbox.world.add_transcription(recording)
    sandbox.world.complete_transcription(transcription)
    request = TranscriptionRequest(transcription_id=transcription["id"], recording_id=recording.data["id"])
    path = folder_of(archive_folder, recording) / "transcriptions" / f"{transcription['id']}.json"
    async with own_runtime(environment | AT_ONCE) as runtime:
        await archive_transcription(runtime, request)
        path.write_bytes(path.read_bytes().replace(b"order", b"0rder").replace(b"you", b"y0u"))
        await archive(runtime, recording)
        await delete_what_is_due(runtime)
        assert "does not say what Telnyx says" in logged()
        await delete_what_is_due(runtime)
    assert recording.deleted_at is None
    assert transcription["id"] in sandbox.world.transcriptions


async def archived_and_due(
    count: int, sandbox: RunningSandbox, settings: dict[str, str], redis: Any
) -> list[Recording]:
    """Archived recordings whose deletion is due now."""
    recordings = [sandbox.world.add_recording(seconds=0.1) for _ in range(count)]
    with environ(settings):  # a store's library reads its own
        async with own_runtime(settings) as runtime:
            await archive(runtime, *recordings)
    assert redis.zcard(DELETIONS_DUE) == count
    redis.zadd(DELETIONS_DUE, dict.fromkeys(redis.zrange(DELETIONS_DUE, 0, -1), 0))
    return recordings


async def test_a_long_list_of_deletions_keeps_no_webhook_waiting(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    """Telnyx is slow with each deletion here, and new webhooks wait for none of them."""
    settings = environment | DELETING | {"CALLVAULT_CONCURRENCY": "2", "CALLVAULT_DELETE_BATCH": "20"}
    await archived_and_due(60, sandbox, settings, redis)
    sandbox.world.faults.change({"bulk_delete_ignores": 1.0})  # each is checked three times, for more than a second
    with callvault(["worker"], settings, "worker ready") as worker:
        wait_for(lambda: any(r["path"].endswith("/delete") for r in sandbox.world.requests), what="a bulk deletion")
        for n in range(5):
            late = sandbox.world.add_recording(seconds=0.1)
            await ask(async_redis, late)
            wait_for(lambda: committed(archive_folder, late), 15, "the archiving of the new recording")  # noqa: B023
            assert n or any(job.startswith("delete_originals:") for job in redis.hkeys(LEASES)), (
                "it waited for a deletion"
            )
            time.sleep(0.5)
        worker.wait_for_output("deleted but still there")
        # The commit precedes the scheduling, so the last one may take a moment.
        wait_for(lambda: redis.zcard(DELETIONS_DUE) == len(sandbox.world.recordings), what="each to be due again")


async def test_a_store_that_is_away_postpones_deletions_in_few_lines(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        with s3_weak(tmp_path / "s3") as store:
            settings = environment | DELETING | store.make_archive()
            recordings = await archived_and_due(30, sandbox, settings, redis)
            listed = redis.zrange(DELETIONS_DUE, 0, -1)
            redis.zadd(DELETIONS_DUE, dict.fromkeys(listed, time.time() + 3600))
            settings |= {"CALLVAULT_DELETE_BATCH": "5"}
            worker = stack.enter_context(callvault(["worker"], settings, "worker ready"))
        redis.zadd(DELETIONS_DUE, dict.fromkeys(listed, 0))
        worker.wait_for_output("deletions postponed", 60)
        time.sleep(5)
        assert worker.output.count("deletions postponed") <= 4
        assert redis.exists(DELETIONS_BACK_OFF)
    assert not any(r.deleted_at for r in recordings)
    assert redis.zcard(DELETIONS_DUE) == len(recordings)


async def test_a_recording_that_cannot_be_checked_blocks_no_other_deletion(
    sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    settings = environment | DELETING
    odd, *others = await archived_and_due(5, sandbox, settings, redis)
    path = folder_of(archive_folder, odd) / "audio.wav"
    path.unlink()
    path.symlink_to(path)  # nothing can follow this to its end
    with callvault(["worker"], settings, "worker ready") as worker:
        wait_for(lambda: all(r.deleted_at for r in others), 20, "the deletion of the others")
        worker.wait_for_output("deletions postponed")
    assert odd.deleted_at is None and not redis.exists(DELETIONS_BACK_OFF)


@pytest.mark.parametrize(("status", "cause"), [(403, "refused"), (422, "rejected")])
async def test_originals_with_forbidden_transcriptions_cause_an_alert_and_go_once_allowed(
    status: int, cause: str, deleting: dict[str, str], async_redis: Any, sandbox: RunningSandbox, redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=0.1)
    async with runtime_of(deleting, async_redis, CALLVAULT_QUEUE_AGE_LIMIT="1s") as runtime:
        await archive(runtime, recording)
        sandbox.world.faults.change({"answers": {"/recording_transcriptions?": status}})

        async def is_told() -> bool:
            await delete_what_is_due(runtime)
            return bool(alerts(redis, "jobs-fail"))

        deadline = time.monotonic() + 30
        while not await is_told():
            assert time.monotonic() < deadline, "no alert came"
            await asyncio.sleep(0.1)
        (told,) = alerts(redis, "jobs-fail")
        assert told.startswith("delete_originals has failed for ")
        assert f"{recording.data['id']}: GET /v2/recording_transcriptions: {status}" in told
        assert f": {status} " in (await runtime.attempts.failing(FAILURE_CLASSES))[cause]
        shown = run_callvault(["status"], deleting).stdout
        assert f"jobs fail     {cause}: {recording.data['id']}: GET " in shown
        assert not has_left(recording)
        sandbox.world.faults.change({"answers": {}})
        await delete_what_is_due(runtime)
    assert has_left(recording)


async def test_an_original_that_may_not_be_deleted_blocks_no_other_of_its_batch(
    deleting: dict[str, str], async_redis: Any, sandbox: RunningSandbox, redis: Any
) -> None:
    recordings = [sandbox.world.add_recording(seconds=0.1) for _ in range(5)]
    kept = recordings[2].data["id"]

    async with runtime_of(deleting, async_redis) as runtime:
        await archive(runtime, *recordings)
        sandbox.world.undeletable.add(kept)
        await delete_what_is_due(runtime)
        await delete_what_is_due(runtime)
    assert [has_left(one) for one in recordings] == [True, True, False, True, True]
    (told,) = alerts(redis, "deletion-refused")
    assert f"{kept} in 2 attempts: DELETE /v2/recordings/{kept}: 403" in told
