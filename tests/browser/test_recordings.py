"""The pages of recordings: found, chosen, held, exported and played in a real browser."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import TOKEN, Deployment


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
          audio.preload = "metadata";
          await new Promise((done) => { audio.onloadedmetadata = done; });
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


@pytest.mark.parametrize("number", ["+13125550100<script>alert(1)</script>", '"><img src=x onerror=alert(1)>'])
def test_search_fields_come_back_as_text(page: Page, number: str) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    page.goto(f"/ops/recordings?q={quote(number)}")
    assert dialogs == []
    assert page.locator("img, main script").count() == 0


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_the_state_and_the_link_of_a_row_are_seen_on_a_phone_without_scrolling_sideways(
    page: Page, deployment: Deployment
) -> None:
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
    free = "are released; a worker deletes its original when it is due, unless something else keeps it"
    for button, spoken, state in (
        ("Hold", "are on hold", "archived; on hold"),
        ("Release", free, "archived"),
    ):
        page.goto("/ops/recordings")
        expect(page.locator("#many")).to_be_hidden()
        for one in chosen:
            page.get_by_role("checkbox", name=f"Select {one}").check()
        expect(page.locator("#selected")).to_have_text("10 selected")
        page.locator("#many").get_by_label("Reason").fill("Doe v. Example")
        page.locator("#many").get_by_role("button", name=button, exact=True).click()
        expect(page.locator("#said")).to_have_text(f"10 recordings {spoken}")
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
    expect(page.locator("#many")).to_be_hidden()  # and it shows the new state at once
    row = page.locator("tr.hit").filter(has=page.get_by_role("link", name=one))
    expect(row.locator(".state")).to_have_text("archived")


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
    context.add_cookies([deployment.session])
    page = context.new_page()
    page.goto("/ops")
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
    context.add_cookies([deployment.session])
    page = context.new_page()
    page.goto("/ops")
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
    assert any(one.startswith("levels.json?look=") for one in asked)
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


def test_no_word_of_a_row_is_broken_by_a_long_transcript_beside_it(page: Page, deployment: Deployment) -> None:
    page.goto("/ops/recordings?state=archived")
    expect(page.locator("tr.hit .excerpt").first).to_be_visible()
    for what in ("tr.hit .state", "tr.hit a.open", "thead th >> visible=true"):
        for one in page.locator(what).all():
            place = one.bounding_box()
            assert place is not None and place["height"] < 48, one.inner_text()


def test_a_hold_of_several_names_the_one_whose_original_had_gone(page: Page, deployment: Deployment) -> None:
    gone, there = deployment.calls[8]["id"], deployment.calls[9]["id"]
    taken = deployment.sandbox.world.recordings.pop(gone)
    try:
        page.goto("/ops/recordings")
        for one in (gone, there):
            page.get_by_role("checkbox", name=f"Select {one}").check()
        page.locator("#many").get_by_label("Reason").fill("case 18")
        page.locator("#many").get_by_role("button", name="Hold", exact=True).click()
        expect(page.locator("#said")).to_contain_text(
            f"2 recordings are on hold; {gone}: its original was already gone"
        )
        expect(page.locator("#said")).not_to_contain_text(there)
    finally:
        deployment.sandbox.world.recordings[gone] = taken
