"""Screenshots of the pages, always with the same calls.

`make screenshots` puts them where the README shows them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Deployment

SHOTS = {
    "overview": "",
    "recordings": "/recordings?q=%2B1312555",
    "recording": "/recordings/{id}",
    "evidence": "/evidence",
}


WANTED = [*(("desk", name) for name in SHOTS), ("phone", "recording")]


@pytest.mark.parametrize(("page", "name"), WANTED, indirect=["page"])
def test_a_picture_of_each_page(page: Page, name: str, deployment: Deployment, tmp_path: Path) -> None:
    folder = Path(os.environ.get("CALLVAULT_SCREENSHOTS") or tmp_path)
    on_phone = page.viewport_size is not None and page.viewport_size["width"] < 500
    page.emulate_media(color_scheme="dark" if on_phone else "light", reduced_motion="reduce")
    page.goto("/ops" + SHOTS[name].format(id=deployment.calls[0]["id"]))
    if name == "recording":
        expect(page.locator("canvas")).to_be_visible()
    picture = page.screenshot(path=folder / f"{name}{'-phone' if on_phone else ''}.png")
    assert len(picture) > 15_000  # an empty page is a few kilobytes
