"""The archive keeps what workers are set to do with originals; the strictest setting counts for all."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lab.servers import RunningSandbox
from lab.worker import archive, delete_what_is_due, own_runtime, settings_of
from tests.workers.steps import folder_of, has_left
from text import times
from workers.deletion import duties
from workers.deletion.duties import (
    effective_duties,
    own_duties,
    retire_unit,
    state_duties,
    state_own_duties,
    unit_of,
    workers_duties,
)
from workers.deletion.may_delete import read_rules, why_kept
from workers.keys import DELETIONS_BACK_OFF, DELETIONS_DUE, LIVE_DUTIES
from workers.queue.embedded import socket_url
from workers.status import read_status


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
    async with own_runtime(deleting) as runtime:
        await runtime.in_thread(runtime.archive.put_transcribing, "7")
        await archive(runtime, recording)
        await runtime.in_thread(state_duties, runtime.archive, own_duties(runtime.settings))
        await runtime.in_thread(state_duties, runtime.archive, other)
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        await runtime.in_thread(retire_unit, runtime.archive, other.unit, "ann")
        await runtime.schedule.add(folder_of(Path(), recording).as_posix() + "/", 0)  # as reconcile does
        await delete_what_is_due(runtime)
    assert has_left(recording)


async def test_while_another_unit_deletes_nothing_originals_come_back_at_growing_intervals(
    sandbox: RunningSandbox, deleting: dict[str, str], redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    elsewhere = {"REDIS_URL": "redis://elsewhere:6379/0"}
    never = own_duties(settings_of(deleting | elsewhere | {"CALLVAULT_DELETE_ORIGINALS": "never"}))
    waits = []
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        await runtime.in_thread(state_duties, runtime.archive, never)
        for minutes in (0, 2, 60):
            await delete_what_is_due(runtime)
            waits.append(redis.pttl(DELETIONS_BACK_OFF) / 1000)
            ((_, due_at),) = redis.zrange(DELETIONS_DUE, 0, -1, withscores=True)
            assert due_at - times.utc_now().timestamp() == pytest.approx(waits[-1], abs=2)
            (key,) = redis.keys("callvault:failing-since:*")
            redis.set(key, times.utc_now().timestamp() - 60 * minutes)
        await delete_what_is_due(runtime)
        waits.append(redis.pttl(DELETIONS_BACK_OFF) / 1000)
        await runtime.in_thread(retire_unit, runtime.archive, never.unit, "ann")
        await delete_what_is_due(runtime)
    assert [round(wait / 5) * 5 for wait in waits] == [15, 15, 120, 600], waits
    assert has_left(recording)


async def test_an_original_that_another_unit_keeps_longer_comes_back_at_growing_intervals(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    began = times.utc_now() - timedelta(minutes=3)
    recording = sandbox.world.add_recording(seconds=0.5, started_at=began)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        folder = folder_of(Path(), recording).as_posix() + "/"
        record = await runtime.in_thread(runtime.archive.commit_record, folder)
        assert record is not None
        record = msgspec.structs.replace(record, archived_at=times.format_instant(began))
        rules = await read_rules(runtime)
        for days, expected in ((30, 180), (0.002, 0)):
            longer = msgspec.structs.replace(rules.duties, delete_after_seconds=days * 86_400)
            kept = why_kept(replace(rules, duties=longer), record, {}, [])
            assert (0 if kept is None else round((kept.seconds or 0) / 30) * 30) == expected


async def test_a_worker_that_was_not_restarted_yet_obeys_the_hold_of_one_that_was(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5, connection_id="7")
    newer = settings_of(deleting | {"CALLVAULT_HOLD_CONNECTIONS": "7"})
    async with own_runtime(deleting) as older:
        await archive(older, recording)
        await older.in_thread(state_duties, older.archive, own_duties(newer))
        await delete_what_is_due(older)
        assert (await effective_duties(older)).hold_connections == ["7"]
    assert not has_left(recording)


async def test_duties_shown_are_the_settings_of_workers_not_of_the_viewer(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    async with own_runtime(deleting) as worker:
        await worker.in_thread(state_duties, worker.archive, own_duties(worker.settings))
    async with own_runtime(deleting | {"CALLVAULT_DELETE_ORIGINALS": "never"}) as person:
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
    """`callvault up` passes the embedded server's address to its worker; a command derives it."""
    command = settings_of({"CALLVAULT_DATA": str(tmp_path), "TELNYX_API_KEY": "KEY"})
    worker = settings_of({"REDIS_URL": socket_url(tmp_path), "TELNYX_API_KEY": "KEY"})
    assert unit_of(command) == unit_of(worker)


async def test_the_hold_of_a_live_worker_counts_right_after_an_outage_of_redis(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    """A newer worker states less; the older one's last statement is stale when Redis returns."""
    recording = sandbox.world.add_recording(seconds=0.5, connection_id="7")
    held = own_duties(settings_of(deleting | {"CALLVAULT_HOLD_CONNECTIONS": "7"}))
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        await state_own_duties(runtime)
        stated_at = times.utc_now().timestamp() - 30
        await runtime.redis.hset(LIVE_DUTIES, "older", msgspec.json.encode((stated_at, held)))
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(duties, "_LIVE_SECONDS", 0)  # it has stated nothing for long
            await runtime.schedule.add(folder_of(Path(), recording).as_posix() + "/", 0)  # as reconcile does
            await delete_what_is_due(runtime)
    assert has_left(recording)
