"""What the tests of jobs do and look at besides `lab/worker.py`: requests, folders, commit records, receipts, alerts, pages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from archive.layout import recording_folder
from lab.processes import receiver, wait_for
from lab.stores import make_archive
from sandbox.world import Recording
from text.times import parse_instant
from workers.keys import ALERTS
from workers.queue.jobs import enqueue
from workers.recordings.requests import RecordingRequest, recording_job
from workers.runtime import Runtime

HOLD = ("--why", "case 17", "--by", "ann")  # options of a decision


@contextmanager
def pages(settings: dict[str, str], folder: Path, redis_url: str) -> Iterator[tuple[httpx.Client, Any]]:
    """A receiver on a data folder of its own, with an archive in it unless the settings name one."""
    if "CALLVAULT_ARCHIVE_URL" not in settings:
        make_archive(folder / "archive")
    with receiver({"REDIS_URL": redis_url, "CALLVAULT_DATA": str(folder)} | settings) as (client, process):
        yield client, process


def request_of(recording: Recording, event_id: str | None = "event-1", **fields: Any) -> RecordingRequest:
    """The request of a webhook that names a recording."""
    started_at = recording.data["recording_started_at"]
    return RecordingRequest(
        **{"recording_id": recording.data["id"], "event_id": event_id, "started_at": started_at} | fields
    )


async def ask(redis: Any, recording: Recording, **fields: Any) -> None:
    """Enqueue the job of a recording, as the receiver does."""
    fields = {"event_id": "event-1", "recording_id": recording.data["id"]} | fields
    await enqueue(redis, recording_job(RecordingRequest(**fields)))


def folder_of(archive: Path, recording: Recording) -> Path:
    """The folder of a recording in an archive."""
    data = recording.data
    return archive / recording_folder(parse_instant(data["recording_started_at"]), data["id"])


def key_of(archive: Path, recording: Recording) -> str:
    """What the keys of a recording in an archive begin with."""
    return f"{folder_of(archive, recording).relative_to(archive)}/"


def committed(archive: Path, recording: Recording) -> dict[str, Any] | None:
    """The commit record of a recording; None before it is archived."""
    path = folder_of(archive, recording) / "recording.json"
    return json.loads(path.read_bytes()) if path.exists() else None


def assert_archived(archive: Path, recording: Recording) -> dict[str, Any]:
    """Wait for the commit record of a recording, check that the archive has what Telnyx served, and return the record."""
    record = wait_for(lambda: committed(archive, recording), what="the commit record")
    assert record["schema"] == "callvault.recording/1"
    assert {o["key"].rpartition(".")[2] for o in record["objects"]} == set(recording.audio)
    for o in record["objects"]:
        audio = recording.audio[o["key"].rpartition(".")[2]]
        data = (archive / o["key"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == audio.sha256 == o["sha256"] == o["proof"]["value"]
        assert (len(data), o["proof"]["by"]) == (o["size"], "read-back")
    assert "download_urls" not in record["recording"]
    assert record["recording"] == recording.data
    return dict(record)


def receipt(archive_folder: Path, recording: Recording, name: str = "deleted.json") -> Path:
    """The path of a deletion's receipt."""
    return folder_of(archive_folder, recording) / name


def alerts(redis: Any, kind: str) -> list[str]:
    """The texts of the alerts of a kind that were sent."""
    rows = [msgspec.json.decode(row) for row in redis.lrange(ALERTS, 0, -1)]
    return [row["text"] for row in rows if row["kind"] == kind]


async def kinds_of_alerts(runtime: Runtime) -> set[str]:
    """The kinds of the alerts that were sent."""
    rows: list[Any] = await runtime.redis.lrange(ALERTS, 0, -1)
    return {msgspec.json.decode(row)["kind"] for row in rows}


def has_left(recording: Recording) -> bool:
    """Whether an original was deleted at Telnyx."""
    return recording.deleted_at is not None
