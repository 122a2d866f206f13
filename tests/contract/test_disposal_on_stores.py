"""Disposal on every store: what is gone is gone with every version, and a lock keeps it until its end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from archive.source import Source
from archive.stores.store import LEGAL_HOLD, Store, open_store
from config.settings import load_settings
from lab.processes import callvault_here
from lab.servers import RunningSandbox
from lab.stores import Emulator, environ
from tests.contract.conftest import each_store
from tests.disposal.conftest import settings_for
from tests.seals.small import SmallArchive
from text.times import utc_now
from workers.disposal.run import Disposer
from workers.runtime import Runtime, open_runtime

AUDIO, KEPT = "audio.wav", {"recording.json", "deleted.json", "disposed/00000001.json"}


@pytest.fixture
def small(tmp_path: Path) -> SmallArchive:
    """One recording of each day has a receipt; the other four stay."""
    one = SmallArchive(tmp_path / "small")
    for days in (11, 9, 7, 5):
        one.receipt(one.folder(days, f"{days}-one"), utc_now())
    one.rules()
    return one


def upload(small: SmallArchive, store: Store) -> None:
    for path in sorted(small.root.rglob("*")):
        if path.is_file():
            store.put(str(path.relative_to(small.root)), Source(path.read_bytes()), "application/octet-stream", {})


@pytest.fixture
async def dispose(
    sandbox: RunningSandbox, redis_url: str, async_redis: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[str, dict[str, str]], Runtime]]:
    """Opens the parts of a process that disposes, on an archive."""
    opened: list[Runtime] = []

    def runtime_on(url: str, environment: dict[str, str]) -> Runtime:
        for name, value in (environment | settings_for(sandbox, redis_url, url, tmp_path / "data")).items():
            monkeypatch.setenv(name, value)
        opened.append(open_runtime(load_settings(), async_redis, needs_telnyx=False))
        return opened[-1]

    yield runtime_on
    for one in opened:
        await one.close()


@each_store
async def test_what_is_past_its_term_goes_from_every_store(
    emulator: Emulator, small: SmallArchive, dispose: Callable[..., Runtime], request: pytest.FixtureRequest
) -> None:
    prefix = f"disposal-{request.node.callspec.id}"
    store = emulator.open(prefix)
    upload(small, store)
    runtime = dispose(f"{emulator.url}/{prefix}", emulator.environment)
    report = await Disposer(runtime).run()
    assert (report.stopped, report.stop, len(report.gone), {one.kind for one in report.left}) == (
        None,
        None,
        4,
        {"original"},
    )
    folder = small.folder(5, "5-one")
    assert {one.key.removeprefix(folder) for one in store.list(folder)} == KEPT
    assert store.locked_until(f"{folder}recording.json") is None
    code, out = callvault_here(["verify", "--seals", "--json"], dict(os.environ))
    verified = json.loads(out)
    assert (code, verified["problems"], verified["disposed_recordings"]) == (0, [], 4)


@pytest.mark.parametrize("emulator", ["gcs"], indirect=True)
async def test_on_google_a_lock_that_is_longer_than_the_rule_keeps_a_recording(
    emulator: Emulator, small: SmallArchive, dispose: Callable[..., Runtime]
) -> None:
    """By what the store shows: fake-gcs-server enforces no lock, so a recording that stays is Callvault's doing."""
    store = emulator.open("disposal-locked")
    locked = small.folder(11, "11-one") + AUDIO
    data = (small.root / locked).read_bytes()
    store.put(locked, Source(data, (), utc_now() + timedelta(days=2)), "audio/wav", {})
    (small.root / locked).unlink()
    upload(small, store)
    report = await Disposer(dispose(f"{emulator.url}/disposal-locked", emulator.environment)).run()
    assert {one.recording_id: one.kind for one in report.left if one.kind != "original"} == {"11-one": "locked"}
    assert {one.recording_id for one in report.gone} == {"9-one", "7-one", "5-one"}
    assert store.stat(locked) is not None and not any(
        "disposed" in key.key for key in store.list(small.folder(11, "11-one"))
    )


@contextmanager
def locked_bucket(emulator: Emulator, name: str) -> Iterator[Any]:
    """A bucket of S3 with versions and Object Lock; gives the client."""
    import boto3

    with environ(emulator.environment):
        client = boto3.client("s3")
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        yield client


def versions_in(client: Any, bucket: str, key: str) -> list[str]:
    page = client.list_object_versions(Bucket=bucket, Prefix=key)
    return [one["VersionId"] for kind in ("Versions", "DeleteMarkers") for one in page.get(kind, ())]


class Killed(BaseException):
    """The process is killed."""


@contextmanager
def killed_at_the_second_deletion(store: Any) -> Iterator[None]:
    """The process is killed before it sends S3 its second deletion."""
    sent, events, name = list[str](), store._bucket.client.meta.events, "before-call.s3.DeleteObject"

    def count(**_: Any) -> None:
        sent.append(name)
        if len(sent) > 1:
            raise Killed

    events.register(name, count)
    try:
        yield
    finally:
        events.unregister(name, count)


@pytest.mark.parametrize("emulator", ["s3-strict"], indirect=True)
async def test_every_version_goes_and_a_lock_that_is_longer_than_the_rule_keeps_it_until_its_end(
    emulator: Emulator, small: SmallArchive, dispose: Callable[..., Runtime], async_redis: Any
) -> None:
    with locked_bucket(emulator, "disposal-locked") as client:
        url = "s3://disposal-locked/a"
        store = open_store(url)
        upload(small, store)
        locked, held, again = (f"a/{small.folder(days, f'{days}-one')}{AUDIO}" for days in (11, 9, 7))
        client.put_object(Bucket="disposal-locked", Key=again, Body=b"an earlier version")
        client.put_object(Bucket="disposal-locked", Key=again, Body=(small.root / again[2:]).read_bytes())
        client.delete_object(Bucket="disposal-locked", Key=again)  # a delete marker, and then the same object once more
        client.put_object(Bucket="disposal-locked", Key=again, Body=(small.root / again[2:]).read_bytes())
        assert len(versions_in(client, "disposal-locked", again)) == 5
        with killed_at_the_second_deletion(store), pytest.raises(Killed):
            store.erase(again[2:])
        assert b"".join(store.read(again[2:])) == (small.root / again[2:]).read_bytes(), "no earlier version came up"
        until = datetime.now(UTC) + timedelta(seconds=4)
        lock = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
        client.put_object_retention(Bucket="disposal-locked", Key=locked, Retention=lock)
        client.put_object_legal_hold(Bucket="disposal-locked", Key=held, LegalHold={"Status": "ON"})
        assert store.locked_until(held[2:]) == LEGAL_HOLD

        report = await Disposer(dispose(url, emulator.environment)).run()
        kept = {one.recording_id: one.kind for one in report.left if one.kind != "original"}
        assert kept == {"11-one": "locked", "9-one": "locked"}
        assert {one.recording_id for one in report.gone} == {"7-one", "5-one"}
        assert versions_in(client, "disposal-locked", again) == [], "no version, and no delete marker"
        for key in (locked, held):
            names = {one.key for one in store.list(key[2:].removesuffix(AUDIO))}
            assert not any("disposed" in name for name in names), "no record says that it is gone"
        time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()) + 0.1)
        later = await Disposer(dispose(url, emulator.environment)).run()
        assert {one.recording_id for one in later.gone} == {"11-one"}
        assert versions_in(client, "disposal-locked", locked) == []
