"""Pictures of the pages, of the same calls each time; `make screenshots` puts them where the README shows them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import House

SHOTS = {
    "overview": "",
    "recordings": "/recordings?q=%2B1312555",
    "recording": "/recordings/{id}",
    "evidence": "/evidence",
}


DESK, PHONE = ("light", 1200, 800), ("dark", 390, 844)


@pytest.mark.parametrize(("name", "on"), [*((name, DESK) for name in SHOTS), ("recording", PHONE)])
def test_a_picture_of_each_page(name: str, on: tuple[str, int, int], page: Page, house: House, tmp_path: Path) -> None:
    scheme, width, height = on
    folder = Path(os.environ.get("CALLVAULT_SCREENSHOTS") or tmp_path)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": height})
    page.goto("/ops" + SHOTS[name].format(id=house.calls[0]["id"]))
    if name == "recording":
        expect(page.locator("canvas")).to_be_visible()
    picture = page.screenshot(path=folder / f"{name}{'-phone' if on is PHONE else ''}.png")
    assert len(picture) > 15_000  # an empty page is a few kilobytes
