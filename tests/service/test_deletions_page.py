"""What the page of deletions says of an original: when it is due, for what it waits, and what keeps it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from lab.processes import receiver
from tests.seals.small import SmallArchive
from tests.service.test_access_log import ARCHIVE_ID, TOKEN, environment, in_redis
from text.times import format_instant, utc_now
from workers.keys import DELETIONS_DUE

_GRACE_SECONDS = 24 * 3600


@pytest.mark.parametrize("sealed_first", [True, False])
def test_an_original_that_waits_for_its_seal_is_not_shown_as_due_by_its_time_alone(
    redis_url: str, redis: Any, tmp_path: Path, *, sealed_first: bool
) -> None:
    small = SmallArchive(tmp_path / "archive", {"id": ARCHIVE_ID})
    sealed, unsealed, held = (
        small.recording(days, f"{days}-held" if days == 2 else f"{days}-one") for days in (5, 3, 2)
    )
    redis.zadd(DELETIONS_DUE, dict.fromkeys((sealed, unsealed, held), time.time() + _GRACE_SECONDS))
    settings = environment(redis_url, small, CALLVAULT_DELETE_ORIGINALS="verified")
    settings |= {} if sealed_first else {"CALLVAULT_DELETE_AFTER": "1h"}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with receiver(settings) as (client, _):
        found = client.get("/api/deletions", headers=headers).raise_for_status().json()
        assert {row["recording_id"]: (row["state"], row["needs_seal"]) for row in found["originals"]} == {
            "5-one": ("due", False),
            "3-one": ("due", sealed_first),
            "2-held": ("due", sealed_first),
        }
        assert (found["due"], found["sealed_first"]) == (3, sealed_first)
        page = client.get("/ops/deletions", headers=headers).text
        assert "3 originals are on the deletion schedule</span>" in page
        when = {id_: "if its day is sealed by then" in row for id_, row in _rows(page).items()}
        assert when == {"5-one": False, "3-one": sealed_first, "2-held": sealed_first}
        assert ("its day is sealed and the archived copy" in page) is sealed_first
        assert ("It waits for no seal" in page) is not sealed_first
        for id_, waits in (("5-one", False), ("3-one", sealed_first)):
            detail = client.get(f"/api/recordings/{id_}", headers=headers).raise_for_status().json()
            said = [step["detail"] for step in detail["history"] if step["what"] == "original due for deletion"]
            assert said == ["if its day is sealed by then" if waits else ""]
        _hold_elsewhere(small, "2-held")
        page = client.get("/ops/deletions", headers=headers).text
        assert "3 originals are on the deletion schedule; something keeps 1 of them</span>" in page
        assert "case 17" in _rows(page)["2-held"] and "case 17" not in _rows(page)["3-one"]
        page = client.get("/ops/deletions?connection=none-such", headers=headers).text
        assert "3 originals are on the deletion schedule</span>" in page


def test_pages_of_the_api_have_every_original_also_if_some_go_meanwhile(
    redis_url: str, redis: Any, tmp_path: Path
) -> None:
    small = SmallArchive(tmp_path / "archive", {"id": ARCHIVE_ID})
    held = {f"4-held-{n:03}" for n in range(103)}
    for recording_id in held:
        _hold_elsewhere(small, recording_id, layout.decision_copy_key(small.recording(4, recording_id), "ab" * 16))
    at = time.time() + _GRACE_SECONDS
    folders = [layout.recording_folder(utc_now(), f"due-{n:03}|é") for n in range(230)]
    redis.zadd(DELETIONS_DUE, {folder: at + n // 40 for n, folder in enumerate(folders)})
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with receiver(environment(redis_url, small)) as (client, _):
        pages, after = [], ""
        while True:
            answer = client.get("/api/deletions", params={"after": after} if after else {}, headers=headers)
            page = answer.raise_for_status().json()
            pages.append(page)
            after = page["after"]
            assert page["is_cut"] is (after is not None) is ('rel="next"' in answer.headers.get("link", ""))
            if after is None:
                break
            redis.zrem(DELETIONS_DUE, page["first"][-1]["folder"], page["first"][0]["folder"])  # deleted meanwhile
        assert [len(page["first"]) for page in pages] == [100, 100, 30]
        assert [one["folder"] for page in pages for one in page["first"]] == folders, "soonest first, each once"
        assert [len(page["held"]) for page in pages] == [100, 3, 0]
        assert {hit["row"]["recording_id"] for page in pages for hit in page["held"]} == held
        assert {one["recording_id"] for page in pages for one in page["originals"] if one["state"] == "held"} == held
        shown = client.get("/ops/deletions", headers=headers).text
        assert "More originals" in shown and "There are more than this table shows" in shown
        shown = client.get("/ops/deletions?state=kept", headers=headers).text
        assert "more than this table shows" not in shown, "all of them were looked at, and nothing keeps one"
        for wrong in ("x", "nan~a||", "1~a|b|c", "inf~a||"):
            assert client.get("/api/deletions", params={"after": wrong}, headers=headers).status_code == 400, wrong


def test_no_link_leads_to_an_empty_table_whatever_state_is_wanted(redis_url: str, redis: Any, tmp_path: Path) -> None:
    small = SmallArchive(tmp_path / "archive", {"id": ARCHIVE_ID})
    for n in range(101):  # the catalogue shows them as on hold, and none is on the schedule
        recording_id = f"4-held-{n:03}"
        _hold_elsewhere(small, recording_id, layout.decision_copy_key(small.recording(4, recording_id), "ab" * 16))
    at = time.time() + _GRACE_SECONDS
    folders = [layout.recording_folder(utc_now(), f"due-{n:03}") for n in range(350)]
    redis.zadd(DELETIONS_DUE, {folder: at + n for n, folder in enumerate(folders)})
    _hold_elsewhere(small, "due-320")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with receiver(environment(redis_url, small)) as (client, _):

        def walk(**params: str) -> list[list[str]]:
            pages: list[list[str]] = []
            while True:
                page = client.get("/api/deletions", params=params, headers=headers).raise_for_status().json()
                pages.append([one["recording_id"] for one in page["originals"]])
                assert pages[-1] or page["note"] or len(pages) == 1
                if page["after"] is None:
                    return pages
                params["after"] = page["after"]

        held = walk(state="held")
        assert [len(page) for page in held] == [100, 1, 1], "the pages of the schedule that have none are passed over"
        assert held[-1] == ["due-320"]
        assert [len(page) for page in walk(state="due")] == [100, 100, 100, 49]
        assert walk(state="kept") == [[]], "and nothing leads on from an empty one"
        redis.zadd(DELETIONS_DUE, {layout.recording_folder(utc_now(), f"due-{n:04}"): at + n for n in range(350, 900)})
        _hold_elsewhere(small, "due-0899")
        first, *_, last = walk(state="held")
        assert (len(first), last) == (100, ["due-0899"])
        assert walk(state="kept") == [[], []], "of so many, each page says how many it looked at"


def test_the_access_log_counts_what_an_answer_has_of_which_the_table_shows_only_what_its_filter_leaves(
    redis_url: str, redis: Any, tmp_path: Path
) -> None:
    small = SmallArchive(tmp_path / "archive", {"id": ARCHIVE_ID})
    key = layout.commit_key(small.recording(2, "2-silent"))
    record = small.read(key)
    record["audio"]["findings"] = ["silent"]
    small.write(key, record)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with receiver(environment(redis_url, small)) as (client, _):

        def look(path: str) -> list[tuple[str, int]]:
            before = len(in_redis(redis))
            client.get(path, headers=headers).raise_for_status()
            return [(row["about"], row["found"]) for row in in_redis(redis)[before:]]

        assert look("/api/deletions?state=held") == [("deletions", 1)], "it has the recording that is kept"
        assert look("/ops/deletions?state=held") == [], "it does not"
        _hold_elsewhere(small, "2-silent")
        assert look("/ops/deletions?state=kept") == look("/api/deletions") == [("deletions", 1)]


def _hold_elsewhere(small: SmallArchive, recording_id: str, copy: str = "") -> None:
    """Hold a recording as a command with another Redis does, which leaves it on this schedule."""
    fields = {"schema": "callvault.decision/2", "id": "ab" * 16, "decision": "hold", "scope": "recording"}
    fields |= {"subject": recording_id, "why": "case 17", "by": "Ben", "at": format_instant(utc_now())}
    for key in filter(None, (layout.decision_key("recording", recording_id, "ab" * 16), copy)):
        small.write(key, fields)


def _rows(page: str) -> dict[str, str]:
    """The rows of the table by the id of their recording."""
    rows = [row.partition("</tr>")[0] for row in page.split('<tr class="hit">')[1:]]
    return {re.findall(r'aria-label="Select ([^"]+)"', row)[0]: row for row in rows}
