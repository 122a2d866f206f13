"""Every closed day is sealed, also an empty one, whatever Redis forgot; late arrivals are found."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from archive.seals import Link
from lab.servers import RunningSandbox
from tests.seals.test_making_seals import ago, archive, at_noon, key_of, recordings_of
from tests.workers.steps import folder_of
from text.times import format_instant, utc_now
from workers.engine import clocks
from workers.keys import BULK_QUEUE, CLOCK_QUEUE, DELETIONS_DUE, UNSEALED, UNSEALED_KNOWN, UNSEALED_RECKONED
from workers.queue.script import start_of
from workers.reconcile import reconcile
from workers.reconcile.reconcile import count_sealed
from workers.recordings.requests import CountRequest, FindUnsealedRequest, TranscriptionRequest
from workers.recordings.transcriptions import archive_transcription
from workers.runtime import Runtime
from workers.seals import seal as seals_module
from workers.seals.chain import read_chain
from workers.seals.seal import Waits, seal
from workers.seals.unsealed import find_unsealed, start_seals

OLDEST = 6  # days ago: when the archive was made


@pytest.fixture
def environment(environment: dict[str, str], archive_folder: Path) -> dict[str, str]:
    path = archive_folder / layout.IDENTITY_KEY
    made = format_instant(utc_now() - timedelta(days=OLDEST))
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"created_at": made}))
    return environment | {"CALLVAULT_DELETE_ORIGINALS": "verified"}


def on_the_list(redis: Any) -> list[date]:
    return sorted(date.fromisoformat(day) for day in redis.zrange(UNSEALED, 0, -1))


async def seal_all(runtime: Runtime, redis: Any) -> list[Link]:
    """Seal the due days of the list, as the worker's jobs do."""
    made = [await seal(runtime, day) for day in on_the_list(redis) if redis.zscore(UNSEALED, str(day)) <= time.time()]
    return [one for one in made if isinstance(one, Link)]


