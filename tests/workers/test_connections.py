"""Connections: mirrored log messages, alerts of faults, archived media; on the sandbox, over HTTP."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from archive.stores.store import StoredObject
from config.settings import load_settings
from lab.processes import callvault, receiver, run_callvault, wait_for
from lab.servers import RunningSandbox
from sandbox import connections as family
from sandbox.tickets import RELEASE_STATUSES, UPLOAD_STATUSES
from telnyx_api.errors import ServerError
from tests.workers.steps import alerts
from text.times import utc_now
from workers.connections.log_messages import mirror_log_messages
from workers.connections.media import archive_media
from workers.connections.names import refresh_names
from workers.connections.watch import look_for_drift, refresh_operator_connect, watch_connections
from workers.keys import CONNECTION_NAMES, CONNECTION_STATE, LOG_NO_ID_ALERTED, connection_field
from workers.queue.accept import Acceptor
from workers.recordings.routing import Event, jobs_of, mirror_jobs
from workers.runtime import Runtime, open_runtime


def zoom(sandbox: RunningSandbox) -> dict[str, Any]:
    connection = family.add_connection(sandbox.world, "zoom")
    family.add_address(sandbox.world, connection["id"])
    family.add_number(sandbox.world, connection["id"], "+13125550100")
    return connection


def archived(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_bytes()) for p in sorted((folder / "log-messages").rglob("*.json"))]


async def test_a_check_of_connections_that_finds_nothing_new_writes_nothing(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    connection = zoom(sandbox)
    await watch_connections(runtime)
    for field, row in redis.hgetall(CONNECTION_STATE).items():
        redis.hset(CONNECTION_STATE, field, f" {row}")  # equal
    await watch_connections(runtime)
    assert all(row.startswith(" ") for row in redis.hvals(CONNECTION_STATE))
    redis.hset(CONNECTION_STATE, "of another version", "?")
    await watch_connections(runtime)
    assert not redis.hexists(CONNECTION_STATE, "of another version")
    sandbox.control("connection", id=connection["id"], active=False)
    await watch_connections(runtime)
    assert "inactive" in redis.hget(CONNECTION_STATE, connection_field(connection["id"]))


async def test_the_names_of_connections_are_those_of_telnyx_else_their_tags(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    tagged = [
        family.add_connection(sandbox.world, "zoom", tags=tags) for tags in (["a", "b"], ["a", "callvault:x"], [])
    ]
    first, second, _ = (one["id"] for one in tagged)
    line = {"1700000000000000000": "Support line"}
    await refresh_names(runtime)
    assert redis.hgetall(CONNECTION_NAMES) == line | {first: "a, b", second: "a, callvault:x"}
    sandbox.world.faults.change({"answers": {"GET /v2/connections?": 403}})
    await refresh_names(runtime)
    assert redis.hgetall(CONNECTION_NAMES) == {first: "a, b", second: "x"}, "the key may not list all types"


async def test_names_stay_while_a_row_cannot_be_read_and_go_with_their_connection(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    tagged = [family.add_connection(sandbox.world, "zoom", tags=[name]) for name in ("a", "b")]
    first, second = (one["id"] for one in tagged)
    sandbox.world.faults.change({"answers": {"GET /v2/connections?": 404}})
    await refresh_names(runtime)
    assert redis.hgetall(CONNECTION_NAMES) == {first: "a", second: "b"}
    tagged[0]["tags"], tagged[1]["tags"] = ["c"], {"not": "a list"}
    await refresh_names(runtime)
    assert redis.hgetall(CONNECTION_NAMES) == {first: "c", second: "b"}
    del sandbox.world.connections[second]
    await refresh_names(runtime)
    assert redis.hgetall(CONNECTION_NAMES) == {first: "c"}
    redis.delete(CONNECTION_NAMES)
    sandbox.world.faults.change({"answers": {"GET /v2/connections?": 500}})
    with pytest.raises(ServerError):
        await refresh_names(runtime)


@pytest.mark.parametrize("with_ids", [True, False])
async def test_a_first_start_with_many_messages_archives_all_with_few_alerts(
    with_ids: bool, runtime: Runtime, sandbox: RunningSandbox, redis: Any, archive_folder: Path
) -> None:
    connection = zoom(sandbox)
    sandbox.world.faults.change({"log_message_ids": with_ids})
    for code in ("10015", "20004"):
        sandbox.control("log_messages", connection_id=connection["id"], count=300, code=code)
    await mirror_log_messages(runtime)
    records = archived(archive_folder)
    assert len(records) == 600
    assert {r["identified_by"] for r in records} == {"id" if with_ids else "fingerprint"}
    assert len(alerts(redis, "log-message")) == 2
    assert "299 more" in alerts(redis, "log-message")[0]
    await mirror_log_messages(runtime)
    assert len(archived(archive_folder)) == 600
    assert len(alerts(redis, "log-message")) == 2


async def test_pages_that_shift_while_they_are_read_lose_no_message(
    runtime: Runtime, sandbox: RunningSandbox, archive_folder: Path
) -> None:
    connection = zoom(sandbox)
    sandbox.control("log_messages", connection_id=connection["id"], count=700)
    before = set(sandbox.world.log_messages)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            sandbox.world.log(connection["id"], "1", "meanwhile", sandbox.world.new_uuid())
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        await mirror_log_messages(runtime)
    finally:
        stop.set()
        writer.join()
    ids = [record["message"]["id"] for record in archived(archive_folder)]
    assert before <= set(ids)
    assert len(ids) == len(set(ids))


async def test_a_lost_redis_is_rebuilt_from_the_archives_keys(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any, archive_folder: Path
) -> None:
    sandbox.control("log_messages", connection_id=zoom(sandbox)["id"], count=3)
    await mirror_log_messages(runtime)
    redis.flushall()
    await mirror_log_messages(runtime)
    assert len(archived(archive_folder)) == 3
    assert alerts(redis, "log-message") == []


async def test_without_messages_the_archive_is_not_listed(
    runtime: Runtime, archive_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []

    def list_nothing(prefix: str) -> Iterator[StoredObject]:
        listed.append(prefix)
        return iter(())

    monkeypatch.setattr(runtime.archive.store, "list", list_nothing)
    await mirror_log_messages(runtime)
    assert listed == []


async def test_objects_gone_for_a_month_are_forgotten(runtime: Runtime, sandbox: RunningSandbox, redis: Any) -> None:
    old, young = '{"first_seen_at": "x", "last_seen_at": "2020", "is_present": false}', "2999"
    redis.hset("callvault:log-messages", mapping={"old": old, "young": old.replace("2020", young)})
    sandbox.control("log_messages", connection_id=zoom(sandbox)["id"], count=1)
    await mirror_log_messages(runtime)
    assert "old" not in redis.hkeys("callvault:log-messages")
    assert redis.hlen("callvault:log-messages") == 2


async def test_equal_messages_without_an_id_are_counted(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any, archive_folder: Path
) -> None:
    sandbox.world.faults.change({"log_message_ids": False})
    for _ in range(4):
        sandbox.world.log("7", "1", "the same", "each time")
    await mirror_log_messages(runtime)
    assert len(archived(archive_folder)) == 1
    (state,) = redis.hvals("callvault:log-messages")
    assert json.loads(state)["count"] == 4


async def test_dismissal_comes_only_after_the_archive_has_it(
    runtime: Runtime,
    sandbox: RunningSandbox,
    monkeypatch: pytest.MonkeyPatch,
    async_redis: Any,
    archive_folder: Path,
) -> None:
    monkeypatch.setenv("CALLVAULT_LOG_MESSAGES", "mirror-and-dismiss")
    dismissing = open_runtime(load_settings(), async_redis)
    sandbox.control("log_messages", connection_id=zoom(sandbox)["id"], count=5)
    blocked = archive_folder / "log-messages"
    blocked.write_text("a file where the folder must be")
    with pytest.raises(Exception, match="log-messages"):
        await mirror_log_messages(dismissing)
    assert len(sandbox.world.log_messages) == 5, "only archived messages are dismissed"
    blocked.unlink()
    await mirror_log_messages(dismissing)
    assert len(archived(archive_folder)) == 5
    assert sandbox.world.log_messages == {}
    await dismissing.close()


async def test_a_message_is_read_in_the_archive_before_it_is_dismissed(
    runtime: Runtime,
    sandbox: RunningSandbox,
    monkeypatch: pytest.MonkeyPatch,
    async_redis: Any,
    archive_folder: Path,
) -> None:
    sandbox.control("log_messages", connection_id=zoom(sandbox)["id"], count=2)
    await mirror_log_messages(runtime)
    gone, *_ = sorted((archive_folder / "log-messages").rglob("*.json"))
    gone.unlink()
    monkeypatch.setenv("CALLVAULT_LOG_MESSAGES", "mirror-and-dismiss")
    dismissing = open_runtime(load_settings(), async_redis)
    await mirror_log_messages(dismissing)
    assert len(sandbox.world.log_messages) == 1, "a message that is not archived stays"
    await mirror_log_messages(dismissing)
    assert sandbox.world.log_messages == {} and len(archived(archive_folder)) == 2
    await dismissing.close()


async def test_a_message_that_comes_back_is_a_new_occurrence(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any, archive_folder: Path
) -> None:
    message = sandbox.world.log(zoom(sandbox)["id"], "10015", "Invalid attribute", "again and again")
    await mirror_log_messages(runtime)
    for expected in (2, 3):
        sandbox.world.log_messages.clear()
        await mirror_log_messages(runtime)
        sandbox.world.log_messages[message["id"]] = message
        await mirror_log_messages(runtime)
        await mirror_log_messages(runtime)
        assert sorted(r["occurrence"] for r in archived(archive_folder))[-1] == expected
    names = sorted(p.name for p in (archive_folder / "log-messages").rglob("*.json"))
    assert names == [f"{message['id']}%2B2.json", f"{message['id']}%2B3.json", f"{message['id']}.json"]


async def test_messages_without_an_id_cannot_be_dismissed_and_are_logged_once(
    runtime: Runtime, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, async_redis: Any, redis: Any
) -> None:
    monkeypatch.setenv("CALLVAULT_LOG_MESSAGES", "mirror-and-dismiss")
    dismissing = open_runtime(load_settings(), async_redis)
    sandbox.world.faults.change({"log_message_ids": False})
    sandbox.control("log_messages", connection_id=zoom(sandbox)["id"], count=2)
    await mirror_log_messages(dismissing)
    assert len(sandbox.world.log_messages) == 2
    assert redis.get(LOG_NO_ID_ALERTED) == "1"
    await dismissing.close()


@pytest.mark.parametrize("status", UPLOAD_STATUSES)
async def test_every_upload_status_that_is_a_fault_causes_an_alert(
    status: str, runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    connection = zoom(sandbox)
    await watch_connections(runtime)
    sandbox.control("upload", connection_id=connection["id"], status=status)
    for _ in range(2):
        await watch_connections(runtime)
    told = alerts(redis, "upload-fault")
    assert len(told) == (1 if status in ("error", "partial_success") else 0)


@pytest.mark.parametrize("status", RELEASE_STATUSES)
async def test_every_release_status_that_is_a_fault_causes_an_alert(
    status: str, runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    sandbox.control("release", connection_id=zoom(sandbox)["id"], status=status)
    for _ in range(2):
        await watch_connections(runtime)
    assert len(alerts(redis, "release-fault")) == (1 if status in ("failed", "expired") else 0)


async def test_an_upload_that_hangs_causes_an_alert(
    runtime: Runtime, sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, async_redis: Any, redis: Any
) -> None:
    monkeypatch.setenv("CALLVAULT_UPLOAD_PENDING_LIMIT", "1ms")
    impatient = open_runtime(load_settings(), async_redis)
    sandbox.control("upload", connection_id=zoom(sandbox)["id"], status="pending")
    for _ in range(3):
        await watch_connections(impatient)
    (told,) = alerts(redis, "upload-fault")
    assert "stuck" in told
    assert "callvault telnyx uploads refresh" in told
    await impatient.close()


async def test_a_connections_fault_and_its_end_cause_one_alert_each(
    runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    connection = zoom(sandbox)
    for change in ({"credential_active": False}, {"credential_active": True}, {"active": False}):
        sandbox.control("connection", id=connection["id"], **change)
        for _ in range(2):
            await watch_connections(runtime)
    assert [text.split(" is ")[1].split(":")[0] for text in alerts(redis, "connection-fault")[::-1]] == [
        "without valid credentials",
        "inactive",
    ]
    assert len(alerts(redis, "connection-recovered")) == 1


async def test_missing_or_moved_numbers_cause_an_alert(runtime: Runtime, sandbox: RunningSandbox, redis: Any) -> None:
    connection = zoom(sandbox)
    family.add_number(sandbox.world, connection["id"], "+13125550101")
    await watch_connections(runtime)
    numbers = sandbox.world.numbers[connection["id"]]
    gone, moved = list(numbers)
    del numbers[gone]
    numbers[moved]["location_id"] = "elsewhere"
    for _ in range(2):
        await watch_connections(runtime)
    texts = " ".join(alerts(redis, "number-fault"))
    assert (gone in texts, "gone" in texts, "moved" in texts) == (True, True, True)
    assert len(alerts(redis, "number-fault")) == 2


async def test_media_are_archived_and_a_changed_file_is_a_new_version(
    runtime: Runtime, sandbox: RunningSandbox, archive_folder: Path
) -> None:
    sample = f"{sandbox.world.base_url}/_sandbox/sample.mp3"
    await runtime.telnyx.media.upload(media_url=sample, media_name="prompt.mp3")
    await archive_media(runtime)
    await archive_media(runtime)
    data, _ = sandbox.world.media["prompt.mp3"]
    changed = "98Z" if data["updated_at"].endswith("99Z") else "99Z"
    sandbox.world.media["prompt.mp3"] = (data | {"updated_at": data["updated_at"][:-3] + changed}, b"another prompt")
    await archive_media(runtime)
    folder = archive_folder / f"media/{utc_now():%Y/%m/%d}/prompt.mp3"
    contents = sorted(p.read_bytes() for p in folder.glob("*/content"))
    assert len(contents) == 2
    assert b"another prompt" in contents
    records = [json.loads(p.read_bytes()) for p in folder.glob("*/media.json")]
    assert {r["media"]["media_name"] for r in records} == {"prompt.mp3"}
    assert all(
        r["object"]["sha256"] == p.parent.name for r, p in zip(records, folder.glob("*/media.json"), strict=True)
    )


async def test_a_failed_upload_is_retried_once_for_its_reason(
    sandbox: RunningSandbox, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, async_redis: Any
) -> None:
    monkeypatch.setenv("CALLVAULT_UPLOAD_RETRY", "once")
    retrying = open_runtime(load_settings(), async_redis)
    connection = zoom(sandbox)
    first = sandbox.control("upload", connection_id=connection["id"], status="error")
    for _ in range(3):
        await watch_connections(retrying)
    assert len(sandbox.world.uploads) == 2
    (again,) = (ticket for ticket in sandbox.world.uploads if ticket != first["ticket_id"])
    sandbox.control("upload", ticket_id=again, status="error")
    for _ in range(3):
        await watch_connections(retrying)
    assert len(sandbox.world.uploads) == 2, "the same reason is not retried a second time"
    await retrying.close()


async def test_operator_connect_is_refreshed_when_it_is_time_and_its_results_are_mirrored(
    sandbox: RunningSandbox,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    async_redis: Any,
    archive_folder: Path,
) -> None:
    await refresh_operator_connect(runtime)
    assert sandbox.world.connections == {}
    monkeypatch.setenv("CALLVAULT_OPERATOR_CONNECT_REFRESH", "1h")
    refreshing = open_runtime(load_settings(), async_redis)
    for _ in range(2):
        await refresh_operator_connect(refreshing)
    assert len(sandbox.world.connections) == 1
    await mirror_log_messages(refreshing)
    assert archived(archive_folder)[0]["message"]["title"] == "Operator Connect refreshed"
    await refreshing.close()


async def test_drift_is_looked_for_by_the_clock_and_alerted(
    sandbox: RunningSandbox,
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    async_redis: Any,
    redis: Any,
    tmp_path: Path,
) -> None:
    connection = zoom(sandbox)
    path = tmp_path / "telnyx.toml"
    path.write_text(f'[external_connections.office]\nid = "{connection["id"]}"\nwebhook_timeout_secs = 20\n')
    monkeypatch.setenv("CALLVAULT_CONNECTIONS_FILE", str(path))
    looking = open_runtime(load_settings(), async_redis)
    for _ in range(2):
        await look_for_drift(looking)
    (told,) = alerts(redis, "drift")
    assert "webhook_timeout_secs" in told
    await looking.close()


async def test_an_event_leads_to_a_look_only_on_an_external_connection(
    async_redis: Any, runtime: Runtime, sandbox: RunningSandbox, redis: Any
) -> None:
    connection = zoom(sandbox)
    await watch_connections(runtime)
    acceptor = Acceptor(async_redis)
    for n, connection_id in enumerate((connection["id"], connection["id"], "4711")):
        event = Event(f"e{n}", "call.hangup", {"connection_id": connection_id})
        assert jobs_of(event) is None
        await acceptor.accept(event.id, mirror_jobs(event))
    assert redis.zrange("arq:queue", 0, -1) == [f"mirror_log_messages:{connection['id']}"]


async def test_a_recording_error_causes_an_alert_and_a_check_of_the_log(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    from sandbox.webhooks import Target

    connection = zoom(sandbox)
    reason = "Failed to authorize with storage using custom credentials"
    with (
        callvault(["worker"], environment, "worker ready"),
        receiver(environment) as (_, serve),
    ):
        wait_for(lambda: redis.hlen("callvault:connections"), 70, "the first check of connections")
        sandbox.world.log(connection["id"], "10015", "Invalid attribute", "the bucket's credentials")
        target = Target(serve.webhooks)
        sandbox.control(
            "event",
            webhook_url=target.url,
            event_type="call.recording.error",
            payload={"connection_id": connection["id"], "reason": reason},
        )
        wait_for(lambda: alerts(redis, "call.recording.error"), what="the alert")
        wait_for(lambda: archived(archive_folder), 15, "the log message, seconds after the event")
        listed = run_callvault(["logs", "list", "--json"], environment)
        (row,) = json.loads(listed.stdout)["log_messages"]
        next((archive_folder / "log-messages").rglob("*.json")).with_name("odd.json").write_text("{")
        listed = run_callvault(["logs", "list", "--code", "10015"], environment)
        assert "1 log message\n" in listed.stdout and "odd.json" in listed.stderr, (
            "an unreadable message hides no other"
        )
        assert run_callvault(["logs", "dismiss", row["message"]["id"]], environment).returncode == 0
        assert run_callvault(["logs", "dismiss", row["message"]["id"]], environment).returncode == 1
    assert reason in alerts(redis, "call.recording.error")[0]
