"""One medium, log message or connection that fails blocks no other."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from archive.stores.store import StoreError
from lab.processes import callvault, run_callvault, wait_for
from lab.servers import RunningSandbox
from lab.worker import own_runtime, runtime_of
from sandbox import connections as family
from telnyx_api.errors import Forbidden, StatusError
from tests.workers.steps import alerts
from text.times import utc_now
from workers.connections.log_messages import mirror_log_messages
from workers.connections.media import archive_media, archive_medium
from workers.connections.watch import look_for_drift, watch_connections
from workers.keys import CONNECTION_STATE, DEAD_LETTERS, MAIN_QUEUE, MEDIA_SEEN
from workers.recordings.requests import MediumRequest
from workers.runtime import Runtime


def connections_of(sandbox: RunningSandbox, count: int) -> list[str]:
    made = []
    for number in range(count):
        connection = family.add_connection(sandbox.world, "zoom")
        family.add_address(sandbox.world, connection["id"])
        family.add_number(sandbox.world, connection["id"], f"+1312555010{number}")
        made.append(connection["id"])
    return made


def put_medium(sandbox: RunningSandbox, name: str) -> None:
    times = {"created_at": "2026-11-25T10:00:00.000Z", "updated_at": "2026-11-25T10:00:00.000Z"}
    data = {"media_name": name, "content_type": "audio/mpeg", "expires_at": "2999-01-01T00:00:00.000Z"}
    sandbox.world.media[name] = (data | times, f"the sound of {name}".encode())


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


async def test_media_that_telnyx_never_serves_becomes_a_dead_letter(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any, archive_folder: Path
) -> None:
    put_medium(sandbox, "..")
    put_medium(sandbox, "later.mp3")
    sandbox.world.faults.change({"answers": {"/media/later.mp3/download": 403}})
    async with own_runtime(environment) as runtime:
        await archive_media(runtime)
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: redis.hkeys(DEAD_LETTERS), 60, "the dead letter")
        sandbox.world.faults.change({"answers": {}})
        wait_for(
            lambda: list((archive_folder / "media").rglob("media.json")), 60, "the media that Telnyx serves in the end"
        )
    (letter,) = redis.hvals(DEAD_LETTERS)
    assert "media_name: '..' is not a valid path segment" in json.loads(letter)["error"]


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
