"""A real worker on every store: the whole job, custom storage, and a recording of 1 GB in bounded memory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from archive.archive import Archive
from archive.layout import audio_key, commit_key, recording_folder
from archive.proof import Damaged
from archive.records import ArchivedObject, AudioSummary, CommitRecord, NotArchived
from archive.source import Source
from archive.stores.store import StoreOptions, open_store
from lab.clock import Clock
from lab.processes import callvault, callvault_here, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.stores import BUCKET, Emulator, environ, make_archive, s3_strict
from tests.contract.conftest import each_store
from tests.contract.test_stores import overwrite
from text.times import parse_instant, utc_now
from workers.queue.history import DAY, read_history
from workers.queue.jobs import enqueue
from workers.queue.script import server_seconds
from workers.recordings.fetching import DOWNLOADED
from workers.recordings.requests import RecordingRequest, recording_job

GB = 1_000_000_000


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"w{abs(hash(request.node.nodeid)) % 10**9}"


def folder_of(recording: Any) -> str:
    return recording_folder(parse_instant(recording.data["recording_started_at"]), recording.data["id"])


def wait_for_record(archive: Archive, recording: Any, seconds: float = 60) -> CommitRecord:
    record: CommitRecord = wait_for(lambda: archive.commit_record(folder_of(recording)), seconds, "the commit record")
    return record


@pytest.fixture
def on_store(environment: dict[str, str], emulator: Emulator, prefix: str) -> dict[str, str]:
    make_archive(emulator.open(prefix))
    return environment | emulator.environment | {"CALLVAULT_ARCHIVE_URL": f"{emulator.url}/{prefix}"}


@each_store
async def test_the_main_job_with_deletion_and_verification(
    sandbox: RunningSandbox, on_store: dict[str, str], emulator: Emulator, prefix: str, async_redis: Any
) -> None:
    recordings = [sandbox.world.add_recording(seconds=2, formats=f) for f in (("wav",), ("mp3",), ("wav", "mp3"))]
    large = sandbox.world.add_recording(seconds=200)  # in two parts
    for recording in (*recordings, large):
        request = RecordingRequest(event_id="e", recording_id=recording.data["id"])
        await enqueue(async_redis, recording_job(request))
    deleting = {"CALLVAULT_DELETE_ORIGINALS": "verified", "CALLVAULT_DELETE_AFTER": "1s"}
    archive = Archive(emulator.open(prefix))
    with callvault(["worker"], on_store | deleting, "worker ready") as worker:
        for recording in (*recordings, large):
            record = wait_for_record(archive, recording)
            for o in record.objects:
                assert o.sha256 == recording.audio[o.key.rpartition(".")[2]].sha256
                assert o.proof.by == emulator.proof_levels[o.size >= 5 * 1024 * 1024]
        wait_for(lambda: all(r.deleted_at for r in (*recordings, large)), what="the deletion")
        assert worker.stop() == 0
    verified = run_callvault(["verify", "--json"], on_store)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    report = json.loads(verified.stdout)
    assert (report["recordings"], report["objects"], report["problems"]) == (4, 5, [])

    broken, missing = audio_key(folder_of(recordings[0]), "wav"), audio_key(folder_of(recordings[1]), "mp3")
    overwrite(emulator, prefix, broken, b"damaged")
    overwrite(emulator, prefix, missing, None)
    overwrite_new(emulator, prefix, "recordings/2026/01/01/stranger/audio.wav", b"x")
    overwrite_new(emulator, prefix, folder_of(large) + "notes.txt", b"x")
    for arguments in (["verify", "--json"], ["verify", "--deep", "--json"]):
        verified = run_callvault(arguments, on_store)
        assert verified.returncode == 1
        problems = {p["key"]: p["kind"] for p in json.loads(verified.stdout)["problems"]}
        assert problems == {
            broken: "damaged",
            missing: "missing",
            "recordings/2026/01/01/stranger/audio.wav": "uncommitted",
            folder_of(large) + "notes.txt": "unknown",
        }
    one_day = run_callvault(["verify", "--json", "--until", "2026-01-31"], on_store)
    assert len(json.loads(one_day.stdout)["problems"]) == 1
    told = run_callvault(["verify"], on_store)
    assert f"damaged      {broken}" in told.stdout
    assert "4 problems" in told.stdout


def overwrite_new(emulator: Emulator, prefix: str, key: str, data: bytes) -> None:
    """Put an object that is not ours."""
    with environ(emulator.environment):
        emulator.open(prefix).put(key, Source(iter([data])), "text/plain", {})


# 1 GB where that is cheap: the emulators keep objects in memory, or copy them for every chunk. Less runs the same code,
# and is still more than the memory that an upload may take.
SIZES = {"file": GB}


@each_store
async def test_a_recording_of_1_gb_goes_through_in_less_than_200_mb(
    sandbox: RunningSandbox, on_store: dict[str, str], emulator: Emulator, prefix: str, async_redis: Any
) -> None:
    size = SIZES.get(emulator.name, 60_000_000)
    recording = sandbox.world.add_recording(seconds=size / 32_000)
    assert recording.audio["wav"].size > 0.99 * size
    await enqueue(async_redis, recording_job(RecordingRequest(event_id="e", recording_id=recording.data["id"])))
    archive = Archive(emulator.open(prefix))
    with callvault(["worker"], on_store, "worker ready") as worker:
        peak = Peak(worker.pid)
        before = peak.so_far()
        record = wait_for_record(archive, recording, 110)
        highest = peak.so_far()
    assert record.objects[0].sha256 == recording.audio["wav"].sha256
    assert highest < 200e6, f"{highest / 1e6:.0f} MB"
    assert highest - before < min(size, 80e6), f"{(highest - before) / 1e6:.0f} MB more than before the job"
    overwrite(emulator, prefix, record.objects[0].key, b"")  # some emulators keep it in memory


class Peak:
    """The highest resident memory of a process, by the kernel."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")

    def so_far(self) -> int:
        line = next(line for line in self._status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def s3() -> Iterator[Emulator]:
    with s3_strict() as running:
        yield running


@pytest.mark.parametrize("place", ["our bucket", "another bucket"])
async def test_custom_storage_is_adopted_in_our_bucket_and_copied_from_another(
    place: str, s3: Emulator, sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any
) -> None:
    import boto3

    bucket = BUCKET if place == "our bucket" else "the-others"
    recording = sandbox.world.add_recording(seconds=2)
    audio = recording.audio["wav"]
    name = f"account/2026-11-25/{recording.data['call_leg_id']}-1700000000"
    with environ(s3.environment):
        client = boto3.client("s3")
        client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key=name, Body=b"".join(audio.read(0, audio.size)))
    settings = environment | s3.environment | {"CALLVAULT_ARCHIVE_URL": f"{s3.url}/{place.replace(' ', '-')}"}
    settings |= {"CALLVAULT_DELETE_ORIGINALS": "verified", "CALLVAULT_DELETE_AFTER": "1s"}
    request = RecordingRequest(
        event_id="e", recording_id=recording.data["id"], locations={"wav": f"s3://{bucket}/{name}"}
    )
    await enqueue(async_redis, recording_job(request))
    archive = Archive(s3.open(place.replace(" ", "-")))
    make_archive(archive.store)
    with callvault(["worker"], settings, "worker ready"):
        record = wait_for_record(archive, recording)
        if place == "our bucket":
            time.sleep(4)
            assert recording.deleted_at is None, "the original is the archive"
        else:
            wait_for(lambda: recording.deleted_at)
    key = record.objects[0].key
    assert key == ("/" + name if place == "our bucket" else audio_key(folder_of(recording), "wav"))
    assert record.objects[0].sha256 == audio.sha256
    assert recording.served == {}
    steps = await read_history(async_redis, DAY, await server_seconds(async_redis))
    assert (sum(step.get("archived", 0) for step in steps), sum(step.get(DOWNLOADED, 0) for step in steps)) == (1, 0)
    verified = run_callvault(["verify", "--json"], settings)
    assert verified.returncode == 0, verified.stdout


