"""One object that cannot be read, listed or fetched delays no other, and causes an alert."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import nullcontext
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest

from archive.stores.store import StoreError
from lab.processes import callvault, run_callvault, wait_for
from lab.servers import RunningSandbox
from sandbox import connections as family
from sandbox.world import Recording, text_of
from telnyx_api.errors import Forbidden, StatusError, UnreadableRow, UnreadableRows
from tests.workers.house import archive, delete_what_is_due, has_left, house, request_of, runtime_of
from tests.workers.test_archive_recording import folder_of
from text.times import format_instant, utc_now
from workers.connections.log_messages import mirror_log_messages
from workers.connections.media import archive_media, archive_medium
from workers.connections.watch import look_for_drift, watch_connections
from workers.engine.attempts import DeadLetter
from workers.engine.failing import alert_turn_failing
from workers.engine.failure_classes import FAILURE_CLASSES
from workers.keys import (
    ALERTS,
    ARQ_JOB,
    BULK_QUEUE,
    CONNECTION_STATE,
    DEAD_LETTERS,
    FAILING_SINCE,
    MAIN_QUEUE,
    MEDIA_SEEN,
    UNREADABLE_ALERTED,
)
from workers.queue.accept import Acceptor
from workers.queue.jobs import deserialize
from workers.reconcile.comparison import Tally
from workers.reconcile.reconcile import Sweep, missing_of, reconcile, sweep
from workers.reconcile.unreadable import alert_unreadable
from workers.recordings.requests import (
    MediumRequest,
    ReconcileRequest,
    TranscriptionRequest,
    recording_job,
    transcription_job,
)
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


def alerts(redis: Any, kind: str) -> list[str]:
    rows = [json.loads(row) for row in redis.lrange(ALERTS, 0, -1)]
    return [row["text"] for row in rows if row["kind"] == kind]


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
        assert await sweep(runtime, Sweep(ago(3), ago(1), "reconcile"), tally) == []
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
    await sweep(runtime, Sweep(ago(2), ago(1), "reconcile"), Tally())
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
    failed = await sweep(runtime, Sweep(ago(5), ago(1), "backfill"), tally, save=lambda t: saved.append(t.through))
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
        await sweep(runtime, Sweep(ago(9), ago(1), "reconcile"), Tally())
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
    await sweep(runtime, Sweep(ago(2), ago(0), "reconcile"), Tally())
    assert queued(redis) == ids(recordings) | {one["id"] for one in made}


async def test_media_that_cannot_be_fetched_blocks_no_other_media(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any, archive_folder: Path
) -> None:
    bad, good = ("a.mp3", "..", "b/../c d.mp3"), ("über 100 %.mp3", "g.mp3", "h.mp3")
    for name in ("a.mp3", "g.mp3", "..", "über 100 %.mp3", "b/../c d.mp3", "h.mp3"):
        put_medium(sandbox, name)
    sandbox.world.faults.change({"answers": {"/media/a.mp3/download": 403}})
    await archive_media(runtime)
    kept = sorted(unquote(path.parents[1].name) for path in (archive_folder / "media").rglob("media.json"))
    assert kept == sorted(good)
    jobs = {unquote(job.split(":")[1]) for job in redis.zrange(MAIN_QUEUE, 0, -1)}
    assert jobs == set(bad), "each one that Telnyx still lists is retried alone"
    requests = len(sandbox.world.requests)
    await archive_media(runtime)
    asked = [r["path"] for r in sandbox.world.requests[requests:]]
    assert "/v2/media/a.mp3/download" not in asked, "its job asks, not each turn"
    await archive_medium(runtime, MediumRequest(medium={"media_name": "e.mp3"}))
    assert alerts(redis, "media-lost") == ["Telnyx no longer has medium e.mp3; it was not archived in time."]


async def test_media_of_all_pages_are_archived(runtime: Runtime, sandbox: RunningSandbox, archive_folder: Path) -> None:
    names = [f"{n:02}.mp3" for n in range(45)]  # more than two pages of the default size
    for name in names:
        put_medium(sandbox, name)
    await archive_media(runtime)
    kept = sorted(path.parents[1].name for path in (archive_folder / "media").rglob("media.json"))
    assert kept == names


async def test_media_that_telnyx_no_longer_lists_is_forgotten(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    for name in ("a.mp3", "b.mp3", "odd.mp3"):
        put_medium(sandbox, name)
    await archive_media(runtime)
    for name in ("a.mp3", "odd.mp3"):
        del sandbox.world.media[name]
    put_medium(sandbox, "odd.mp3")
    sandbox.world.media["odd.mp3"][0]["content_type"] = ["audio/mpeg"]
    await archive_media(runtime)
    assert {*redis.hkeys(MEDIA_SEEN)} == {"a.mp3", "b.mp3", "odd.mp3"}, "an unreadable row may be any of them"
    del sandbox.world.media["odd.mp3"]
    await archive_media(runtime)
    assert redis.hkeys(MEDIA_SEEN) == ["b.mp3"]


def put_medium(sandbox: RunningSandbox, name: str) -> None:
    times = {"created_at": "2026-11-25T10:00:00.000Z", "updated_at": "2026-11-25T10:00:00.000Z"}
    data = {"media_name": name, "content_type": "audio/mpeg", "expires_at": "2999-01-01T00:00:00.000Z"}
    sandbox.world.media[name] = (data | times, f"the sound of {name}".encode())


async def test_media_that_telnyx_never_serves_becomes_a_dead_letter(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    put_medium(sandbox, "..")
    put_medium(sandbox, "later.mp3")
    sandbox.world.faults.change({"answers": {"/media/later.mp3/download": 403}})
    async with house(environment) as runtime:
        await archive_media(runtime)
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: redis.hkeys(DEAD_LETTERS), 60, "the dead letter")
        sandbox.world.faults.change({"answers": {}})
        wait_for(
            lambda: list((archive_folder / "media").rglob("media.json")), 60, "the media that Telnyx serves in the end"
        )
    (letter,) = redis.hvals(DEAD_LETTERS)
    assert "media_name: '..' is not a valid path segment" in json.loads(letter)["error"]


def connections_of(sandbox: RunningSandbox, count: int) -> list[str]:
    made = []
    for number in range(count):
        connection = family.add_connection(sandbox.world, "zoom")
        family.add_address(sandbox.world, connection["id"])
        family.add_number(sandbox.world, connection["id"], f"+1312555010{number}")
        made.append(connection["id"])
    return made


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


async def test_messages_after_any_number_of_failing_ones_are_archived(
    environment: dict[str, str],
    async_redis: Any,
    sandbox: RunningSandbox,
    archive_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (connection_id,) = connections_of(sandbox, 1)
    sandbox.control("log_messages", connection_id=connection_id, count=9)
    last, *bad = sandbox.world.log_messages  # Telnyx lists the newest first
    async with runtime_of(environment, async_redis, CALLVAULT_LOG_MESSAGES="mirror") as runtime:
        put = runtime.archive.store.put

        def not_these(key: str, *rest: Any) -> Any:
            if any(one in key for one in bad):
                raise StoreError(f"{key}: this very key is refused")
            return put(key, *rest)

        monkeypatch.setattr(runtime.archive.store, "put", not_these)
        with pytest.raises(StoreError, match=bad[-1]):
            await mirror_log_messages(runtime)
    assert {p.stem for p in (archive_folder / "log-messages").rglob("*.json")} == {last}


async def test_without_the_archive_at_most_three_messages_are_tried(
    environment: dict[str, str],
    async_redis: Any,
    sandbox: RunningSandbox,
    archive_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (connection_id,) = connections_of(sandbox, 1)
    sandbox.control("log_messages", connection_id=connection_id, count=9)
    tried = list[str]()
    async with runtime_of(environment, async_redis, CALLVAULT_LOG_MESSAGES="mirror") as runtime:
        put = runtime.archive.store.put

        def away(key: str, *rest: Any) -> Any:
            if not tried:
                archive_folder.rename(archive_folder.with_name("unmounted"))
            tried.append(key)
            return put(key, *rest)

        monkeypatch.setattr(runtime.archive.store, "put", away)
        with pytest.raises(StoreError):
            await mirror_log_messages(runtime)
    assert len(tried) == 3


@pytest.mark.parametrize("answer", [403, 500, None], ids=["403", "500", "unreadable"])
async def test_a_connection_that_cannot_be_checked_blocks_no_other_and_loses_no_number(
    answer: int | None, runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    made = connections_of(sandbox, 3)
    await watch_connections(runtime)
    before = redis.hgetall(CONNECTION_STATE)
    (number,) = sandbox.world.numbers[made[1]].values()
    if answer is None:
        number["acquired_capabilities"] = "all of them"
    else:
        sandbox.world.faults.change({"answers": {f"/external_connections/{made[1]}/": answer}})
    for connection_id in (made[0], made[2]):
        sandbox.control("connection", id=connection_id, active=False)
    with nullcontext() if answer is None else pytest.raises(StatusError):
        await watch_connections(runtime)
    assert len(alerts(redis, "connection-fault")) == 2
    assert alerts(redis, "number-fault") == []
    assert redis.hgetall(CONNECTION_STATE).keys() == before.keys()
    assert (len(alerts(redis, "unreadable-rows")) == 1) == (answer is None)


async def test_a_message_that_cannot_be_archived_or_dismissed_blocks_no_other(
    environment: dict[str, str], async_redis: Any, sandbox: RunningSandbox, redis: Any, archive_folder: Path
) -> None:
    (connection_id,) = connections_of(sandbox, 1)
    sandbox.control("log_messages", connection_id=connection_id, count=6)
    odd, blocked, refused, *rest = sandbox.world.log_messages
    sandbox.world.log_messages[odd]["title"] = ["not", "a", "text"]
    (archive_folder / "log-messages" / f"{utc_now():%Y/%m/%d}" / f"{blocked}.json").mkdir(parents=True)
    sandbox.world.faults.change({"answers": {f"DELETE /v2/external_connections/log_messages/{refused}": 403}})
    async with runtime_of(environment, async_redis, CALLVAULT_LOG_MESSAGES="mirror-and-dismiss") as runtime:
        for _ in range(2):
            with pytest.raises(Forbidden):
                await mirror_log_messages(runtime)
    kept = {path.stem for path in (archive_folder / "log-messages").rglob("*.json") if path.is_file()}
    assert kept == {refused, *rest}
    assert set(sandbox.world.log_messages) == {odd, blocked, refused}
    assert len(alerts(redis, "unreadable-rows")) == 1


async def test_connections_after_any_number_of_failing_ones_are_checked(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    made = connections_of(sandbox, 6)
    listed = [one.id async for one in runtime.telnyx.external_connections.list()]
    assert set(listed) == set(made)
    bad, last = listed[:-1], listed[-1]
    sandbox.world.faults.change({"answers": {f"/external_connections/{one}/": 403 for one in bad}})
    with pytest.raises(StatusError):
        await watch_connections(runtime)
    assert {key.split(":")[1] for key in redis.hkeys(CONNECTION_STATE) if key.startswith("number:")} == {last}


async def test_drift_of_one_object_is_reported_although_another_is_unreadable(
    environment: dict[str, str], async_redis: Any, sandbox: RunningSandbox, redis: Any, tmp_path: Path
) -> None:
    made = connections_of(sandbox, 2)
    path = tmp_path / "telnyx.toml"
    path.write_text(
        "".join(f'[external_connections.c{n}]\nid = "{one}"\nwebhook_timeout_secs = 20\n' for n, one in enumerate(made))
    )
    sandbox.world.faults.change({"answers": {f"/external_connections/{made[0]}": 403}})
    async with runtime_of(environment, async_redis, CALLVAULT_CONNECTIONS_FILE=str(path)) as runtime:
        await look_for_drift(runtime)
    first, second = sorted(alerts(redis, "drift"))
    assert first.startswith("external_connections.c0 cannot be compared with telnyx.toml: GET ")
    assert first.partition(": ")[2].count("403") == 1
    assert second == "external_connections.c1 differs from telnyx.toml: webhook_timeout_secs."
    shown = run_callvault(["connections", "drift", str(path)], environment)
    assert (shown.returncode, shown.stderr.count("cannot be compared: ")) == (1, 1)


@pytest.mark.parametrize(("status", "cause"), [(403, "refused"), (422, "rejected")])
async def test_originals_with_forbidden_transcriptions_cause_an_alert_and_go_once_allowed(
    status: int, cause: str, deleting: dict[str, str], async_redis: Any, sandbox: RunningSandbox, redis: Any
) -> None:
    (recording,) = on(sandbox, 1)
    async with runtime_of(deleting, async_redis, CALLVAULT_QUEUE_AGE_LIMIT="1s") as runtime:
        await archive(runtime, recording)
        sandbox.world.faults.change({"answers": {"/recording_transcriptions?": status}})

        async def is_told() -> bool:
            await delete_what_is_due(runtime)
            return bool(alerts(redis, "jobs-fail"))

        deadline = time.monotonic() + 30
        while not await is_told():
            assert time.monotonic() < deadline, "no alert came"
            await asyncio.sleep(0.1)
        (told,) = alerts(redis, "jobs-fail")
        assert told.startswith("delete_originals has failed for ")
        assert f"{recording.data['id']}: GET /v2/recording_transcriptions: {status}" in told
        assert f": {status} " in (await runtime.attempts.failing(FAILURE_CLASSES))[cause]
        shown = run_callvault(["status"], deleting).stdout
        assert f"jobs fail     {cause}: {recording.data['id']}: GET " in shown
        assert not has_left(recording)
        sandbox.world.faults.change({"answers": {}})
        await delete_what_is_due(runtime)
    assert has_left(recording)


async def test_a_failing_clock_task_causes_one_alert_a_day(
    environment: dict[str, str], async_redis: Any, redis: Any
) -> None:
    async with runtime_of(environment, async_redis, CALLVAULT_QUEUE_AGE_LIMIT="1s") as runtime:
        deadline = time.monotonic() + 30
        while not alerts(redis, "turn-fails"):
            assert time.monotonic() < deadline, "no alert came"
            await alert_turn_failing(runtime, "archive_media", OSError("away"), 3600)
            await asyncio.sleep(0.1)
        assert redis.ttl(FAILING_SINCE + "archive_media") > 3700, (
            "one that is given up after an hour causes an alert too"
        )
        await alert_turn_failing(runtime, "archive_media", OSError("away"), 3600)
        redis.delete(FAILING_SINCE + "archive_media")
        await alert_turn_failing(runtime, "archive_media", OSError("away, and new"), 3600)
    (told,) = alerts(redis, "turn-fails")
    assert told.startswith("archive_media has failed for 1")


async def test_an_original_that_may_not_be_deleted_blocks_no_other_of_its_batch(
    deleting: dict[str, str], async_redis: Any, sandbox: RunningSandbox, redis: Any
) -> None:
    recordings = on(sandbox, 1, 5)
    kept = recordings[2].data["id"]

    async with runtime_of(deleting, async_redis) as runtime:
        await archive(runtime, *recordings)
        sandbox.world.undeletable.add(kept)
        await delete_what_is_due(runtime)
        await delete_what_is_due(runtime)
    assert [has_left(one) for one in recordings] == [True, True, False, True, True]
    (told,) = alerts(redis, "deletion-refused")
    assert f"{kept} in 2 attempts: DELETE /v2/recordings/{kept}: 403" in told


async def test_a_day_that_cannot_be_compared_blocks_no_other_from_being_sealed_by_hand(
    sandbox: RunningSandbox, environment: dict[str, str], runtime: Runtime
) -> None:
    await archive(runtime, *on(sandbox, 6), *on(sandbox, 4))
    sandbox.world.faults.change({"answers": {f"/recordings?filter[created_at][gte]={ago(6)}": 403}})
    done = run_callvault(["seal", "--due", "--json"], environment)
    days = {row["day"]: row for row in json.loads(done.stdout)["days"]}
    assert (done.returncode, days[str(ago(4))]["sealed"], days[str(ago(6))]["sealed"]) == (1, True, False)
    assert "403" in days[str(ago(6))]["why"]
