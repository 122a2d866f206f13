"""Who has seen a condition: shown wherever the condition is, until it is over."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from lab.processes import callvault_here, receiver, wait_for
from workers.deletion.schedule import DeletionSchedule
from workers.engine.attempts import Attempts, DeadLetter
from workers.keys import ACKNOWLEDGED, MAIN_QUEUE


async def test_who_has_seen_a_condition_is_shown_everywhere_and_forgotten_with_it(
    environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    await DeletionSchedule(async_redis).show_pause("the bucket moves", "Eve", "2026-01-02T03:04:05Z")
    with receiver(environment | {"CALLVAULT_OPS_TOKEN": "a-token-for-tests-only"}) as (client, _):
        client.post("/ops/sign-in", data={"name": "Ada", "token": "a-token-for-tests-only"})
        page = client.get("/ops").text
        csrf = page.partition('X-CSRF-Token": "')[2].partition('"')[0]
        assert "I have seen this" in page and "2026-01-02 03:04:05" in page, "since when"
        assert client.post("/ops/acknowledge", data={"csrf": csrf, "id": "paused"}).status_code == 303
        page = client.get("/ops").text
        assert "seen by Ada at" in page and "I have seen this" not in page
        (found,) = client.get("/api/overview").json()["conditions"]
        assert (found["seen_by"], found["since"]) == ("Ada", "2026-01-02T03:04:05Z") and found["seen_at"]
        assert "seen by Ada at 20" in client.get("/readyz").json()["conditions"][0]["seen"]
        assert "seen by Ada at 20" in callvault_here(["status"], environment)[1]
        assert "seen by Ada at 20" in callvault_here(["doctor", "--json"], environment)[1]
        await DeletionSchedule(async_redis).show_pause(None)
        wait_for(lambda: client.get("/api/overview").json()["conditions"] == [], 5)
        assert not redis.exists(ACKNOWLEDGED), "the next pause is a new one"
        refused = client.post("/ops/acknowledge", data={"csrf": csrf, "id": "paused"})
        assert refused.status_code == 400 and "no longer wrong" in refused.text


async def test_a_note_ends_after_a_day_and_when_more_of_it_comes(
    environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    letters = Attempts(async_redis)

    def note(age_seconds: float) -> None:
        row = {"by": "Ada", "at": time.time() - age_seconds, "what": "1"}
        redis.hset(ACKNOWLEDGED, "dead-letters", json.dumps(row))

    def seen() -> Any:
        conditions = json.loads(callvault_here(["status", "--json"], environment)[1])["conditions"]
        return next(one["seen_by"] for one in conditions if one["kind"] == "dead-letters")

    await letters.bury(DeadLetter("j", "archive_recording", {}, MAIN_QUEUE, "rejected", "no", "x", []))
    note(23 * 3600)
    assert seen() == "Ada"
    note(25 * 3600)
    assert seen() is None
    note(0)
    await letters.bury(DeadLetter("k", "archive_recording", {}, MAIN_QUEUE, "rejected", "no", "x", []))
    assert seen() is None


async def test_a_note_about_an_archive_that_is_away_survives_what_asks_redis_alone(
    environment: dict[str, str], async_redis: Any, redis: Any, archive_folder: Path
) -> None:
    redis.hset(ACKNOWLEDGED, "archive-away", json.dumps({"by": "Ada", "at": time.time(), "what": ""}))
    away = archive_folder.rename(archive_folder.with_name("away"))
    with receiver(environment) as (client, _):
        assert client.get("/readyz").status_code == 200
        (found,) = json.loads(callvault_here(["status", "--json"], environment)[1])["conditions"]
        assert (found["kind"], found["seen_by"]) == ("archive-away", "Ada")
        away.rename(archive_folder)
        assert json.loads(callvault_here(["status", "--json"], environment)[1])["conditions"] == []
        assert not redis.exists(ACKNOWLEDGED)
