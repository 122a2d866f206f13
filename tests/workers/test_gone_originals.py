"""Originals that Telnyx shows, hides, keeps or changes, and the records of that."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from archive.archive import Archive
from lab.redis import Server
from lab.servers import RunningSandbox
from lab.worker import archive, delete_what_is_due, own_runtime
from sandbox.world import World
from tests.workers.steps import folder_of, has_left, kinds_of_alerts, pages, receipt
from text import times
from text.errors import UserError
from workers.deletion import decisions
from workers.deletion.duties import state_own_duties
from workers.deletion.kept import what_keeps
from workers.deletion.outcomes import letter_id, schedule_again
from workers.deletion.schedule import Leaving
from workers.engine.failure_classes import NotFinished
from workers.keys import DELETIONS_DUE, LEAVING
from workers.recordings.archive_recording import archive_recording
from workers.recordings.requests import DeletionRequest, RecordingRequest


async def test_the_key_of_another_account_writes_no_receipt_and_stops_deletion(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recordings = [sandbox.world.add_recording(seconds=0.5) for _ in range(5)]
    async with own_runtime(deleting) as runtime:
        await archive(runtime, *recordings)
    other = RunningSandbox(World(seed=2))
    try:
        async with own_runtime(deleting | other.environment) as runtime:
            await delete_what_is_due(runtime)
            assert "deletion-stopped" in await kinds_of_alerts(runtime)
            assert "5 of 5 originals" in (await runtime.schedule.paused() or "")
    finally:
        other.stop()
    assert not [*archive_folder.rglob("deleted.json"), *archive_folder.rglob("gone.json")]
    async with own_runtime(deleting) as runtime:
        await decisions.resume(runtime, "the right key", "ann")
        await delete_what_is_due(runtime)
    assert all(receipt(archive_folder, r).exists() and r.deleted_at for r in recordings)


@pytest.mark.parametrize("count", [1, 5])
async def test_an_original_that_another_unit_is_deleting_does_not_count_as_gone_before(
    count: int, sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path, tmp_path: Path
) -> None:
    """Two deployments on one archive: one sees the 404 of the other's deletion before the receipt."""
    recordings = [sandbox.world.add_recording(seconds=0.5) for _ in range(count)]
    seen = sandbox.world.add_recording(seconds=0.5)
    with Server(tmp_path) as other_redis:
        async with own_runtime(deleting) as one, own_runtime(deleting | {"REDIS_URL": other_redis.url}) as other:
            await archive(one, *recordings, seen)
            for runtime in (one, other):
                await state_own_duties(runtime)
            put, goes_on = Archive.put_receipt, threading.Event()

            def put_later(self: Archive, *arguments: Any) -> Any:
                assert goes_on.wait(20)
                return put(self, *arguments)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Archive, "put_receipt", put_later)
                deletes = asyncio.create_task(delete_what_is_due(one))
                while not all(has_left(r) for r in (*recordings, seen)):
                    await asyncio.sleep(0.01)
                sandbox.world.recordings[seen.data["id"]].deleted_at = None  # this shows that the key is right
                for recording in (*recordings, seen):
                    await other.schedule.add(f"{folder_of(archive_folder, recording).relative_to(archive_folder)}/", 0)
                looks = asyncio.create_task(delete_what_is_due(other))
                await asyncio.sleep(1)
                goes_on.set()
                await asyncio.gather(deletes, looks)
            assert await other.schedule.paused() is None
            assert await other.schedule.count_due() == 0
    assert not [*archive_folder.rglob("gone.json")]
    assert all(receipt(archive_folder, r).exists() for r in recordings)