@pytest.mark.parametrize("is_set_aside", [False, True], ids=["", "set aside"])
async def test_a_job_waits_until_custom_storage_has_put_its_audio_into_the_bucket(
    is_set_aside: bool, s3: Emulator, sandbox: RunningSandbox, environment: dict[str, str], async_redis: Any, redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=1)
    place = "waits-aside" if is_set_aside else "waits"
    settings = environment | s3.environment | {"CALLVAULT_ARCHIVE_URL": f"{s3.url}/{place}"}
    locations = {"wav": f"s3://{BUCKET}/not/there/yet"}
    made = recording_job(RecordingRequest(event_id="e", recording_id=recording.data["id"], locations=locations))
    await enqueue(async_redis, made)
    with environ(s3.environment):
        make_archive(s3.open(place))
        if is_set_aside:  # Telnyx had no address of it; that does not concern the location in an event
            recording.audio.clear()
            said: dict[str, Any] = {"recording_id": recording.data["id"], "recording": {}, "answer": "x", "why": "y"}
            record = NotArchived(**said, by="z", at="2026-11-25T10:00:00.000000Z")
            Archive(s3.open(place)).put_not_archived(folder_of(recording), record)
    with callvault(["worker"], settings, "worker ready"):
        wait_for(lambda: redis.llen(f"callvault:attempts:{made.id}") >= 2, 60, "the second attempt")
    rows = [json.loads(row) for row in redis.lrange(f"callvault:attempts:{made.id}", 0, -1)]
    assert {row["cause"] for row in rows} == {"not-yet"} and "is not in its bucket" in rows[0]["error"]


