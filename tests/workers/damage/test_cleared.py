"""Only a check that finds every byte right, or an erasure, clears damage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from archive.erase import erase
from archive.layout import damage_key
from archive.register import read_register
from lab.worker import delete_what_is_due
from sandbox.world import Recording
from tests.workers.damage.steps import audio_of, find, flip, keep
from tests.workers.steps import folder_of, kinds_of_alerts
from workers.alerts.alerts import Alerts
from workers.damage.damage import keep_register
from workers.damage.damaged import DamagedObjects, KnownDamage
from workers.keys import DAMAGED
from workers.runtime import Runtime


@pytest.mark.parametrize(
    "key", ["../../etc/passwd", "/etc/passwd", "seals/x", "\x00", "recordings/2026/11/26/none/audio.wav"]
)
async def test_a_forged_row_blocks_no_other_from_being_checked(
    key: str, runtime: Runtime, recording: Recording, archive_folder: Path
) -> None:
    audio = folder_of(archive_folder, recording) / "audio.wav"
    whole = flip(audio)
    await delete_what_is_due(runtime)
    await DamagedObjects(runtime.redis).report(key, KnownDamage("damaged", "made up", "verify", "long ago"))
    (archive_folder / "damage").mkdir(exist_ok=True)
    await keep(runtime)
    audio.write_bytes(whole)
    await keep(runtime)
    left = await DamagedObjects(runtime.redis).all()
    assert str(audio.relative_to(archive_folder)) not in left


async def test_a_row_under_another_objects_key_clears_nothing(
    runtime: Runtime, recording: Recording, archive_folder: Path
) -> None:
    audio, key = audio_of(archive_folder, recording)
    await find(runtime, audio)
    forged = archive_folder / damage_key(key, 2)
    forged.write_bytes(json.dumps({
        "schema": "callvault.damage/1", "key": "elsewhere", "number": 2, "state": "whole", "what": "", "found_by": "x", "at": "",
    }).encode())  # fmt: skip
    await keep(runtime)
    assert str(forged.relative_to(archive_folder)) in await DamagedObjects(runtime.redis).all()


async def test_a_row_marked_whole_clears_nothing_by_itself(
    runtime: Runtime, recording: Recording, archive_folder: Path
) -> None:
    audio, key = audio_of(archive_folder, recording)
    await find(runtime, audio)
    row = {
        "schema": "callvault.damage/1",
        "key": key,
        "number": 2,
        "state": "whole",
        "what": "",
        "found_by": "x",
        "at": "",
    }
    (archive_folder / damage_key(key, 2)).write_bytes(json.dumps(row).encode())
    await keep(runtime)
    assert read_register(runtime.archive)[key].number == 3, "it is still damaged, which is recorded again"
    await keep(runtime)
    (archive_folder / damage_key(key, 4)).write_bytes(b"garbage")
    await runtime.redis.delete(DAMAGED)
    await keep(runtime)
    known = await DamagedObjects(runtime.redis).all()
    assert known[key].number == 3 and damage_key(key, 4) in known


async def test_a_missing_object_does_not_count_as_whole(
    runtime: Runtime, recording: Recording, archive_folder: Path
) -> None:
    """Even if nothing that is left mentions it."""
    folder = folder_of(archive_folder, recording)
    (folder / "recording.json").unlink()
    await delete_what_is_due(runtime)
    (folder / "audio.wav").unlink()
    await keep(runtime)
    await keep(runtime)
    assert [one.state for one in (await DamagedObjects(runtime.redis).all()).values()] == ["damaged"]


@pytest.mark.parametrize("said", [b"{}", b'{"schema": "callvault.erasure/1", "recording_id": "another"'])
async def test_an_invalid_erasure_record_does_not_excuse_missing_audio(
    said: bytes, runtime: Runtime, recording: Recording, archive_folder: Path
) -> None:
    path = folder_of(archive_folder, recording) / "recording.json"
    key = str(path.relative_to(archive_folder))
    path.unlink()
    (path.parent / "erased.json").write_bytes(said)
    await DamagedObjects(runtime.redis).report(key, KnownDamage("missing", "gone", "job", "2026-11-25T10:00:00Z"))
    await keep_register(runtime)
    assert read_register(runtime.archive)[key].state == "missing"
    folder = str(path.parent.relative_to(archive_folder)) + "/"
    (path.parent / "erased.json").unlink()
    await runtime.in_thread(erase, runtime.archive, folder, "request", "dpo")
    await DamagedObjects(runtime.redis).look_soon(key)
    await keep_register(runtime)
    assert read_register(runtime.archive)[key].state == "whole"


class Stopped(BaseException):
    """The end of a worker's process."""


async def stopped_before(number: int, runtime: Runtime) -> bool:
    """Run a turn of the register, stopped before its n-th request; False if it ended before."""
    count = 0

    def counted(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                raise Stopped
            return await method(*arguments, **named)

        return call

    steps = {
        DamagedObjects: ("all", "replace", "mark_compared", "is_time_to_look", "look_soon"),
        Alerts: ("send",),
        Runtime: ("announce", "in_thread"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for kind, names in steps.items():
            for name in names:
                patch.setattr(kind, name, counted(getattr(kind, name)))
        try:
            await keep_register(runtime)
        except Stopped:
            return True
    return False


async def test_a_worker_that_is_stopped_anywhere_leaves_a_register_that_the_next_look_mends(
    runtime: Runtime, recording: Recording, archive_folder: Path
) -> None:
    """While the row in the archive and its copy in Redis differ, the row is right."""
    path, key = audio_of(archive_folder, recording)
    damaged = DamagedObjects(runtime.redis)
    whole = path.read_bytes()
    for is_whole in (False, True):
        number, goes_on = 0, True
        while goes_on:
            number += 1
            path.write_bytes(whole[:-1] + b"?")
            await damaged.report(key, KnownDamage("damaged", "other bytes", "verify", "2026-11-26T10:00:00.000000Z"))
            if is_whole:  # and known as damaged before
                await keep(runtime)
                path.write_bytes(whole)
                await damaged.look_soon(key)
            goes_on = await stopped_before(number, runtime)
            await keep(runtime)
            rows, copy = await asyncio.to_thread(read_register, runtime.archive), await damaged.all()
            assert (rows[key].state, key in copy) == (("whole", False) if is_whole else ("damaged", True)), number
            if not is_whole:
                path.write_bytes(whole)
                await keep(runtime)
        assert number > 5
    assert {"archive-damaged", "archive-repaired"} <= await kinds_of_alerts(runtime)


async def test_damage_found_during_a_check_is_not_cleared_by_that_check(
    runtime: Runtime, recording: Recording, archive_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, key = audio_of(archive_folder, recording)
    damaged = DamagedObjects(runtime.redis)
    whole = await find(runtime, path)
    path.write_bytes(whole)
    announce = runtime.announce

    async def meanwhile(announced: str, row: Any) -> None:
        if row.state == "whole":
            flip(path)
            found = KnownDamage("damaged", "other bytes", "page", "2026-11-26T10:00:00.000000Z")
            assert not await damaged.report(key, found), "it is still known"
        await announce(announced, row)

    monkeypatch.setattr(type(runtime), "announce", lambda _, *told: meanwhile(*told))
    await keep(runtime)
    assert key in await damaged.all()
    monkeypatch.undo()
    await keep(runtime)
    row = (await asyncio.to_thread(read_register, runtime.archive))[key]
    assert (row.state, (await damaged.all())[key].number) == ("damaged", row.number)
