"""A case in a real browser: opened from a search, seen on every page of what it holds, closed with a reason."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Deployment


def test_a_case_is_opened_from_a_search_and_closed_again(page: Page, deployment: Deployment) -> None:
    call = deployment.calls[7]
    page.goto(f"/ops/recordings?session={call['call_session_id']}")
    page.get_by_role("link", name="Open a case with this search").click()
    page.get_by_label("Name").fill("Doe v. Example")
    page.get_by_label("Reason").fill("letter of 20 November")
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#said")).to_contain_text(re.compile(r'case "Doe v. Example" \(\w+\) is open'))
    row = page.get_by_role("row").filter(has_text="open since").filter(has_text="Doe v. Example")
    expect(row).to_contain_text("1 recording")
    row.get_by_role("link", name="Doe v. Example").click()
    expect(page.get_by_role("heading", level=2).first).to_have_text("1 recording")
    page.get_by_role("link", name=call["id"]).click()
    expect(page.locator("#decide ~ p").first).to_contain_text("Only closing the case ends this")
    page.get_by_role("link", name="case Doe v. Example").click()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_label("Reason").fill("settled")
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("#said")).to_contain_text("is closed")
    expect(page.locator("#content")).to_contain_text("by Ada: settled")
    expect(page.get_by_role("button", name="Close", exact=True)).to_have_count(0)