def test_the_users_protections_are_on_every_object(s3: Emulator) -> None:
    from datetime import timedelta

    import boto3

    from lab.stores import environ

    with environ(s3.environment):
        client = boto3.client("s3")
        client.create_bucket(Bucket="locked-bucket", ObjectLockEnabledForBucket=True)
    options = StoreOptions(
        encryption_key="alias/calls",
        storage_class="STANDARD_IA",
        retention=timedelta(days=30),
        retention_mode="compliance",
        label="tags",
    )
    with environ(s3.environment):
        store = open_store("s3://locked-bucket/a", options)
        for key, size in (("small", 1000), ("large", 6 * 1024 * 1024)):
            attributes = {"connection_id": "1", "channels": "dual"}
            archived = Archive(store).put(key, iter([b"x" * size]), "audio/wav", (), attributes)
            head = client.head_object(Bucket="locked-bucket", Key=f"a/{key}")
            assert head["ServerSideEncryption"] == "aws:kms"
            if key == "small":  # the emulator forgets lock and tags of a multipart upload: see test_awkward
                assert head["ObjectLockMode"] == "COMPLIANCE"
            assert head["ContentType"] == "audio/wav"
            assert head["StorageClass"] == "STANDARD_IA"
            if key == "small":
                tags = client.get_object_tagging(Bucket="locked-bucket", Key=f"a/{key}")["TagSet"]
                assert {t["Key"]: t["Value"] for t in tags} == attributes
            assert archived.proof.by == "checksum"
            stored = store.stat(key)
            assert stored is not None and stored.etag is None, "with the user's key it is not an MD5 and proves nothing"
        version = client.head_object(Bucket="locked-bucket", Key="a/small")["VersionId"]
        with pytest.raises(client.exceptions.ClientError):
            client.delete_object(Bucket="locked-bucket", Key="a/small", VersionId=version)


