"""Decisions while Redis, Telnyx or the API key is missing: each is recorded, says what is unknown, and takes effect later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.processes import free_port, run_callvault
from lab.servers import RunningSandbox
from lab.worker import archive, delete_what_is_due, own_runtime, without_redis
from tests.workers.steps import HOLD, folder_of, has_left, key_of
from workers.deletion import decisions
from workers.deletion.decisions import NothingHeld
from workers.deletion.deletion import refresh_pause
from workers.deletion.kept import schedule_unless_kept, what_keeps
from workers.keys import CLOCK_QUEUE, DECISIONS_ANNOUNCED, DELETIONS_DUE, UNSEALED, WRITTEN
from workers.reconcile.decisions import announce_decisions


@pytest.mark.parametrize("away", ["the key", "Telnyx", "Redis"])
async def test_a_hold_is_placed_whatever_is_unreachable_and_reports_what_is_unknown(
    away: str, sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    recording_id = recording.data["id"]
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        settings = dict(deleting)
        if away == "the key":
            del settings["TELNYX_API_KEY"]
        elif away == "Telnyx":
            settings["TELNYX_BASE_URL"] = f"http://127.0.0.1:{free_port()}/v2"
        else:
            settings["REDIS_URL"] = f"redis://127.0.0.1:{free_port()}/0"
        done = run_callvault(["deletions", "hold", recording_id, *HOLD], settings, 120)
        assert done.returncode == 0, done.stderr
        why = {"the key": "TELNYX_API_KEY is not set", "Telnyx": "its original is still at", "Redis": "Redis does not"}
        assert done.stdout.startswith(f"{recording_id} is on hold") and why[away] in done.stdout
        assert list(folder_of(archive_folder, recording).glob("decisions/*.json")), "the seal of its day lists it"
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        if away == "Redis":
            assert "its original is still at" not in done.stdout, "Telnyx was asked, and answered"
        else:
            done = run_callvault(["deletions", "release", recording_id, "--why", "over"], settings)
            assert (done.returncode, "is released" in done.stdout) == (0, True), done.stderr
            await runtime.schedule.add(key_of(archive_folder, recording), 0)
            await delete_what_is_due(runtime)
            assert has_left(recording)


async def test_what_is_recorded_while_redis_is_away_is_said_to_be_and_takes_effect(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    recording_id = recording.data["id"]
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        folder = key_of(archive_folder, recording)
        await decisions.hold(runtime, recording_id, "case 17", "ann")
        await decisions.pause(runtime, "a doubt", "ann")
        async with without_redis(deleting) as without:
            released = await decisions.release(without, recording_id, "over", "ann")
            assert (released.kept or "").startswith("deletion is paused") and not released.is_told
            assert "Redis does not answer" in released.follows and "It is recorded" in released.follows
            assert await decisions.resume(without, "no doubt", "ann"), "as the archive says, which counts"
        with pytest.raises(NothingHeld):
            await decisions.release(runtime, recording_id, "over", "ann")
        await runtime.schedule.done(folder)
        assert await schedule_unless_kept(runtime, [folder]) == 1, "as the next reconcile does"
        await refresh_pause(runtime)
        await runtime.schedule.hasten(folder, 0)
        await delete_what_is_due(runtime)
        assert has_left(recording)


async def test_a_decision_that_redis_did_not_hear_of_reaches_seals_and_pages_by_the_next_reconcile(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path, redis: Any
) -> None:
    recording, held_early = sandbox.world.add_recording(seconds=0.5), sandbox.world.add_recording(seconds=0.5)
    early_id = held_early.data["id"]
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        await announce_decisions(runtime)
        assert redis.zcard(CLOCK_QUEUE) == 0, "no decision waits for it"
        redis.delete(DECISIONS_ANNOUNCED)
        await decisions.hold(runtime, recording.data["id"], "case 16", "ann")
        await announce_decisions(runtime)
        assert redis.zscore(CLOCK_QUEUE, "find_unsealed:clock:") is not None
        async with without_redis(deleting) as without:
            await decisions.hold(without, recording.data["id"], "case 17", "ann")
            await decisions.hold(without, early_id, "case 17", "ann")
        redis.delete(UNSEALED, WRITTEN, CLOCK_QUEUE)  # as once the day is sealed
        for _ in range(2):
            await announce_decisions(runtime)
            assert redis.zcard(UNSEALED) == redis.xlen(WRITTEN) == 1, "once, and nothing that Redis had heard of"
        ((_, entry),) = redis.xrange(WRITTEN)
        assert (archive_folder / entry["key"]).read_text() == entry["data"]
        assert json.loads(entry["data"])["why"] == "case 17"
        assert redis.zcard(CLOCK_QUEUE) == 0
        await archive(runtime, held_early)
    assert list(folder_of(archive_folder, held_early).glob("decisions/*.json")), "the seal of its day lists it"


async def test_the_next_reconcile_schedules_what_was_released_while_redis_was_away_also_of_a_sealed_day(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path, redis: Any
) -> None:
    """Reconcile compares no sealed day, so only the decision leads to the original."""
    recording = sandbox.world.add_recording(seconds=0.5)
    recording_id = recording.data["id"]
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        await announce_decisions(runtime)
        await decisions.hold(runtime, recording_id, "case 17", "ann")
        async with without_redis(deleting) as without:
            await decisions.release(without, recording_id, "over", "ann")
        assert redis.zcard(DELETIONS_DUE) == 0
        await announce_decisions(runtime)
        assert redis.zrange(DELETIONS_DUE, 0, -1) == [key_of(archive_folder, recording)]
        await runtime.schedule.hasten(key_of(archive_folder, recording), 0)
        await delete_what_is_due(runtime)
        assert has_left(recording)
        await announce_decisions(runtime)
        assert redis.zcard(DELETIONS_DUE) == 0


async def test_a_decision_that_is_recorded_is_reported_so_whatever_cannot_be_read_after_it(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=4, silent=True)
    recording_id = recording.data["id"]
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        await decisions.hold(runtime, recording_id, "case 17", "ann")
        unreadable = archive_folder / "duties/a-unit/00000001.json"
        unreadable.parent.mkdir(parents=True)
        unreadable.write_text("{")
        released = await decisions.release(runtime, recording_id, "over", "ann")
        _, approved = await decisions.approve(runtime, recording_id, "listened", "ann")
        for found in (released, approved):
            assert found.follows.startswith("unknown: ") and "duties/a-unit" in found.follows
        unreadable.unlink()
        assert await what_keeps(runtime, key_of(archive_folder, recording)) is None


async def test_a_hold_of_a_connection_needs_no_redis(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    settings = deleting | {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    done = run_callvault(["deletions", "hold", "--connection", "7", *HOLD], settings, 120)
    assert (done.returncode, "Redis does not answer" in done.stdout) == (0, True), done.stderr
    assert list((archive_folder / "decisions/connections/7").iterdir())


async def test_a_pause_needs_no_redis_and_stands(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    settings = deleting | {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    done = run_callvault(["deletions", "pause", "--why", "line\none\x1b[2J", "--by", "ann"], settings, 120)
    assert (done.returncode, "Redis does not answer" in done.stdout) == (0, True), done.stderr
    assert done.stdout.startswith("paused: line one?[2J (by ann, since 20"), "one line, and nothing that moves a cursor"
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        await delete_what_is_due(runtime)
    assert not has_left(recording)


async def test_an_approval_needs_no_api_key(sandbox: RunningSandbox, deleting: dict[str, str]) -> None:
    recording = sandbox.world.add_recording(seconds=4, silent=True)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        settings = {name: value for name, value in deleting.items() if name != "TELNYX_API_KEY"}
        arguments = ["deletions", "approve", recording.data["id"], "--why", "listened"]
        done = run_callvault(arguments, settings)
        assert (done.returncode, "approved silent-channel" in done.stdout) == (0, True), done.stderr
        await delete_what_is_due(runtime)
        assert has_left(recording)
    again = run_callvault(arguments, settings)
    assert (again.returncode, "was already gone" in again.stderr) == (1, True), again.stdout
