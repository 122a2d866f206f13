"""The ops pages, driven in a real browser, without knowledge of their markup."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from lab.processes import wait_for
from tests.browser.conftest import Deployment, assert_can_be_read, sign_in
from workers.engine.attempts import Attempt, DeadLetter

WIDTHS = (390, 320)  # of phones
PAGES = ("", "/recordings", "/evidence", "/connections", "/dead-letters", "/deletions", "/quarantine")


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


def test_the_overview_moves_while_calls_come_in(page: Page, deployment: Deployment) -> None:
    page.goto("/ops")
    before = int(page.locator("#archived").inner_text())
    assert before >= len(deployment.calls)
    deployment.sandbox.control("calls", count=3, webhook_url=deployment.webhooks, seconds=1)
    expect(page.locator("#archived")).to_have_text(str(before + 3), timeout=30_000)
    expect(page.get_by_role("cell", name="call.recording.saved")).to_be_visible(timeout=10_000)


def test_a_chart_shows_its_values_to_the_pointer_and_to_the_arrow_keys(page: Page, deployment: Deployment) -> None:
    page.goto("/ops")
    page.get_by_role("link", name="Hour", exact=True).click()
    expect(page.get_by_role("heading", name="Activity, the last hour")).to_be_visible()
    page.get_by_text("All values as a table").click()
    rows = page.locator("#values tbody tr")
    expect(rows).to_have_count(60)
    figure = page.locator("figure").filter(has_text="Recordings archived")
    chart = figure.get_by_role("slider", name="Recordings archived")
    box = chart.bounding_box()
    assert box is not None
    chart.hover(position={"x": box["width"] * 10.5 / 60, "y": 40})
    label, cell = (rows.nth(49).locator(place).inner_text() for place in ("th", "td >> nth=1"))
    expect(figure.locator(".readout")).to_have_text(f"{label}: {cell}")
    page.mouse.move(1, 1)
    expect(figure.locator(".readout")).not_to_have_text(f"{label}: {cell}")
    chart.focus()
    page.keyboard.press("End")
    for key, row in (("ArrowLeft", 1), ("ArrowLeft", 2), ("ArrowRight", 1)):
        page.keyboard.press(key)
        label, cell = (rows.nth(row).locator(place).inner_text() for place in ("th", "td >> nth=1"))
        expect(figure.locator(".readout")).to_have_text(f"{label}: {cell}")
        expect(chart).to_have_attribute("aria-valuetext", f"{label}: {cell}")
    # An update, a quarter of a minute later, closes nothing and moves nothing.
    page.evaluate("document.querySelector('#values').dataset.mark = 'before'")
    deployment.sandbox.control("calls", count=1, webhook_url=deployment.webhooks, seconds=1)
    expect(page.locator("#values")).not_to_have_attribute("data-mark", "before", timeout=40_000)
    expect(page.locator("#values")).to_have_attribute("open", "")
    expect(figure.locator(".readout")).to_contain_text(f"{label}: ")
    expect(chart).to_be_focused()


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
    # Not of jobs that others have begun again.
    page.get_by_role("button", name=f"Retry {job_id}", exact=True).click()
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
        # Not of jobs that others have begun again.
        page.get_by_role("button", name=f"Discard {job_id}", exact=True).click()
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
        assert_can_be_read(page, f"{path} {scheme}")
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


@pytest.mark.parametrize("page", ["phone"], indirect=True)
def test_on_a_phone_state_and_link_of_every_list_are_on_the_screen(page: Page, deployment: Deployment) -> None:
    attempt = Attempt("2026-11-25T10:00:00.000000Z", "download", "cut off 9 times")
    name = "archive_recording:01234567-89ab-4def-8123-456789abcdef:of-a-phone"
    letter = DeadLetter(name, "archive_recording", {"v": 1}, "arq:queue", "download", "cut off", attempt.at, [attempt])
    deployment.redis.hset("callvault:dead-letters", letter.job_id, msgspec.json.encode(letter))
    try:
        for path in PAGES:
            page.goto("/ops" + path)
            expect(page.locator("main h1")).to_be_visible()
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 700})
                assert page.evaluate(_BESIDE) == [], (path, width)
        page.goto("/ops/recordings")
        card = page.locator("tr").filter(has=page.locator(".state")).first
        for what, width in product((card.locator(".state"), card.get_by_role("link")), WIDTHS):
            page.set_viewport_size({"width": width, "height": 700})
            what.scroll_into_view_if_needed()
            expect(what).to_be_in_viewport(ratio=1)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 700})
            page.goto("/ops/evidence")  # which scrolls there once
            expect(page.locator(".calendar a").last).to_be_in_viewport(ratio=1)
        page.goto("/ops")
        link = page.get_by_role("article").filter(has_text="Dead letters").get_by_role("link", name="Show")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 700})
            expect(link).to_be_in_viewport(ratio=1)
    finally:
        deployment.redis.hdel("callvault:dead-letters", letter.job_id)
