"""Damage is a state: kept in the archive and shown until a check finds every byte right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from archive.erase import erase
from archive.layout import damage_key
from archive.register import read_register, record_damage
from archive.stores.store import StoredObject
from lab.processes import callvault_here, receiver, run_callvault, wait_for
from lab.servers import RunningSandbox
from sandbox.world import Recording
from tests.workers.house import archive, delete_what_is_due, kinds_of_alerts, runtime_of
from tests.workers.test_archive_recording import folder_of
from workers.alerts.alerts import Alerts
from workers.conditions import known_conditions
from workers.damage.damage import keep_register
from workers.damage.damaged import DamagedObjects, KnownDamage
from workers.keys import DAMAGED
from workers.recordings.requests import TranscriptionRequest
from workers.recordings.transcriptions import archive_transcription
from workers.runtime import Runtime


@pytest.fixture
async def runtime(deleting: dict[str, str], async_redis: Any) -> AsyncIterator[Runtime]:
    async with runtime_of(deleting, async_redis) as made:
        yield made


@pytest.fixture
async def recording(sandbox: RunningSandbox, runtime: Runtime) -> Recording:
    made = sandbox.world.add_recording(seconds=1)
    await runtime.assert_bound()
    await archive(runtime, made)
    return made


def audio_of(archive_folder: Path, recording: Recording) -> tuple[Path, str]:
    """The audio of a recording: the file, and its key."""
    path = folder_of(archive_folder, recording) / "audio.wav"
    return path, str(path.relative_to(archive_folder))


def flip(path: Path) -> bytes:
    """Change one byte of a file; returns what was there."""
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    return whole


async def find(runtime: Runtime, path: Path) -> bytes:
    """Damage a file, have a proof find it and the register keep it; returns what was there."""
    whole = flip(path)
    await delete_what_is_due(runtime)
    await keep(runtime)
    return whole


async def keep(runtime: Runtime) -> None:
    """Run a turn in which every check is due."""
    damaged = DamagedObjects(runtime.redis)
    for key in await damaged.all():
        await damaged.look_soon(key)
    await keep_register(runtime)


def states(environment: dict[str, str]) -> list[str]:
    """The recordings that a search for damage finds, by their ids."""
    status, output = callvault_here(["find", "--state", "damaged", "--json"], environment)
    assert status in (0, 1)
    return [hit["recording_id"] for hit in map(json.loads, output.splitlines())]


async def test_damage_found_by_a_proof_stays_known_without_redis_until_it_is_repaired(
    runtime: Runtime, recording: Recording, environment: dict[str, str], archive_folder: Path
) -> None:
    path, key = audio_of(archive_folder, recording)
    whole = flip(path)
    await delete_what_is_due(runtime)
    assert (await DamagedObjects(runtime.redis).all())[key].found_by == "deletion"
    await keep(runtime)
    assert read_register(runtime.archive)[key].state == "damaged"
    assert states(environment) == [recording.data["id"]]
    assert callvault_here(["status"], environment)[0] == 1

    await runtime.redis.delete(DAMAGED)
    await keep(runtime)
    known = (await DamagedObjects(runtime.redis).all())[key]
    assert (known.state, known.number) == ("damaged", 1)

    path.write_bytes(whole)
    await keep(runtime)
    assert not await DamagedObjects(runtime.redis).all()
    row = read_register(runtime.archive)[key]
    assert (row.state, row.number) == ("whole", 2)
    assert states(environment) == []
    assert callvault_here(["status"], environment)[0] == 0
    assert {"archive-damaged", "archive-repaired"} <= await kinds_of_alerts(runtime)
    done = run_callvault(["verify", "--seals"], environment)
    assert done.returncode == 0, done.stdout


async def test_an_object_damaged_again_is_reported_again(
    runtime: Runtime, recording: Recording, archive_folder: Path
) -> None:
    path, key = audio_of(archive_folder, recording)
    for number in (1, 3):
        whole = flip(path)
        await runtime.schedule.add(f"{key.removesuffix('audio.wav')}", 0)
        await delete_what_is_due(runtime)
        await keep(runtime)
        assert (await DamagedObjects(runtime.redis).all())[key].number == number
        path.write_bytes(whole)
        await keep(runtime)
        assert not await DamagedObjects(runtime.redis).all()


@pytest.mark.parametrize("command", ["verify", "get"])
async def test_damage_that_a_person_finds_is_recorded_by_a_worker_with_an_alert(
    command: str,
    runtime: Runtime,
    recording: Recording,
    environment: dict[str, str],
    archive_folder: Path,
    tmp_path: Path,
) -> None:
    path, key = audio_of(archive_folder, recording)
    flip(path)
    arguments = ["get", recording.data["id"], "--out", str(tmp_path / "x.wav")] if command == "get" else ["verify"]
    done = run_callvault(arguments, environment)
    assert done.returncode == 1
    assert (await DamagedObjects(runtime.redis).all())[key].found_by == command
    assert read_register(runtime.archive) == {}, "a reader writes nothing"
    await keep(runtime)
    assert read_register(runtime.archive)[key].found_by == command
    assert "archive-damaged" in await kinds_of_alerts(runtime)


async def test_a_register_that_cannot_be_read_is_damage_itself(
    runtime: Runtime, recording: Recording, archive_folder: Path
) -> None:
    path = folder_of(archive_folder, recording) / "audio.wav"
    path.unlink()
    await delete_what_is_due(runtime)
    await keep(runtime)
    (row,) = (archive_folder / "damage").glob("*/*.json")
    row.write_bytes(b"{}")
    runtime.archive._read_once.clear()
    await runtime.redis.delete(DAMAGED)
    await keep(runtime)
    assert [*await DamagedObjects(runtime.redis).all()] == [str(row.relative_to(archive_folder))]


async def test_pages_never_serve_damaged_audio_as_whole_and_show_what_is_wrong(
    runtime: Runtime, recording: Recording, environment: dict[str, str], archive_folder: Path
) -> None:
    path, key = audio_of(archive_folder, recording)
    recording_id = recording.data["id"]
    with receiver(environment) as (client, _):
        one = wait_for(lambda: (a := client.get(f"/api/recordings/{recording_id}")).status_code == 200 and a.json())
        assert (one["state"], one["damage"], one["proven"]["what"]) == ("archived", [], "by read-back")
        audio = f"/ops/recordings/{recording_id}/audio.wav"
        assert client.get(audio, headers={"Range": "bytes=5-9"}).status_code == 206
        whole = flip(path)
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(audio)
        assert (await DamagedObjects(runtime.redis).all())[key].found_by == "page"
        assert client.get(audio).status_code == 409, "audio with known damage is not served at all"
        one = client.get(f"/api/recordings/{recording_id}").json()
        assert one["state"] == "damaged" and key in one["damage"][0]
        assert "callvault repair" in client.get(f"/ops/recordings/{recording_id}").text

        path.write_bytes(whole)
        await keep(runtime)
        assert client.get(audio).content == whole
        path.unlink()
        one = client.get(f"/api/recordings/{recording_id}").json()
        assert one["state"] == "damaged" and "gone from the archive (seen now)" in one["damage"][0]
        assert (await DamagedObjects(runtime.redis).all())[key].state == "missing"
        assert client.get(audio, headers={"Range": "bytes=5-9"}).status_code == 404


async def test_a_part_with_other_bytes_than_the_record_is_rejected(
    runtime: Runtime, recording: Recording, environment: dict[str, str], archive_folder: Path
) -> None:
    path = folder_of(archive_folder, recording) / "audio.wav"
    flip(path)
    with receiver(environment) as (client, _):
        audio = f"/ops/recordings/{recording.data['id']}/audio.wav"
        answer = client.get(audio, headers={"Range": "bytes=5-9"})
        assert answer.status_code == 409 and "SHA-256" in answer.text


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


async def test_recording_the_damage_of_one_object_reads_no_other_rows(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a disk with much damage would be searched once for each object."""
    archive, at = runtime.archive, "2026-11-26T10:00:00Z"
    for key in ("a", "b"):
        await asyncio.to_thread(record_damage, archive, key, "missing", "gone", "sweep", at)
    listed, listing = list[str](), archive.store.list

    def told(prefix: str) -> Iterator[StoredObject]:
        for stored in listing(prefix):
            listed.append(stored.key)
            yield stored

    monkeypatch.setattr(archive.store, "list", told)
    row = await asyncio.to_thread(record_damage, archive, "a", "whole", "", "register", at)
    assert (row.number, listed) == (2, [damage_key("a", 1)])


