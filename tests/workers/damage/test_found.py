"""Damage is a state: kept in the archive and shown until a check finds every byte right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import msgspec
import pytest

from archive.layout import damage_key
from archive.register import read_register, record_damage
from archive.stores.store import StoredObject
from lab.processes import callvault_here, receiver, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.worker import delete_what_is_due
from sandbox.world import Recording
from tests.workers.damage.steps import audio_of, flip, keep
from tests.workers.steps import folder_of, kinds_of_alerts
from workers.damage.damaged import DamagedObjects, KnownDamage
from workers.keys import DAMAGED
from workers.looks import known_conditions
from workers.recordings.requests import TranscriptionRequest
from workers.recordings.transcriptions import archive_transcription
from workers.runtime import Runtime


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