@pytest.mark.parametrize("ahead_days", [-40, 40])
async def test_a_worker_with_a_wrong_clock_shortens_no_lock_and_dates_by_the_server(
    ahead_days: int,
    s3: Emulator,
    sandbox: RunningSandbox,
    environment: dict[str, str],
    async_redis: Any,
    tmp_path: Path,
) -> None:
    import boto3

    bucket = f"locked-by-{'late' if ahead_days > 0 else 'early'}"
    with environ(s3.environment):
        client = boto3.client("s3")
        client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        archive = Archive(open_store(f"s3://{bucket}/a"))
        make_archive(archive.store)
        recording = sandbox.world.add_recording(seconds=1)
        wrong = Clock(tmp_path, "worker", ahead_days * 86_400).environment
        settings = environment | s3.environment | wrong
        settings |= {"CALLVAULT_ARCHIVE_URL": f"s3://{bucket}/a", "CALLVAULT_RETENTION": "30d"}
        began = utc_now()
        await enqueue(async_redis, recording_job(RecordingRequest(event_id="e", recording_id=recording.data["id"])))
        with callvault(["worker"], settings, "worker ready"):
            record = wait_for_record(archive, recording, 60)
        head = client.head_object(Bucket=bucket, Key=f"a/{record.objects[0].key}")
    assert head["ObjectLockRetainUntilDate"] >= (began + timedelta(days=30)).replace(microsecond=0)
    assert abs(parse_instant(record.archived_at) - began) < timedelta(minutes=5)


def test_restoring_an_object_in_a_versioned_bucket_ends_its_damage(s3: Emulator) -> None:
    import boto3

    with environ(s3.environment):
        client = boto3.client("s3")
        client.create_bucket(Bucket="versions")
        client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
        archive = Archive(open_store("s3://versions/a"))
        archived = archive.put("audio", iter([b"the bytes"]), "audio/wav")
        client.delete_object(Bucket="versions", Key="a/audio")
        with pytest.raises(Damaged, match="gone"):
            archive.prove_again(archived)
        client.put_object(Bucket="versions", Key="a/audio", Body=b"the bytes")
        healed = archive.prove_again(archived)
        assert healed.proof.version not in (None, archived.proof.version)
        assert (healed.proof.by, healed.proof.value) == ("read-back", archived.sha256)
        client.put_object(Bucket="versions", Key="a/audio", Body=b"not bytes")
        with pytest.raises(Damaged, match="reads back"):
            archive.prove_again(archived)


def test_an_archive_that_was_moved_is_read_once_and_its_new_marks_are_remembered(s3: Emulator, tmp_path: Path) -> None:
    import boto3

    folder = recording_folder(date(2026, 1, 1), "moved")
    with environ(s3.environment):
        client = boto3.client("s3")
        for bucket in ("moved-from", "moved-to"):
            client.create_bucket(Bucket=bucket)
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        before = Archive(open_store("s3://moved-from/a"))
        audio = before.put(audio_key(folder, "wav"), iter([b"the bytes"]), "audio/wav")
        summary = AudioSummary("wav", 1, 8000, 1, [])
        record = CommitRecord(
            recording={"id": "moved"}, objects=[audio], audio=summary, archived_at="", event_id=None, found_by="webhook"
        )
        before.commit(folder, record)
        make_archive("s3://moved-to/a")
        for key in (audio.key, commit_key(folder)):
            body = client.get_object(Bucket="moved-from", Key=f"a/{key}")["Body"].read()
            client.put_object(Bucket="moved-to", Key=f"a/{key}", Body=body)

    settings = s3.environment | {"CALLVAULT_ARCHIVE_URL": "s3://moved-to/a", "CALLVAULT_DATA": str(tmp_path)}

    def looked_at(*options: str, **environment: str) -> tuple[int, dict[str, int], list[str]]:
        code, out = callvault_here(["verify", "--json", *options], settings | environment)
        report = json.loads(out)
        return code, report["checked_by"], [problem["kind"] for problem in report["problems"]]

    assert looked_at() == (0, {"read-back": 1}, []), "the first run reads objects with another ETag"
    assert looked_at() == (0, {"mark": 1}, [])
    assert looked_at("--deep") == (0, {"read-back": 1}, [])
    assert looked_at(CALLVAULT_PROOF="read-back") == (0, {"read-back": 1}, [])
    text = callvault_here(["verify"], settings)[1]
    assert "1 by the store's version mark, unchanged since an earlier run read every byte" in text
    assert "not checked: the bytes of objects that the store vouches for by checksum, MD5 or mark" in text
    assert looked_at("--fresh") == (0, {"read-back": 1}, []), "later runs forget what earlier runs read"
    with environ(s3.environment):
        client.put_object(Bucket="moved-to", Key=f"a/{audio.key}", Body=b"not bytes")
    assert looked_at() == (1, {}, ["damaged"])


