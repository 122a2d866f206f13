"""What else holds in the moment of the request decides a deletion: clocks, graces, transcriptions, seals."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from arq import Retry

import workers.deletion.may_delete
import workers.engine.clocks
from lab.clock import Clock, SkewedServer
from lab.servers import RunningSandbox
from lab.worker import archive, delete_what_is_due, own_runtime
from tests.workers.steps import folder_of, has_left, key_of, kinds_of_alerts
from text import times
from workers.deletion.may_delete import read_rules
from workers.deletion.originals import Proven, look_at_original
from workers.deletion.outcomes import letter_id
from workers.keys import (
    ATTEMPTS,
    BULK_QUEUE,
    DELETIONS_DUE,
    LEAVING,
    LEFT,
    LEFT_TRANSCRIPTIONS,
    MAIN_QUEUE,
    TRANSCRIBING,
)
from workers.recordings.requests import TranscriptionRequest
from workers.recordings.transcriptions import archive_transcription
from workers.seals.chain import is_sealed
from workers.seals.seal import seal


async def test_a_grace_that_was_lengthened_counts_for_what_was_scheduled_before(
    sandbox: RunningSandbox, deleting: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
    async with own_runtime(deleting | {"CALLVAULT_DELETE_AFTER": "30d"}) as runtime:
        await delete_what_is_due(runtime)
        assert not has_left(recording)
        due = await runtime.redis.zscore(DELETIONS_DUE, folder_of(Path(), recording).as_posix() + "/")
        assert due > times.utc_now().timestamp() + 29 * 86400
    async with own_runtime(deleting) as runtime:
        await delete_what_is_due(runtime)
    assert has_left(recording)


@pytest.mark.parametrize("hours", [1, -1])
async def test_different_clocks_stop_deletion_and_are_reported(
    hours: int, sandbox: RunningSandbox, deleting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        with monkeypatch.context() as patch:
            for module in (workers.engine.clocks, workers.deletion.may_delete):
                patch.setattr(module, "utc_now", lambda: times.utc_now() + timedelta(hours=hours))
            with pytest.raises(Retry):  # so that another worker takes it
                await delete_what_is_due(runtime)
        assert not has_left(recording)
        assert "clocks-differ" in await kinds_of_alerts(runtime)
        await delete_what_is_due(runtime)
    assert has_left(recording)


@pytest.mark.parametrize("wrong", ["redis", "worker"])
async def test_a_slow_clock_at_archiving_shortens_no_grace(
    wrong: str, sandbox: RunningSandbox, deleting: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its call ended long before, so only the clocks date its archiving; one is corrected after that."""
    recording = sandbox.world.add_recording(seconds=0.5, started_at=times.utc_now() - timedelta(days=30))
    clock = Clock(tmp_path, "redis", -7200 if wrong == "redis" else 0)
    server = SkewedServer(tmp_path / "skewed", clock)
    server.start()
    try:
        environment = deleting | {"REDIS_URL": server.url, "CALLVAULT_DELETE_AFTER": "1h"}
        async with own_runtime(environment) as runtime:
            with monkeypatch.context() as patch:
                if wrong == "worker":
                    patch.setattr(workers.engine.clocks, "utc_now", lambda: times.utc_now() - timedelta(hours=2))
                await runtime.clock.look(runtime.redis)
                await archive(runtime, recording)
            clock.move(0)
            while await workers.engine.clocks.seconds_apart(runtime.redis) > 1:
                await asyncio.sleep(0.02)
            await delete_what_is_due(runtime)
            assert not has_left(recording)
    finally:
        server.stop()


@pytest.mark.parametrize("policy", ["require", "wait 1h"])
async def test_transcriptions_are_awaited_also_after_redis_was_lost(
    policy: str, sandbox: RunningSandbox, deleting: dict[str, str], redis: Any
) -> None:
    first, second = (sandbox.world.add_recording(seconds=0.5, connection_id="7") for _ in range(2))
    transcription = sandbox.world.add_transcription(first)
    sandbox.world.complete_transcription(transcription)
    async with own_runtime(deleting | {"CALLVAULT_TRANSCRIPTIONS": policy}) as runtime:
        await archive(runtime, first, second)
        request = TranscriptionRequest(transcription_id=transcription["id"], recording_id=first.data["id"])
        await archive_transcription(runtime, request)
        redis.flushall()
        for recording in (first, second):
            await runtime.schedule.add(folder_of(Path(), recording).as_posix() + "/", 0)
        await delete_what_is_due(runtime)
    assert has_left(first)
    assert not has_left(second)


async def test_an_original_that_waits_for_its_transcription_asks_telnyx_at_growing_intervals(
    sandbox: RunningSandbox, deleting: dict[str, str], redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5, connection_id="7")
    waits = []
    async with own_runtime(deleting | {"CALLVAULT_TRANSCRIPTIONS": "require"}) as runtime:
        await runtime.in_thread(runtime.archive.put_transcribing, "7")
        await archive(runtime, recording)
        for _ in range(12):
            await delete_what_is_due(runtime)
            ((_, due_at),) = redis.zrange(DELETIONS_DUE, 0, -1, withscores=True)
            waits.append(due_at - times.utc_now().timestamp())
    assert not has_left(recording)
    assert 4 < waits[0] <= 10 and waits[5] > 120 and 1_700 < waits[-1] <= 3_600, waits


