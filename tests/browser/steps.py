"""A person at a page, whose clicks and typed characters are counted; a table of docs/ops.md shows the counts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator, Page

from tests.browser.conftest import until

_DOCUMENT = Path(__file__).parents[2] / "docs" / "ops.md"


@dataclass
class Steps:
    """What a person does on a page.

    Attributes:
        page: the page.
        clicks: clicks or taps so far; opening a link and pasting a text count as one each.
        typed: typed characters so far; a key such as Enter counts as one.
    """

    page: Page
    clicks: int = 0
    typed: int = 0

    def open(self, address: str) -> None:
        """Follow a link from elsewhere."""
        self.page.goto(address)
        self.clicks += 1

    def click(self, place: Locator) -> None:
        place.wait_for()
        self.page.wait_for_load_state()  # its scripts run then; a person is slower than that
        place.click()
        self.clicks += 1

    def play(self) -> None:
        """Press the button of the player."""
        self.page.locator("audio").click(position={"x": 25, "y": 27})
        self.clicks += 1
        until(self.page, "!document.querySelector('audio').paused")

    def fill(self, place: Locator, text: str) -> None:
        """Type a text into a field; a field that does not have the focus takes a click first."""
        if not place.evaluate("(field) => field === document.activeElement"):
            self.click(place)
        self.page.keyboard.type(text)
        self.typed += len(text)

    def paste(self, place: Locator, text: str) -> None:
        place.fill(text)
        self.clicks += 1

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.typed += 1

    def assert_documented(self, task: str) -> None:
        """Check the row of a task in docs/ops.md; `make steps` writes it."""
        row = f"| {task} | {self.clicks} | {self.typed} |"
        text = _DOCUMENT.read_text()
        if os.environ.get("CALLVAULT_STEPS") == "write":
            _DOCUMENT.write_text(re.sub(rf"^\| {re.escape(task)} \|.*$", row, text, flags=re.MULTILINE))
        else:
            assert row in text.splitlines(), f"docs/ops.md lacks the row {row!r}; run `make steps`"
