"""One thing that cannot be read, listed or fetched keeps no other back, and is told."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pytest

from config.times import utc_now
from sandbox.world import Recording
from tests.parts import RunningSandbox
from workers.jobs.reconcile import ReconcileRequest, Tally, missing_of, reconcile, sweep
from workers.jobs.seals import Waits, seal
from workers.keys import ALERTS, BULK_QUEUE
from workers.runtime import Runtime
from workers.telnyx.errors import Forbidden, UnreadableRows


def ago(days: int) -> date:
    return utc_now().date() - timedelta(days=days)


def on(sandbox: RunningSandbox, days: int, count: int = 1) -> list[Recording]:
    """Recordings of an early hour of a day so long ago, one a minute."""
    start = utc_now().replace(hour=3, minute=0, second=0, microsecond=0) - timedelta(days=days)
    return [
        sandbox.world.add_recording(seconds=0.1, started_at=start + timedelta(minutes=minute))
        for minute in range(count)
    ]


def queued(redis: Any) -> set[str]:
    return {job.partition(":")[2] for job in redis.zrange(BULK_QUEUE, 0, -1)}


def alerts(redis: Any, kind: str) -> list[str]:
    rows = [json.loads(row) for row in redis.lrange(ALERTS, 0, -1)]
    return [row["text"] for row in rows if row["kind"] == kind]


def ids(recordings: list[Recording]) -> set[str]:
    return {one.data["id"] for one in recordings}


async def test_a_recording_that_cannot_be_read_is_fetched_by_its_id_told_once_and_ends_no_sweep(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    recordings = [*on(sandbox, 3, 3), *on(sandbox, 2, 3)]
    recordings[1].data["duration_millis"] = "a while"
    transcription = sandbox.world.add_transcription(recordings[0])
    transcription["duration_millis"] = "a while"
    for _ in range(2):
        tally = Tally()
        assert await sweep(runtime, ago(3), ago(1), tally, found_by="reconcile") == []
        assert (tally.missing, tally.unreadable) == (5, 2)
    assert queued(redis) == ids(recordings) | {transcription["id"]}
    told = alerts(redis, "unreadable-rows")
    assert len(told) == 2, "a list, once"
    assert f"GET /recordings: 1 of its rows cannot be read: {recordings[1].data['id']} (duration_millis: " in told[1]


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
    assert f"1 of its rows cannot be read: {odd.data['id']} (channels: " in outcome.why


@pytest.mark.parametrize("status", [403, 500])
async def test_a_day_that_telnyx_does_not_list_keeps_no_other_from_its_comparison(
    status: int, runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    recordings = [on(sandbox, days)[0] for days in (4, 3, 2)]
    sandbox.world.faults.change({"answers": {f"/recordings?filter[created_at][gte]={ago(3)}": status}})
    request = ReconcileRequest(since=ago(4).isoformat(), until=ago(1).isoformat())
    await reconcile(runtime, request)
    assert queued(redis) == ids([recordings[0], recordings[2]])
    (told,) = alerts(redis, "not-compared")
    assert told.startswith(f"Telnyx does not list its recordings ({ago(3)}): GET /v2/recordings: {status} ")


async def test_a_backfill_goes_on_from_the_first_day_that_was_not_compared(
    runtime: Runtime, sandbox: RunningSandbox
) -> None:
    sandbox.world.faults.change({"answers": {f"/recordings?filter[created_at][gte]={ago(3)}": 403}})
    tally, saved = Tally(), list[str]()
    failed = await sweep(runtime, ago(5), ago(1), tally, found_by="backfill", save=lambda t: saved.append(t.through))
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
    assert "likewise of 2 more days" in told, "three in a row, and then it is asked no more"


async def test_where_telnyx_lists_nothing_the_sweep_fails_as_a_whole(runtime: Runtime, sandbox: RunningSandbox) -> None:
    sandbox.world.faults.change({"answers": {"/recordings?": 403}})
    with pytest.raises(Forbidden):
        await sweep(runtime, ago(9), ago(1), Tally(), found_by="reconcile")
    assert sum(r["path"] == "/v2/recordings" for r in sandbox.world.requests) == 3


async def test_a_transcription_whose_recording_cannot_be_asked_for_ends_no_sweep(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    recordings = on(sandbox, 2, 2)
    made = [sandbox.world.add_transcription(one) for one in recordings]
    for one in made:
        sandbox.world.complete_transcription(one)
    sandbox.world.faults.change({"answers": {f"/recordings/{recordings[0].data['id']}": 403}})
    await sweep(runtime, ago(2), ago(0), Tally(), found_by="reconcile")
    assert queued(redis) == ids(recordings) | {one["id"] for one in made}
