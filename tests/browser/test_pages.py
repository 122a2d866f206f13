"""The ops pages, driven in a real browser, without knowledge of their markup."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx
import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from lab.processes import wait_for
from tests.browser.conftest import TOKEN, Deployment, sign_in
from workers.engine.attempts import Attempt, DeadLetter

PAGES = ("", "/recordings", "/evidence", "/connections", "/dead-letters", "/deletions")
AXE = Path(__file__).parents[2] / ".tools" / "axe" / "node_modules" / "axe-core" / "axe.min.js"


def test_nobody_gets_in_without_the_token(browser: Browser, deployment: Deployment) -> None:
    context = browser.new_context(base_url=deployment.url)
    page = context.new_page()
    page.goto("/ops/recordings")
    assert page.url.endswith("/ops/sign-in?next=/ops/recordings")
    assert deployment.calls[0]["from"] not in page.content()
    sign_in(page, "not-the-token-at-all")
    expect(page.get_by_role("alert")).to_have_text("wrong token")
    sign_in(page)
    expect(page.get_by_role("heading", name="Overview", exact=True)).to_be_visible()
    cookie = context.cookies()[0]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    page.get_by_role("button", name="Sign out").click()
    page.goto("/ops")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    context.close()


def test_a_recording_is_found_by_number_and_by_a_spoken_word(page: Page, deployment: Deployment) -> None:
    call = deployment.calls[5]
    page.goto("/ops/recordings")
    page.get_by_role("searchbox").fill(call["from"])
    page.get_by_role("searchbox").press("Enter")
    expect(page.get_by_role("link", name=call["id"])).to_be_visible()
    recording_id, word = deployment.spoken
    page.get_by_role("searchbox").fill(word)
    page.get_by_role("button", name="Search").click()
    expect(page.locator("mark").first).to_have_text(re.compile(word, re.IGNORECASE))
    page.get_by_role("link", name=recording_id).click()
    text = next(t for t in deployment.sandbox.world.transcriptions.values() if t["recording_id"] == recording_id)
    expect(page.locator("blockquote")).to_have_text(text["transcription_text"])
    expect(page.get_by_text("archived and proven")).to_be_visible()
    page.get_by_text("Commit record").click()
    expect(page.locator("pre")).to_contain_text('"callvault.recording/1"')


def test_an_impossible_search_gives_the_reason(page: Page) -> None:
    page.goto("/ops/recordings?since=never")
    expect(page.locator("p.bad")).to_contain_text("'never' is not a day")


def test_two_seconds_are_played_from_the_middle(page: Page, deployment: Deployment) -> None:
    ranges: list[str] = []
    page.on("request", lambda request: ranges.append(request.headers.get("range", "")))
    page.goto(f"/ops/recordings/{deployment.calls[0]['id']}")
    levels = page.locator(".levels")
    expect(levels).to_have_attribute("aria-label", re.compile(r"channel 1: sound in \d+% of 6 s; channel 2"))
    expect(page.locator("canvas")).to_be_visible()
    played = page.locator("audio").evaluate(
        """async (audio) => {
          audio.currentTime = 3;
          await new Promise((done) => { audio.onseeked = done; });
          await audio.play();
          await new Promise((done) => { audio.ontimeupdate = () => audio.currentTime >= 5 && done(); });
          audio.pause();
          return [audio.currentTime, audio.error];
        }"""
    )
    assert 5 <= played[0] < 6 and played[1] is None
    assert any(ranges)


def test_the_overview_moves_while_calls_come_in(page: Page, deployment: Deployment) -> None:
    page.goto("/ops")
    before = int(page.locator("#archived").inner_text())
    assert before >= len(deployment.calls)
    deployment.sandbox.control("calls", count=3, webhook_url=deployment.webhooks, seconds=1)
    expect(page.locator("#archived")).to_have_text(str(before + 3), timeout=30_000)
    expect(page.get_by_role("cell", name="call.recording.saved")).to_be_visible(timeout=10_000)


def test_a_log_message_is_dismissed(page: Page, deployment: Deployment) -> None:
    message = next(iter(deployment.sandbox.world.log_messages.values()))
    wait_for(lambda: list(deployment.archive.glob("log-messages/*/*/*/*.json")), 80, "the mirror's first poll")
    page.goto("/ops/connections")
    article = page.get_by_role("article").filter(has=page.locator(f'input[value="{message["id"]}"]'))
    expect(article).to_contain_text(message["detail"])
    article.get_by_role("button", name="Dismiss").click()
    expect(page.locator("#said")).to_contain_text("dismissed at Telnyx")
    assert message["id"] not in deployment.sandbox.world.log_messages
    seen = json.loads(deployment.redis.hget("callvault:log-messages", message["id"]))
    deployment.redis.hset(
        "callvault:log-messages", message["id"], json.dumps(seen | {"is_present": False})
    )  # the next poll
    page.reload()
    expect(page.get_by_text(message["detail"]).first).to_be_visible()
    expect(article).to_have_count(0)


def test_a_dead_letter_is_retried(page: Page, deployment: Deployment) -> None:
    payload = {"v": 1, "recording_id": "00000000-0000-4000-8000-000000000000", "event_id": "e"}
    attempt = Attempt("2026-11-25T10:00:00.000000Z", "download", "DownloadFailed: cut off 9 times")
    job_id = f"archive_recording:{payload['recording_id']}"
    letter = DeadLetter(
        job_id, "archive_recording", payload, "arq:queue", "download", attempt.error, attempt.at, [attempt]
    )
    deployment.redis.hset("callvault:dead-letters", job_id, msgspec.json.encode(letter))
    page.goto("/ops/dead-letters")
    expect(page.get_by_text("cut off 9 times").first).to_be_visible()
    page.get_by_role("button", name=f"Retry {job_id}").click()
    expect(page.locator("#said")).to_contain_text("1 job enqueued again")
    # Telnyx does not know it, so it becomes a dead letter again, with its new attempts.
    wait_for(lambda: "not at Telnyx" in (deployment.redis.hget("callvault:dead-letters", job_id) or ""), 40)


def test_a_page_discards_the_dead_letter_that_it_showed_and_no_newer_one(page: Page, deployment: Deployment) -> None:
    job_id = "archive_recording:00000000-0000-4000-8000-000000000001"
    for at, shown in (("10", "0 jobs discarded"), ("11", "1 job discarded")):
        attempt = Attempt(f"2026-11-25T{at}:00:00.000000Z", "download", "cut off")
        letter = DeadLetter(job_id, "archive_recording", {"v": 1}, "arq:queue", "download", "", attempt.at, [attempt])
        deployment.redis.hset("callvault:dead-letters", job_id, msgspec.json.encode(letter))
        page.goto("/ops/dead-letters")
        newer = msgspec.structs.replace(letter, died_at="2026-11-25T11:00:00.000000Z")
        deployment.redis.hset("callvault:dead-letters", job_id, msgspec.json.encode(newer))
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name=f"Discard {job_id}").click()
        expect(page.locator("#said")).to_contain_text(shown)
    assert not deployment.redis.hexists("callvault:dead-letters", job_id)


def test_dead_letters_are_grouped_by_their_cause_with_its_advice_once(page: Page, deployment: Deployment) -> None:
    ids = [f"archive_recording:grouped-{n}" for n in range(3)]
    for job_id, cause in zip(ids, ("conflict", "not-audio", "conflict"), strict=True):
        attempt = Attempt("2026-11-25T10:00:00.000000Z", cause, "no")
        letter = DeadLetter(job_id, "archive_recording", {"v": 1}, "arq:queue", cause, "no", attempt.at, [attempt])
        deployment.redis.hset("callvault:dead-letters", job_id, msgspec.json.encode(letter))
    try:
        page.goto("/ops/dead-letters")
        group = page.get_by_role("region", name=re.compile("^conflict"))
        expect(group.get_by_role("article")).to_have_count(2)
        expect(group.get_by_text("Compare the two before you retry.")).to_have_count(1)
    finally:
        deployment.redis.hdel("callvault:dead-letters", *ids)


def test_deletion_is_paused_and_goes_on(page: Page, deployment: Deployment) -> None:
    page.goto("/ops/deletions")
    page.get_by_label("Reason").first.fill("the bucket is moved")
    page.get_by_role("button", name="Pause deletion").click()
    expect(page.locator("#said")).to_contain_text("deletion is paused")
    assert deployment.redis.get("callvault:deletions:paused") == "the bucket is moved"
    page.goto("/ops")
    expect(page.get_by_text("Deletion is paused: the bucket is moved")).to_be_visible()
    page.goto("/ops/deletions")
    page.get_by_role("button", name="Resume deletion").click()
    expect(page.locator("#said")).to_contain_text("deletion is resumed")
    assert deployment.redis.get("callvault:deletions:paused") is None


def test_an_original_is_held_and_released(page: Page, deployment: Deployment) -> None:
    recording_id = deployment.calls[3]["id"]
    for button, spoken in (("Hold: prevent deletion", "on hold"), ("Release: allow deletion", "released")):
        page.goto(f"/ops/recordings/{recording_id}")
        page.get_by_label("Reason").first.fill("case 17")
        page.get_by_role("button", name=button).click()
        expect(page.locator("#said")).to_contain_text(spoken)
        expect(page.locator("#said p")).to_be_in_viewport(ratio=1)  # on a phone the button is far below
        time.sleep(2.1)  # the catalogue is brought up to date every two seconds
    page.reload()
    expect(page.locator(".steps")).to_contain_text("held case 17")


def test_the_page_of_a_day_shows_what_telnyx_has(page: Page, deployment: Deployment) -> None:
    day = deployment.calls[0]["recording_started_at"][:10]
    page.goto("/ops/evidence")
    page.get_by_role("listitem", name=re.compile(day)).click()
    expect(page.get_by_role("row", name="At Telnyx now 12")).to_be_visible()
    expect(page.get_by_text("The archive has at least as many recordings as Telnyx.")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Inventory (CSV)").click()
    text = Path(download.value.path()).read_text()
    assert text.count("\n") == 13 and all(call["id"] in text for call in deployment.calls[:12])


def test_an_upload_is_tried_again_and_operator_connect_read_again(page: Page, deployment: Deployment) -> None:
    connection_id = next(iter(deployment.sandbox.world.connections))
    deployment.sandbox.control("upload", connection_id=connection_id, status="error")
    page.goto("/ops/connections")
    page.get_by_role("button", name="Retry").first.click()
    expect(page.locator("#said")).to_contain_text("Telnyx retries upload")
    page.get_by_role("button", name="Refresh Operator Connect").click()
    expect(page.locator("#said")).to_contain_text("Telnyx refreshes the Operator Connect state")
    asked = [request["path"] for request in deployment.sandbox.world.requests]
    assert any(path.endswith("/retry") for path in asked)
    assert "/v2/operator_connect/actions/refresh" in asked


def test_every_page_is_read_by_keyboard_and_ear(page: Page, deployment: Deployment) -> None:
    """axe-core finds nothing serious, in light on a desktop and in dark on a phone; no page is wider than the screen."""
    paths = [
        *PAGES,
        f"/recordings/{deployment.calls[0]['id']}",
        f"/evidence/{deployment.calls[0]['recording_started_at'][:10]}",
    ]
    assert page.viewport_size is not None
    width = page.viewport_size["width"]
    scheme: Literal["light", "dark"] = "light" if width > 1000 else "dark"
    page.emulate_media(color_scheme=scheme)
    for path in paths:
        page.goto("/ops" + path)
        page.evaluate(AXE.read_text())  # the page's policy forbids a script element
        found = page.evaluate("axe.run({resultTypes: ['violations']})")
        serious = [
            (violation["id"], [node["html"] for node in violation["nodes"]])
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
        ]
        assert serious == [], f"{path} {scheme}: {json.dumps(serious, indent=1)}"
        for element in ("p", "li"):  # the page of a damaged recording has hashes and paths in plain text
            add = "([name, text]) => document.querySelector('main').appendChild(document.createElement(name)).append(text)"
            page.evaluate(add, [element, "f" * 200])
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page.goto("/ops")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()


# For everything that a person reads or presses: how far it lies off the screen, in pixels, and what it is.
_BESIDE = """
  () => [...document.querySelectorAll("main .state, main a, main button, main td, main th, main p, main li, main dd")]
    .filter((one) => one.checkVisibility() && !one.closest("thead, .calendar"))
    .map((one) => [one.getBoundingClientRect(), one.outerHTML.slice(0, 120)])
    .map(([box, what]) => [Math.ceil(Math.max(-box.left, box.right - innerWidth)), what])
    .filter(([beside]) => beside > 0)
