"""Content that changes at Telnyx after archiving becomes a version and never replaces the first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archive.archive import ArchiveConflict
from archive.readers import COMMIT_RECORD
from archive.records import UnreadableRecord
from archive.sameness import difference
from lab.servers import RunningSandbox
from sandbox.audio import make_wav
from sandbox.world import Recording, now, text_of
from tests.workers.steps import folder_of, request_of
from workers.engine.failure_classes import NotFinished
from workers.keys import ALERTS, WRITTEN
from workers.recordings.archive_recording import archive_recording
from workers.runtime import Runtime


def change(recording: Recording, seconds: float = 2, seed: str = "other") -> None:
    """Give a recording other audio under the same id, as a second `recording.saved` announces."""
    audio = make_wav(seed, seconds, 2)
    recording.audio["wav"] = audio
    recording.data |= {"duration_millis": audio.duration_ms, "updated_at": text_of(now())}


def touch(recording: Recording) -> None:
    recording.data["updated_at"] = text_of(now())


async def prefix(runtime: Runtime, archive_folder: Path, recording: Recording) -> str:
    return str(folder_of(archive_folder, recording).relative_to(archive_folder)) + "/"


def alerts(redis: Any) -> list[dict[str, Any]]:
    return [json.loads(row) for row in redis.lrange(ALERTS, 0, -1)]


async def test_other_content_of_a_second_event_is_archived_as_a_version(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    first_audio = recording.audio["wav"].sha256
    await archive_recording(runtime, request_of(recording))
    before = {p: p.read_bytes() for p in folder_of(archive_folder, recording).rglob("*") if p.is_file()}
    change(recording)
    for event_id in ("event-2", "event-3"):
        await archive_recording(runtime, request_of(recording, event_id))
    assert {p: p.read_bytes() for p in before} == before, "the first stays as it is"
    (version,) = runtime.archive.versions(await prefix(runtime, archive_folder, recording))
    (audio,) = version.objects
    assert audio.sha256 == recording.audio["wav"].sha256 != first_audio
    assert (archive_folder / audio.key).stat().st_size == recording.audio["wav"].size
    assert (version.recording, version.event_id, version.audio.duration_ms) == (recording.data, "event-2", 2000)
    assert len(list(folder_of(archive_folder, recording).rglob("*.wav"))) == 2
    (alert,) = [a for a in alerts(redis) if a["kind"] == "content-changed"]
    assert "duration_millis is 2000, and was 1000" in alert["text"]
    assert any(b"/versions/" in fields["key"].encode() for _, fields in redis.xrange(WRITTEN)), "its day gets a seal"


async def test_the_same_event_asks_telnyx_nothing_and_another_one_asks_once(
    sandbox: RunningSandbox, runtime: Runtime
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    await archive_recording(runtime, request_of(recording))
    sandbox.world.requests.clear()
    await archive_recording(runtime, request_of(recording))
    await archive_recording(runtime, request_of(recording, event_id=None, found_by="reconcile"))
    assert sandbox.world.requests == []
    await archive_recording(runtime, request_of(recording, "event-2"))
    assert [r["method"] for r in sandbox.world.requests] == ["GET"]
    assert recording.served == {"wav": 1}, "unchanged audio is not fetched again"


async def test_a_deletion_triggers_another_comparison_without_an_event(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    await archive_recording(runtime, request_of(recording))
    change(recording)
    again = request_of(recording, event_id=None, found_by="reconcile", look_again=True)
    await archive_recording(runtime, again)
    folder = await prefix(runtime, archive_folder, recording)
    (version,) = runtime.archive.versions(folder)
    returned = (await runtime.telnyx.recordings.retrieve(recording.data["id"])).as_returned()
    look = {"wav": runtime.downloads.look(returned["download_urls"]["wav"])}
    assert difference(version, returned, look) is None
    first = runtime.archive.commit_record(folder)
    assert first is not None
    assert difference(first, returned, look) is not None


async def test_other_bytes_with_the_same_words_are_found_by_the_download_address(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    await archive_recording(runtime, request_of(recording))
    recording.audio["wav"] = make_wav("other", 1, 2)
    await archive_recording(runtime, request_of(recording, "event-2"))
    (version,) = runtime.archive.versions(await prefix(runtime, archive_folder, recording))
    assert version.objects[0].sha256 == recording.audio["wav"].sha256


async def test_the_same_bytes_with_other_words_are_kept_once(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    await archive_recording(runtime, request_of(recording))
    touch(recording)
    await archive_recording(runtime, request_of(recording, "event-2"))
    folder = await prefix(runtime, archive_folder, recording)
    (version,) = runtime.archive.versions(folder)
    assert [o.key for o in version.objects] == [f"{folder}audio.wav"]
    assert alerts(redis) == [], "no new alert"


async def test_a_version_that_was_stopped_before_its_commit_record_is_finished(
    sandbox: RunningSandbox, runtime: Runtime, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    await archive_recording(runtime, request_of(recording))
    change(recording)
    await archive_recording(runtime, request_of(recording, "event-2"))
    (path,) = folder_of(archive_folder, recording).glob("versions/*/recording.json")
    path.unlink()
    await archive_recording(runtime, request_of(recording, "event-2"))
    assert path.exists()
    assert len(list(folder_of(archive_folder, recording).rglob("*.wav"))) == 2


async def test_endless_content_changes_do_not_fill_the_archive(
    sandbox: RunningSandbox, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, archive_folder: Path
) -> None:
    monkeypatch.setattr("workers.recordings.versions._MOST_VERSIONS", 2)
    recording = sandbox.world.add_recording(seconds=1)
    for n in range(3):
        touch(recording)
        await archive_recording(runtime, request_of(recording, f"event-{n}"))
    touch(recording)
    with pytest.raises(ArchiveConflict, match="3 contents of one recording"):
        await archive_recording(runtime, request_of(recording, "event-9"))
    assert len(runtime.archive.versions(await prefix(runtime, archive_folder, recording))) == 2


def test_a_version_of_another_recording_is_no_commit_record() -> None:
    data = b'{"schema": "callvault.recording/1", "recording": {"id": "r"}, "objects": [], "audio": {"format": "wav",'
    data += (
        b'"channels": 1, "sample_rate_hz": 1, "duration_ms": 1, "findings": []}, "archived_at": "x", "event_id": null,'
    )
    data += b'"found_by": "webhook"}'
    with pytest.raises(UnreadableRecord, match="not a commit record of this recording but of r"):
        COMMIT_RECORD.read(data, "recordings/2026/11/25/other/versions/r/recording.json")


async def test_audio_that_changed_back_or_was_announced_again_is_no_new_version(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    await archive_recording(runtime, request_of(recording))
    change(recording)
    await archive_recording(runtime, request_of(recording, "event-2"))
    touch(recording)
    await archive_recording(runtime, request_of(recording, "event-3"))
    assert len(runtime.archive.versions(await prefix(runtime, archive_folder, recording))) == 2
    assert len([a for a in alerts(redis) if a["kind"] == "content-changed"]) == 1, "the second has known audio"


async def test_a_change_without_any_audio_at_telnyx_is_asked_about_again(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    await archive_recording(runtime, request_of(recording))
    touch(recording)
    recording.audio.clear()
    with pytest.raises(NotFinished, match="has changed at Telnyx, which gives no address for its audio"):
        await archive_recording(runtime, request_of(recording, "event-2"))
    assert alerts(redis) == []
