"""A hold keeps a recording, whatever is down when it is placed; every surface shows who placed it and why."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from archive.decision_records import Decision
from archive.erase import erase
from archive.stores.store import StoreError
from lab.processes import run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.worker import archive, delete_what_is_due, own_runtime
from tests.workers.damage.steps import flip
from tests.workers.steps import HOLD, folder_of, has_left, key_of, pages
from text.errors import UserError
from workers.damage.damage import keep_register
from workers.damage.damaged import DamagedObjects, KnownDamage
from workers.deletion import decisions
from workers.deletion.duties import state_own_duties
from workers.deletion.kept import what_keeps
from workers.recordings.writing import sole_writer


def holds(environment: dict[str, str]) -> list[dict[str, Any]]:
    done = run_callvault(["deletions", "holds", "--json"], environment)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["holds"]
    return rows


def found_in(environment: dict[str, str], state: str) -> set[str]:
    done = run_callvault(["find", "--state", state, "--json"], environment)
    assert done.returncode in (0, 1), done.stderr
    return {json.loads(line)["recording_id"] for line in done.stdout.splitlines()}


async def test_a_hold_that_the_archive_rejects_is_not_placed_and_fails(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    async with own_runtime(deleting) as runtime:
        archive_folder.rename(archive_folder.with_name("away"))
        with pytest.raises(StoreError):
            await decisions.hold(runtime, "r-1", "case 17", "ann")
    assert not list(archive_folder.parent.rglob("r-1"))


@pytest.mark.parametrize("how", ["deleted by us", "gone before"])
async def test_a_recording_whose_original_is_gone_is_held_and_cannot_be_erased(
    how: str, sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path, tmp_path: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    recording_id = recording.data["id"]
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        if how == "deleted by us":
            await delete_what_is_due(runtime)
        else:
            del sandbox.world.recordings[recording_id]
    done = run_callvault(["deletions", "hold", recording_id, *HOLD], deleting)
    assert (done.returncode, "its original was already gone" in done.stdout) == (0, True), done.stdout + done.stderr
    erasing = ["erase", recording_id, "--reason", "request", "--yes"]
    refused = run_callvault(erasing, deleting)
    assert (refused.returncode, "is on hold (case 17)" in refused.stderr) == (1, True)
    assert found_in(deleting, "held") == {recording_id}
    with pages(deleting, tmp_path / "pages", deleting["REDIS_URL"]) as (client, _):
        assert client.get(f"/api/recordings/{recording_id}").json()["state"] == "held"
        page = client.get(f"/ops/recordings/{recording_id}").text
        assert "On hold: case 17 (by ann, since 20" in page and "Release: allow deletion" in page
    released = run_callvault(["deletions", "release", recording_id, "--why", "over"], deleting)
    assert released.returncode == 0, released.stderr
    assert "the archived copy may be erased unless" in released.stdout
    assert run_callvault(erasing, deleting).returncode == 0
    late = run_callvault(["deletions", "hold", recording_id, *HOLD], deleting)
    assert (late.returncode, "too late, the recording was erased at" in late.stdout) == (1, True)
    released = run_callvault(["deletions", "release", recording_id, "--why", "over"], deleting)
    assert "is released; the recording was erased at" in released.stdout


async def test_a_hold_of_an_unknown_id_is_placed_with_a_warning_to_check_the_id(
    environment: dict[str, str], archive_folder: Path
) -> None:
    done = run_callvault(["deletions", "hold", "nope", *HOLD], environment)
    assert (done.returncode, "check the id" in done.stdout) == (1, True), done.stderr
    assert [(row["subject"], row["by"]) for row in holds(environment)] == [("nope", "ann")]
    done = run_callvault(["deletions", "release", "nope", "--why", "a mistyped id"], environment)
    assert (done.returncode, "is released; neither the archive nor Telnyx" in done.stdout) == (0, True), done.stderr
    assert holds(environment) == []


async def test_a_hold_waits_for_an_erasure_and_reports_that_it_came_too_late(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    recording_id = recording.data["id"]
    async with own_runtime(deleting) as runtime, own_runtime(deleting) as person:
        await archive(runtime, recording)
        async with sole_writer(runtime.redis, recording_id):
            holding = asyncio.create_task(decisions.hold(person, recording_id, "case 17", "ann"))
            about = archive_folder / "decisions/recordings" / recording_id
            while not about.exists():
                await asyncio.sleep(0.01)
            await asyncio.wait([holding], timeout=0.3)
            assert not holding.done(), "while it may be erased, no surface says that it is kept"
            erase(runtime.archive, key_of(archive_folder, recording), "request", "dpo")
        decided = await holding
    assert decided.came_too_late and "erased at" in (decided.erased or "")


async def test_holds_at_once_all_stand_and_a_release_lifts_those_that_stood(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    recording_id = recording.data["id"]
    async with own_runtime(deleting) as one, own_runtime(deleting) as two:
        await archive(one, recording)
        await asyncio.gather(
            *(decisions.hold(runtime, recording_id, f"case {n}", "ann") for n, runtime in enumerate((one, two)))
        )
        assert {row["why"] for row in holds(deleting)} == {"case 0", "case 1"}
        await asyncio.gather(
            decisions.release(one, recording_id, "over", "ann"), decisions.hold(two, recording_id, "case 2", "bob")
        )
        assert {row["why"] for row in holds(deleting)} <= {"case 2"}
        await one.schedule.add(folder_of(Path(), recording).as_posix() + "/", 0)
        await delete_what_is_due(one)
        assert has_left(recording) == (not holds(deleting))


async def test_every_surface_shows_the_hold_of_a_connection(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path, tmp_path: Path
) -> None:
    held, by_setting, free = (sandbox.world.add_recording(seconds=0.5, connection_id=c) for c in ("7", "8", "9"))
    ids = [one.data["id"] for one in (held, by_setting, free)]
    settings = deleting | {"CALLVAULT_HOLD_CONNECTIONS": "8"}
    async with own_runtime(settings) as runtime:
        await archive(runtime, held, by_setting, free)
        await state_own_duties(runtime)
    assert run_callvault(["deletions", "hold", "--connection", "7", *HOLD], settings).returncode == 0
    rows = {(row["scope"], row["subject"]): row for row in holds(settings)}
    assert {key: row["decided"] for key, row in rows.items()} == {("connection", "7"): True, ("connection", "8"): False}
    assert (rows["connection", "7"]["why"], rows["connection", "7"]["by"]) == ("case 17", "ann")
    told = run_callvault(["deletions", "holds"], settings).stdout
    assert "connection 7: case 17 (by ann, since 20" in told and told.endswith("2 active holds\n")
    duties = run_callvault(["deletions", "duties"], settings).stdout
    assert "connections held by a setting: 8;" in duties and "by a decision: 7 (case 17) (" in duties
    assert found_in(settings, "held") == set(ids[:2])
    with pages(settings, tmp_path / "pages", settings["REDIS_URL"]) as (client, _):
        states = {hit["row"]["recording_id"]: hit["state"] for hit in client.get("/api/recordings").json()["hits"]}
        assert [states[one] for one in ids] == ["held", "held", "archived"]
        assert [client.get(f"/api/recordings/{one}").json()["state"] for one in ids] == ["held", "held", "archived"]
        assert 'Its connection <span class="id">7</span> is on hold: ' in client.get(f"/ops/recordings/{ids[0]}").text
        assert {h["row"]["recording_id"] for h in client.get("/api/deletions").json()["held"]} == set(ids[:2])
        assert "case 17 (by ann, since 20" in client.get("/ops/deletions").text
    assert run_callvault(["deletions", "release", "--connection", "7", "--why", "over"], settings).returncode == 0
    assert found_in(settings, "held") == {ids[1]}


async def test_a_release_of_several_that_is_possible_for_some_is_logged(
    sandbox: RunningSandbox, deleting: dict[str, str], tmp_path: Path
) -> None:
    held, other = (sandbox.world.add_recording(seconds=0.5).data["id"] for _ in range(2))
    assert run_callvault(["deletions", "hold", held, *HOLD], deleting).returncode == 0
    with pages(deleting, tmp_path / "pages", deleting["REDIS_URL"]) as (client, process):
        csrf = client.get("/ops").text.partition('X-CSRF-Token": "')[2].partition('"')[0]
        form = {"csrf": csrf, "why": "over"}
        assert client.post("/ops/recordings/release", data=form | {"ids": other}).status_code == 400
        answer = client.post("/ops/recordings/release", data=form | {"ids": [held, other]})
        said = f"1 recording is released, 1 not: {other}: "
        assert answer.status_code == 207 and said in answer.text
        wait_for(lambda: "changed from the ops pages" in process.output)
        lines = [line for line in process.output.splitlines() if "changed from the ops pages" in line]
        assert len(lines) == 1 and said in lines[0], "what nobody could release changed nothing"


async def test_damage_is_kept_as_a_state_that_every_surface_shows_with_its_reason(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path, tmp_path: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    recording_id = recording.data["id"]
    folder = key_of(archive_folder, recording)
    said = f"damaged: {folder}audio.wav: "
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        flip(archive_folder / folder / "audio.wav")
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        assert (await what_keeps(runtime, folder) or "").startswith(said), "also before it is written down"
        await keep_register(runtime)
        await runtime.redis.delete("callvault:damaged")
        assert (await what_keeps(runtime, folder) or "").startswith(said), "also after Redis was lost"
        await runtime.schedule.add(folder, 60)
    (row,) = json.loads(run_callvault(["deletions", "list", "--json"], deleting).stdout)["first"]
    assert row["recording_id"] == recording_id and row["kept"].startswith(said)
    assert f"kept: {said}" in run_callvault(["deletions", "list"], deleting).stdout
    with pages(deleting, tmp_path / "pages", deleting["REDIS_URL"]) as (client, _):
        told = client.get(f"/api/recordings/{recording_id}").json()
        assert (told["state"], told["kept"].startswith(said)) == ("damaged", True)
        page = client.get(f"/ops/recordings/{recording_id}").text
        assert "Hold: prevent deletion" in page and f"Callvault keeps the original at Telnyx: {said}" in page
    held = run_callvault(["deletions", "hold", recording_id, *HOLD], deleting)
    assert held.returncode == 0, held.stderr
    async with own_runtime(deleting) as runtime:
        assert (await what_keeps(runtime, folder) or "").startswith(f"held: case 17; {said}")
    assert [row["subject"] for row in holds(deleting)] == [recording_id]


async def test_a_pause_without_a_reason_keeps_who_paused_and_when(
    sandbox: RunningSandbox, deleting: dict[str, str], redis: Any
) -> None:
    first = run_callvault(["deletions", "pause", "--by", "ann"], deleting)
    again = run_callvault(["deletions", "pause", "--by", "bob"], deleting)
    text = "no reason given (by ann, since 20"
    assert first.stdout.startswith(f"paused: {text}") and again.stdout.startswith(f"already paused: {text}")
    for command in ("deletions list", "status", "deletions holds"):
        assert text in run_callvault(command.split(), deleting).stdout, command
    status = json.loads(run_callvault(["status", "--json"], deleting).stdout)["deletions"]
    assert (status["paused"], status["paused_by"]) == ("no reason given", "ann") and status["paused_at"]
    assert run_callvault(["deletions", "resume"], deleting).stdout == "resumed\n"
    assert json.loads(run_callvault(["status", "--json"], deleting).stdout)["deletions"]["paused_by"] is None


@pytest.mark.parametrize("where", ["under the id", "in the folder"])
async def test_a_decision_about_something_else_lets_nothing_go(
    where: str, sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    recording_id, folder = recording.data["id"], key_of(archive_folder, recording)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        await decisions.hold(runtime, recording_id, "case 17", "ann")
        (hold,) = (archive_folder / "decisions/recordings" / recording_id).iterdir()
        forged = Decision(
            id="f", decision="release", scope="recording", subject="another", why="", by="", at="", lifts=[hold.stem]
        )
        in_folder = layout.decision_copy_key(folder, "f")
        under_id = layout.decision_key("recording", recording_id, "f")
        await runtime.in_thread(runtime.archive.put_record, in_folder if where == "in the folder" else under_id, forged)
        await runtime.schedule.add(folder, 0)
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        assert "a decision cannot be read" in (await what_keeps(runtime, folder) or "")
        assert (await decisions.release(runtime, recording_id, "looked at", "ann")).kept is None


async def test_an_erasure_stops_while_another_worker_holds_its_connection(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5, connection_id="7")
    async with own_runtime(deleting | {"CALLVAULT_HOLD_CONNECTIONS": "7"}) as runtime:
        await archive(runtime, recording)
        await state_own_duties(runtime)
    done = run_callvault(["erase", recording.data["id"], "--reason", "x", "--yes"], deleting)
    assert (done.returncode, "CALLVAULT_HOLD_CONNECTIONS" in done.stderr) == (1, True)
    assert not has_left(recording)


async def test_a_connection_held_while_an_erasure_hashes_stops_it(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5, connection_id="7")
    folder = key_of(archive_folder, recording)

    def held_meanwhile() -> None:
        raise UserError("its connection is on hold")

    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        with pytest.raises(UserError, match="its connection is on hold"):
            erase(runtime.archive, folder, "request", "dpo", ask=held_meanwhile)
    names = {path.name for path in folder_of(archive_folder, recording).iterdir()}
    assert names == {"audio.wav", "recording.json"}


@pytest.mark.parametrize("by", ["decision", "setting"])
async def test_a_recording_of_an_unknown_connection_is_not_erased_while_any_is_held(
    by: str, sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5, connection_id="7")
    recording_id, folder = recording.data["id"], folder_of(archive_folder, recording)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        if by == "decision":
            await decisions.hold_connection(runtime, "7", "case 17", "ann")
        commit = folder / "recording.json"
        commit.rename(archive_folder.with_name("recording.json"))
        await DamagedObjects(runtime.redis).report(
            str(commit.relative_to(archive_folder)), KnownDamage("missing", "gone", "verify", "")
        )
        await keep_register(runtime)
    here = deleting | ({"CALLVAULT_HOLD_CONNECTIONS": "7"} if by == "setting" else {})
    done = run_callvault(["erase", recording_id, "--reason", "x", "--yes"], here)
    assert (done.returncode, "so its connection is unknown" in done.stderr) == (1, True), done.stderr
    assert (folder / "audio.wav").exists() and not has_left(recording)
