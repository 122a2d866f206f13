"""Missing audio is restored with the hash of its commit record."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archive.proof import Missing
from archive.seals import Link
from lab.processes import callvault_here, run_callvault
from lab.servers import RunningSandbox
from lab.worker import archive, delete_what_is_due, own_runtime, runtime_of
from sandbox.audio import make_wav
from sandbox.world import Recording, now, text_of
from tests.workers.steps import folder_of, key_of, request_of
from text.times import utc_now
from workers.keys import ALERTS, ARQ_JOB, DELETIONS_DUE
from workers.reconcile.comparison import Tally
from workers.reconcile.reconcile import Days, reconcile_days
from workers.recordings.archive_recording import archive_recording
from workers.recordings.repair import CannotRepair, repair, repair_recording
from workers.recordings.requests import RepairRequest, repair_job
from workers.runtime import Runtime
from workers.seals.seal import seal


@pytest.fixture
async def runtime(environment: dict[str, str], async_redis: Any) -> AsyncIterator[Runtime]:
    deleting = {"CALLVAULT_DELETE_ORIGINALS": "verified", "CALLVAULT_DELETE_AFTER": "0s"}
    async with runtime_of(environment, async_redis, **deleting) as made:
        yield made


@pytest.fixture
async def recording(sandbox: RunningSandbox, runtime: Runtime) -> Recording:
    made = sandbox.world.add_recording(seconds=1)
    await archive_recording(runtime, request_of(made))
    return made


def audio_of(archive_folder: Path, recording: Recording) -> Path:
    return folder_of(archive_folder, recording) / "audio.wav"


def alerts(redis: Any) -> list[tuple[str, str]]:
    return [(row["kind"], row["text"]) for row in map(json.loads, redis.lrange(ALERTS, 0, -1))]


async def test_audio_that_is_gone_is_fetched_again_by_itself_while_telnyx_has_it(
    runtime: Runtime, recording: Recording, redis: Any, archive_folder: Path
) -> None:
    path, folder = audio_of(archive_folder, recording), key_of(archive_folder, recording)
    whole = path.read_bytes()
    path.unlink()
    redis.delete(DELETIONS_DUE)
    await repair_recording(runtime, RepairRequest(folder=folder))
    assert path.read_bytes() == whole
    assert redis.zcard(DELETIONS_DUE) == 1, "its original may be deleted again, once it is proven"
    assert [kind for kind, _ in alerts(redis)] == ["archive-repaired"]
    assert repair_job(folder).payload == RepairRequest(folder=folder)
    await repair_recording(runtime, RepairRequest(folder=folder))
    assert recording.served == {"wav": 2}, "whole audio is not changed"


async def test_a_deletion_fetches_missing_audio_again_but_not_changed_audio(
    runtime: Runtime, recording: Recording, redis: Any, archive_folder: Path
) -> None:
    path, folder = audio_of(archive_folder, recording), key_of(archive_folder, recording)
    job_key = ARQ_JOB + repair_job(folder).id
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\0")
    await delete_what_is_due(runtime)
    assert (redis.exists(job_key), redis.zcard(DELETIONS_DUE)) == (0, 0)
    path.unlink()
    redis.zadd(DELETIONS_DUE, {folder: 0})
    await delete_what_is_due(runtime)
    assert (redis.exists(job_key), redis.zcard(DELETIONS_DUE)) == (1, 0)
    await repair_recording(runtime, RepairRequest(folder=folder))
    assert (path.read_bytes(), redis.zcard(DELETIONS_DUE)) == (whole, 1)
    assert recording.deleted_at is None


async def test_a_reconcile_has_known_missing_audio_fetched_again_but_leaves_known_changed_audio_alone(
    runtime: Runtime, recording: Recording, redis: Any, archive_folder: Path
) -> None:
    path, job_key = audio_of(archive_folder, recording), ARQ_JOB + repair_job(key_of(archive_folder, recording)).id
    today = utc_now().date()
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    await delete_what_is_due(runtime)
    for is_moved_away in (False, True, True):  # a person moves it away; later Redis loses the job
        if is_moved_away:
            path.unlink(missing_ok=True)
        redis.delete(DELETIONS_DUE, job_key)
        await reconcile_days(runtime, Days(today - timedelta(days=1), today, "reconcile"), Tally())
        assert redis.zcard(DELETIONS_DUE) == is_moved_away
        await delete_what_is_due(runtime)
        assert redis.exists(job_key) == is_moved_away
    assert recording.deleted_at is None


async def test_other_bytes_at_telnyx_are_never_put_in_its_place(
    runtime: Runtime, recording: Recording, redis: Any, archive_folder: Path
) -> None:
    audio_of(archive_folder, recording).unlink()
    recording.audio["wav"] = make_wav("other", 1, 2)
    await repair_recording(runtime, RepairRequest(folder=key_of(archive_folder, recording)))
    assert not audio_of(archive_folder, recording).exists()
    ((kind, text),) = alerts(redis)
    assert kind == "archive-damaged"
    assert "Telnyx has other audio now, and nothing was written" in text


async def test_different_bytes_in_place_are_left_to_a_person(
    runtime: Runtime, recording: Recording, redis: Any, archive_folder: Path
) -> None:
    path = audio_of(archive_folder, recording)
    path.write_bytes(b"something else")
    await repair_recording(runtime, RepairRequest(folder=key_of(archive_folder, recording)))
    assert path.read_bytes() == b"something else"
    assert recording.served == {"wav": 1}
    ((kind, text),) = alerts(redis)
    assert (kind, "something else lies there" in text) == ("archive-damaged", True)


async def test_audio_gone_at_telnyx_is_repaired_only_from_a_file_with_the_same_hash(
    runtime: Runtime, recording: Recording, archive_folder: Path, tmp_path: Path
) -> None:
    path, folder = audio_of(archive_folder, recording), key_of(archive_folder, recording)
    copy, other = tmp_path / "copy.wav", tmp_path / "other.wav"
    copy.write_bytes(path.read_bytes())
    other.write_bytes(path.read_bytes()[:-1])
    path.unlink()
    recording.deleted_at = text_of(now())
    with pytest.raises(CannotRepair, match="is not at Telnyx; repair it with --from FILE"):
        await repair(runtime, recording.data["id"], folder)
    for wrong, why in ((other, "and what is gone is"), (tmp_path / "none", "No such file")):
        with pytest.raises(CannotRepair, match=why):
            await repair(runtime, recording.data["id"], folder, wrong)
        assert not path.exists()
    (put_back,) = await repair(runtime, recording.data["id"], folder, copy)
    assert path.read_bytes() == copy.read_bytes()
    assert put_back.key == f"{folder}audio.wav"


async def test_audio_of_a_version_is_put_back_as_well(
    runtime: Runtime, recording: Recording, archive_folder: Path
) -> None:
    recording.audio["wav"] = make_wav("other", 1, 2)
    await archive_recording(runtime, request_of(recording, "event-2"))
    (path,) = folder_of(archive_folder, recording).glob("versions/*/audio.wav")
    whole = path.read_bytes()
    path.unlink()
    await repair_recording(runtime, RepairRequest(folder=key_of(archive_folder, recording)))
    assert path.read_bytes() == whole


async def test_without_a_commit_record_nothing_is_put_back(
    runtime: Runtime, recording: Recording, redis: Any, archive_folder: Path
) -> None:
    audio_of(archive_folder, recording).unlink()
    (folder_of(archive_folder, recording) / "recording.json").unlink()
    await repair_recording(runtime, RepairRequest(folder=key_of(archive_folder, recording)))
    assert not audio_of(archive_folder, recording).exists()
    assert "recording.json: gone from the archive" in alerts(redis)[0][1]


async def test_the_command_repairs_and_lists_what_it_restored(
    recording: Recording, environment: dict[str, str], archive_folder: Path, tmp_path: Path
) -> None:
    path = audio_of(archive_folder, recording)
    whole = path.read_bytes()
    arguments = ["repair", recording.data["id"]]
    assert callvault_here(arguments, environment)[1].endswith("no audio is missing; nothing was written\n")
    path.unlink()
    done = run_callvault([*arguments, "--json"], environment)
    (row,) = json.loads(done.stdout)["put_back"]
    assert (done.returncode, row["sha256"], path.read_bytes()) == (0, recording.audio["wav"].sha256, whole)
    path.unlink()
    copy = tmp_path / "copy.wav"
    copy.write_bytes(whole)
    status, out = callvault_here([*arguments, "--from", str(copy)], environment)
    assert (status, "matches the commit record" in out, path.read_bytes()) == (0, True, whole)
    path.write_bytes(whole[:-1])
    done = run_callvault(arguments, environment)
    assert (done.returncode, "something else lies there" in done.stderr) == (1, True)
    unknown = run_callvault(["repair", "nothing"], environment)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)


async def test_a_sealed_commit_record_is_not_written_again(
    sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path
) -> None:
    """Its text would differ, and the seal of its day would never verify again."""
    began = utc_now() - timedelta(days=5)
    recording = sandbox.world.add_recording(seconds=0.5, started_at=began)
    async with own_runtime(environment) as runtime:
        await archive(runtime, recording)
        assert isinstance(await seal(runtime, began.date()), Link)
        path = folder_of(archive_folder, recording) / "recording.json"
        path.unlink()
        with pytest.raises(Missing, match="a seal lists it"):
            await archive(runtime, recording)
    assert not path.exists()
