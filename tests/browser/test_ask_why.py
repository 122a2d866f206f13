"""A person is asked why in a real browser, on a desktop and on a phone, once for a recording, and then hears and downloads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from lab.processes import receiver
from tests.audio.build import pcm, wav
from tests.browser.conftest import assert_can_be_read, sign_in, until
from tests.seals.small import SmallArchive, ago
from tests.service.test_access_log import ARCHIVE_ID, environment
from tests.service.test_exports import opened
from text.times import format_instant, utc_now
from workers.export.place import End, Request, new_id
from workers.keys import ACCESS_WAITING

ONE = "/ops/recordings/11-one"
AUDIO = wav(pcm(4))


@pytest.fixture
def small(tmp_path: Path) -> SmallArchive:
    made = SmallArchive(tmp_path / "archive", {"id": ARCHIVE_ID})
    made.recording(11, "11-one", audio=AUDIO)
    return made


@pytest.fixture(params=["desk", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser, small: SmallArchive, redis_url: str) -> Iterator[Page]:
    """A signed-in page of a receiver that asks for reasons; nothing is wider than the screen and axe-core has no complaint."""
    size: Any = {"width": 1280, "height": 800} if request.param == "desk" else {"width": 390, "height": 844}
    settings = environment(redis_url, small, CALLVAULT_ASK_WHY="listen,download,export,inventory")
    with receiver(settings) as (_, process):
        context = browser.new_context(base_url=process.url, locale="en-US", timezone_id="UTC", viewport=size)
        new, complaints = context.new_page(), list[str]()
        new.on("pageerror", lambda error: complaints.append(str(error)))
        new.on("console", lambda line: complaints.append(line.text) if "Content Security" in line.text else None)
        sign_in(new)
        yield new
        context.close()
        assert complaints == []


def _lines(redis: Any) -> list[tuple[str, str]]:
    rows = [json.loads(row) for row in redis.lrange(ACCESS_WAITING + ARCHIVE_ID, 0, -1)]
    return [(row["what"], row.get("why", "")) for row in rows if row["what"] in ("play", "download", "export", "share")]


def test_a_person_says_why_once_and_then_hears_and_downloads(page: Page, redis: Any) -> None:
    page.goto(ONE)
    expect(page.locator("audio")).to_have_count(0)
    assert_can_be_read(page, "asks")
    page.get_by_role("button", name="Show the player").click()
    expect(page.locator("audio")).to_have_count(0)  # the field is required, so the form stays
    page.get_by_label("Reason").first.fill("complaint 17")
    page.get_by_label("Reason").first.press("Enter")
    expect(page.locator("audio")).to_have_count(1)
    expect(page.locator("canvas")).to_be_visible()
    page.locator("audio").evaluate("(audio) => audio.play()")
    until(page, "document.querySelector('audio').currentTime > 0.3")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download (wav").click()
    assert download.value.path().read_bytes() == AUDIO
    page.goto("/ops/recordings")
    page.goto(ONE)
    expect(page.locator("audio")).to_have_count(1)  # it is remembered
    assert _lines(redis) == [("play", "complaint 17"), ("download", "complaint 17")]
    page.goto("/ops/recordings/11-two")
    expect(page.locator("audio")).to_have_count(0)
    page.goto("/ops/recordings/11-two/audio.wav")  # an address that somebody has sent
    expect(page.get_by_role("heading", level=1)).to_have_text("Reason")
    assert_can_be_read(page, "why")


def test_lists_are_exported_and_evidence_is_shared_with_a_reason(page: Page, redis: Any) -> None:
    page.goto("/ops/recordings?q=id:11-one")
    page.get_by_text("Export all (CSV").click()
    assert_can_be_read(page, "export")
    page.get_by_label("Reason").first.fill("audit 3")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export", exact=True).click()
    assert "11-one" in download.value.path().read_text()
    page.get_by_role("checkbox").last.check()
    page.get_by_role("button", name="Export (CSV)").click()  # the field is required, so nothing is sent
    expect(page.locator("#selected")).to_have_text("1 selected")
    page.locator("#many").get_by_label("Reason").fill("audit 4")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export (CSV)").click()
    assert "11-one" in download.value.path().read_text()
    page.goto(f"/ops/evidence/{ago(11)}")
    page.get_by_text("Inventory (CSV)").click()
    assert_can_be_read(page, "inventory")
    page.get_by_label("Reason").first.fill("audit 5")
    with page.expect_download() as download:
        page.get_by_role("button", name="Take the inventory").click()
    assert download.value.suggested_filename == f"recordings-{ago(11)}.csv"
    assert _lines(redis) == [("export", "audit 3"), ("export", "audit 4")]


def test_a_reason_stays_while_it_is_typed_and_the_page_follows_another_export(
    page: Page, small: SmallArchive, redis_url: str
) -> None:
    exports, now = opened(environment(redis_url, small), small.root), utc_now()
    ready, waiting = new_id(now), new_id(now)
    for one in (ready, waiting):
        exports.ask(Request(one, ARCHIVE_ID, format_instant(now), "Ann", "state:archived", 8, 1, [], 24), [])
    exports.end(ready, End("ready", format_instant(now), format_instant(now + timedelta(days=1)), "x", 1, "0" * 64, 8))
    page.goto("/ops/exports")
    reason = page.get_by_label("Reason")
    reason.fill("complaint 17")
    for _ in range(2):  # the first is on the page when the second comes
        with page.expect_response("**/ops/exports"):
            pass
    expect(reason).to_have_value("complaint 17")
    expect(reason).to_be_focused()