async def test_nothing_is_under_way_in_redis_after_a_deletion_but_the_memory_of_it(
    sandbox: RunningSandbox, deleting: dict[str, str], redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    transcription = sandbox.world.add_transcription(recording)
    sandbox.world.complete_transcription(transcription)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        request = TranscriptionRequest(transcription_id=transcription["id"], recording_id=recording.data["id"])
        await archive_transcription(runtime, request)
        await runtime.attempts.record(letter_id(recording.data["id"]), "outage", "Telnyx does not answer")
        await delete_what_is_due(runtime)
    assert has_left(recording)
    left = f"{recording.data['id']} {folder_of(Path(), recording)}/"
    assert redis.zrange(LEFT, 0, -1) == [left]
    assert not redis.exists(DELETIONS_DUE, LEAVING, LEFT_TRANSCRIPTIONS)
    assert not redis.exists(ATTEMPTS + letter_id(recording.data["id"]))


async def test_connections_that_an_earlier_version_noted_in_redis_alone_are_awaited(
    sandbox: RunningSandbox, deleting: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    waiting = [sandbox.world.add_recording(seconds=0.5, connection_id="7") for _ in range(3)]
    other = sandbox.world.add_recording(seconds=0.5, connection_id="8")
    redis.sadd(TRANSCRIBING, "7")
    async with own_runtime(deleting | {"CALLVAULT_TRANSCRIPTIONS": "require"}) as runtime:
        await archive(runtime, *waiting, other)
        await delete_what_is_due(runtime)
    assert has_left(other) and not any(map(has_left, waiting))
    assert (archive_folder / "transcribing/7.json").exists()


async def test_a_connection_that_an_earlier_version_notes_during_a_turn_is_awaited_from_then_on(
    sandbox: RunningSandbox, deleting: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    before, after = (sandbox.world.add_recording(seconds=0.5, connection_id="7") for _ in range(2))
    async with own_runtime(deleting | {"CALLVAULT_TRANSCRIPTIONS": "require"}) as runtime:
        await archive(runtime, before, after)
        rules = await read_rules(runtime)
        assert isinstance(await look_at_original(runtime, rules, key_of(archive_folder, before)), Proven)
        redis.sadd(TRANSCRIBING, "7")
        assert await look_at_original(runtime, rules, key_of(archive_folder, after)) is None


async def test_a_transcription_that_a_deletion_misses_is_enqueued_behind_those_of_webhooks(
    sandbox: RunningSandbox, deleting: dict[str, str], redis: Any
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5)
    transcription = sandbox.world.add_transcription(recording)
    async with own_runtime(deleting) as runtime:
        await archive(runtime, recording)
        await delete_what_is_due(runtime)
    assert redis.zrange(BULK_QUEUE, 0, -1) == [f"archive_transcription:{transcription['id']}"]
    assert not redis.exists(MAIN_QUEUE)


async def test_without_a_delete_after_setting_an_original_stays_until_its_day_is_sealed(
    sandbox: RunningSandbox, environment: dict[str, str]
) -> None:
    recording = sandbox.world.add_recording(seconds=0.5, started_at=times.utc_now() - timedelta(days=5))
    settings = environment | {"CALLVAULT_DELETE_ORIGINALS": "verified"}
    async with own_runtime(settings) as runtime:
        await archive(runtime, recording)
        later = times.utc_now() + timedelta(days=1, seconds=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(workers.deletion.may_delete, "utc_now", lambda: later)  # the grace of 24 h is over
            await delete_what_is_due(runtime)
    assert not has_left(recording)


async def test_recordings_sealed_in_a_lost_chain_do_not_count_as_sealed(
    sandbox: RunningSandbox, environment: dict[str, str], archive_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = times.utc_now() - timedelta(days=5)
    recording, other = (sandbox.world.add_recording(seconds=0.5, started_at=began - timedelta(days=n)) for n in (0, 1))
    async with own_runtime(environment | {"CALLVAULT_DELETE_ORIGINALS": "verified"}) as runtime:
        await archive(runtime, recording)
        await seal(runtime, began.date())
        folder = folder_of(Path(), recording).as_posix() + "/"
        assert await is_sealed(runtime, folder)
        for path in [*archive_folder.glob("seals/*"), *archive_folder.glob("catalogue/*/*")]:
            path.unlink()  # an older copy was put back
        async with own_runtime(environment) as another:
            await archive(another, other)
            await seal(another, (began - timedelta(days=1)).date())  # as many seals as before
        later = times.utc_now() + timedelta(days=1, seconds=1)
        monkeypatch.setattr(workers.deletion.may_delete, "utc_now", lambda: later)  # the grace of 24 h is over
        await delete_what_is_due(runtime)
    assert not has_left(recording)
