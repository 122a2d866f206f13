"""The chain of seals that Redis remembers is compared with the archive before use."""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from archive.seals import Chain, Link
from lab.servers import RunningSandbox
from lab.stores import make_archive
from sandbox.world import Recording
from text.times import end_of_day, utc_now
from workers.init import init_archive
from workers.keys import ALERTS, BULK_QUEUE, SEALS, UNSEALED_KNOWN
from workers.reconcile.reconcile import reconcile
from workers.recordings.archive_recording import archive_recording
from workers.recordings.requests import ReconcileRequest, RecordingRequest
from workers.runtime import Runtime, open_runtime
from workers.seals.chain import known_chain, read_chain
from workers.seals.seal import seal

DAYS = (5, 4)


def day(ago: int) -> date:
    return (utc_now() - timedelta(days=ago)).date()


async def seal_two_days(runtime: Runtime, sandbox: RunningSandbox) -> list[Recording]:
    """Six recordings of two days, archived and sealed."""
    made = []
    for ago in DAYS:
        noon = end_of_day(day(ago)) - timedelta(hours=12)
        made += [sandbox.world.add_recording(seconds=0.1, started_at=noon + timedelta(minutes=n)) for n in range(3)]
    await archive_and_seal(runtime, made)
    return made


async def archive_and_seal(runtime: Runtime, recordings: list[Recording]) -> list[int]:
    for one in recordings:
        await archive_recording(runtime, RecordingRequest(recording_id=one.data["id"]))
    sequences = []
    for ago in DAYS:
        link = await seal(runtime, day(ago), by_hand=True)
        assert isinstance(link, Link), link
        sequences.append(link.seal.sequence)
    return sequences


async def fetched_again(runtime: Runtime) -> int:
    """How many jobs reconcile makes."""
    await reconcile(runtime, ReconcileRequest(since=day(6).isoformat(), until=day(3).isoformat()))
    return int(await runtime.redis.zcard(BULK_QUEUE))


def empty(folder: Path) -> None:
    for name in ("recordings", "seals", "catalogue"):
        shutil.rmtree(folder / name, ignore_errors=True)


async def test_an_emptied_archive_gets_every_recording_of_its_sealed_days_again_and_a_first_seal(
    runtime: Runtime, sandbox: RunningSandbox, archive_folder: Path, redis: Any
) -> None:
    recordings = await seal_two_days(runtime, sandbox)
    assert await fetched_again(runtime) == 0, "sealed days are not compared again"
    empty(archive_folder)
    assert await fetched_again(runtime) == 6
    (alert,) = (json.loads(row) for row in redis.lrange(ALERTS, 0, -1))
    assert alert["kind"] == "archive-damaged" and "Seal 2 of" in alert["text"]
    assert await archive_and_seal(runtime, recordings) == [1, 2]


async def test_a_new_archive_gets_every_recording_of_the_days_that_the_other_sealed_and_a_first_seal(
    runtime: Runtime, sandbox: RunningSandbox, archive_folder: Path, tmp_path: Path
) -> None:
    recordings = await seal_two_days(runtime, sandbox)
    archive_folder.rename(tmp_path / "the other")
    make_archive(archive_folder)
    await init_archive(runtime.archive.store, runtime.redis, adopt=True)
    fresh = open_runtime(runtime.settings, runtime.redis)
    assert await fetched_again(fresh) == 6
    assert await archive_and_seal(fresh, recordings) == [1, 2]
    await fresh.close()


@pytest.mark.parametrize("how", ["the last is gone", "the last is another", "rolled back and gone on"])
async def test_a_chain_that_differs_from_the_remembered_one_is_read_again_and_reported(
    how: str, runtime: Runtime, sandbox: RunningSandbox, archive_folder: Path, redis: Any
) -> None:
    await seal_two_days(runtime, sandbox)
    last = archive_folder / "seals" / "0000000002.json"
    other = json.loads(last.read_bytes())
    last.unlink()
    if how != "the last is gone":
        last.write_text(json.dumps(other | {"day": day(4 if how == "the last is another" else 3).isoformat()}))
    redis.set(UNSEALED_KNOWN, "1")
    for read in (known_chain, read_chain):
        chain = await read(runtime)
        assert len(chain.links) == (1 if how == "the last is gone" else 2)
        assert (day(3) in chain.days) == (how == "rolled back and gone on")
    assert redis.hlen(SEALS) == len(chain.links) and not redis.exists(UNSEALED_KNOWN), "its days are found again"
    assert [json.loads(row)["kind"] for row in redis.lrange(ALERTS, 0, -1)] == ["archive-damaged"]


async def test_links_that_do_not_name_each_other_are_not_trusted(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    await seal_two_days(runtime, sandbox)
    whole = await known_chain(runtime)
    first = json.loads(redis.hget(SEALS, "1"))
    redis.hset(SEALS, "1", json.dumps(first | {"sha256": "0" * 64}))
    assert (await known_chain(runtime)).links == (await read_chain(runtime)).links == whole.links


async def test_an_unchanged_chain_costs_one_small_read(
    runtime: Runtime, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seal_two_days(runtime, sandbox)
    read: list[str] = []
    original = runtime.archive.store.read

    def counted(key: str, *span: Any) -> Any:
        read.append(key)
        return original(key, *span)

    monkeypatch.setattr(runtime.archive.store, "read", counted)
    await known_chain(runtime)
    assert read == ["seals/0000000002.json"]


async def test_a_process_that_knows_the_chain_reads_it_from_redis_no_more(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    await seal_two_days(runtime, sandbox)
    before = redis.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"]
    for read in (known_chain, read_chain):
        assert len((await read(runtime)).links) == 2
    assert redis.info("commandstats").get("cmdstat_hgetall", {"calls": 0})["calls"] == before


async def test_what_a_caller_reads_into_its_chain_is_not_in_the_next_callers(
    runtime: Runtime, sandbox: RunningSandbox, archive_folder: Path
) -> None:
    await seal_two_days(runtime, sandbox)
    last = archive_folder / "seals" / "0000000002.json"
    mine = await read_chain(runtime)
    last.with_name("0000000003.json").write_text(
        json.dumps(json.loads(last.read_bytes()) | {"sequence": 3, "previous_sha256": mine.links[-1].sha256})
    )
    mine.refresh()
    assert (len(mine.links), len(mine.of_day(day(4)))) == (3, 2)
    theirs = await known_chain(runtime)
    assert (len(theirs.links), len(theirs.of_day(day(4)))) == (2, 1)


async def test_a_rollback_past_seals_of_another_worker_is_reported(
    runtime: Runtime, sandbox: RunningSandbox, archive_folder: Path, redis: Any
) -> None:
    """This process knows one seal, which is still there; the second, which another worker made, is gone."""
    await seal_two_days(runtime, sandbox)
    (archive_folder / "seals" / "0000000002.json").unlink()
    runtime.chain.become(Chain(runtime.archive, runtime.chain.links[:1]))
    assert len((await read_chain(runtime)).links) == 1
    assert [json.loads(row)["kind"] for row in redis.lrange(ALERTS, 0, -1)] == ["archive-damaged"]


async def test_a_redis_that_lost_the_chain_gets_it_back(runtime: Runtime, sandbox: RunningSandbox, redis: Any) -> None:
    await seal_two_days(runtime, sandbox)
    redis.delete(SEALS)
    assert len((await known_chain(runtime)).links) == 2
    assert redis.hlen(SEALS) == 2
