"""Locks by rule, on a bucket with Object Lock: an object is locked until its rule ends, and plan says where the two disagree."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from archive.archive import Archive
from archive.records import TranscriptionRecord
from archive.source import Source
from archive.stores.store import StoreRefused, open_store
from cli.check import Wrong
from cli.check_locks import check_locks
from lab.processes import run_callvault
from lab.servers import RunningSandbox
from lab.stores import Emulator, azure, environ, gcs, make_archive, s3_strict
from lab.worker import archive as archive_all
from lab.worker import runtime_of, settings_of
from sandbox.world import Recording
from text.periods import parse_period
from text.times import parse_instant, utc_now
from workers.retention.apply import as_applied, put_applied
from workers.retention.file import read_rules_file
from workers.runtime import Runtime

BUCKET = "locked-by-rule"


@pytest.fixture(scope="module")
def s3() -> Iterator[Emulator]:
    import boto3

    with s3_strict() as running, environ(running.environment):
        boto3.client("s3").create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        yield running


@pytest.fixture
def here(s3: Emulator, environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    url = f"s3://{BUCKET}/{tmp_path.name}"
    make_archive(open_store(url))
    path = tmp_path / "retention.toml"
    found = environment | s3.environment | {"CALLVAULT_ARCHIVE_URL": url, "CALLVAULT_LOCK_BY_RULES": "true"}
    return found | {"CALLVAULT_RETENTION_FILE": str(path)}


def apply(here: dict[str, str], text: str) -> Archive:
    """Put rules in force; returns the archive."""
    path = Path(here["CALLVAULT_RETENTION_FILE"])
    path.write_text(text)
    archive = Archive(open_store(here["CALLVAULT_ARCHIVE_URL"]))
    put_applied(archive, as_applied(read_rules_file(path), [], "Ann", utc_now()))
    return archive


def folder_of(recording: Recording) -> str:
    return layout.recording_folder(parse_instant(recording.data["recording_started_at"]), recording.data["id"])


def locks(archive: Archive, folder: str) -> dict[str, datetime | None]:
    """The end of each object's lock in a folder, by the last part of its key."""
    stats = [archive.store.stat(key) for key in archive.keys_of(folder)]
    return {one.key.rpartition("/")[2]: one.locked_until for one in stats if one is not None}


async def put_transcription(runtime: Runtime, folder: str) -> None:
    fields = {"id": "t", "created_at": "2026-11-25T10:00:00Z", "transcription_text": "hello"}
    await runtime.in_thread(runtime.archive.put_transcription, folder, "t", TranscriptionRecord(transcription=fields))


def test_google_takes_and_shows_the_lock_of_an_object(tmp_path: Path) -> None:
    """Azurite knows no locks, so there is no such test of Azure."""
    until = utc_now() + timedelta(days=2)
    with gcs(tmp_path) as running:
        store = running.open("a")
        assert store.put("locked", Source(b"x", (), until), "text/plain", {}).stored.locked_until == until
        assert store.put("free", Source(b"x"), "text/plain", {}).stored.locked_until is None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "s3-locked",
            r"^the store shows the lock of an object \(governance\), and refused its deletion\. Not checked: earlier",
        ),
        ("s3", "an object with a lock was refused: .*ObjectLock|written with a lock, and the store shows none"),
        ("gcs", "^the store shows the lock of an object, and still deleted it$"),
        ("azure", "^an object was written with a lock, and the store shows none: nothing is locked, or these"),
    ],
)
async def test_the_doctor_tries_a_lock_and_says_what_the_store_does_with_it(
    kind: str, said: str, s3: Emulator, environment: dict[str, str], tmp_path: Path
) -> None:
    """fake-gcs-server keeps locks and does not enforce them; Azurite forgets them. Only S3's emulator enforces them."""
    servers: dict[str, Callable[[], AbstractContextManager[Emulator]]] = {"gcs": partial(gcs, tmp_path), "azure": azure}
    with servers.get(kind, lambda: nullcontext(s3))() as running:
        url = f"s3://{BUCKET}/doctor" if kind == "s3-locked" else f"{running.url}/doctor"
        own = environment | running.environment | {"CALLVAULT_ARCHIVE_URL": url}
        with environ(own):
            make_archive(open_store(url))
            assert (await check_locks(settings_of(own), None)).startswith("not asked for")
            for setting in ({"CALLVAULT_LOCK_BY_RULES": "true"}, {"CALLVAULT_RETENTION": "2d"}):
                try:
                    found = await check_locks(settings_of(own | setting), None)
                except Wrong as wrong:
                    found = str(wrong)
                    assert "see docs/stores.md" in wrong.advice
                assert re.search(said, found), found
            if kind == "s3-locked":
                (probe,) = open_store(url).list("probe/lock-")
                end = open_store(url).locked_until(probe.key)
                assert end is not None and end < utc_now() + timedelta(days=1), "whatever CALLVAULT_RETENTION says"


