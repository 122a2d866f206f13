"""A row that cannot be read, or a day that Telnyx does not list, blocks no other in reconcile or a seal."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lab.processes import run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.worker import archive
from sandbox.world import Recording, text_of
from telnyx_api.errors import Forbidden, UnreadableRow, UnreadableRows
from tests.workers.steps import alerts, folder_of, request_of
from text.times import format_instant, utc_now
from workers.engine.attempts import DeadLetter
from workers.keys import ARQ_JOB, BULK_QUEUE, MAIN_QUEUE, UNREADABLE_ALERTED
from workers.queue.accept import Acceptor
from workers.queue.jobs import deserialize
from workers.reconcile.comparison import Tally
from workers.reconcile.reconcile import Days, missing_of, reconcile, reconcile_days
from workers.reconcile.unreadable import alert_unreadable
from workers.recordings.requests import ReconcileRequest, TranscriptionRequest, recording_job, transcription_job
from workers.recordings.transcriptions import archive_transcription
from workers.runtime import Runtime
from workers.seals.seal import Waits, seal


def ago(days: int) -> date:
    return utc_now().date() - timedelta(days=days)


def on(sandbox: RunningSandbox, days: int, count: int = 1) -> list[Recording]:
    """Recordings of an early hour of a past day, one a minute."""
    start = utc_now().replace(hour=3, minute=0, second=0, microsecond=0) - timedelta(days=days)
    return [
        sandbox.world.add_recording(seconds=0.1, started_at=start + timedelta(minutes=minute))
        for minute in range(count)
    ]


def queued(redis: Any) -> set[str]:
    return {job.partition(":")[2] for job in redis.zrange(BULK_QUEUE, 0, -1)}


def fail_a_delivery(sandbox: RunningSandbox, recording: Recording) -> None:
    """Have Telnyx remember an event of a recording that it could not deliver."""
    payload = {"recording_id": recording.data["id"]}
    event = {"record_type": "event", "event_type": "call.recording.saved", "id": "failed-1", "payload": payload}
    at = text_of(utc_now())
    delivery = {"id": "d", "status": "failed", "started_at": at, "finished_at": at, "webhook": event, "attempts": []}
    sandbox.world.deliveries["d"] = delivery


def ids(recordings: list[Recording]) -> set[str]:
    return {one.data["id"] for one in recordings}


async def test_an_unreadable_recording_is_fetched_by_its_id_reported_once_and_ends_no_reconcile(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    recordings = [*on(sandbox, 3, 3), *on(sandbox, 2, 3)]
    recordings[1].data["duration_millis"] = "a while"
    transcription = sandbox.world.add_transcription(recordings[0])
    transcription["duration_millis"] = "a while"
    for _ in range(2):
        tally = Tally()
        assert await reconcile_days(runtime, Days(ago(3), ago(1), "reconcile"), tally) == []
        assert (tally.missing, tally.unreadable) == (5, 2)
    assert queued(redis) == ids(recordings) | {transcription["id"]}
    told = alerts(redis, "unreadable-rows")
    assert len(told) == 2, "a list, once"
    assert f"GET /recordings: 1 row cannot be read: {recordings[1].data['id']} (duration_millis: " in told[1]


async def test_a_transcription_that_names_no_recording_is_archived_with_what_its_event_knows(
    runtime: Runtime, sandbox: RunningSandbox, async_redis: Any, archive_folder: Path
) -> None:
    (recording,) = on(sandbox, 2)
    await archive(runtime, recording)
    made = sandbox.world.add_transcription(recording)
    sandbox.world.complete_transcription(made)
    made["recording_id"] = None
    await reconcile_days(runtime, Days(ago(2), ago(1), "reconcile"), Tally())
    assert not [row for row in sandbox.world.requests if row["path"].endswith("/None")]
    told = TranscriptionRequest(transcription_id=made["id"], recording_id=recording.data["id"], event_id="event-1")
    assert await Acceptor(async_redis).accept("event-1", [transcription_job(told)])
    data = await async_redis.get(f"{ARQ_JOB}archive_transcription:{made['id']}")
    await archive_transcription(runtime, msgspec.convert(deserialize(data)["a"][0], TranscriptionRequest))
    assert list(folder_of(archive_folder, recording).glob(f"transcriptions/{made['id']}.json"))


async def test_an_unreadable_row_is_reported_again_a_month_later_despite_others(runtime: Runtime, redis: Any) -> None:
    async def tell(row_id: str) -> None:
        await alert_unreadable(runtime, UnreadableRows("/recordings", [UnreadableRow(row_id, "id: odd")]))

    await tell("first")
    for key in redis.keys(f"{UNREADABLE_ALERTED}*"):
        redis.expire(key, 1)  # all but a second of the month is over
    await tell("second")
    wait_for(lambda: not redis.keys(f"{UNREADABLE_ALERTED}*first"), 60, "the end of the month")
    await tell("first")
    assert len(alerts(redis, "unreadable-rows")) == 3
    assert all(redis.ttl(key) > 0 for key in redis.keys(f"{UNREADABLE_ALERTED}*")), "nothing is remembered forever"


async def test_a_day_with_a_row_that_cannot_be_read_is_not_proven_complete(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    odd, other = on(sandbox, 5, 2)
    odd.data["channels"] = ["dual"]
    with pytest.raises(UnreadableRows):
        await missing_of(runtime, ago(5))
    assert queued(redis) == ids([odd, other])
    outcome = await seal(runtime, ago(5))
    assert isinstance(outcome, Waits)
    assert f"1 row cannot be read: {odd.data['id']} (channels: " in outcome.why


@pytest.mark.parametrize("status", [403, 500])
async def test_a_day_that_telnyx_does_not_list_blocks_no_other_from_reconcile(
    status: int, runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    recordings = [on(sandbox, days)[0] for days in (4, 3, 2)]
    sandbox.world.faults.change({"answers": {f"/recordings?filter[created_at][gte]={ago(3)}": status}})
    request = ReconcileRequest(since=ago(4).isoformat(), until=ago(1).isoformat())
    await reconcile(runtime, request)
    assert queued(redis) == ids([recordings[0], recordings[2]])
    (told,) = alerts(redis, "not-compared")
    assert told.startswith(f"Telnyx cannot list recordings ({ago(3)}): GET /v2/recordings: {status} ")


async def test_a_backfill_continues_at_the_first_day_that_was_not_compared(
    runtime: Runtime, sandbox: RunningSandbox
) -> None:
    sandbox.world.faults.change({"answers": {f"/recordings?filter[created_at][gte]={ago(3)}": 403}})
    tally, saved = Tally(), list[str]()
    failed = await reconcile_days(
        runtime, Days(ago(5), ago(1), "backfill"), tally, save=lambda t: saved.append(t.through)
    )
    assert [(one.kind, one.name) for one in failed] == [("recordings", str(ago(3)))]
    assert saved == [str(ago(5)), str(ago(4))]


async def test_a_key_that_may_not_list_transcriptions_still_has_every_recording_compared(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    recordings = [on(sandbox, days)[0] for days in (6, 5, 4, 3, 2)]
    sandbox.world.faults.change({"answers": {"/recording_transcriptions?": 403}})
    await reconcile(runtime, ReconcileRequest(since=ago(6).isoformat(), until=ago(1).isoformat()))
    assert queued(redis) == ids(recordings)
    (told,) = alerts(redis, "not-compared")
    assert "nor those of 2 more days" in told, "three in a row, then no more requests"


async def test_reconcile_fails_as_a_whole_when_telnyx_lists_nothing(runtime: Runtime, sandbox: RunningSandbox) -> None:
    sandbox.world.faults.change({"answers": {"/recordings?": 403}})
    with pytest.raises(Forbidden):
        await reconcile_days(runtime, Days(ago(9), ago(1), "reconcile"), Tally())
    paths = [r["path"] for r in sandbox.world.requests]
    assert paths.count("/v2/recordings") == 4, "three days, and the check whether it lists anything"


async def test_a_transcription_without_a_retrievable_recording_ends_no_reconcile(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    recordings = on(sandbox, 2, 2)
    made = [sandbox.world.add_transcription(one) for one in recordings]
    for one in made:
        sandbox.world.complete_transcription(one)
    sandbox.world.faults.change({"answers": {f"/recordings/{recordings[0].data['id']}": 403}})
    await reconcile_days(runtime, Days(ago(2), ago(0), "reconcile"), Tally())
    assert queued(redis) == ids(recordings) | {one["id"] for one in made}


@pytest.mark.parametrize("status", [403, 422])
async def test_days_after_any_number_of_unlisted_ones_are_compared(
    status: int, runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    recordings = [on(sandbox, days)[0] for days in range(9, 1, -1)]
    bad = range(8, 3, -1)
    lists = ("/recordings", "/recording_transcriptions")
    sandbox.world.faults.change(
        {"answers": {f"{path}?filter[created_at][gte]={ago(days)}": status for path in lists for days in bad}}
    )
    await reconcile(runtime, ReconcileRequest(since=ago(9).isoformat(), until=ago(1).isoformat()))
    assert queued(redis) == ids([recordings[0], *recordings[-2:]])
    told = alerts(redis, "not-compared")
    assert len(told) == 2 and all("nor those of 4 more days" in one for one in told)


async def test_when_telnyx_cannot_list_recordings_independent_work_still_happens(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    archived, lost = on(sandbox, 3, 2)
    await archive(runtime, archived)
    job = recording_job(request_of(archived))
    payload, at = msgspec.to_builtins(job.payload), format_instant(utc_now() - timedelta(hours=1))
    await runtime.attempts.bury(DeadLetter(job.id, job.function, payload, job.queue, "download", "x", at, []))
    replayed = sandbox.world.add_recording(seconds=0.1)
    fail_a_delivery(sandbox, replayed)
    sandbox.world.faults.change({"answers": {"/recordings?": 403}})
    with pytest.raises(Forbidden):
        await reconcile(runtime, ReconcileRequest(since=ago(9).isoformat(), until=ago(1).isoformat()))
    assert await runtime.attempts.letters() == []
    assert redis.zrange(MAIN_QUEUE, 0, -1) == [f"archive_recording:{replayed.data['id']}"]
    assert lost.data["id"] not in queued(redis)


async def test_a_day_that_cannot_be_compared_blocks_no_other_from_being_sealed_by_hand(
    sandbox: RunningSandbox, environment: dict[str, str], runtime: Runtime
) -> None:
    await archive(runtime, *on(sandbox, 6), *on(sandbox, 4))
    sandbox.world.faults.change({"answers": {f"/recordings?filter[created_at][gte]={ago(6)}": 403}})
    done = run_callvault(["seal", "--due", "--json"], environment)
    days = {row["day"]: row for row in json.loads(done.stdout)["days"]}
    assert (done.returncode, days[str(ago(4))]["sealed"], days[str(ago(6))]["sealed"]) == (1, True, False)
    assert "403" in days[str(ago(6))]["why"]
