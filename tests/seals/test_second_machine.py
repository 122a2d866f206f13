"""A machine without a change feed, on an archive that others write into, finds everything."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from archive.archive import Archive
from archive.decision_records import Duties
from archive.erase import erase
from archive.records import DeletionReceipt, encode_record
from archive.source import Source
from cli.catalogue import up_to_date
from lab.processes import callvault_here, run_callvault
from lab.servers import RunningSandbox
from lab.worker import settings_of
from tests.seals.test_feed import TODAY, archive, catalogue, found, put
from tests.workers.steps import pages
from workers.catalogue import lookup
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.feed import bring_up_to_date
from workers.keys import LIVE_DUTIES
from workers.queue.change_feed import announce

__all__ = ["archive", "catalogue"]


@pytest.fixture
def second(archive: Archive, tmp_path: Path) -> dict[str, str]:
    """The environment of a machine without a Redis, on the same archive."""
    return {
        "CALLVAULT_ARCHIVE_URL": archive.store.url,
        "CALLVAULT_DATA": str(tmp_path / "second"),
        "TELNYX_BASE_URL": "http://127.0.0.1:1/v2",
    }


def find(environment: dict[str, str], *arguments: str) -> set[str]:
    code, out = callvault_here(["find", "--json", *arguments], environment)
    assert code == 0
    return {json.loads(line)["recording_id"] for line in out.splitlines()}


def state_duties(archive: Archive, unit: str, number: int = 1, *, retired: bool = False) -> None:
    said = Duties(
        unit=unit,
        number=number,
        delete_originals="never",
        delete_after_seconds=0,
        hold_connections=[],
        transcriptions="wait 1h",
        sealed_first=True,
        by="x",
        at="x",
        retired=retired,
    )
    archive.store.put(layout.duties_key(unit, number), Source(encode_record(said)), "application/json", {})


def test_without_a_redis_a_search_finds_what_was_archived_since_and_makes_no_redis(
    archive: Archive, second: dict[str, str], tmp_path: Path
) -> None:
    put(archive, "first", TODAY)
    assert find(second) == {"first"}
    put(archive, "since", TODAY)
    put(archive, "weeks-old", TODAY - timedelta(days=20))
    assert find(second) == {"first", "since", "weeks-old"}
    assert not (tmp_path / "second" / "valkey").exists()
    done = run_callvault(["find"], second)
    assert (
        "Read the last 31 days and all sealed days from the archive, because this machine has no Redis (REDIS_URL is not set)"
        in done.stderr
    )


@pytest.mark.parametrize("days", [0, 40, 399])
def test_a_recording_is_found_by_its_id_wherever_it_lies(
    days: int, archive: Archive, second: dict[str, str], tmp_path: Path
) -> None:
    assert find(second) == set()
    put(archive, "wanted", TODAY - timedelta(days=days))
    assert find(second, "--id", "wanted") == {"wanted"}
    fresh = second | {"CALLVAULT_DATA": str(tmp_path / "third")}
    out = tmp_path / "out.wav"
    done = run_callvault(["get", "wanted", "--out", str(out)], fresh)
    assert (done.returncode, out.read_bytes()) == (0, b"RIFF"), done.stderr


def test_a_recording_older_than_all_days_is_found_by_its_day_at_telnyx(
    archive: Archive, second: dict[str, str], sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "_MOST_DAYS", 10)
    at_telnyx = sandbox.world.add_recording(seconds=0.1)
    long_ago = TODAY - timedelta(days=900)
    at_telnyx.data["recording_started_at"] = f"{long_ago}T10:00:00.000000Z"
    environment = second | sandbox.environment
    assert find(environment) == set()
    put(archive, at_telnyx.data["id"], long_ago)
    assert find(environment, "--id", at_telnyx.data["id"]) == {at_telnyx.data["id"]}


def test_a_failed_lookup_shows_how_far_it_searched(archive: Archive, second: dict[str, str]) -> None:
    done = run_callvault(["get", "nobody"], second)
    since = TODAY - timedelta(days=400)
    assert done.returncode == 1 and f"(searched every day since {since})" in done.stderr


def test_the_page_of_a_recording_shows_the_age_of_the_catalogue(
    archive: Archive, tmp_path: Path, redis_url: str
) -> None:
    folder = tmp_path / "second"
    settings = {"CALLVAULT_ARCHIVE_URL": archive.store.url}
    put(archive, "first", TODAY)
    with pages(settings, folder, redis_url) as (client, _):
        assert [hit["row"]["recording_id"] for hit in client.get("/api/recordings").json()["hits"]] == ["first"]
        put(archive, "old", TODAY - timedelta(days=200))
        assert client.get("/api/recordings/old").status_code == 200
        assert client.get("/ops/recordings/old").status_code == 200
        assert client.get("/ops/recordings/old/audio.wav").content == b"RIFF"
        put(archive, "older", TODAY - timedelta(days=201))
        assert client.get("/api/recordings?id=older").json()["hits"][0]["row"]["recording_id"] == "older"
        assert client.get("/api/recordings/nobody").status_code == 404
        note = client.get("/api/recordings").json()["note"]
    assert "because no worker uses the Redis of this machine" in note and "Last update: 2" in note


def test_without_the_archive_a_search_shows_the_age_of_its_answer(
    archive: Archive, catalogue: Catalogue, second: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(archive, "first", TODAY)
    settings = settings_of(second)
    up_to_date(settings, catalogue, archive)
    (tmp_path / "archive").rename(tmp_path / "away")
    up_to_date(settings, catalogue, archive)
    assert f"results are as of {TODAY} " in capsys.readouterr().err
    assert set(found(catalogue)) == {"first"}


async def test_with_workers_of_two_redis_servers_the_archive_is_read_too(
    archive: Archive, catalogue: Catalogue, async_redis: Any
) -> None:
    state_duties(archive, "one")
    await async_redis.hset(LIVE_DUTIES, "worker", json.dumps([time.time(), {}]))
    key, data = put(archive, "told", TODAY)
    await announce(async_redis, key, data, TODAY, 0)
    assert await bring_up_to_date(catalogue, archive, async_redis) is None
    put(archive, "untold", TODAY)
    assert await bring_up_to_date(catalogue, archive, async_redis) is None
    assert set(found(catalogue)) == {"told"}, "one Redis has everything, and the archive is not read"
    state_duties(archive, "two")
    said = await bring_up_to_date(catalogue, archive, async_redis)
    assert said == "workers of 2 Redis servers write into this archive"
    assert set(found(catalogue)) == {"told", "untold"}
    state_duties(archive, "two", 2, retired=True)
    assert await bring_up_to_date(catalogue, archive, async_redis) is None


async def test_a_redis_that_came_back_older_hides_nothing(
    archive: Archive, catalogue: Catalogue, async_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workers.catalogue import feed

    await async_redis.hset(LIVE_DUTIES, "worker", json.dumps([time.time(), {}]))
    await bring_up_to_date(catalogue, archive, async_redis)
    put(archive, "lost-with-the-end-of-the-stream", TODAY)
    assert found(catalogue) == {}

    async def another_start(_: Any) -> str:
        return "another"

    monkeypatch.setattr(feed, "start_of", another_start)
    assert await bring_up_to_date(catalogue, archive, async_redis) is None
    assert set(found(catalogue)) == {"lost-with-the-end-of-the-stream"}


def test_a_stale_catalogue_reports_no_erased_recording_as_damaged(
    archive: Archive, second: dict[str, str], tmp_path: Path, redis_url: str
) -> None:
    long_ago = TODAY - timedelta(days=100)
    for name in ("erased", "deleted"):
        put(archive, name, long_ago)
    assert find(second) == {"erased", "deleted"}
    erase(archive, layout.recording_folder(long_ago, "erased"), "request", "dpo")
    at = dict.fromkeys(("seen_at", "asked_at", "confirmed_gone_at"), f"{TODAY}T00:00:00Z")
    receipt = DeletionReceipt(recording_id="deleted", objects=[], transcription_ids=[], **at)
    archive.put_receipt(layout.recording_folder(long_ago, "deleted"), receipt)
    for arguments in (["get", "erased"], ["get", "erased", "--transcript"]):
        done = run_callvault(arguments, second)
        assert (done.returncode, "; its record is recordings/" in done.stderr) == (1, True), done.stderr
    settings = {name: second[name] for name in ("CALLVAULT_ARCHIVE_URL", "CALLVAULT_DATA")}
    with pages(settings, tmp_path / "second", redis_url) as (client, _):
        for name in ("erased", "deleted"):
            told = client.get(f"/api/recordings/{name}").json()
            assert (told["state"], told["kept"], told["deletion_due_at"]) == (name, None, None)