async def test_no_original_is_deleted_by_checksum_alone_after_its_copy_was_read_as_damaged(
    runtime: Runtime, recording: Recording, archive_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that still reports the old checksum, and returns other bytes."""
    audio, key = audio_of(archive_folder, recording)
    record = await asyncio.to_thread(runtime.archive.commit_record, key.removesuffix("audio.wav"))
    assert record is not None
    good = record.objects[0]
    flip(audio)
    stat = runtime.archive.store.stat

    def of_old(wanted: str) -> StoredObject | None:
        found = stat(wanted)
        return replace(found, checksums={"sha256": good.sha256}) if found is not None and wanted == key else found

    monkeypatch.setattr(runtime.archive.store, "stat", of_old)
    await DamagedObjects(runtime.redis).report(
        key, KnownDamage("damaged", "other bytes", "page", "2026-11-26T10:00:00Z")
    )
    await delete_what_is_due(runtime)
    assert recording.deleted_at is None


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
    await runtime.in_thread(erase, runtime.archive, folder, recording.data["id"], "request", "dpo")
    await DamagedObjects(runtime.redis).look_soon(key)
    await keep_register(runtime)
    assert read_register(runtime.archive)[key].state == "whole"


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


async def test_known_damage_keeps_the_original_although_telnyx_offers_nothing_to_compare(
    runtime: Runtime, recording: Recording, sandbox: RunningSandbox, archive_folder: Path
) -> None:
    transcription = sandbox.world.add_transcription(recording)
    sandbox.world.complete_transcription(transcription)
    request = TranscriptionRequest(transcription_id=transcription["id"], recording_id=recording.data["id"])
    await archive_transcription(runtime, request)
    (path,) = folder_of(archive_folder, recording).glob("transcriptions/*.json")
    whole = path.read_bytes()
    path.write_bytes(b"{")
    key = str(path.relative_to(archive_folder))
    await DamagedObjects(runtime.redis).report(key, KnownDamage("damaged", "not a transcription", "verify", ""))
    sandbox.world.transcriptions.clear()
    folder = f"{folder_of(archive_folder, recording).relative_to(archive_folder)}/"
    for is_whole in (False, True):
        if is_whole:
            path.write_bytes(whole)
        await runtime.schedule.add(folder, 0)
        await delete_what_is_due(runtime)
        assert (recording.deleted_at is not None) == is_whole


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
        DamagedObjects: ("all", "replace", "hold_against", "is_time_to_look", "look_soon"),
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


async def test_damage_beyond_the_limit_of_the_list_is_counted(runtime: Runtime) -> None:
    known = KnownDamage("missing", "gone", "verify", "2026-11-25T10:00:00Z", 1)
    rows = {f"recordings/2026/11/20/{n}/audio.wav": msgspec.json.encode(known) for n in range(1_003)}
    await runtime.redis.hset(DAMAGED, mapping=rows)
    found = [one for one in await known_conditions(runtime.redis, runtime.settings) if one.kind == "damaged"]
    assert len(found) == 1_001 and found[-1].what == "3 more objects, not listed here"


async def test_an_unreadable_row_hides_no_match(runtime: Runtime) -> None:
    await runtime.redis.hset(DAMAGED, "seals/x", b"garbage")
    found = KnownDamage("damaged", "other bytes", "page", "2026-11-26T10:00:00.000000Z")
    await DamagedObjects(runtime.redis).report("seals/x", found)
    assert await DamagedObjects(runtime.redis).all() == {"seals/x": found}
