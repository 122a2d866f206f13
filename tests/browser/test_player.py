"""The player of a recording: a change does not disturb what plays, a key acts once, and a word leads to its place."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from lab.processes import wait_for
from tests.browser.conftest import Deployment, until

# What a listener would notice: the events of the player since this ran.
_NOTICE = """(audio) => {
  window.noticed = [];
  for (const what of ["pause", "seeking", "emptied"]) audio.addEventListener(what, () => noticed.push(what));
}"""
_AT = "(audio) => audio.currentTime"


@pytest.fixture(scope="module")
def long_call(deployment: Deployment) -> str:
    """A recording that is long enough to be heard while a person does something else."""
    asked: dict[str, Any] = {"count": 1, "seconds": 90, "webhook_url": deployment.webhooks}
    (recording_id,) = deployment.sandbox.control("calls", **asked)["recordings"]
    wait_for(lambda: list(deployment.archive.glob(f"recordings/*/*/*/{recording_id}/recording.json")), 40)
    return str(recording_id)


def test_a_hold_and_its_release_disturb_nothing_that_plays(page: Page, long_call: str) -> None:
    page.goto(f"/ops/recordings/{long_call}#t=20")
    audio = page.locator("audio")
    until(page, "document.querySelector('audio').currentTime === 20")
    page.locator("main").focus()
    page.keyboard.press("Space")
    until(page, "document.querySelector('audio').currentTime > 20.2")
    audio.evaluate(_NOTICE)
    for button, spoken, state in (
        ("Hold: prevent deletion", "is on hold", "archived; on hold"),
        ("Release: allow deletion", "is released", "archived"),
    ):
        page.get_by_label("Reason").first.fill("case 17")
        before = audio.evaluate(_AT)
        page.get_by_role("button", name=button).click()
        expect(page.locator("#said")).to_contain_text(spoken)
        expect(page.locator("#above .state")).to_have_text(state)  # what is above the player is read anew, too
        expect(page.get_by_role("button", name=button)).to_have_count(0)
        assert before < audio.evaluate(_AT) < 80
    assert page.evaluate("noticed") == []
    page.locator("main").focus()
    page.keyboard.press("Space")
    assert audio.evaluate("(audio) => audio.paused")
    page.keyboard.press("Space")
    until(page, "!document.querySelector('audio').paused")
    page.keyboard.press("p")
    at = audio.evaluate(_AT)
    page.keyboard.press("h")
    assert audio.evaluate(_AT) == pytest.approx(at - 10, abs=0.1)


def test_space_presses_the_button_that_has_the_focus_and_types_in_a_field(page: Page, long_call: str) -> None:
    page.goto(f"/ops/recordings/{long_call}")
    audio = page.locator("audio")
    page.get_by_role("button", name="+10 s").focus()
    page.keyboard.press("Space")
    until(page, "document.querySelector('audio').currentTime === 10")
    page.get_by_label("Reason").first.fill("")
    page.get_by_label("Reason").first.press_sequentially("a b")
    expect(page.get_by_label("Reason").first).to_have_value("a b")
    assert audio.evaluate("(audio) => audio.paused")


def test_a_look_at_the_page_asks_for_no_audio(page: Page, long_call: str) -> None:
    """The access log would take it for a play."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"/ops/recordings/{long_call}#t=20")
    expect(page.locator("canvas")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert any("levels.json" in url for url in asked) and not any("/audio." in url for url in asked)
    page.locator("main").focus()
    page.keyboard.press("Space")
    until(page, "document.querySelector('audio').currentTime > 20.2")
    assert any("/audio." in url for url in asked)


def test_a_look_at_an_mp3_asks_for_no_audio_and_draws_its_levels_when_it_plays(
    page: Page, deployment: Deployment
) -> None:
    wanted: dict[str, Any] = {"count": 1, "mp3": 1, "seconds": 20, "webhook_url": deployment.webhooks}
    (recording_id,) = deployment.sandbox.control("calls", **wanted)["recordings"]
    wait_for(lambda: list(deployment.archive.glob(f"recordings/*/*/*/{recording_id}/recording.json")), 40)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"/ops/recordings/{recording_id}")
    expect(page.get_by_text("The audio levels of an MP3 are drawn when it plays.")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert not any("/audio." in url for url in asked), "the access log would take it for a play"
    page.locator("main").focus()
    page.keyboard.press("Space")
    expect(page.locator("canvas")).to_be_visible()


def test_a_link_to_this_moment_does_not_move_the_player(page: Page, long_call: str) -> None:
    page.goto(f"/ops/recordings/{long_call}#t=7.5")
    until(page, "document.querySelector('audio').currentTime === 7.5")
    page.get_by_role("button", name="Link to this moment").click()
    expect(page.get_by_role("button", name="Link to 7 s is in the address bar")).to_be_visible()
    assert page.url.endswith("#t=7")
    assert page.locator("audio").evaluate(_AT) == 7.5


def test_a_word_that_was_searched_for_is_played_about_where_it_is_said(
    page: Page, deployment: Deployment, api: httpx.Client
) -> None:
    recording_id, word = deployment.spoken
    (said,) = api.get(f"/api/recordings/{recording_id}", params={"text": word}).json()["transcriptions"]
    marks = said["marks"]
    assert {said["text"][one["start"] : one["end"]].lower() for one in marks} == {word.lower()}
    length = deployment.calls[0]["duration_millis"] / 1000
    for one in marks:  # three seconds before the word's share of the text
        expected = length * one["start"] / len(said["text"]) - 3
        assert one["about_seconds"] == pytest.approx(max(0, expected), abs=1) and one["about_seconds"] >= 0
    page.goto("/ops/recordings")
    page.get_by_role("searchbox").fill(word)
    page.get_by_role("searchbox").press("Enter")
    page.get_by_role("link", name=recording_id).click()
    expect(page.locator("blockquote mark")).to_have_count(len(marks))
    expect(page.get_by_text(f"about where “{word}” is said")).to_be_visible()
    audio = page.locator("audio")
    until(page, f"document.querySelector('audio').currentTime === {marks[0]['about_seconds']}")
    page.locator("blockquote mark a").last.click()
    until(page, "!document.querySelector('audio').paused")
    assert marks[-1]["about_seconds"] <= audio.evaluate(_AT) < length
    assert page.url.endswith(f"#t={marks[-1]['about_seconds']}")


def test_words_that_are_no_search_are_refused(deployment: Deployment, api: httpx.Client) -> None:
    answer = api.get(f"/api/recordings/{deployment.spoken[0]}", params={"text": '"unclosed'})
    assert (answer.status_code, "unclosed quote" in answer.json()["error"]) == (400, True)
