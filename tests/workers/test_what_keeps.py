"""Every surface gives the same, true reasons why an original is kept."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lab.processes import run_callvault
from lab.servers import RunningSandbox
from lab.worker import archive, delete_what_is_due, own_runtime
from tests.workers.steps import folder_of, has_left, pages
from text.errors import UserError
from text.times import utc_now
from workers.deletion import decisions
from workers.deletion.decided import Released, what_follows
from workers.deletion.duties import own_duties, retire_unit, state_duties
from workers.deletion.kept import what_keeps, what_keeps_each
from workers.deletion.outcomes import letter_id
from workers.engine.attempts import DeadLetter
from workers.keys import DELETIONS_DUE, MAIN_QUEUE
from workers.reconcile.comparison import Tally
from workers.reconcile.reconcile import Days, reconcile_days
from workers.runtime import Runtime

Act = Callable[[Runtime, str], Awaitable[Any]]


async def nothing(runtime: Runtime, recording_id: str) -> None:
    pass


async def hold(runtime: Runtime, recording_id: str) -> None:
    await decisions.hold(runtime, recording_id, "case 17", "ann")


async def hold_connection(runtime: Runtime, recording_id: str) -> None:
    await decisions.hold_connection(runtime, "7", "case 18", "ann")


async def pause(runtime: Runtime, recording_id: str) -> None:
    await decisions.pause(runtime, "moving", "ann")


@pytest.mark.parametrize(
    ("act", "settings", "silent", "why"),
    [
        (nothing, {}, False, None),
        (hold, {}, False, "held: case 17"),
        (hold_connection, {}, False, "its connection is on hold: case 18"),
        (nothing, {"CALLVAULT_HOLD_CONNECTIONS": "7"}, False, "its connection is on hold (CALLVAULT_HOLD_CONNECTIONS)"),
        (nothing, {}, True, "findings not approved: silent-channel"),
        (pause, {}, False, "deletion is paused: moving"),
        (
            nothing,
            {"CALLVAULT_DELETE_ORIGINALS": "never"},
            False,
            "has deletion turned off (CALLVAULT_DELETE_ORIGINALS)",
        ),
        (nothing, {"CALLVAULT_DELETE_AFTER": "30d"}, False, None),
    ],
)
async def test_the_reasons_that_keep_an_original_are_shown(
    act: Act,
    settings: dict[str, str],
    silent: bool,
    why: str | None,
    sandbox: RunningSandbox,
    deleting: dict[str, str],
    archive_folder: Path,
    tmp_path: Path,
) -> None:
    recording = sandbox.world.add_recording(seconds=4, silent=silent, connection_id="7")
    recording_id, environment = recording.data["id"], deleting | settings
    folder = str(folder_of(archive_folder, recording).relative_to(archive_folder)) + "/"
    async with own_runtime(environment) as runtime:
        await archive(runtime, recording)
        await act(runtime, recording_id)
        await runtime.schedule.add(folder, 60)  # as reconcile does
        said = await what_keeps(runtime, folder)
        assert (said is None) if why is None else (said is not None and why in said)
        assert await what_keeps_each(runtime, [folder]) == ({} if said is None else {folder: said})
    listed = json.loads(run_callvault(["deletions", "list", "--json"], environment).stdout)["first"]
    assert [row["kept"] for row in listed] == [said]
    assert (f"kept: {said}" in run_callvault(["deletions", "list"], environment).stdout) == (said is not None)
    redis_url = environment.pop("REDIS_URL")
    with pages(environment, tmp_path / "pages", redis_url) as (client, _):
        told = client.get(f"/api/recordings/{recording_id}").json()
        assert [row["kept"] for row in client.get("/api/deletions").json()["first"]] == [said]
    steps = {step["what"]: step["detail"] for step in told["history"]}
    assert told["kept"] == said and (told["deletion_due_at"] is None) == (said is not None)
    assert ("original due for deletion" in steps) == (said is None)
    assert steps.get("original kept") == said


async def release(runtime: Runtime, recording_id: str) -> None:
    await decisions.release(runtime, recording_id, "over", "ann")


async def release_connection(runtime: Runtime, recording_id: str) -> None:
    await decisions.release_connection(runtime, "7", "over", "ann")


async def approve(runtime: Runtime, recording_id: str) -> None:
    await decisions.approve(runtime, recording_id, "listened", "ann")


async def have_another_unit_turn_deletion_off(runtime: Runtime, recording_id: str) -> None:
    other = msgspec.structs.replace(own_duties(runtime.settings), unit="other", delete_originals="never")
    await runtime.in_thread(state_duties, runtime.archive, other)


async def retire_that_unit(runtime: Runtime, recording_id: str) -> None:
    await runtime.in_thread(retire_unit, runtime.archive, "other", "ann")


async def give_up(runtime: Runtime, recording_id: str) -> None:
    letter = DeadLetter(letter_id(recording_id), "schedule_again", {}, MAIN_QUEUE, "not-deleted", "x", "2026-11-25", [])
    await runtime.attempts.bury(letter)


async def discard(runtime: Runtime, recording_id: str) -> None:
    await runtime.attempts.discard(letter_id(recording_id))


@pytest.mark.parametrize(
    ("act", "silent", "undo", "is_scheduled_at_once"),
    [
        (hold, False, release, True),
        (hold_connection, False, release_connection, False),
        (nothing, True, approve, True),
        (have_another_unit_turn_deletion_off, False, retire_that_unit, False),
        (give_up, False, discard, False),
    ],
)
async def test_a_reconcile_leaves_alone_what_a_standing_reason_keeps_until_the_reason_ends(
    act: Act,
    silent: bool,
    undo: Act,
    is_scheduled_at_once: bool,
    sandbox: RunningSandbox,
    deleting: dict[str, str],
    logged: Callable[[], str],
) -> None:
    started = utc_now() - timedelta(days=1)
    kept, other = (
        sandbox.world.add_recording(seconds=4, silent=one, connection_id=connection, started_at=started)
        for one, connection in ((silent, "7"), (False, "8"))
    )
    day = started.date()
    async with own_runtime(deleting) as runtime:
        await archive(runtime, kept)
        await act(runtime, kept.data["id"])
        await reconcile_days(runtime, Days(day, day, "reconcile"), Tally())
        await delete_what_is_due(runtime)
        await runtime.redis.delete(DELETIONS_DUE)
        lines = logged().count("original kept") + logged().count("originals kept for now")
        sandbox.world.requests.clear()
        for _ in range(2):
            tally = Tally()
            await reconcile_days(runtime, Days(day, day, "reconcile"), tally)
            await delete_what_is_due(runtime)
            assert (tally.scheduled, await runtime.schedule.count(), has_left(kept)) == (0, 0, False)
        assert logged().count("original kept") + logged().count("originals kept for now") == lines
        assert not [row for row in sandbox.world.requests if kept.data["id"] in row["path"]]

        await archive(runtime, other)
        await runtime.redis.delete(DELETIONS_DUE)
        await undo(runtime, kept.data["id"])
        assert await runtime.schedule.count() == is_scheduled_at_once
        tally = Tally()
        await reconcile_days(runtime, Days(day, day, "reconcile"), tally)
        assert (tally.scheduled, await runtime.schedule.count()) == (1 + (not is_scheduled_at_once), 2)
        await delete_what_is_due(runtime)
        assert has_left(kept) and has_left(other)


async def test_a_reconcile_schedules_damage_that_nobody_knows_of_and_leaves_known_damage_alone(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path, logged: Callable[[], str]
) -> None:
    started = utc_now() - timedelta(days=1)
    recording = sandbox.world.add_recording(seconds=4, started_at=started)
    day = started.date()
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        (folder_of(archive_folder, recording) / "recording.json").write_bytes(b"{")
        for scheduled in (1, 0, 0):
            await runtime.redis.delete(DELETIONS_DUE)
            tally = Tally()
            await reconcile_days(runtime, Days(day, day, "reconcile"), tally)
            assert tally.scheduled == scheduled
            await delete_what_is_due(runtime)
        assert logged().count("deletion blocked: the archive is damaged") == 1
        assert not has_left(recording)


async def test_a_release_reports_what_it_lifted_and_what_still_keeps_the_original(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=4, silent=True, connection_id="7")
    recording_id = recording.data["id"]
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        with pytest.raises(UserError, match=r"has no hold of its own.*not approved: silent-channel"):
            await decisions.release(runtime, recording_id, "x", "ann")
        await hold_connection(runtime, recording_id)
        with pytest.raises(UserError, match="Callvault still keeps its original: its connection is on hold: case 18"):
            await decisions.release(runtime, recording_id, "x", "ann")
        await hold(runtime, recording_id)
        released = await decisions.release(runtime, recording_id, "over", "ann")
        assert released.follows == "Callvault still keeps its original: its connection is on hold: case 18"
        assert await decisions.release_connection(runtime, "7", "over", "ann") is None
        assert await decisions.approve(runtime, recording_id, "listened", "ann") == (["silent-channel"], Released())
        assert what_follows(None).startswith("a worker deletes its original when it is due")
    async with own_runtime(deleting | {"CALLVAULT_HOLD_CONNECTIONS": "7"}) as runtime:
        await hold_connection(runtime, recording_id)
        still = await decisions.release_connection(runtime, "7", "over", "ann")
        assert still == "a worker's CALLVAULT_HOLD_CONNECTIONS names it"
        with pytest.raises(UserError, match="it is on hold anyway: a worker's CALLVAULT_HOLD_CONNECTIONS"):
            await decisions.release_connection(runtime, "7", "over", "ann")


async def test_a_hold_of_an_unknown_connection_is_placed_with_a_warning(
    sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    at_telnyx, archived = (sandbox.world.add_recording(seconds=0.1, connection_id=c) for c in ("7", "8"))
    async with own_runtime(deleting) as runtime:
        await archive(runtime, archived)
    del sandbox.world.recordings[archived.data["id"]]
    for connection, said in (
        ("7", ""),
        ("8", ""),
        ("78", "connection 78 has no recordings in the archive or at Telnyx"),
    ):
        done = run_callvault(["deletions", "hold", "--connection", connection, "--why", "case 17"], deleting)
        assert (done.returncode, done.stdout) == (0, f"connection {connection} is on hold\n"), done.stderr
        assert said in done.stderr and ("check the ID" in done.stderr) == bool(said)
        assert list((archive_folder / "decisions" / "connections" / connection).iterdir())
    assert at_telnyx.deleted_at is None


@pytest.mark.parametrize("word", ["hold", "release", "approve"])
def test_an_impossible_id_is_a_usage_error(word: str, environment: dict[str, str]) -> None:
    for text in ("", " ", "../x", "a b"):
        done = run_callvault(["deletions", word, text, "--why", "x"], environment)
        assert (done.returncode, "is not a Telnyx ID" in done.stderr) == (2, True), done.stderr


async def test_a_repeated_erasure_reports_that_nothing_was_left(
    sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.1)
    async with own_runtime(environment) as runtime:
        await archive(runtime, recording)
    arguments = ["erase", recording.data["id"], "--reason", "request", "--by", "dpo", "--yes"]
    first = run_callvault(arguments, environment)
    assert first.stdout.splitlines()[0] == "2 objects erased, 0 Parquet files rewritten", first.stderr
    again = run_callvault([*arguments[:3], "another", *arguments[4:]], environment)
    assert again.returncode == 0, again.stderr
    assert "by dpo; nothing was left to erase" in again.stdout and "objects erased" not in again.stdout
    assert "the first reason stays on record: request" in again.stdout
    (folder_of(archive_folder, recording) / "audio.wav").write_bytes(b"left by a job")
    third = run_callvault(arguments, environment)
    assert "now 1 object erased, 0 Parquet files" in third.stdout
    assert json.loads(run_callvault([*arguments, "--json"], environment).stdout)["erased"] == []


@pytest.mark.parametrize("broken", ["duties/other/1.json", "decisions/connections/7/1.json", "recording.json"])
async def test_a_reconcile_finds_what_is_missing_even_if_a_reason_to_keep_an_original_cannot_be_read(
    broken: str, sandbox: RunningSandbox, deleting: dict[str, str], archive_folder: Path
) -> None:
    today = utc_now()
    archived = sandbox.world.add_recording(seconds=4, started_at=today - timedelta(days=1), connection_id="7")
    sandbox.world.add_recording(seconds=4, started_at=today)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, archived)
        await runtime.redis.delete(DELETIONS_DUE)
        path = (folder_of(archive_folder, archived) if broken == "recording.json" else archive_folder) / broken
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if broken.startswith("duties"):
            path.write_bytes(b"{")
        else:
            path.symlink_to(archive_folder)  # listed, and every read fails, as on a bad sector
        tally = Tally()
        await reconcile_days(runtime, Days((today - timedelta(days=1)).date(), today.date(), "reconcile"), tally)
        assert (tally.missing, tally.through) == (1, today.date().isoformat())
        assert tally.scheduled == 1  # a deletion turn asks the rule, keeps the original and reports what it cannot read
        await delete_what_is_due(runtime)
        assert not has_left(archived)
