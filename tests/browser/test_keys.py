"""The keys of one character: the same on every list."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Deployment
from workers.engine.attempts import Attempt, DeadLetter

# The row that has the focus: its number among the rows of the page, and what it is; -1: none has.
_WHERE = """() => {
  const at = document.activeElement.closest("main tr, main article, main li");
  return at && [...document.querySelectorAll("main tr, main article, main li")].indexOf(at);
}"""


@pytest.fixture(scope="module")
def signed_in(browser: Browser, deployment: Deployment) -> Iterator[Page]:
    """A page of a deployment in which every list has rows."""
    for n in range(2):
        attempt = Attempt("2026-11-25T10:00:00.000000Z", "download", "cut off")
        name = f"archive_recording:of-the-keys-{n}"
        letter = DeadLetter(name, "archive_recording", {"v": 1}, "arq:queue", "download", "no", attempt.at, [attempt])
        deployment.redis.hset("callvault:dead-letters", name, msgspec.json.encode(letter))
    context = browser.new_context(base_url=deployment.url, viewport={"width": 1280, "height": 800})
    context.add_cookies([deployment.session])
    page = context.new_page()
    for call in deployment.calls[:2]:  # the access log lists these looks
        page.goto(f"/ops/recordings/{call['id']}")
    yield page
    context.close()
    deployment.redis.delete("callvault:dead-letters")


@pytest.mark.parametrize(
    "path", ["/recordings?q=state:archived", "/dead-letters", "/deletions", "/access-log", "/connections", ""]
)
def test_j_and_k_walk_along_every_list(path: str, signed_in: Page) -> None:
    page = signed_in
    page.goto("/ops" + path)
    page.locator("main").focus()
    page.keyboard.press("j")
    first = page.evaluate(_WHERE)
    assert first is not None, "no row has the focus"
    page.keyboard.press("j")
    second = page.evaluate(_WHERE)
    page.keyboard.press("k")
    assert page.evaluate(_WHERE) == first
    assert second >= first and (second > first or path == "")  # the overview may have one row
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.locator("[role=search] input").first).to_be_focused()


def test_enter_opens_the_row_that_has_the_focus(signed_in: Page) -> None:
    page = signed_in
    page.goto("/ops/dead-letters")
    page.locator("main").focus()
    for _ in range(20):  # past the letters of other tests, and the causes to choose from if there are several
        page.keyboard.press("j")
        if page.evaluate("document.activeElement.closest('main article')?.innerText.includes('of-the-keys')"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("details[open] .steps").first).to_contain_text("cut off")
    page.goto("/ops/recordings?q=state:archived")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Listen")).to_be_visible()


def test_a_search_gives_the_keys_to_its_results_and_escape_leaves_an_empty_box(signed_in: Page) -> None:
    page = signed_in
    page.goto("/ops/recordings")
    expect(page.locator("[role=search] input").first).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator("a.open").first).to_be_focused()
    page.goto("/ops/recordings?q=state:archived")
    expect(page.get_by_role("searchbox")).not_to_be_focused()
