"""The player of a recording: a change on its page does not disturb what plays, and a key acts once."""

from __future__ import annotations

from typing import Any

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
    until(page, "document.querySelector('audio').readyState > 0")
    page.get_by_role("button", name="+10 s").focus()
    page.keyboard.press("Space")
    until(page, "document.querySelector('audio').currentTime === 10")
    page.get_by_label("Reason").first.fill("")
    page.get_by_label("Reason").first.press_sequentially("a b")
    expect(page.get_by_label("Reason").first).to_have_value("a b")
    assert audio.evaluate("(audio) => audio.paused")


def test_a_link_to_this_moment_does_not_move_the_player(page: Page, long_call: str) -> None:
    page.goto(f"/ops/recordings/{long_call}#t=7.5")
    until(page, "document.querySelector('audio').currentTime === 7.5")
    page.get_by_role("button", name="Link to this moment").click()
    expect(page.get_by_role("button", name="Link to 7 s is in the address bar")).to_be_visible()
    assert page.url.endswith("#t=7")
    assert page.locator("audio").evaluate(_AT) == 7.5