@pytest.mark.parametrize("proof", ["store", "read-back"])
def test_verify_asks_for_the_proof_that_is_set(proof: str, s3: Emulator, tmp_path: Path) -> None:
    with environ(s3.environment):
        archive = Archive(open_store(f"{s3.url}/proof-{proof}"))
        folder = recording_folder(date(2026, 1, 1), "one")
        audio = archive.put(audio_key(folder, "wav"), iter([b"the bytes"]), "audio/wav")
        summary = AudioSummary("wav", 1, 8000, 1, [])
        record = CommitRecord(
            recording={"id": "one"}, objects=[audio], audio=summary, archived_at="", event_id=None, found_by="webhook"
        )
        archive.commit(folder, record)
        make_archive(archive.store)
    settings = s3.environment | {
        "CALLVAULT_ARCHIVE_URL": f"{s3.url}/proof-{proof}",
        "CALLVAULT_DATA": str(tmp_path),
        "CALLVAULT_PROOF": proof,
    }
    code, out = callvault_here(["verify", "--json"], settings)
    held, not_read = {"store": ("checksum", True), "read-back": ("read-back", False)}[proof]
    report = json.loads(out)
    assert (code, report["checked_by"]) == (0, {held: 1})
    assert any(line.startswith("the bytes of objects") for line in report["not_checked"]) == not_read


@pytest.mark.parametrize("interrupted_after", [1])
def test_verify_resumes_where_it_was_stopped(interrupted_after: int, tmp_path: Path) -> None:
    from archive.verify import Verified, verify

    make_archive(tmp_path / "archive")
    archive = Archive(open_store((tmp_path / "archive").as_uri()))
    for i in range(3):
        folder = recording_folder(date(2026, 1, 1) + timedelta(days=i), f"r{i}")
        o: ArchivedObject = archive.put(audio_key(folder, "wav"), iter([b"x" * i or b"-"]), "audio/wav")
        summary = AudioSummary("wav", 1, 8000, 1, [])
        archive.commit(
            folder,
            CommitRecord(
                recording={"id": f"r{i}"}, objects=[o], audio=summary, archived_at="", event_id=None, found_by="webhook"
            ),
        )

    class Stopped(Exception):
        pass

    saved: list[Verified] = []

    def save(state: Verified) -> None:
        import msgspec

        saved.append(msgspec.json.decode(msgspec.json.encode(state), type=Verified))
        if len(saved) == interrupted_after:
            raise Stopped

    with pytest.raises(Stopped):
        verify(archive, Verified(), save=save)
    assert (saved[-1].recordings, saved[-1].through) == (1, "2026-01-01")
    (tmp_path / "archive" / commit_key(recording_folder(date(2026, 1, 1), "r0"))).write_bytes(b"{}")
    done = verify(archive, saved[-1])
    assert (done.recordings, done.problems) == (3, [])
    assert [p.kind for p in verify(archive, Verified()).problems] == ["damaged"]
