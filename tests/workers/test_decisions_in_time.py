"""What people decide counts from the moment it is answered: holds, releases, approvals, pauses."""

from __future__ import annotations

import asyncio
import contextvars
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

import workers.deletion.may_delete
import workers.engine.clocks
from archive.decision_records import CaseQuery, Decision, EarlierDecision
from archive.decisions import decisions_about, is_approved, put_decision, standing_holds
from lab.servers import RunningSandbox
from lab.worker import archive, delete_what_is_due, own_runtime
from tests.workers.steps import folder_of, has_left, request_of
from tests.workers.test_changed_content import change
from text import times
from text.errors import UserError
from workers.deletion import cases, decisions
from workers.deletion.decided import Decided, Released, too_late
from workers.deletion.deletion import refresh_pause
from workers.deletion.duties import (
    effective_duties,
)
from workers.deletion.schedule import Leaving
from workers.keys import LEAVING
from workers.recordings.archive_recording import archive_recording
from workers.recordings.requests import TranscriptionRequest
from workers.recordings.transcriptions import archive_transcription


async def has_begun(sandbox: RunningSandbox, what: str) -> None:
    """Wait until the sandbox gets a request."""
    while not any(what in r["path"] for r in sandbox.world.requests):
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "moment", ["the list of transcriptions", "the look at Telnyx", "the request", "a moment later"]
)
@pytest.mark.parametrize("scope", ["recording", "connection", "case", "everything"])
async def test_after_a_hold_answers_no_deletion_starts_and_earlier_ones_are_reported(
    scope: str, moment: str, sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recordings = [sandbox.world.add_recording(seconds=0.5, connection_id="7") for _ in range(12)]
    held = recordings[-1].data["id"]
    async with own_runtime(deleting) as worker, own_runtime(deleting) as person:
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
        if scope == "recording":
            decided = await decisions.hold(person, held, "case 17", "ann")
            assert held not in gone_before or decided.left or decided.had_gone
        elif scope == "connection":
            decided = await decisions.hold_connection(person, "7", "case 17", "ann")
        elif scope == "case":
            _, decided = await cases.open_case(person, "case 17", CaseQuery(connection="7"), "a letter", "ann")
        else:
            decided = await decisions.pause(person, "case 17", "ann")
        gone_then = {r.data["id"] for r in recordings if r.deleted_at}
        await turn
        await delete_what_is_due(worker)
        gone = {r.data["id"] for r in recordings if r.deleted_at}
    ours = {held} if scope == "recording" else {r.data["id"] for r in recordings}
    assert gone & ours == gone_then & ours, "after the answer no deletion of its originals is sent"
    assert (gone - gone_before) & ours <= set(decided.left) <= gone & ours, "earlier deletions are reported"
    assert not decided.under_way


@pytest.mark.parametrize("scope", ["recording", "connection", "case", "everything"])
async def test_a_hold_reports_that_a_transcription_was_deleted_before(
    scope: str, sandbox: RunningSandbox, deleting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording, other = (sandbox.world.add_recording(seconds=0.5, connection_id=c) for c in ("7", "8"))
    recording_id = recording.data["id"]
    transcription = sandbox.world.add_transcription(recording)
    sandbox.world.complete_transcription(transcription)
    held: list[asyncio.Task[Decided]] = []
    async with own_runtime(deleting) as worker, own_runtime(deleting) as person:
        await archive(worker, recording, other)
        wanted = TranscriptionRequest(transcription_id=transcription["id"], recording_id=recording_id)
        await archive_transcription(worker, wanted)
        delete = worker.telnyx.recordings.bulk_delete

        async def hold() -> Decided:
            if scope == "recording":
                return await decisions.hold(person, recording_id, "case 17", "ann")
            if scope == "connection":
                return await decisions.hold_connection(person, "7", "case 17", "ann")
            if scope == "case":
                return (await cases.open_case(person, "case 17", CaseQuery(connection="7"), "a letter", "ann"))[1]
            return await decisions.pause(person, "case 17", "ann")

        async def hold_first(**what: Any) -> Any:
            if not held:
                held.append(asyncio.create_task(hold(), context=contextvars.Context()))
                await asyncio.sleep(0.3)
            return await delete(**what)

        monkeypatch.setattr(worker.telnyx.recordings, "bulk_delete", hold_first)
        await delete_what_is_due(worker)
        decided = await held[0]
    assert not has_left(recording) and decided.transcriptions == (recording_id,) and not decided.left
    assert recording_id in too_late(decided)


async def test_a_hold_of_a_connection_waits_for_no_deletion_of_another(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    of_it, other = (sandbox.world.add_recording(seconds=0.5, connection_id=c) for c in ("7", "8"))
    async with own_runtime(deleting) as worker, own_runtime(deleting) as person, worker.leaving.turn() as token:
        await archive(worker, of_it, other)
        folders = {one.data["id"]: f"{folder_of(Path(), one).as_posix()}/" for one in (of_it, other)}
        rows = {id_: Leaving(folder, token, "", "") for id_, folder in folders.items()}
        await worker.leaving.put(rows)
        await worker.leaving.transcription_leaves(*list(folders.items())[1])
        asked = len(sandbox.world.requests)
        holding = asyncio.create_task(decisions.hold_connection(person, "7", "case 17", "ann"))
        done, _ = await asyncio.wait([holding], timeout=1)
        assert not done, "the deletion of its own recording is under way"
        await worker.leaving.put({of_it.data["id"]: msgspec.structs.replace(rows[of_it.data["id"]], is_over=True)})
        async with asyncio.timeout(60):
            decided = await holding
        assert not decided.came_too_late and not decided.unknown
        assert not any(other.data["id"] in row["path"] for row in sandbox.world.requests[asked:])


async def test_a_hold_counts_whatever_the_clock_of_the_machine_that_released_before_it(
    sandbox: RunningSandbox, deleting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    recording_id = recording.data["id"]
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        await decisions.hold(runtime, recording_id, "case 16", "ann")
        ahead = times.utc_now() + timedelta(minutes=10)
        with monkeypatch.context() as patch:
            patch.setattr(decisions, "utc_now", lambda: ahead)
            await decisions.release(runtime, recording_id, "case 16 is closed", "ann")
        await decisions.hold(runtime, recording_id, "case 17", "bob")
        await runtime.schedule.add(folder_of(Path(), recording).as_posix() + "/", 0)
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
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        await decisions.hold(runtime, recording_id, "one", "ann")
        standing = standing_holds(decisions_about(runtime.archive, "recording", recording_id))
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
        await runtime.schedule.add(folder_of(Path(), recording).as_posix() + "/", 0)
        await delete_what_is_due(runtime)
    assert not has_left(recording)


async def test_a_hold_is_found_by_id_also_when_telnyx_has_corrected_the_start_since(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with own_runtime(deleting) as runtime:
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
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        with pytest.raises(UserError, match="has no hold of its own"):
            await decisions.release(runtime, recording_id, "listened", "ann")
        await decisions.hold(runtime, recording_id, "case 17", "ann")
        await decisions.release(runtime, recording_id, "closed", "ann")
        await runtime.schedule.add(folder, 0)
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        await decisions.hold(runtime, recording_id, "case 18", "ann")
        assert await decisions.approve(runtime, recording_id, "listened", "bob") == (
            ["silent-channel"],
            Released("held: case 18"),
        )
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        await decisions.release(runtime, recording_id, "closed", "ann")
        await delete_what_is_due(runtime)
    assert has_left(recording)
    written = [json.loads(p.read_bytes()) for p in (archive_folder / "decisions/recordings" / recording_id).iterdir()]
    assert {(one["decision"], one["by"]) for one in written} == {
        ("hold", "ann"),
        ("release", "ann"),
        ("approve", "bob"),
    }


async def test_a_decision_that_cannot_be_read_holds(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        path = archive_folder / "decisions/recordings" / recording.data["id"] / "x.json"
        path.parent.mkdir(parents=True)
        path.write_text("{")
        await delete_what_is_due(runtime)
    assert not has_left(recording)


async def test_a_hold_of_an_impossible_connection_id_is_refused(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    async with own_runtime(deleting) as runtime:
        with pytest.raises(UserError, match="'#7' cannot be the id of a connection"):
            await decisions.hold_connection(runtime, "#7", "case 17", "ann")
    assert not (archive_folder / "decisions").exists()


async def test_a_pause_behind_another_redis_counts_also_while_the_store_is_slow(
    sandbox: RunningSandbox, deleting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    asked = 0
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        pausing = Decision(id="p", decision="hold", scope="everything", subject="", why="case", by="ann", at="")

        async def slow(runtime: Any) -> Any:
            nonlocal asked
            asked += 1
            if asked == 2:  # in the last moment, after the check for pauses
                put_decision(runtime.archive, pausing)
                monkeypatch.setattr(workers.deletion.may_delete, "LONGEST_QUESTION_SECONDS", 0.01)
                await asyncio.sleep(0.02)
            return await effective_duties(runtime)

        monkeypatch.setattr(workers.deletion.may_delete, "effective_duties", slow)
        await delete_what_is_due(runtime)
        assert asked == 2
        assert not await runtime.redis.hlen(LEAVING)
    assert not has_left(recording)


async def test_an_approval_is_about_the_content_that_was_there_then(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    folder = folder_of(Path(), recording).as_posix() + "/"
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        change(recording, 1, "second")
        await archive_recording(runtime, request_of(recording, "event-2"))
        await decisions.approve(runtime, recording.data["id"], "listened to both", "ann")
        change(recording, 2, "third")
        await archive_recording(runtime, request_of(recording, "event-3"))
        await runtime.schedule.add(folder, 0)
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        await decisions.approve(runtime, recording.data["id"], "listened to the third", "ann")
        await delete_what_is_due(runtime)
    assert has_left(recording)


def test_a_release_of_an_earlier_version_approves_no_content_that_it_did_not_know() -> None:
    release = EarlierDecision(decision="release", why="", at="")
    assert is_approved({"x": release}, ["silent-channel"])
    assert not is_approved({"x": release}, ["silent-channel", "changed-at-telnyx 1"])


async def test_a_pause_outlives_redis(sandbox: RunningSandbox, deleting: dict[str, str], redis: Any) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        await decisions.pause(runtime, "moving the bucket", "ann")
        redis.flushall()
        await runtime.schedule.add(folder_of(Path(), recording).as_posix() + "/", 0)
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        await refresh_pause(runtime)
        assert await runtime.schedule.paused() == "moving the bucket", "it is shown again"
        assert await decisions.resume(runtime, "moved", "ann")
        await delete_what_is_due(runtime)
    assert has_left(recording)
