"""Ask for an export on the pages, follow it, download it, and share it with somebody who has no account."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Deployment, assert_can_be_read
from tests.seals.bundles import check


@pytest.mark.timeout(240)
def test_an_export_is_asked_for_followed_downloaded_and_shared(
    page: Page, deployment: Deployment, browser: Browser, tmp_path: Path
) -> None:
    page.goto("/ops/recordings?q=state:archived")
    page.get_by_role("link", name="Export with proofs").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Export with proofs")
    assert_can_be_read(page, "export-form")
    page.get_by_label("Encrypt for").fill("age1xyz")
    page.get_by_role("button", name="Make the bundle").click()
    expect(page.locator("main")).to_contain_text("recipient 'age1xyz' cannot be used", ignore_case=True)
    page.go_back()
    page.get_by_label("Encrypt for").fill("")
    page.get_by_label("Reason").fill("Doe v. Example")
    page.get_by_role("button", name="Make the bundle").click()
    first = page.get_by_role("article").first
    expect(first).to_contain_text("state:archived")
    expect(first.get_by_role("link", name="Download")).to_be_visible(timeout=60_000)  # the page follows by itself
    assert_can_be_read(page, "exports")
    with page.expect_download() as downloading:
        first.get_by_role("link", name="Download").click()
    downloading.value.save_as(tmp_path / "bundle.zip")
    with zipfile.ZipFile(tmp_path / "bundle.zip") as packed:
        packed.extractall(tmp_path / "unpacked")
    (bundle,) = (tmp_path / "unpacked").iterdir()
    status, said = check(bundle)
    assert status in (0, 3), said  # the calls of today have no seal yet
    first.get_by_role("button", name="Make an address").click()
    address = page.locator("#shared-url").inner_text()
    assert_can_be_read(page, "exports-address")
    with browser.new_context(viewport=page.viewport_size) as context:
        stranger = context.new_page()
        stranger.goto(address)
        expect(stranger.locator("main")).to_contain_text("Ada shares")
        assert_can_be_read(stranger, "bundle")
        with stranger.expect_download() as downloading:
            stranger.get_by_role("link", name="Download").click()
        assert downloading.value.path().read_bytes() == (tmp_path / "bundle.zip").read_bytes()
        page.on("dialog", lambda dialog: dialog.accept())
        first.get_by_role("button", name="Remove").click()
        expect(page.locator("#said")).to_contain_text("is removed")
        expect(page.get_by_role("article")).to_have_count(0)
        stranger.goto(address)
        expect(stranger.locator("main")).to_contain_text("this export has ended", ignore_case=True)


def test_selected_recordings_are_exported(page: Page, deployment: Deployment) -> None:
    page.goto("/ops/recordings")
    for call in deployment.calls[3:5]:
        page.get_by_role("checkbox", name=f"Select {call['id']}").check()
    page.locator("#many").get_by_role("button", name="Export with proofs").click()
    expect(page.locator("main")).to_contain_text("2 selected recordings")
    page.get_by_role("button", name="Make the bundle").click()
    first = page.get_by_role("article").first
    expect(first).to_contain_text("Selected recordings")
    expect(first.get_by_role("link", name="Download")).to_be_visible(timeout=60_000)