async def test_a_single_404_under_a_key_that_shows_nothing_else_is_no_proof_of_anything(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
    other = RunningSandbox(World(seed=2))
    try:
        async with own_runtime(deleting | other.environment) as runtime:
            await delete_what_is_due(runtime)
    finally:
        other.stop()
    assert not [*archive_folder.rglob("deleted.json"), *archive_folder.rglob("gone.json")]


@pytest.mark.parametrize("count", [1, 5])
async def test_the_key_of_another_account_ends_no_deletion_that_was_asked_for_under_the_right_one(
    count: int, sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recordings = [sandbox.world.add_recording(seconds=0.5) for _ in range(count)]
    async with own_runtime(deleting) as runtime:
        await archive(runtime, *recordings)
        sandbox.world.faults.change({"delete_ignores": 1.0})
        await delete_what_is_due(runtime)
    other = RunningSandbox(World(seed=2))
    try:
        async with own_runtime(deleting | other.environment) as runtime:
            await delete_what_is_due(runtime)
    finally:
        other.stop()
    assert not any(has_left(r) for r in recordings)
    assert not [*archive_folder.rglob("deleted.json"), *archive_folder.rglob("gone.json")]


async def test_originals_that_vanish_again_after_being_seen_stop_deletion_again(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recordings = [sandbox.world.add_recording(seconds=0.5) for _ in range(5)]
    other = RunningSandbox(World(seed=2))
    try:
        async with own_runtime(deleting) as right, own_runtime(deleting | other.environment) as wrong:
            await archive(right, *recordings)
            await delete_what_is_due(wrong)
            await decisions.resume(right, "the right key", "ann")
            sandbox.world.faults.change({"delete_ignores": 1.0})
            await delete_what_is_due(right)
            await delete_what_is_due(wrong)
            assert "5 of 5 originals" in (await right.schedule.paused() or "")
    finally:
        other.stop()
    assert not [*archive_folder.rglob("deleted.json"), *archive_folder.rglob("gone.json")]


async def test_a_worker_that_dies_before_its_receipt_leaves_it_to_the_next_turn(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    folder = folder_of(Path(), recording).as_posix() + "/"
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        seen, asked = "2026-11-26T10:00:00.000000Z", "2026-11-26T10:00:01.000000Z"
        await runtime.leaving.put({recording.data["id"]: Leaving(folder, "dead", seen, asked)})
        recording.deleted_at = times.format_instant(times.utc_now())
        await delete_what_is_due(runtime)
        assert not await runtime.redis.hlen(LEAVING)
    told = json.loads(receipt(archive_folder, recording).read_bytes())
    assert (told["schema"], told["seen_at"], told["asked_at"]) == ("callvault.deletion/2", seen, asked)


async def test_a_receipt_states_that_the_original_existed_before_we_deleted_it(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        await delete_what_is_due(runtime)
    told = json.loads(receipt(archive_folder, recording).read_bytes())
    assert told["seen_at"] <= told["asked_at"] <= told["confirmed_gone_at"]


@pytest.mark.parametrize("how", ["ignored", "refused"])
async def test_an_original_that_telnyx_never_deletes_backs_off_and_becomes_a_dead_letter(
    how: str, sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    recording_id = recording.data["id"]
    folder = folder_of(Path(), recording).as_posix() + "/"
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        sandbox.world.faults.change({"delete_ignores": 1.0} if how == "ignored" else {"delete_refused": 1.0})
        waits = []
        while await runtime.redis.zscore(DELETIONS_DUE, folder) is not None:
            await delete_what_is_due(runtime)
            due = await runtime.redis.zscore(DELETIONS_DUE, folder)
            waits.append((due or 0) - times.utc_now().timestamp())
            assert len(waits) <= 12
        assert waits[5] > 60 > waits[0]
        letters = await runtime.attempts.letters()
        assert [letter.job_id for letter in letters] == [letter_id(recording_id)]
        assert {"deletion-refused", "dead-letter"} <= await kinds_of_alerts(runtime)
        await runtime.schedule.add(folder, 0)  # as reconcile does
        await delete_what_is_due(runtime)
        assert await runtime.redis.zscore(DELETIONS_DUE, folder) is None, "a person must look first"
        assert not receipt(archive_folder, recording).exists()
        sandbox.world.faults.change({"delete_ignores": 0.0, "delete_refused": 0.0})
        await runtime.attempts.discard(letter_id(recording_id))
        await schedule_again(runtime, msgspec.convert(letters[0].payload, DeletionRequest))
        await delete_what_is_due(runtime)
    assert has_left(recording) and receipt(archive_folder, recording).exists()


@pytest.mark.parametrize(
    ("change", "then"),
    [
        ({"recording_ended_at": "2026-11-26T01:00:00.000000Z"}, "it goes"),
        ({"updated_at": "2026-11-26T01:00:00.000000Z"}, "it goes"),
        ({"duration_millis": 9_000}, "its audio is to be looked at"),
        ({"channels": "single"}, "it goes"),
        ({"status": "processing"}, "it is waited for"),
    ],
)
async def test_a_recording_that_changed_at_telnyx_stays_until_its_audio_is_compared(
    change: dict[str, Any],
    then: str,
    sandbox: RunningSandbox,
    deleting: dict[str, str],
    archive_folder: Path,
    tmp_path: Path,
) -> None:
    recording, other = (sandbox.world.add_recording(seconds=0.5) for _ in range(2))
    recording_id = recording.data["id"]
    folder = str(folder_of(archive_folder, recording).relative_to(archive_folder)) + "/"
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording, other)
        recording.data.update(change)
        await delete_what_is_due(runtime)
        assert (has_left(recording), has_left(other)) == (False, True)
        assert await kinds_of_alerts(runtime) == set(), "whether the audio differs is still unknown"
        again = RecordingRequest(recording_id=recording_id, found_by="reconcile", look_again=True)
        if then == "it is waited for":
            with pytest.raises(NotFinished):
                await archive_recording(runtime, again)
            return
        await archive_recording(runtime, again)
        kept = await what_keeps(runtime, folder)
        assert (kept is None) == (then == "it goes")
        assert await kinds_of_alerts(runtime) == (set() if then == "it goes" else {"audio-finding"})
        with pages(deleting, tmp_path / "pages", deleting["REDIS_URL"]) as (client, _):
            told = client.get(f"/api/recordings/{recording_id}").json()
        steps = {step["what"]: step["detail"] for step in told["history"]}
        assert steps["details changed at Telnyx"].startswith("the audio is the same; ") and told["kept"] == kept
        if then == "it goes":
            with pytest.raises(UserError, match=r"nothing to approve; .* its audio is the same, so nothing keeps it"):
                await decisions.approve(runtime, recording_id, "looked", "ann")
        else:
            await delete_what_is_due(runtime)
            assert not has_left(recording)
            await decisions.approve(runtime, recording_id, "listened", "ann")
        await runtime.schedule.add(folder, 0)
        await delete_what_is_due(runtime)
    assert has_left(recording)


async def test_an_unreachable_download_address_is_no_evidence_of_a_change(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        sandbox.world.faults.change({"download_500": 1.0})
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        ((_, due_at),) = await runtime.redis.zrange(DELETIONS_DUE, 0, -1, withscores=True)
        assert due_at < time.time() + 60, "it is asked again soon"
        sandbox.world.faults.change({"download_500": 0.0, "download_expired": 1.0})
        for _ in range(2):
            await delete_what_is_due(runtime)
        assert not has_left(recording) and await kinds_of_alerts(runtime) == {"deletion-refused"}
        sandbox.world.faults.change({"download_expired": 0.0})
        await delete_what_is_due(runtime)
    assert has_left(recording)