async def test_a_day_of_nothing_gets_its_seal_for_few_requests(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    await archive(runtime, recordings_of(sandbox, ago(5), 2))
    redis.flushall()  # all marks of days are gone
    await start_seals(runtime)
    assert on_the_list(redis) == [ago(6), ago(5), ago(4), ago(3)], "those that CALLVAULT_SEAL_AFTER allows"
    requests = len(sandbox.world.requests)
    first = await seal(runtime, ago(6))
    assert isinstance(first, Link)
    assert (first.seal.recordings, first.seal.bytes) == (0, 0)
    assert (archive_folder / layout.seal_key(1, "sha256")).read_bytes() == b""
    assert len(sandbox.world.requests) - requests == 4
    made = await seal_all(runtime, redis)
    assert [(one.seal.day, one.seal.recordings) for one in made] == [
        (str(ago(5)), 2),
        (str(ago(4)), 0),
        (str(ago(3)), 0),
    ]
    redis.delete(UNSEALED_RECKONED)
    await start_seals(runtime)
    assert await seal_all(runtime, redis) == [], "each day once"


async def test_a_day_before_the_archive_is_sealed_only_if_it_holds_something(
    sandbox: RunningSandbox, runtime: Runtime
) -> None:
    await archive(runtime, recordings_of(sandbox, ago(20), 1))
    assert await seal(runtime, ago(19)) is None
    assert isinstance(await seal(runtime, ago(20)), Link)


async def test_after_a_restart_of_redis_the_archive_is_listed_again(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    """As after a failover to an older replica: a day and an original are on no list."""
    (lost,) = recordings_of(sandbox, ago(20), 1)
    await archive(runtime, [lost])
    redis.delete(UNSEALED, DELETIONS_DUE)

    def is_asked_for() -> bool:
        return redis.zscore(CLOCK_QUEUE, "find_unsealed:clock:") is not None

    redis.set(UNSEALED_KNOWN, await start_of(runtime.redis))
    await start_seals(runtime)
    assert not is_asked_for()
    redis.set(UNSEALED_KNOWN, "another start")
    await start_seals(runtime)
    assert is_asked_for()
    await find_unsealed(runtime, FindUnsealedRequest())
    assert ago(20) in on_the_list(redis)
    assert redis.zrange(DELETIONS_DUE, 0, -1) == [key_of(folder_of(archive_folder, lost), archive_folder)]
    assert redis.get(UNSEALED_KNOWN) == await start_of(runtime.redis)


@pytest.mark.parametrize("left", ["deleted.json", "gone.json"])
async def test_a_receipt_without_its_commit_record_keeps_the_day_from_its_seal(
    left: str, sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    lost, *others = recordings_of(sandbox, ago(5), 3)
    await archive(runtime, [lost, *others])
    sandbox.world.recordings.pop(lost.data["id"])
    folder = folder_of(archive_folder, lost)
    (folder / left).write_text("{}")
    for name in ("audio.wav", "recording.json"):
        (folder / name).unlink()
    outcome = await seal(runtime, ago(5))
    assert isinstance(outcome, Waits)
    assert f"{folder.name}/recording.json: gone, though" in outcome.why
    assert any("archive-damaged" in text for text in redis.lrange("callvault:alerts", 0, -1))
    (folder / "erased.json").write_text("{}")  # its owner had it erased, on record
    assert isinstance(await seal(runtime, ago(5)), Link)


async def test_a_day_is_not_sealed_while_clocks_differ_or_one_shows_too_early_a_time(
    sandbox: RunningSandbox, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await archive(runtime, recordings_of(sandbox, ago(5), 1))
    with monkeypatch.context() as patch:
        patch.setattr(clocks, "utc_now", lambda: utc_now() + timedelta(minutes=2))
        outcome = await seal(runtime, ago(5))
        assert isinstance(outcome, Waits)
        assert "clocks" in outcome.why
    with monkeypatch.context() as patch:
        patch.setattr(seals_module, "utc_now", lambda: at_noon(ago(5)))
        outcome = await seal(runtime, ago(5))
        assert isinstance(outcome, Waits)
        assert "CALLVAULT_SEAL_AFTER" in outcome.why
    assert isinstance(await seal(runtime, ago(5)), Link)


async def sealed_day(sandbox: RunningSandbox, runtime: Runtime, count: int = 12) -> list[Any]:
    made = recordings_of(sandbox, ago(5), count)
    await archive(runtime, made)
    assert isinstance(await seal(runtime, ago(5)), Link)
    return made


def receipt(archive_folder: Path, recording: Any, name: str = "deleted.json") -> None:
    (folder_of(archive_folder, recording) / name).write_text("{}")


async def test_ten_deletions_hide_no_recording_that_came_late_to_a_sealed_day(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    made = await sealed_day(sandbox, runtime)
    for one in made[:10]:
        sandbox.world.recordings.pop(one.data["id"])
        receipt(archive_folder, one)
    (late,) = recordings_of(sandbox, ago(5), 1)
    await count_sealed(runtime, CountRequest())
    assert redis.zscore(BULK_QUEUE, f"archive_recording:{late.data['id']}") is not None


async def test_a_count_waits_while_the_bulk_queue_is_full(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sealed_day(sandbox, runtime, 1)
    late = recordings_of(sandbox, ago(5), 8)
    monkeypatch.setattr(reconcile, "_ASK_EVERY", 2)
    monkeypatch.setattr(reconcile, "_FULL", 3)
    redis.zadd(BULK_QUEUE, {"another": 1, "and another": 1})
    counting = asyncio.create_task(count_sealed(runtime, CountRequest()))
    done, _ = await asyncio.wait([counting], timeout=2)
    assert not done and redis.zcard(BULK_QUEUE) < 2 + len(late)
    while not counting.done():
        redis.zremrangebyrank(BULK_QUEUE, 0, -1)
        await asyncio.sleep(0.05)
    await counting


async def test_a_late_recording_is_found_although_telnyx_had_nothing_left_of_the_day(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    for one in await sealed_day(sandbox, runtime, 2):
        sandbox.world.recordings.pop(one.data["id"])
        receipt(archive_folder, one)
    sandbox.world.requests.clear()
    await count_sealed(runtime, CountRequest())
    assert len(sandbox.world.requests) == 2, "one for the recordings of all sealed days, one for their transcriptions"
    (late,) = recordings_of(sandbox, ago(5), 1)
    await count_sealed(runtime, CountRequest())
    assert redis.zscore(BULK_QUEUE, f"archive_recording:{late.data['id']}") is not None


async def test_a_late_transcription_of_a_sealed_day_is_found(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    (one,) = await sealed_day(sandbox, runtime, 1)
    transcription = sandbox.world.add_transcription(one)
    sandbox.world.complete_transcription(transcription)
    await count_sealed(runtime, CountRequest())
    assert redis.zscore(BULK_QUEUE, f"archive_transcription:{transcription['id']}") is not None
    await archive_transcription(
        runtime, TranscriptionRequest(transcription_id=transcription["id"], recording_id=one.data["id"])
    )
    further = await seal(runtime, ago(5), by_hand=True)
    assert isinstance(further, Link)
    assert further.seal.transcriptions == 1
    assert (await read_chain(runtime)).days == {ago(5)}


async def test_recordings_listed_at_telnyx_without_a_receipt_are_scheduled_for_deletion(
    sandbox: RunningSandbox, runtime: Runtime, redis: Any, archive_folder: Path
) -> None:
    found_gone, deleted, plain = await sealed_day(sandbox, runtime, 3)
    receipt(archive_folder, found_gone, "gone.json")
    receipt(archive_folder, deleted)
    redis.delete(DELETIONS_DUE)
    await count_sealed(runtime, CountRequest())
    expected = [key_of(folder_of(archive_folder, one), archive_folder) for one in (found_gone, plain)]
    assert sorted(redis.zrange(DELETIONS_DUE, 0, -1)) == sorted(expected)
