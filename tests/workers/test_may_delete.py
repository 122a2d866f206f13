"""Deleting an original depends on what is true in the moment the request leaves: holds, pauses, duties, clocks, Telnyx itself."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import workers.jobs.clocks
import workers.jobs.may_delete
import workers.jobs.recordings
from config import times
from config.errors import UserError
from sandbox.world import Recording, World
from tests.parts import RunningSandbox
from tests.workers.house import archive, delete_what_is_due, house, kinds_of_alerts, receipt, settings_of
from tests.workers.runtimes import request_of
from tests.workers.test_archive_recording import folder_of
from tests.workers.test_changed_content import change
from workers.archive.decisions import is_approved, put_decision, standing_holds
from workers.archive.records import Decision, EarlierDecision
from workers.jobs import decisions, duties
from workers.jobs.chain import is_sealed
from workers.jobs.deletion import DeletionRequest, letter_id, schedule_again, start_deletions
from workers.jobs.duties import (
    effective_duties,
    own_duties,
    retire_unit,
    state_duties,
    state_own_duties,
    unit_of,
    workers_duties,
)
from workers.jobs.payloads import TranscriptionRequest
from workers.jobs.recordings import archive_recording
from workers.jobs.seals import seal
from workers.jobs.transcriptions import archive_transcription
from workers.keys import DELETIONS_DUE, LEAVING, LIVE_DUTIES
from workers.queue.embedded import socket_url
from workers.queue.leaving import Leaving
from workers.status import read_status

DELETING = {"CALLVAULT_DELETE_ORIGINALS": "verified", "CALLVAULT_DELETE_AFTER": "1ms"}


@pytest.fixture
def deleting(environment: dict[str, str]) -> dict[str, str]:
    return environment | DELETING


def has_left(recording: Recording) -> bool:
    """Whether an original was deleted at Telnyx."""
    return recording.deleted_at is not None


async def has_begun(sandbox: RunningSandbox, what: str) -> None:
    """Wait until the sandbox has been asked for something."""
    while not any(what in r["path"] for r in sandbox.world.requests):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "moment", ["the list of transcriptions", "the look at Telnyx", "the request", "a moment later"]
)
@pytest.mark.parametrize("scope", ["recording", "connection", "everything"])
async def test_once_a_hold_has_answered_no_deletion_leaves_and_what_left_before_is_said(
    scope: str, moment: str, sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recordings = [sandbox.world.add_recording(seconds=0.5, connection_id="7") for _ in range(12)]
    held = recordings[-1].data["id"]
    async with house(deleting) as worker, house(deleting) as person:
        await archive(worker, *recordings)
        sandbox.world.requests.clear()
        turn = asyncio.create_task(delete_what_is_due(worker))
        if moment == "the list of transcriptions":
            await has_begun(sandbox, "/recording_transcriptions")
        elif moment == "the look at Telnyx":
            await has_begun(sandbox, f"/recordings/{held}")
        else:
            await has_begun(sandbox, "/actions/delete")
            await asyncio.sleep(0.02 if moment == "a moment later" else 0)
        gone_before = {r.data["id"] for r in recordings if r.deleted_at}
        if scope == "recording" and held in gone_before:
            with pytest.raises(UserError, match="not at Telnyx"):
                await decisions.hold(person, held, "case 17", "ann")
            await turn
            return
        if scope == "recording":
            decided = await decisions.hold(person, held, "case 17", "ann")
        elif scope == "connection":
            decided = await decisions.hold_connection(person, "7", "case 17", "ann")
        else:
            decided = await decisions.pause(person, "case 17", "ann")
        gone_then = {r.data["id"] for r in recordings if r.deleted_at}
        await turn
        await delete_what_is_due(worker)
        gone = {r.data["id"] for r in recordings if r.deleted_at}
    ours = {held} if scope == "recording" else {r.data["id"] for r in recordings}
    assert gone & ours == gone_then & ours, "what the decision is about does not leave once it has answered"
    assert (gone - gone_before) & ours <= set(decided.left) <= gone & ours, "what had left before is said"
    assert not decided.under_way


async def test_a_hold_counts_whatever_the_clock_of_the_machine_that_released_before_it(
    sandbox: RunningSandbox, deleting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    recording_id = recording.data["id"]
    async with house(deleting) as runtime:
        await archive(runtime, recording)
        await decisions.hold(runtime, recording_id, "case 16", "ann")
        ahead = times.utc_now() + timedelta(minutes=10)
        with monkeypatch.context() as patch:
            patch.setattr(decisions, "utc_now", lambda: ahead)
            await decisions.release(runtime, recording_id, "case 16 is closed", "ann")
        await decisions.hold(runtime, recording_id, "case 17", "bob")
        await runtime.due.schedule(folder_of(Path(), recording).as_posix() + "/", 0)
        await delete_what_is_due(runtime)
        held = not has_left(recording)
        await decisions.release(runtime, recording_id, "case 17 is closed", "bob")
        await delete_what_is_due(runtime)
    assert held and has_left(recording)


async def test_a_release_lifts_what_it_names_and_nothing_that_came_at_the_same_time(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    recording_id = recording.data["id"]
    async with house(deleting) as runtime:
        await archive(runtime, recording)
        await decisions.hold(runtime, recording_id, "one", "ann")
        standing = standing_holds(await decisions._decisions(runtime, recording_id, None))
        await decisions.hold(runtime, recording_id, "two", "bob")  # while the release of the first is on its way
        late = Decision(
            id="r",
            decision="release",
            scope="recording",
            subject=recording_id,
            why="",
            by="",
            at="",
            lifts=list(standing),
        )
        await runtime.in_thread(put_decision, runtime.archive, late)
        await runtime.due.schedule(folder_of(Path(), recording).as_posix() + "/", 0)
        await delete_what_is_due(runtime)
    assert not has_left(recording)


async def test_a_hold_is_found_by_id_also_when_telnyx_has_corrected_the_start_since(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with house(deleting) as runtime:
        await archive(runtime, recording)
        began = recording.data["recording_started_at"]
        recording.data["recording_started_at"] = times.format_instant(times.parse_instant(began) - timedelta(days=40))
        await decisions.hold(runtime, recording.data["id"], "case 17", "ann")
        recording.data["recording_started_at"] = began
        await delete_what_is_due(runtime)
    assert not has_left(recording)


async def test_lifting_a_hold_approves_no_finding_and_approving_lifts_no_hold(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=4, silent=True)
    recording_id = recording.data["id"]
    folder = folder_of(Path(), recording).as_posix() + "/"
    async with house(deleting) as runtime:
        await archive(runtime, recording)
        with pytest.raises(UserError, match="not on hold"):
            await decisions.release(runtime, recording_id, "listened", "ann")
        await decisions.hold(runtime, recording_id, "case 17", "ann")
        await decisions.release(runtime, recording_id, "closed", "ann")
        await runtime.due.schedule(folder, 0)
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        await decisions.hold(runtime, recording_id, "case 18", "ann")
        assert await decisions.approve(runtime, recording_id, "listened", "bob") == ["silent-channel"]
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        await decisions.release(runtime, recording_id, "closed", "ann")
        await delete_what_is_due(runtime)
    assert has_left(recording)
    told = [json.loads(p.read_bytes()) for p in (archive_folder / "decisions/recordings" / recording_id).iterdir()]
    assert {(one["decision"], one["by"]) for one in told} == {("hold", "ann"), ("release", "ann"), ("approve", "bob")}


async def test_a_decision_that_cannot_be_read_holds(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with house(deleting) as runtime:
        await archive(runtime, recording)
        path = archive_folder / "decisions/recordings" / recording.data["id"] / "x.json"
        path.parent.mkdir(parents=True)
        path.write_text("{")
        await delete_what_is_due(runtime)
    assert not has_left(recording)


async def test_a_grace_that_was_lengthened_counts_for_what_was_scheduled_before(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with house(deleting) as runtime:
        await archive(runtime, recording)
    async with house(deleting | {"CALLVAULT_DELETE_AFTER": "30d"}) as runtime:
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        due = await runtime.redis.zscore(DELETIONS_DUE, folder_of(Path(), recording).as_posix() + "/")
        assert due > times.utc_now().timestamp() + 29 * 86400
    async with house(deleting) as runtime:
        await delete_what_is_due(runtime)
    assert has_left(recording)


@pytest.mark.parametrize("hours", [1, -1])
async def test_clocks_that_differ_stop_deletion_and_say_so(
    hours: int, sandbox: RunningSandbox, deleting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with house(deleting) as runtime:
        await archive(runtime, recording)
        with monkeypatch.context() as patch:
            for module in (workers.jobs.clocks, workers.jobs.may_delete):
                patch.setattr(module, "utc_now", lambda: times.utc_now() + timedelta(hours=hours))
            await delete_what_is_due(runtime)
        assert not has_left(recording)
        assert "clocks-differ" in await kinds_of_alerts(runtime)
        await delete_what_is_due(runtime)
    assert has_left(recording)


@pytest.mark.parametrize(
    "stricter",
    [
        {"CALLVAULT_HOLD_CONNECTIONS": "7"},
        {"CALLVAULT_DELETE_ORIGINALS": "never"},
        {"CALLVAULT_DELETE_AFTER": "30d"},
        {"CALLVAULT_TRANSCRIPTIONS": "require"},
    ],
)
async def test_every_worker_obeys_the_strictest_duties_that_the_archive_states(
    stricter: dict[str, str], sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    """Another unit, with a Redis of its own, on the same archive."""
    recording = sandbox.world.add_recording(seconds=0.5, connection_id="7")
    other = own_duties(settings_of(deleting | stricter | {"REDIS_URL": "redis://elsewhere:6379/0"}))
    async with house(deleting) as runtime:
        await runtime.in_thread(runtime.archive.put_transcribing, "7")
        await archive(runtime, recording)
        await runtime.in_thread(state_duties, runtime.archive, own_duties(runtime.settings))
        await runtime.in_thread(state_duties, runtime.archive, other)
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        await runtime.in_thread(retire_unit, runtime.archive, other.unit, "ann")
        await runtime.due.schedule(folder_of(Path(), recording).as_posix() + "/", 0)  # as a sweep does
        await delete_what_is_due(runtime)
    assert has_left(recording)


async def test_a_worker_that_was_not_restarted_yet_obeys_the_hold_of_one_that_was(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5, connection_id="7")
    newer = settings_of(deleting | {"CALLVAULT_HOLD_CONNECTIONS": "7"})
    async with house(deleting) as older:
        await archive(older, recording)
        await older.in_thread(state_duties, older.archive, own_duties(newer))
        await delete_what_is_due(older)
        assert (await effective_duties(older)).hold_connections == ["7"]
    assert not has_left(recording)


async def test_what_is_shown_of_duties_is_what_workers_are_set_to_and_not_the_settings_of_who_looks(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    async with house(deleting) as worker:
        await worker.in_thread(state_duties, worker.archive, own_duties(worker.settings))
    async with house(deleting | {"CALLVAULT_DELETE_ORIGINALS": "never"}) as person:
        assert (await workers_duties(person)).delete_originals == "verified"
        assert (await read_status(person)).deletions.mode == "verified"


def test_a_unit_is_a_database_of_a_server_however_its_address_writes_it() -> None:
    units = [
        unit_of(settings_of({"REDIS_URL": url, "TELNYX_API_KEY": "KEY"}))
        for url in (
            "redis://r",
            "redis://u:p@r/0",
            "redis://r?db=0",
            "redis://r/1",
            "redis://r?db=1",
            "unix:///s",
            "unix:///s?db=1",
        )
    ]
    assert units[0] == units[1] == units[2] and units[3] == units[4]
    assert len({*units}) == 4


def test_a_command_and_the_worker_of_one_data_folder_are_of_one_unit(tmp_path: Path) -> None:
    """`callvault up` gives its worker the address of the embedded server; a command finds it by the folder."""
    command = settings_of({"CALLVAULT_DATA": str(tmp_path), "TELNYX_API_KEY": "KEY"})
    worker = settings_of({"REDIS_URL": socket_url(tmp_path), "TELNYX_API_KEY": "KEY"})
    assert unit_of(command) == unit_of(worker)


async def test_a_hold_of_what_can_be_no_connection_is_refused(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    async with house(deleting) as runtime:
        with pytest.raises(UserError, match="'#7' cannot be the id of a connection"):
            await decisions.hold_connection(runtime, "#7", "case 17", "ann")
    assert not (archive_folder / "decisions").exists()


async def test_the_hold_of_a_living_worker_counts_also_right_behind_an_outage_of_redis(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    """A newer worker of the unit states less; what the older one told last is old when Redis is back."""
    recording = sandbox.world.add_recording(seconds=0.5, connection_id="7")
    held = own_duties(settings_of(deleting | {"CALLVAULT_HOLD_CONNECTIONS": "7"}))
    async with house(deleting) as runtime:
        await archive(runtime, recording)
        await state_own_duties(runtime)
        told = times.utc_now().timestamp() - 30
        await runtime.redis.hset(LIVE_DUTIES, "older", msgspec.json.encode((told, held)))
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(duties, "_LIVE_SECONDS", 0)  # it has not told anything for long
            await runtime.due.schedule(folder_of(Path(), recording).as_posix() + "/", 0)  # as a sweep does
            await delete_what_is_due(runtime)
    assert has_left(recording)


async def test_the_key_of_another_account_writes_no_receipt_and_stops_deletion(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recordings = [sandbox.world.add_recording(seconds=0.5) for _ in range(5)]
    async with house(deleting) as runtime:
        await archive(runtime, *recordings)
    other = RunningSandbox(World(seed=2))
    try:
        async with house(deleting | other.environment) as runtime:
            await delete_what_is_due(runtime)
            assert "deletion-stopped" in await kinds_of_alerts(runtime)
            assert "5 of 5 originals" in (await runtime.due.paused() or "")
    finally:
        other.stop()
    assert not [*archive_folder.rglob("deleted.json"), *archive_folder.rglob("gone.json")]
    async with house(deleting) as runtime:
        await decisions.resume(runtime, "the right key", "ann")
        await delete_what_is_due(runtime)
    assert all(receipt(archive_folder, r).exists() and r.deleted_at for r in recordings)


async def test_a_single_404_under_a_key_that_shows_nothing_else_is_no_proof_of_anything(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with house(deleting) as runtime:
        await archive(runtime, recording)
    other = RunningSandbox(World(seed=2))
    try:
        async with house(deleting | other.environment) as runtime:
            await delete_what_is_due(runtime)
    finally:
        other.stop()
    assert not [*archive_folder.rglob("deleted.json"), *archive_folder.rglob("gone.json")]


async def test_a_pause_behind_another_redis_counts_also_while_the_store_is_slow(
    sandbox: RunningSandbox, deleting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    asked = 0
    async with house(deleting) as runtime:
        await archive(runtime, recording)
        pausing = Decision(id="p", decision="hold", scope="everything", subject="", why="case", by="ann", at="")

        async def slow(runtime: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked == 2:  # in the last moment, behind the look for pauses
                put_decision(runtime.archive, pausing)
                monkeypatch.setattr(workers.jobs.may_delete, "LONGEST_QUESTION_SECONDS", 0.01)
                await asyncio.sleep(0.02)
            return await effective_duties(runtime)

        monkeypatch.setattr(workers.jobs.may_delete, "effective_duties", slow)
        await delete_what_is_due(runtime)
        assert asked == 2
        assert not await runtime.redis.hlen(LEAVING)
    assert not has_left(recording)


async def test_an_approval_is_about_the_content_that_was_there_then(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    folder = folder_of(Path(), recording).as_posix() + "/"
    async with house(deleting) as runtime:
        await archive(runtime, recording)
        change(recording, 1, "second")
        await archive_recording(runtime, request_of(recording, "event-2"))
        await decisions.approve(runtime, recording.data["id"], "listened to both", "ann")
        change(recording, 2, "third")
        await archive_recording(runtime, request_of(recording, "event-3"))
        await runtime.due.schedule(folder, 0)
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        await decisions.approve(runtime, recording.data["id"], "listened to the third", "ann")
        await delete_what_is_due(runtime)
    assert has_left(recording)


def test_a_release_of_an_earlier_version_approves_no_content_that_it_did_not_know() -> None:
    release = EarlierDecision(decision="release", why="", at="")
    assert is_approved({"x": release}, ["silent-channel"])
    assert not is_approved({"x": release}, ["silent-channel", "changed-at-telnyx 1"])


async def test_a_recording_is_not_older_than_its_call_whatever_the_clock_said_when_it_was_archived(
    sandbox: RunningSandbox, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with house(environment | DELETING | {"CALLVAULT_DELETE_AFTER": "1h"}) as runtime:
        with monkeypatch.context() as patch:
            patch.setattr(workers.jobs.recordings, "utc_now", lambda: times.utc_now() - timedelta(days=900))
            await archive(runtime, recording)
        await delete_what_is_due(runtime)
    assert not has_left(recording)


@pytest.mark.parametrize("count", [1, 5])
async def test_the_key_of_another_account_ends_no_deletion_that_was_asked_for_under_the_right_one(
    count: int, sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recordings = [sandbox.world.add_recording(seconds=0.5) for _ in range(count)]
    async with house(deleting) as runtime:
        await archive(runtime, *recordings)
        sandbox.world.faults.change({"delete_ignores": 1.0})
        await delete_what_is_due(runtime)
    other = RunningSandbox(World(seed=2))
    try:
        async with house(deleting | other.environment) as runtime:
            await delete_what_is_due(runtime)
    finally:
        other.stop()
    assert not any(has_left(r) for r in recordings)
    assert not [*archive_folder.rglob("deleted.json"), *archive_folder.rglob("gone.json")]


async def test_what_was_told_as_gone_and_was_seen_since_stops_deletion_again(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recordings = [sandbox.world.add_recording(seconds=0.5) for _ in range(5)]
    other = RunningSandbox(World(seed=2))
    try:
        async with house(deleting) as right, house(deleting | other.environment) as wrong:
            await archive(right, *recordings)
            await delete_what_is_due(wrong)
            await decisions.resume(right, "the right key", "ann")
            sandbox.world.faults.change({"delete_ignores": 1.0})
            await delete_what_is_due(right)
            await delete_what_is_due(wrong)
            assert "5 of 5 originals" in (await right.due.paused() or "")
    finally:
        other.stop()
    assert not [*archive_folder.rglob("deleted.json"), *archive_folder.rglob("gone.json")]


async def test_a_worker_that_dies_before_its_receipt_leaves_it_to_the_next_turn(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    folder = folder_of(Path(), recording).as_posix() + "/"
    async with house(deleting) as runtime:
        await archive(runtime, recording)
        seen, asked = "2026-11-26T10:00:00.000000Z", "2026-11-26T10:00:01.000000Z"
        await runtime.leaving.put({recording.data["id"]: Leaving(folder, "dead", seen, asked)})
        recording.deleted_at = times.format_instant(times.utc_now())
        await delete_what_is_due(runtime)
        assert not await runtime.redis.hlen(LEAVING)
    told = json.loads(receipt(archive_folder, recording).read_bytes())
    assert (told["schema"], told["seen_at"], told["asked_at"]) == ("callvault.deletion/2", seen, asked)


async def test_a_receipt_says_that_the_original_was_there_before_we_deleted_it(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with house(deleting) as runtime:
        await archive(runtime, recording)
        await delete_what_is_due(runtime)
    told = json.loads(receipt(archive_folder, recording).read_bytes())
    assert told["seen_at"] <= told["asked_at"] <= told["confirmed_gone_at"]


@pytest.mark.parametrize("policy", ["require", "wait 1h"])
async def test_transcriptions_are_awaited_also_after_redis_was_lost(
    policy: str, sandbox: RunningSandbox, deleting: dict[str, str], redis: Any
) -> None:
    first, second = (sandbox.world.add_recording(seconds=0.5, connection_id="7") for _ in range(2))
    transcription = sandbox.world.add_transcription(first)
    sandbox.world.complete_transcription(transcription)
    async with house(deleting | {"CALLVAULT_TRANSCRIPTIONS": policy}) as runtime:
        await archive(runtime, first, second)
        request = TranscriptionRequest(transcription_id=transcription["id"], recording_id=first.data["id"])
        await archive_transcription(runtime, request)
        redis.flushall()
        for recording in (first, second):
            await runtime.due.schedule(folder_of(Path(), recording).as_posix() + "/", 0)
        await delete_what_is_due(runtime)
    assert has_left(first)
    assert not has_left(second)


async def test_a_pause_outlives_redis(sandbox: RunningSandbox, deleting: dict[str, str], redis: Any) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with house(deleting) as runtime:
        await archive(runtime, recording)
        await decisions.pause(runtime, "moving the bucket", "ann")
        redis.flushall()
        await runtime.due.schedule(folder_of(Path(), recording).as_posix() + "/", 0)
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        await start_deletions(runtime)
        assert await runtime.due.paused() == "moving the bucket", "whoever looks sees it again"
        assert await decisions.resume(runtime, "moved", "ann")
        await delete_what_is_due(runtime)
    assert has_left(recording)


@pytest.mark.parametrize("how", ["ignored", "refused"])
async def test_an_original_that_telnyx_never_deletes_comes_later_and_later_and_ends_as_a_dead_letter(
    how: str, sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    recording_id = recording.data["id"]
    folder = folder_of(Path(), recording).as_posix() + "/"
    async with house(deleting) as runtime:
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
        await runtime.due.schedule(folder, 0)  # as a sweep does
        await delete_what_is_due(runtime)
        assert await runtime.redis.zscore(DELETIONS_DUE, folder) is None, "a person is to look first"
        assert not receipt(archive_folder, recording).exists()
        sandbox.world.faults.change({"delete_ignores": 0.0, "delete_refused": 0.0})
        await runtime.attempts.discard(letter_id(recording_id))
        await schedule_again(runtime, msgspec.convert(letters[0].payload, DeletionRequest))
        await delete_what_is_due(runtime)
    assert has_left(recording) and receipt(archive_folder, recording).exists()


@pytest.mark.parametrize(
    "change",
    [
        {"duration_millis": 9_000},
        {"channels": "single"},
        {"recording_ended_at": "2026-11-26T01:00:00.000000Z"},
        {"status": "processing"},
    ],
)
async def test_a_recording_that_telnyx_shows_otherwise_than_it_was_archived_stays(
    change: dict[str, Any], sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording, other = (sandbox.world.add_recording(seconds=0.5) for _ in range(2))
    async with house(deleting) as runtime:
        await archive(runtime, recording, other)
        recording.data.update(change)
        await delete_what_is_due(runtime)
        assert "content-changed" in await kinds_of_alerts(runtime)
    assert not has_left(recording)
    assert has_left(other)


async def test_a_download_address_that_does_not_answer_says_nothing_of_a_change(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with house(deleting) as runtime:
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


async def test_without_a_grace_of_its_own_an_original_stays_until_its_day_is_sealed(
    sandbox: RunningSandbox, environment: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5, started_at=times.utc_now() - timedelta(days=5))
    settings = environment | {"CALLVAULT_DELETE_ORIGINALS": "verified"}
    async with house(settings) as runtime:
        await archive(runtime, recording)
        later = times.utc_now() + timedelta(days=1, seconds=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workers.jobs.may_delete, "utc_now", lambda: later)  # the grace of 24 h is over
            await delete_what_is_due(runtime)
    assert not has_left(recording)


async def test_what_was_sealed_in_a_chain_that_the_archive_holds_no_more_is_not_sealed(
    sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = times.utc_now() - timedelta(days=5)
    recording, other = (sandbox.world.add_recording(seconds=0.5, started_at=began - timedelta(days=n)) for n in (0, 1))
    async with house(environment | {"CALLVAULT_DELETE_ORIGINALS": "verified"}) as runtime:
        await archive(runtime, recording)
        await seal(runtime, began.date())
        folder = folder_of(Path(), recording).as_posix() + "/"
        assert await is_sealed(runtime, folder)
        for path in [*archive_folder.glob("seals/*"), *archive_folder.glob("catalogue/*/*")]:
            path.unlink()  # an older copy was put back
        async with house(environment) as another:
            await archive(another, other)
            await seal(another, (began - timedelta(days=1)).date())  # as many seals as before
        later = times.utc_now() + timedelta(days=1, seconds=1)
        monkeypatch.setattr(workers.jobs.may_delete, "utc_now", lambda: later)  # the grace of 24 h is over
        await delete_what_is_due(runtime)
    assert not has_left(recording)
