"""Pages on paper: what is printed, and what is not; and the evidence of a day that somebody shares."""

from __future__ import annotations

import re
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Deployment

SCHEMES: tuple[Literal["light"], Literal["dark"]] = ("light", "dark")


def sealed_day(deployment: Deployment) -> str:
    return str(deployment.calls[0]["recording_started_at"][:10])


@pytest.mark.parametrize("page", ["desk"], indirect=True)
def test_on_paper_there_is_the_content_with_who_printed_it_and_nothing_to_press(
    page: Page, deployment: Deployment
) -> None:
    paths = (f"recordings/{deployment.calls[0]['id']}", f"evidence/{sealed_day(deployment)}", "deletions")
    for path in paths:
        page.goto(f"/ops/{path}")
        for scheme in SCHEMES:
            page.emulate_media(media="print", color_scheme=scheme)
            page.evaluate("dispatchEvent(new Event('beforeprint'))")
            expect(
                page.get_by_text(re.compile(rf"printed 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC by Ada · /ops/{path}"))
            ).to_be_visible()
            for what in ("nav", "button", "form", "audio", "footer", "input"):
                assert page.locator(f"{what}:visible").count() == 0, (path, what)
            assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
            expect(page.locator("main h1")).to_be_visible()
            if path != "deletions":
                expect(page.get_by_text(re.compile("^[0-9a-f]{64}$")).first).to_be_visible()  # hashes are not folded
            page.evaluate("dispatchEvent(new Event('afterprint'))")
            assert page.locator("details[open]").count() == 0, path
            page.emulate_media(media="screen")
            expect(page.get_by_text(re.compile("printed 20"))).to_be_hidden()


def test_evidence_is_shared_with_somebody_who_has_no_account(
    page: Page, browser: Browser, deployment: Deployment
) -> None:
    page.goto("/ops/evidence")
    expect(page.locator(".calendar a").last).to_be_in_viewport(ratio=1)
    expect(page.locator(".calendar a[aria-current=date]")).to_have_count(1)
    page.get_by_role("listitem", name=re.compile(sealed_day(deployment))).click()
    page.get_by_role("button", name="Share with an auditor").click()
    expect(page.locator("#said")).to_contain_text("sees the evidence of")
    address = page.locator("#shared-url").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    context = browser.new_context(viewport={"width": 320, "height": 700})
    auditor = context.new_page()
    auditor.goto(address)
    expect(auditor.get_by_role("heading", name=re.compile("^Evidence of"))).to_be_visible()
    expect(auditor.get_by_text("Ada shared this page.")).to_be_visible()
    expect(auditor.get_by_role("navigation")).to_have_count(0)
    assert auditor.evaluate("document.documentElement.scrollWidth <= innerWidth")
    with auditor.expect_download() as download:
        auditor.get_by_role("link", name="Inventory (CSV)").click()
    assert deployment.calls[0]["from"] not in download.value.path().read_text()
    context.close()
