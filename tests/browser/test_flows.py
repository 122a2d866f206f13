"""The five tasks that people come for, from the overview to their end, each with the number of its steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from lab.processes import callvault, free_port, wait_for
from sandbox.webhooks import recording_payload
from tests.browser.conftest import TOKEN, Deployment, until
from tests.browser.steps import Steps

DESK: Any = {"width": 1280, "height": 800}
PHONE: Any = {"width": 390, "height": 844}


@pytest.fixture
def person(browser: Browser, deployment: Deployment) -> Iterator[Callable[..., Steps]]:
    """Makes a person at a screen, signed in and on the overview unless the test says otherwise."""
    contexts = []

    def make(screen: Any = DESK, *, is_signed_in: bool = True) -> Steps:
        context = browser.new_context(base_url=deployment.url, viewport=screen, has_touch=screen is PHONE)
        contexts.append(context)
        page = context.new_page()
        if is_signed_in:
            context.add_cookies([deployment.session])
            page.goto("/ops")
            expect(page.get_by_role("heading", name="Overview", exact=True)).to_be_visible()
        return Steps(page)

    yield make
    for context in contexts:
        context.close()


def test_a_call_is_found_by_a_word_on_a_phone_and_played_where_it_is_said(
    person: Callable[..., Steps], deployment: Deployment
) -> None:
    recording_id, word = deployment.spoken
    steps = person(PHONE)
    steps.click(steps.page.get_by_role("navigation").get_by_role("link", name="Recordings"))
    steps.fill(steps.page.get_by_role("searchbox"), word)
    steps.press("Enter")
    expect(steps.page.locator("mark").first).to_be_visible()
    steps.click(steps.page.get_by_role("link", name=recording_id))
    steps.click(steps.page.locator("blockquote mark a").first)
    until(steps.page, "!document.querySelector('audio').paused")
    assert "#t=" in steps.page.url
    steps.assert_documented("Find a call by a word on a phone, and play it about where the word is said")


def test_ten_recordings_of_a_search_are_held_at_once(person: Callable[..., Steps], deployment: Deployment) -> None:
    asked: dict[str, Any] = {"count": 10, "seconds": 1, "started_at": "2026-11-02T10:00:00Z"}
    ids = deployment.sandbox.control("calls", webhook_url=deployment.webhooks, **asked)["recordings"]
    wait_for(lambda: len(list(deployment.archive.glob("recordings/2026/11/02/*/recording.json"))) == 10, 60)
    time.sleep(2.1)  # the catalogue is brought up to date every two seconds
    steps = person()
    page = steps.page
    steps.click(page.get_by_role("link", name="Recordings", exact=True))
    steps.fill(page.get_by_role("searchbox"), "2026-11-02")
    steps.press("Enter")
    expect(page.locator("tr.hit")).to_have_count(10)
    steps.click(page.get_by_label("Select all on this page"))
    expect(page.locator("#selected")).to_have_text("10 selected")
    steps.fill(page.locator("#many").get_by_label("Reason"), "Doe v. Example")
    steps.click(page.locator("#many").get_by_role("button", name="Hold", exact=True))
    expect(page.locator("#said")).to_have_text("10 recordings are on hold")
    for one in ids:
        assert list(deployment.archive.glob(f"decisions/recordings/{one}/*.json")), one
    steps.assert_documented("Hold the ten recordings of a day at once")


def test_a_dead_letter_is_mended(person: Callable[..., Steps], deployment: Deployment) -> None:
    world = deployment.sandbox.world
    recording = world.add_recording(seconds=2)
    recording_id = recording.data["id"]
    del world.recordings[recording_id]  # Telnyx sends its event, and does not know it
    event = {"event_type": "call.recording.saved", "payload": recording_payload(world, recording)}
    deployment.sandbox.control("event", webhook_url=deployment.webhooks, **event)
    job_id = f"archive_recording:{recording_id}"
    wait_for(lambda: deployment.redis.hexists("callvault:dead-letters", job_id), 60, "the dead letter")
    world.recordings[recording_id] = recording  # the cause is mended
    steps = person()
    page = steps.page
    steps.click(page.get_by_role("article").filter(has_text="Dead letters").get_by_role("link", name="Show"))
    steps.click(page.get_by_role("button", name=f"Retry {job_id}"))
    expect(page.locator("#said")).to_contain_text("1 job enqueued again")
    wait_for(lambda: list(deployment.archive.glob(f"recordings/*/*/*/{recording_id}/recording.json")), 40)
    wait_for(lambda: not deployment.redis.hexists("callvault:dead-letters", job_id), 40, "the end of the dead letter")
    page.reload()
    expect(page.get_by_text(job_id)).to_have_count(0)
    steps.assert_documented("Mend a dead letter, once its cause is mended")


def test_a_first_run_leads_to_the_first_archived_call(browser: Browser, tmp_path: Path) -> None:
    port = free_port()
    context = browser.new_context(viewport=DESK)
    steps = Steps(context.new_page())
    steps.typed += len("callvault up --sandbox") + 1
    with callvault(["up", "--sandbox", "--port", str(port)], {"CALLVAULT_DATA": str(tmp_path)}, "ops pages"):
        steps.open(f"http://127.0.0.1:{port}/ops")  # the terminal shows it
        page = steps.page
        expect(page.locator("#archived")).not_to_have_text("0", timeout=60_000)  # it appears by itself
        steps.click(page.get_by_role("link", name="Recordings", exact=True))
        expect(page.locator("tr.hit").first).to_be_visible()
        steps.click(page.locator("tr.hit").first.get_by_role("link"))
        expect(page.get_by_text("archived and proven").first).to_be_visible()
        steps.play()
    context.close()
    steps.assert_documented("From `callvault up --sandbox` to the first archived call, played")


def test_a_search_is_shared_by_its_address(person: Callable[..., Steps], deployment: Deployment) -> None:
    number = deployment.calls[5]["from"]
    steps = person()
    steps.click(steps.page.get_by_role("link", name="Recordings", exact=True))
    steps.fill(steps.page.get_by_role("searchbox"), f"{number} state:archived")
    steps.press("Enter")
    expect(steps.page.locator("tr.hit")).to_have_count(1)
    address = steps.page.url
    steps.clicks += 1  # copies the address
    other = person(is_signed_in=False)
    other.clicks, other.typed = steps.clicks, steps.typed
    other.open(address)
    other.fill(other.page.get_by_label("Your name"), "Ada")
    other.paste(other.page.get_by_label("Token"), TOKEN)
    other.click(other.page.get_by_role("button", name="Sign in"))
    expect(other.page.locator("tr.hit")).to_have_count(1)
    expect(other.page.get_by_role("searchbox")).to_have_value(f"{number} state:archived")
    other.assert_documented("Share a search: one person searches, another opens the link and signs in")
