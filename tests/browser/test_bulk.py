"""The pages of deletions and dead letters: several at once, filtered, in a real browser and over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
from playwright.sync_api import Dialog, Locator, Page, expect

from lab.processes import wait_for
from tests.browser.conftest import TOKEN, Deployment, assert_can_be_read, assert_can_be_read_in_the_dark
from workers.engine.attempts import Attempt, DeadLetter
from workers.keys import INSPECTION

Letters = list[DeadLetter]


@pytest.fixture
def letters(deployment: Deployment) -> Iterator[Letters]:
    """Five dead letters: three of recordings that Telnyx does not know, and two of archived ones."""
    ids = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]
    known = [call["id"] for call in deployment.calls[6:8]]
    found = [letter("archive_recording", one, "not-there-yet", n) for n, one in enumerate(ids)]
    found += [letter("archive_recording", one, "download", 3 + n) for n, one in enumerate(known)]
    for one in found:
        deployment.redis.hset("callvault:dead-letters", one.job_id, msgspec.json.encode(one))
    yield found
    deployment.redis.delete("callvault:dead-letters")


def letter(function: str, recording_id: str, cause: str, minute: int) -> DeadLetter:
    attempt = Attempt(f"2026-11-25T10:0{minute}:00.000000Z", cause, f"failed at minute {minute}")
    payload = {"v": 1, "recording_id": recording_id, "event_id": "e"}
    job_id = f"{function}:{recording_id}:{uuid4()}"  # so that no other job ends it
    return DeadLetter(job_id, function, payload, "arq:queue", cause, attempt.error, attempt.at, [attempt])


@pytest.fixture
def client(deployment: Deployment) -> Iterator[tuple[httpx.Client, str]]:
    """A signed-in client, and its CSRF token."""
    with httpx.Client(base_url=deployment.url, trust_env=False, timeout=30) as one:
        one.post("/ops/sign-in", data={"name": "Ada", "token": TOKEN})
        yield one, one.get("/ops").text.partition('X-CSRF-Token": "')[2].partition('"')[0]


def row_of(page: Page, recording_id: str) -> Locator:
    return page.locator("tr.hit").filter(has=page.get_by_role("link", name=recording_id))


def originals(api: httpx.Client, **filters: str) -> dict[str, Any]:
    rows = api.get("/api/deletions", params=filters).raise_for_status().json()["originals"]
    return {row["recording_id"]: row for row in rows}


def test_each_original_is_one_row_with_its_call(deployment: Deployment, api: httpx.Client) -> None:
    wait_for(lambda: len(originals(api)) >= len(deployment.calls), 30, "all of the schedule")
    call, silent = deployment.calls[5], deployment.calls[12]
    one = originals(api)[call["id"]]
    assert (one["state"], one["why"], one["advised"]) == ("due", None, "hold")
    assert (one["call"]["from_number"], one["call"]["to_number"]) == (call["from"], call["to"])
    assert one["due_at"] > call["recording_ended_at"]
    kept = originals(api, state="kept")
    assert set(kept) == {silent["id"]} and kept[silent["id"]]["advised"] == "approve"
    assert "findings not approved" in kept[silent["id"]]["why"]
    day = call["recording_started_at"][:10]
    of_day = originals(api, day=day)
    assert set(of_day) == {c["id"] for c in deployment.calls if c["recording_started_at"].startswith(day)}
    assert set(originals(api, connection=call["connection_id"], day=day)) <= set(of_day)
    assert originals(api, connection="none-such") == {}
    text = api.get("/ops/deletions").text
    assert f"{call['from']} → {call['to']}" in text.replace("&#43;", "+") and 'due <time class="relative"' in text


@pytest.mark.parametrize("path", ["deletions?state=lost", "deletions?day=never", "dead-letters?cause=bad-luck"])
def test_a_filter_that_is_not_understood_is_refused_on_the_page(path: str, api: httpx.Client) -> None:
    page = api.get(f"/ops/{path}")
    assert page.status_code == 400 and 'role="alert"' in page.text
    assert api.get(f"/api/{path}").status_code == 400


def test_several_originals_are_held_and_released_and_the_page_shows_it_at_once(
    page: Page, deployment: Deployment
) -> None:
    chosen = [call["id"] for call in deployment.calls[:3]]
    page.goto("/ops/deletions")
    for one in chosen:
        page.get_by_role("checkbox", name=f"Select {one}").check()
    bar = page.locator("#many")
    bar.get_by_label("Reason").fill("Doe v. Example")
    expect(bar.get_by_role("button").first).to_have_text("Hold")
    bar.get_by_role("button", name="Hold", exact=True).click()
    expect(page.locator("#said")).to_have_text("3 recordings are on hold")
    for one in chosen:
        expect(row_of(page, one).locator(".state")).to_have_text("on hold")
        expect(row_of(page, one)).to_contain_text("Doe v. Example (by Ada")
    page.get_by_role("list", name="State").get_by_role("link", name="On hold").click()
    expect(page.locator("tr.hit")).to_have_count(3)
    page.get_by_label("Select all shown").check()
    expect(page.locator("#selected")).to_have_text("3 selected")
    expect(bar.get_by_role("button").first).to_have_text("Release")
    bar.get_by_label("Reason").fill("closed")
    bar.get_by_role("button", name="Release", exact=True).click()
    expect(page.locator("#said")).to_contain_text("3 recordings are released")
    expect(page.get_by_text("No original matches these filters.")).to_be_visible()


def test_a_kept_original_is_approved_from_the_table(page: Page, deployment: Deployment) -> None:
    made = deployment.sandbox.control("calls", count=1, silent=True, seconds=1, webhook_url=deployment.webhooks)
    (chosen,) = made["recordings"]

    def is_shown() -> bool:
        page.goto("/ops/deletions?state=kept")
        return row_of(page, chosen).count() == 1

    wait_for(is_shown, 30, "the silent call")
    page.get_by_role("checkbox", name=f"Select {chosen}").check()
    bar = page.locator("#many")
    bar.get_by_label("Reason").fill("nobody spoke")
    expect(bar.get_by_role("button").first).to_have_text("Approve")
    bar.get_by_role("button", name="Approve").click()
    expect(page.locator("#said")).to_contain_text("1 recording is approved; approved silent-channel")
    expect(row_of(page, chosen)).to_have_count(0)
    page.goto("/ops/deletions")
    expect(row_of(page, chosen).locator(".state")).to_have_text("scheduled")


def test_a_reason_is_asked_for_before_anything_is_sent(page: Page, deployment: Deployment) -> None:
    page.goto("/ops/deletions")
    page.get_by_role("checkbox", name=f"Select {deployment.calls[4]['id']}").check()
    for button in ("Hold", "Release", "Approve"):
        page.locator("#many").get_by_role("button", name=button, exact=True).click()
        expect(page.locator("#many").get_by_label("Reason")).to_be_focused()
    expect(page.locator("#said")).to_be_empty()


def test_dead_letters_have_their_calls_and_filters(letters: Letters, page: Page, deployment: Deployment) -> None:
    call = deployment.calls[6]
    page.goto("/ops/dead-letters")
    of_download = page.get_by_role("region", name=re.compile("^download"))
    expect(of_download.get_by_role("link", name=f"{call['from']} → {call['to']}")).to_be_visible()
    page.get_by_role("list", name="Cause").get_by_role("link", name="not-there-yet 3").click()
    expect(page.get_by_role("article")).to_have_count(3)
    expect(of_download).to_have_count(0)
    page.get_by_role("link", name="All causes").click()
    expect(page.get_by_role("article")).to_have_count(5)


def test_a_group_of_dead_letters_is_discarded_with_its_advice_first(
    letters: Letters, page: Page, deployment: Deployment
) -> None:
    page.goto("/ops/dead-letters")
    group = page.get_by_role("region", name=re.compile("^not-there-yet"))
    expect(group.get_by_role("button").first).to_have_text("Discard all 3")
    newer = letter("archive_recording", "00000000-0000-4000-8000-000000000009", "not-there-yet", 9)
    deployment.redis.hset("callvault:dead-letters", newer.job_id, msgspec.json.encode(newer))
    questions: list[str] = []

    def agree(dialog: Dialog) -> None:
        questions.append(dialog.message)
        dialog.accept()

    page.once("dialog", agree)
    group.get_by_role("button", name="Discard all 3 of not-there-yet").click()
    expect(page.locator("#said")).to_have_text("3 jobs are discarded")
    assert questions == ["Discard 3 dead letters of this cause permanently?"]
    expect(group.get_by_role("article")).to_have_count(1)  # it came after the page


def test_selected_dead_letters_are_retried_and_their_recordings_are_archived(
    letters: Letters, page: Page, deployment: Deployment
) -> None:
    page.goto("/ops/dead-letters")
    group = page.get_by_role("region", name=re.compile("^download"))
    group.get_by_label("Select all shown").check()
    page.locator("#many").get_by_role("button", name="Retry", exact=True).click()
    expect(page.locator("#said")).to_have_text("2 jobs are enqueued again")
    expect(page.locator("#many")).to_be_hidden()
    expect(group).to_have_count(0)


def test_of_dead_letters_that_are_partly_gone_the_page_names_those_and_shows_the_rest(
    letters: Letters, page: Page, deployment: Deployment
) -> None:
    page.goto("/ops/dead-letters")
    for one in letters[:2]:
        page.get_by_role("checkbox", name=f"Select {one.job_id}").check()
    deployment.redis.hdel("callvault:dead-letters", letters[0].job_id)
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#many").get_by_role("button", name="Discard", exact=True).click()
    expect(page.locator("#said .bad")).to_have_text(
        f"1 job is discarded, 1 not: {letters[0].job_id}: no longer this dead letter"
    )
    expect(page.get_by_role("article")).to_have_count(3)


def test_a_change_of_some_answers_207_and_of_none_400(
    letters: Letters, client: tuple[httpx.Client, str], deployment: Deployment
) -> None:
    web, csrf = client
    names = [f"{one.died_at}~{one.job_id}" for one in letters[:2]]
    deployment.redis.hdel("callvault:dead-letters", letters[0].job_id)
    for status, left in ((207, "1 job is discarded, 1 not"), (400, "0 jobs are discarded, 2 not")):
        answer = web.post("/ops/dead-letters/discard-selected", data={"csrf": csrf, "ids": names})
        assert answer.status_code == status and left in answer.text
    for ids in (["x"], [f"2026-11-25T10:00:00Z~{n}" for n in range(1001)]):
        data = {"csrf": csrf, "ids": " ".join(ids)}
        assert web.post("/ops/dead-letters/discard-selected", data=data).status_code == 400
    many = {"csrf": csrf, "why": "x", "ids": " ".join(f"id-{n}" for n in range(201))}
    answer = web.post("/ops/recordings/hold", data=many)
    assert answer.status_code == 400 and "201 recordings selected; select 200 at most at once" in answer.text


def test_all_dead_letters_are_retried_at_once(letters: Letters, client: tuple[httpx.Client, str]) -> None:
    web, csrf = client
    answer = web.post("/ops/dead-letters/retry", data={"csrf": csrf, "id": "*"}, headers={"HX-Request": "true"})
    assert "5 jobs are enqueued again" in answer.text and answer.headers["hx-trigger-after-settle"] == "changed"


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_full_lists_are_read_by_keyboard_and_ear(letters: Letters, page: Page, deployment: Deployment) -> None:
    deployment.redis.lpush(
        INSPECTION, '{"data": {"event_type": "call.hangup", "payload": {"to": "' + "9" * 200 + '"}}}'
    )
    page.set_viewport_size({"width": 320, "height": 700})
    page.emulate_media(color_scheme="light")
    for path in ("/ops/dead-letters", "/ops/deletions", "/ops/quarantine"):
        page.goto(path)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        assert_can_be_read(page, path)
        assert_can_be_read_in_the_dark(page, path)
    deployment.redis.delete(INSPECTION)
