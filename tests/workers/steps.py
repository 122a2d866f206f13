"""What the tests of jobs do: run the parts of a worker in this process, archive, delete, read alerts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from archive.layout import recording_folder
from config.settings import Settings, load_settings
from lab.processes import as_in_a_process, receiver, wait_for
from lab.stores import make_archive
from sandbox.world import Recording
from text.times import parse_instant
from workers.deletion.deletion import delete_originals
from workers.engine.connect import connect_worker
from workers.keys import ALERTS, DELETIONS_BACK_OFF, DELETIONS_DUE
from workers.queue.enqueue import enqueue
from workers.recordings.archive_recording import archive_recording
from workers.recordings.requests import DeletionTurn, RecordingRequest, recording_job
from workers.runtime import Runtime, open_runtime


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings that a process with this environment would have."""
    with as_in_a_process(environment):
        return load_settings()


@asynccontextmanager
async def runtime_of(environment: Mapping[str, str], redis: Any, **settings: str) -> AsyncIterator[Runtime]:
    """The parts of a worker with this environment and further settings, on a client of Redis."""
    runtime = open_runtime(settings_of({**environment, **settings}), redis)
    try:
        yield runtime
    finally:
        await runtime.close()


@asynccontextmanager
async def own_runtime(environment: Mapping[str, str]) -> AsyncIterator[Runtime]:
    """The same with its own client of Redis, for tests with several workers or people."""
    redis = connect_worker(environment["REDIS_URL"])
    try:
        async with runtime_of(environment, redis) as runtime:
            yield runtime
    finally:
        await redis.aclose()


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


async def archive(runtime: Runtime, *recordings: Recording) -> None:
    """Archive recordings, as their webhooks' jobs do."""
    for recording in recordings:
        await archive_recording(runtime, RecordingRequest(recording_id=recording.data["id"]))


async def delete_what_is_due(runtime: Runtime) -> None:
    """Run a turn of deletion in which every scheduled original is due."""
    await runtime.redis.delete(DELETIONS_BACK_OFF)
    listed = await runtime.redis.zrange(DELETIONS_DUE, 0, -1)
    if listed:
        await runtime.redis.zadd(DELETIONS_DUE, dict.fromkeys(listed, 0))
    await delete_originals(runtime, DeletionTurn())


def folder_of(archive: Path, recording: Recording) -> Path:
    """The folder of a recording in an archive."""
    data = recording.data
    return archive / recording_folder(parse_instant(data["recording_started_at"]), data["id"])


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
