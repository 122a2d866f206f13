"""Redis, catalogue and saved states belong to one archive; none is mistaken for another."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from archive.archive import Archive
from archive.identity import NoArchive
from archive.source import Source
from archive.stores.store import StoreError, StoreMissing, open_store
from cli.resume import AnotherState, StateFile
from config.settings import load_settings
from lab.processes import callvault_here, run_callvault
from lab.servers import RunningSandbox
from lab.stores import make_archive
from tests.workers.steps import committed, folder_of
from workers.deletion.may_delete import pause_of
from workers.engine.run import job
from workers.init import init_archive
from workers.keys import ALERTS, ARCHIVE, DELETIONS_PAUSED, MAIN_QUEUE, SEALS, TRANSCRIBING, UNSEALED_KNOWN
from workers.main import watch_binding
from workers.opening import open_archive
from workers.queue.binding import AnotherArchive, assert_bound
from workers.reconcile.comparison import Tally
from workers.recordings.archive_recording import archive_recording
from workers.recordings.requests import RecordingRequest
from workers.runtime import Runtime, open_runtime, runtime_at

READING = ("status", "doctor", "find", "get ID", "verify", "verify --seals", "index", "logs list", "seal --due",
           "backfill --since 1d", "deletions hold ID --why x", "erase ID --reason x --yes")  # fmt: skip


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# The folder


def test_opening_a_folder_makes_nothing(tmp_path: Path) -> None:
    open_store((tmp_path / "archive").as_uri())
    assert everything(tmp_path) == []


@pytest.mark.parametrize("what_is_left", ["nothing", "an empty mount point"])
def test_a_folder_that_vanishes_under_a_worker_is_never_an_empty_archive(what_is_left: str, tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    make_archive(folder)
    store = open_store(folder.as_uri())
    store.put("recordings/a", Source(b"x"), "text/plain", {})
    away = folder.rename(tmp_path / "unmounted")
    if what_is_left != "nothing":
        folder.mkdir()
    for ask in (
        lambda: store.stat("recordings/a"),
        lambda: list(store.read("recordings/a")),
        lambda: store.read_small(["recordings/a"], 100),
        lambda: list(store.list("")),
        lambda: list(store.list("recordings/")),
        lambda: store.put("recordings/b", Source(b"x"), "text/plain", {}),
        lambda: store.erase("recordings/a"),
        store.remove_orphans,
    ):
        with pytest.raises(StoreMissing, match="check that its disk is mounted"):
            ask()
    assert everything(tmp_path / "archive") == []
    shutil.rmtree(folder, ignore_errors=True)
    away.rename(folder)
    assert [o.key for o in store.list("recordings/")] == ["recordings/a"], "mounted again, it goes on"


def test_a_copy_without_the_empty_incoming_folder_is_read_and_written(tmp_path: Path) -> None:
    make_archive(tmp_path)
    (tmp_path / ".incoming").rmdir()
    store = open_store(tmp_path.as_uri())
    assert [o.key for o in store.list("")] == ["archive.json"] and store.stat("a") is None
    store.put("a", Source(b"x"), "text/plain", {})


@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize("is_a_folder", [False, True])
def test_without_an_archive_a_command_fails_and_makes_nothing(
    command: str, is_a_folder: bool, environment: dict[str, str], tmp_path: Path
) -> None:
    typo = tmp_path / "archvie"
    if is_a_folder:  # a mount point without its disk
        typo.mkdir()
    done = run_callvault(command.split(), environment | {"CALLVAULT_ARCHIVE_URL": typo.as_uri()})
    assert done.returncode == 1
    goes_on = command in ("doctor", "status")  # with its other details
    said = done.stdout if goes_on else done.stderr
    assert "is not a Callvault archive. Check the address, and that its disk is mounted" in said
    assert "Run `callvault init` to make a new archive" in said
    assert goes_on or (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert not typo.exists() or everything(typo) == []


async def test_a_worker_writes_nothing_into_a_place_without_an_archive(
    environment: dict[str, str], async_redis: Any, monkeypatch: pytest.MonkeyPatch, archive_folder: Path
) -> None:
    (archive_folder / "archive.json").unlink()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NoArchive, match="is not a Callvault archive"):
        open_runtime(load_settings(), async_redis)
    archive = Archive(open_store(archive_folder.as_uri()), needs_identity=True)  # the store did not answer at the start
    with pytest.raises(NoArchive):
        archive.put("recordings/a", b"x", "text/plain")
    assert everything(archive_folder) == [".incoming"]


@pytest.mark.parametrize("now", ["gone", "another"])
def test_a_swapped_archive_is_detected_at_once(now: str, tmp_path: Path) -> None:
    make_archive(tmp_path / "archive")
    archive = Archive(open_store((tmp_path / "archive").as_uri()), needs_identity=True)
    archive.assert_identity()
    (tmp_path / "archive" / "archive.json").unlink()
    if now == "another":
        make_archive(tmp_path / "archive")
    with pytest.raises(StoreError, match="now holds another archive" if now == "another" else "is gone"):
        archive.assert_identity()


def test_an_unreadable_identity_is_not_replaced(environment: dict[str, str], archive_folder: Path) -> None:
    (archive_folder / "archive.json").write_text("{}")
    done = run_callvault(["init", "--adopt"], environment)
    assert done.returncode == 1 and "not an archive's identity" in done.stderr and done.stderr.count("\n") == 1
    assert (archive_folder / "archive.json").read_text() == "{}"


# Making one


async def test_init_makes_an_archive_once_and_binds_redis(async_redis: Any, redis: Any, tmp_path: Path) -> None:
    store = open_store((tmp_path / "archive").as_uri())
    first, second = await asyncio.gather(init_archive(store, async_redis), init_archive(store, async_redis))
    assert first.identity == second.identity and [first.is_new, second.is_new].count(True) == 1
    assert redis.get(ARCHIVE) == first.identity.id
    before = (tmp_path / "archive" / "archive.json").read_bytes()
    again = await init_archive(store, async_redis, adopt=True)
    assert (again.is_new, again.redis, again.identity) == (False, "was bound", first.identity)
    assert (tmp_path / "archive" / "archive.json").read_bytes() == before


async def test_init_refuses_a_redis_of_another_archive_unless_adopted(
    async_redis: Any, redis: Any, tmp_path: Path
) -> None:
    await init_archive(open_store((tmp_path / "one").as_uri()), async_redis)
    other = open_store((tmp_path / "other").as_uri())
    for known in ("to make", "there"):
        if known == "there":
            make_archive(other)
        with pytest.raises(Exception, match="init --adopt"):
            await init_archive(other, async_redis)
    redis.hset(SEALS, "1", "{}")
    redis.set(UNSEALED_KNOWN, "1")
    done = await init_archive(other, async_redis, adopt=True)
    assert (done.redis, redis.get(ARCHIVE)) == ("bound anew", done.identity.id)
    assert not redis.exists(SEALS, UNSEALED_KNOWN)


async def test_init_refuses_a_redis_of_an_earlier_version_that_remembers_seals(
    async_redis: Any, redis: Any, tmp_path: Path
) -> None:
    redis.hset(SEALS, "1", "{}")
    with pytest.raises(Exception, match="this Redis belongs to one"):
        await init_archive(open_store((tmp_path / "one").as_uri()), async_redis)
    assert everything(tmp_path) == []


async def test_a_pause_and_transcribed_marks_of_an_earlier_version_survive_adoption(
    async_redis: Any, redis: Any, tmp_path: Path
) -> None:
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "a").write_bytes(b"x")
    redis.set(DELETIONS_PAUSED, "the bucket is being moved")
    redis.sadd(TRANSCRIBING, "connection")
    store = open_store(tmp_path.as_uri())
    await init_archive(store, async_redis, adopt=True)
    pause = pause_of(Archive(store))
    assert pause is not None and pause.why == "the bucket is being moved"
    assert redis.sismember(TRANSCRIBING, "connection")


def test_an_archive_of_an_earlier_version_is_adopted_once_by_a_person(
    environment: dict[str, str], archive_folder: Path
) -> None:
    (archive_folder / "archive.json").unlink()
    (archive_folder / "seals").mkdir()
    for n in (1, 2):
        (archive_folder / "seals" / f"000000000{n}.json").write_bytes(b"seal %d" % n)
    refused = run_callvault(["init"], environment)
    assert refused.returncode == 1 and "run `callvault init --adopt`" in refused.stderr
    assert refused.stderr.count("\n") == 1 and not (archive_folder / "archive.json").exists()
    done = run_callvault(["init", "--adopt", "--json"], environment)
    report = json.loads(done.stdout)
    assert (report["adopted"], report["adopted_seals"], report["made"]) == (True, 2, True)
    assert report["adopted_head"] == hashlib.sha256(b"seal 2").hexdigest()
    again = run_callvault(["init"], environment)
    assert again.returncode == 0 and report["id"] in again.stdout and "already exists, created by" in again.stdout


@pytest.mark.timeout(180)
def test_up_makes_its_archive_only_with_a_fresh_redis(environment: dict[str, str], tmp_path: Path, redis: Any) -> None:
    own = {name: value for name, value in environment.items() if name != "CALLVAULT_ARCHIVE_URL"}
    own |= {"CALLVAULT_DATA": str(tmp_path / "own")}
    redis.set(ARCHIVE, "0" * 32)
    done = run_callvault(["up", "--port", "0"], own)
    assert done.returncode == 1 and "this Redis belongs to one" in done.stderr, done.stderr
    assert not (tmp_path / "own" / "archive").exists()
    redis.delete(ARCHIVE)
    (tmp_path / "own" / "archive" / "recordings").mkdir(parents=True)
    (tmp_path / "own" / "archive" / "recordings" / "a").write_bytes(b"x")
    done = run_callvault(["up", "--port", "0"], own)
    assert done.returncode == 1 and "run `callvault init --adopt`" in done.stderr
    done = run_callvault(["up", "--port", "0"], environment | {"CALLVAULT_ARCHIVE_URL": (tmp_path / "typo").as_uri()})
    assert done.returncode == 1 and "is not a Callvault archive" in done.stderr
    assert not (tmp_path / "typo").exists()


# Redis belongs to one


async def test_a_redis_that_was_lost_belongs_to_the_workers_archive_again(runtime: Runtime, redis: Any) -> None:
    await watch_binding(runtime)
    assert redis.get(ARCHIVE) == runtime.archive.identity.id
    redis.flushall()
    await watch_binding(runtime)
    assert redis.get(ARCHIVE) == runtime.archive.identity.id


@pytest.mark.parametrize("junk", ["\x00junk", "0" * 31, ["a list"]])
async def test_an_invalid_binding_counts_as_lost(junk: Any, async_redis: Any, redis: Any) -> None:
    redis.set(ARCHIVE, junk) if isinstance(junk, str) else redis.rpush(ARCHIVE, *junk)
    await assert_bound(async_redis, "a" * 32)
    assert redis.get(ARCHIVE) == "a" * 32


async def test_with_a_redis_of_another_archive_nothing_is_archived_and_an_alert_is_sent(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any, archive_folder: Path
) -> None:
    recording = sandbox.world.add_recording(seconds=0.2)
    redis.set(ARCHIVE, "f" * 32)
    run = job(archive_recording, RecordingRequest, MAIN_QUEUE).coroutine
    context: dict[Any, Any] = {"runtime": runtime, "job_id": "one", "job_try": 1}
    with pytest.raises(Exception) as raised:
        await run(context, {"v": 1, "recording_id": recording.data["id"]})
    assert type(raised.value).__name__ == "Retry", "it runs again"
    assert not folder_of(archive_folder, recording).exists()
    said = None
    for _ in range(3):
        said = await watch_binding(runtime, said)
    (alert,) = (json.loads(row) for row in redis.lrange(ALERTS, 0, -1))
    assert alert["kind"] == "another-archive" and "belongs to archive ffff" in alert["text"]
    redis.delete(ARCHIVE)
    await archive_recording(runtime, RecordingRequest(recording_id=recording.data["id"]))
    assert committed(archive_folder, recording)


async def test_commands_and_workers_refuse_a_redis_of_another_archive(
    runtime: Runtime, environment: dict[str, str], redis: Any
) -> None:
    redis.set(ARCHIVE, "f" * 32)
    with pytest.raises(AnotherArchive, match="init --adopt"):
        async with runtime_at(runtime.settings, environment["REDIS_URL"]):
            pass
    for command in ("worker", "status", "find", "seal --due", "backfill --since 1d"):
        done = await asyncio.to_thread(run_callvault, command.split(), environment)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert "this Redis belongs to archive ffff" in done.stderr
    _, out = await asyncio.to_thread(callvault_here, ["doctor", "--json"], environment)
    row = next(row for row in json.loads(out)["checks"] if row["check"] == "Redis' archive")
    assert not row["good"] and "this Redis belongs to archive ffff" in row["found"] and row["advice"]


def test_the_runtime_opens_while_the_store_is_away_and_writes_nothing_until_it_is_known(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    away = {"CALLVAULT_ARCHIVE_URL": "s3://bucket/a", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_REGION": "x"}
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (environment | away | keys).items():
        monkeypatch.setenv(name, value)
    archive = open_archive(load_settings())
    assert not archive.is_known
    with pytest.raises(StoreError):
        archive.put("recordings/a", b"x", "text/plain")
    with pytest.raises(StoreError):
        archive.assert_identity()


# The catalogue belongs to one


def test_a_catalogue_of_another_archive_is_refused_until_it_is_rebuilt(
    environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    assert callvault_here(["find"], environment)[0] == 0
    (archive_folder / "archive.json").unlink()
    make_archive(archive_folder)
    redis.flushall()
    for command in (["find"], ["get", "ID"], ["index"]):
        done = run_callvault(command, environment)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert "callvault index --rebuild" in done.stderr
    assert callvault_here(["index", "--rebuild"], environment)[0] == 0
    assert callvault_here(["find"], environment)[0] == 0


# Saved states belong to one


def test_saved_state_of_another_archive_resumes_nothing_and_shows_how_to_start_over(tmp_path: Path) -> None:
    def file(archive_id: str) -> StateFile[Tally]:
        return StateFile(tmp_path, "backfill", "x", Tally(), 7, archive_id=archive_id, start_over="do this")

    file("one").save(Tally(found=7))
    assert file("one").load().found == 7
    mismatch = "belongs to archive one, but CALLVAULT_ARCHIVE_URL is archive other; check the address, or do this"
    with pytest.raises(AnotherState, match=mismatch):
        file("other").load()
    file("other").forget()
    assert file("other").load() == Tally()
    for junk in (b"", b"{}", b'{"found": 7}', b'{"archive": "one", "state": 5}'):
        file("one").save(Tally(found=7))
        next(tmp_path.iterdir()).write_bytes(junk)
        assert file("one").load() == Tally(), "also one that an earlier version saved"
