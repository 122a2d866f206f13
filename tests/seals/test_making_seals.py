"""Making seals: what is compared, signed and skipped; in one process, on a real Redis and sandbox."""

from __future__ import annotations

import asyncio
import json
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from archive.archive import Archive
from archive.records import UnreadableRecord
from archive.seals import Link, folders_of_day
from archive.stores.store import StoreError, open_store
from lab.servers import RunningSandbox
from sandbox.world import Recording, text_of
from tests.seals.small import SmallArchive
from tests.telnyx.test_spans import fill, when_listed
from tests.workers.steps import folder_of
from text.times import end_of_day, utc_now
from workers.keys import ARCHIVE
from workers.queue.binding import AnotherArchive
from workers.reconcile.reconcile import missing_of
from workers.recordings.archive_recording import archive_recording
from workers.recordings.requests import RecordingRequest
from workers.runtime import Runtime
from workers.seals.chain import is_sealed, read_chain
from workers.seals.seal import seal


def ago(days: int) -> date:
    return (utc_now() - timedelta(days=days)).date()


def at_noon(day: date) -> datetime:
    return end_of_day(day) - timedelta(hours=12)


def recordings_of(sandbox: RunningSandbox, day: date, count: int) -> list[Recording]:
    return [
        sandbox.world.add_recording(seconds=0.1, channels=1, started_at=at_noon(day) + timedelta(seconds=i))
        for i in range(count)
    ]


async def archive(runtime: Runtime, recordings: list[Recording]) -> None:
    requests = [RecordingRequest(recording_id=one.data["id"]) for one in recordings]
    await asyncio.gather(*(archive_recording(runtime, request) for request in requests))


def pretend_committed(archive_folder: Path, recording: Recording) -> None:
    """Put a key where the commit record would be; a comparison reads only keys."""
    folder = folder_of(archive_folder, recording)
    folder.mkdir(parents=True)
    (folder / "recording.json").touch()


def key_of(folder: Path, archive_folder: Path) -> str:
    return str(folder.relative_to(archive_folder)) + "/"


async def test_whether_a_seal_lists_a_recording_is_known_exactly(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    first, late = recordings_of(sandbox, ago(5), 2)
    await archive(runtime, [first])
    sandbox.world.recordings.pop(late.data["id"])
    folders = [key_of(folder_of(archive_folder, one), archive_folder) for one in (first, late)]
    assert [await is_sealed(runtime, one) for one in folders] == [False, False]
    assert await seal(runtime, ago(5))
    assert [await is_sealed(runtime, one) for one in folders] == [True, False]
    sandbox.world.recordings[late.data["id"]] = late
    await archive(runtime, [late])
    assert [await is_sealed(runtime, one) for one in folders] == [True, False], "archived, and not sealed yet"
    assert await seal(runtime, ago(5), by_hand=True)
    assert [await is_sealed(runtime, one) for one in folders] == [True, True]


async def test_a_manifest_that_is_not_the_one_of_its_seal_lists_nothing(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    (one,) = recordings_of(sandbox, ago(5), 1)
    await archive(runtime, [one])
    assert await seal(runtime, ago(5))
    manifest = archive_folder / layout.seal_key(1, "sha256")
    manifest.write_bytes(manifest.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(UnreadableRecord, match="not the manifest of seal 1"):
        await is_sealed(runtime, key_of(folder_of(archive_folder, one), archive_folder))


async def test_a_day_is_not_sealed_as_whole_while_rows_go_between_two_pages(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fill(sandbox, [at_noon(ago(5)) + timedelta(minutes=i) for i in range(600)])
    newest_first = sandbox.world.live_recordings()
    for one in newest_first:
        if one is not newest_first[250]:  # the first of the second page
            pretend_committed(archive_folder, one)

    def delete(number: int) -> None:
        if number == 1:
            newest_first[0].deleted_at = text_of(utc_now())

    when_listed(monkeypatch, sandbox, delete)
    assert (await missing_of(runtime, ago(5))).count == 1, f"of {len(made)}"


async def test_a_number_that_no_column_can_hold_blocks_no_seal(sandbox: RunningSandbox, runtime: Runtime) -> None:
    odd, other = recordings_of(sandbox, ago(5), 2)
    odd.data["duration_millis"] = 2**70
    await archive(runtime, [odd, other])
    outcome = await seal(runtime, ago(5))
    assert isinstance(outcome, Link)
    assert outcome.seal.recordings == 2


async def test_no_seal_is_added_to_another_archive_than_the_one_that_was_opened(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    await archive(runtime, recordings_of(sandbox, ago(5), 1))
    identity = archive_folder / layout.IDENTITY_KEY
    own = identity.read_text()
    identity.write_text(own.replace(json.loads(own)["id"], "0" * 32))
    with pytest.raises(StoreError, match="now holds another archive"):
        await seal(runtime, ago(5))
    identity.write_text(own)
    redis.set(ARCHIVE, "0" * 32)
    with pytest.raises(AnotherArchive):
        await seal(runtime, ago(5))
    assert not (archive_folder / "seals").exists()
    redis.delete(ARCHIVE)
    assert isinstance(await seal(runtime, ago(5)), Link)


async def test_a_seal_that_the_archive_does_not_hold_any_more_lists_nothing(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    """An archive that was restored from an older copy; the read of the chain each minute shows it."""
    (one,) = recordings_of(sandbox, ago(5), 1)
    await archive(runtime, [one])
    assert await seal(runtime, ago(5))
    folder = key_of(folder_of(archive_folder, one), archive_folder)
    assert await is_sealed(runtime, folder)
    for path in (archive_folder / "seals").iterdir():
        path.unlink()
    await read_chain(runtime)
    assert not await is_sealed(runtime, folder)


def test_a_record_larger_than_what_is_read_of_one_is_hashed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, noon = SmallArchive(tmp_path), at_noon(ago(2))
    small.recording(2, "2-one", noon)
    key = small.transcription(2, "2-one", "t", noon)
    (tmp_path / key).write_bytes((tmp_path / key).read_bytes() + b" " * 20_000)
    monkeypatch.setattr("archive.archive._LARGEST_RECORD_BYTES", 10_000)
    (folder,) = folders_of_day(Archive(open_store(tmp_path.as_uri())), ago(2), ())
    assert f"{small.sha256(key)}  {key}\n" in folder.lines