"""


@pytest.mark.parametrize("width", [390, 320])
def test_on_a_phone_state_and_link_of_every_list_are_on_the_screen(
    width: int, browser: Browser, deployment: Deployment
) -> None:
    attempt = Attempt("2026-11-25T10:00:00.000000Z", "download", "cut off 9 times")
    name = "archive_recording:01234567-89ab-4def-8123-456789abcdef:of-a-phone"
    letter = DeadLetter(name, "archive_recording", {"v": 1}, "arq:queue", "download", "cut off", attempt.at, [attempt])
    deployment.redis.hset("callvault:dead-letters", letter.job_id, msgspec.json.encode(letter))
    context = browser.new_context(base_url=deployment.url, viewport={"width": width, "height": 700})
    try:
        page = context.new_page()
        sign_in(page)
        for path in PAGES:
            page.goto("/ops" + path)
            expect(page.locator("main h1")).to_be_visible()
            assert page.evaluate(_BESIDE) == [], path
        page.goto("/ops/recordings")
        card = page.locator("tr").filter(has=page.locator(".state")).first
        for what in (card.locator(".state"), card.get_by_role("link")):
            what.scroll_into_view_if_needed()
            expect(what).to_be_in_viewport(ratio=1)
        page.goto("/ops/evidence")
        expect(page.locator(".calendar a").last).to_be_in_viewport(ratio=1)
        page.goto("/ops")
        link = page.get_by_role("article").filter(has_text="Dead letters").get_by_role("link", name="Show")
        expect(link).to_be_in_viewport(ratio=1)
    finally:
        context.close()
        deployment.redis.hdel("callvault:dead-letters", letter.job_id)


@pytest.mark.parametrize("number", ["+13125550100<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'])
def test_search_fields_come_back_as_text(page: Page, number: str) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.goto(f"/ops/recordings?q={quote(number)}")
    assert dialogs == []
    assert page.locator("img, main script").count() == 0


def test_the_state_and_the_link_of_a_row_are_seen_on_a_phone_without_scrolling_sideways(
    page: Page, deployment: Deployment
) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/ops/recordings", "/ops/deletions"):
        page.goto(path)
        link = page.locator("main a[href^='/ops/recordings/']").first
        places = [link.bounding_box()]
        if path == "/ops/recordings":
            places.append(page.locator("td .state").first.bounding_box())
        for place in places:
            assert place is not None and place["x"] >= 0 and place["x"] + place["width"] <= 390, path
        recording_id = link.inner_text()
        link.click()
        expect(page.get_by_role("heading", name=f"Recording {recording_id}")).to_be_visible()
        expect(page.get_by_role("heading", name="Hold")).to_be_visible()


def test_ten_recordings_are_held_at_once_and_released(page: Page, deployment: Deployment) -> None:
    chosen = [call["id"] for call in deployment.calls[:10]]
    for button, spoken, state in (
        ("Hold", "are on hold", "archived; on hold"),
        ("Release", "are released", "archived"),
    ):
        page.goto("/ops/recordings")
        expect(page.locator("#many")).to_be_hidden()
        for one in chosen:
            page.get_by_role("checkbox", name=f"Select {one}").check()
        expect(page.locator("#selected")).to_have_text("10 selected")
        page.locator("#many").get_by_label("Reason").fill("Doe v. Example")
        page.locator("#many").get_by_role("button", name=button, exact=True).click()
        expect(page.locator("#said")).to_have_text(f"10 recordings {spoken}")
        time.sleep(2.1)  # the catalogue is brought up to date every two seconds
        page.goto("/ops/recordings")
        for one in chosen:
            row = page.locator("tr.hit").filter(has=page.get_by_role("link", name=one))
            expect(row.locator(".state")).to_have_text(state)


def test_of_several_that_cannot_all_be_released_the_page_names_those(page: Page, deployment: Deployment) -> None:
    page.goto("/ops/recordings")
    one, other = deployment.calls[10]["id"], deployment.calls[11]["id"]
    page.get_by_role("checkbox", name=f"Select {one}").check()
    page.locator("#many").get_by_label("Reason").fill("case 17")
    page.get_by_role("button", name="Hold", exact=True).click()
    expect(page.locator("#said")).to_have_text("1 recording is on hold")
    expect(page.locator("#many")).to_be_hidden()  # the page has read its content anew
    page.get_by_role("checkbox", name=f"Select {one}").check()
    page.get_by_role("checkbox", name=f"Select {other}").check()
    page.locator("#many").get_by_label("Reason").fill("closed")
    page.get_by_role("button", name="Release", exact=True).click()
    expect(page.locator("#said")).to_contain_text(
        f"1 recording is released, 1 not: {other}: recording {other} has no hold"
    )


def test_a_selection_and_a_search_are_exported(page: Page, deployment: Deployment) -> None:
    page.goto("/ops/recordings?state=archived")
    chosen = [call["id"] for call in deployment.calls[4:6]]
    for one in chosen:
        page.get_by_role("checkbox", name=f"Select {one}").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export (CSV)").click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["recording_id", *reversed(chosen)], "the latest first"
    total = int(page.locator("#total").inner_text().split()[0])
    with page.expect_download() as download:
        page.get_by_role("link", name="Export all (CSV)").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == total + 1


def test_a_wrong_search_is_refused_beside_the_box_and_a_chip_takes_a_part_of_it_away(
    page: Page, deployment: Deployment
) -> None:
    page.goto("/ops/recordings?q=state:lost&min_duration=1s")
    expect(page.get_by_role("alert")).to_contain_text("'lost' is not a state")
    expect(page.get_by_role("searchbox")).to_have_value("state:lost")
    number = deployment.calls[5]["from"]
    page.get_by_role("searchbox").fill(f"{number} state:archived")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("tr.hit")).to_have_count(1)
    page.get_by_role("link", name=f"Remove number: {number}").click()
    expect(page.get_by_role("searchbox")).to_have_value("state:archived")
    expect(page.get_by_label("Minimum length")).to_have_value("1s")
    page.get_by_role("link", name="Remove state: archived").click()
    page.get_by_role("link", name="Remove min_duration: 1s").click()
    assert page.url.endswith("/ops/recordings")


def test_a_shared_search_survives_the_sign_in(browser: Browser, deployment: Deployment) -> None:
    context = browser.new_context(base_url=deployment.url)
    page = context.new_page()
    number = quote(deployment.calls[5]["from"])
    page.goto(f"/ops/recordings?q={number}&state=archived")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("tr.hit")).to_have_count(1)
    expect(page.get_by_role("searchbox")).to_have_value(deployment.calls[5]["from"])
    context.close()


def test_times_are_in_the_readers_zone_with_utc_on_hover(browser: Browser, deployment: Deployment) -> None:
    context = browser.new_context(base_url=deployment.url, timezone_id="Pacific/Auckland", locale="en-NZ")
    page = context.new_page()
    sign_in(page)
    expect(page.get_by_text("Times are in Pacific/Auckland")).to_be_visible()
    call = deployment.calls[11]
    started = datetime.fromisoformat(call["recording_started_at"])
    there = started.astimezone(ZoneInfo("Pacific/Auckland"))
    page.goto(f"/ops/recordings?q={call['id']}")
    shown = page.locator("tr.hit time")
    expect(shown).to_have_text(f"{there:%H:%M:%S}")
    expect(shown).to_have_attribute("title", f"{started:%Y-%m-%d %H:%M:%S} UTC")
    expect(page.locator("tr.day")).to_have_text(f"{there:%a %-d %b %Y}")
    page.get_by_role("button", name="show UTC").click()
    expect(shown).to_have_text(f"{started:%H:%M:%S}")
    context.close()


def test_recordings_are_walked_with_the_keyboard(browser: Browser, deployment: Deployment) -> None:
    context = browser.new_context(base_url=deployment.url)
    page = context.new_page()
    sign_in(page)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.get_by_role("searchbox").press("Tab")
    links = page.locator("a.open")
    for key, at in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
        page.keyboard.press(key)
        expect(links.nth(at)).to_be_focused()
    page.keyboard.press("x")
    expect(page.locator("#selected")).to_have_text("1 selected")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("use them").uncheck()
    page.get_by_role("button", name="Close").click()
    page.locator("main").focus()
    page.keyboard.press("j")
    expect(page.locator("main")).to_be_focused()
    page.locator("tr.hit").nth(1).click(position={"x": 200, "y": 8})  # the whole row opens it
    expect(page.get_by_role("heading", name="Recording").first).to_be_visible()
    context.close()


def test_the_picture_of_a_wav_comes_from_the_server_and_a_link_leads_to_a_moment(
    page: Page, deployment: Deployment
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.goto(f"/ops/recordings/{deployment.calls[0]['id']}#t=2")
    expect(page.locator("canvas")).to_be_visible()
    assert "levels.json" in asked
    audio = page.locator("audio")
    page.wait_for_function("document.querySelector('audio').currentTime === 2")
    page.locator("main").focus()
    page.keyboard.press("l")  # 10 seconds on: to the end
    page.wait_for_function("document.querySelector('audio').currentTime > 5")
    page.get_by_role("button", name="−10 s").click()
    page.wait_for_function("document.querySelector('audio').currentTime === 0")
    page.get_by_label("Speed").select_option("1.5")
    assert audio.evaluate("(audio) => audio.playbackRate") == 1.5
    page.locator("canvas").click(position={"x": 10, "y": 10})
    page.wait_for_function("document.querySelector('audio').currentTime > 0")
    page.get_by_role("button", name="Link to this moment").click()
    assert re.search(r"#t=\d+$", page.url)


def test_levels_are_those_of_the_audio(deployment: Deployment, api: httpx.Client) -> None:
    silent = deployment.calls[12]
    found = api.get(f"/ops/recordings/{silent['id']}/levels.json").json()
    assert found["seconds"] == pytest.approx(3, abs=0.1)
    _, second = found["channels"]
    assert max(second) == 0
    spoken = api.get(f"/ops/recordings/{deployment.calls[0]['id']}/levels.json").json()["channels"]
    assert max(map(max, spoken)) > 60
    assert api.get("/ops/recordings/00000000-0000-4000-8000-000000000000/levels.json").status_code == 404