async def test_each_object_is_locked_until_its_rule_ends_as_it_is_written(
    here: dict[str, str], sandbox: RunningSandbox, async_redis: Any
) -> None:
    kept, forever = (sandbox.world.add_recording(seconds=0.5) for _ in range(2))
    forever.data["connection_id"] = "99"
    archive = apply(
        here,
        '[rules.words]\nsources = ["call", "conference"]\nkeep = "1 year"\ngoes = "transcripts"\n'
        '[rules.forever]\nconnections = "99"\nkeep = "forever"\n[default]\nkeep = "5 years"\nstays = "hashes"\n',
    )
    async with runtime_of(here, async_redis) as runtime:
        await archive_all(runtime, kept, forever)
        await put_transcription(runtime, folder_of(kept))
    ended = parse_instant(kept.data["recording_ended_at"])
    in_a_year, in_five = (parse_period(f"{years} years").after(ended) for years in (1, 5))
    ends = {"t.json": in_a_year, "recording.json": in_five}
    for name, until in locks(archive, folder_of(kept)).items():
        assert until is not None and abs(until - ends.get(name, in_five)) < timedelta(seconds=1), name
    assert set(locks(archive, folder_of(forever)).values()) == {None}
    audio = next(key for key in archive.keys_of(folder_of(kept)) if "audio" in key)
    with pytest.raises(StoreRefused):
        archive.store.erase(audio)


async def test_rules_that_cannot_be_read_keep_no_recording_from_being_archived(
    here: dict[str, str], sandbox: RunningSandbox, async_redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    archive = apply(here, '[default]\nkeep = "5 years"\n')
    archive.put(layout.retention_key(2), b"{}", "application/json")
    async with runtime_of(here, async_redis) as runtime:
        await archive_all(runtime, recording)
    found = locks(archive, folder_of(recording))
    assert "recording.json" in found and set(found.values()) == {None}


async def test_plan_and_explain_say_where_a_lock_is_longer_than_the_rule(
    here: dict[str, str], sandbox: RunningSandbox, async_redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5, started_at=utc_now() - timedelta(days=3))
    Path(here["CALLVAULT_RETENTION_FILE"]).write_text('grace = "0s"\n[default]\nkeep = "1 day"\n')
    assert run_callvault(["retention", "apply", "--yes"], here).returncode == 0
    async with runtime_of(here, async_redis, CALLVAULT_RETENTION="3650d") as runtime:
        await archive_all(runtime, recording)

    def report(*words: str) -> dict[str, Any]:
        done = run_callvault(["retention", *words, "--json"], here)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    plan = report("plan")
    assert plan["over"]["recordings"] == 1
    assert plan["over"]["cost_a_month"] > 0 and plan["prices"]["is_example"] is True
    assert (plan["locked_longer"]["recordings"], plan["locked_longer"]["locks_looked_at"]) == (1, 1)
    assert parse_instant(plan["locked_longer"]["until"]) > utc_now() + timedelta(days=3649)
    explained = report("explain", recording.data["id"])
    assert {one["key"].rpartition("/")[2].partition(".")[0]: one["is_longer"] for one in explained["locks"]} == {
        "audio": True,
        "recording": False,  # the metadata stays
    }
    assert "longer than its rule" in run_callvault(["retention", "explain", recording.data["id"]], here).stdout
