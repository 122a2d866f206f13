"""The page of an export plays its recordings from the disk: a real browser, and no server."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from lab.processes import run_callvault
from tests.browser.conftest import Deployment


@pytest.mark.parametrize("width", [320, 1280])
def test_the_page_of_an_export_plays_from_the_disk(
    browser: Browser, deployment: Deployment, tmp_path: Path, width: int
) -> None:
    environment = {
        "CALLVAULT_ARCHIVE_URL": deployment.archive.as_uri(),
        "CALLVAULT_DATA": str(tmp_path / "data"),
        "TELNYX_API_KEY": "KEY",
    }
    done = run_callvault(["export", deployment.spoken[0], "--out", str(tmp_path / "case")], environment)
    assert done.returncode == 0, done.stderr
    context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.goto((tmp_path / "case" / "index.html").as_uri())
    played = page.evaluate(
        "async () => { const audio = document.querySelector('audio'); audio.muted = true; await audio.play();"
        " return [audio.duration > 1, audio.error === null]; }"
    )
    assert played == [True, True] and not complaints
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click("text=Transcript")
    assert deployment.spoken[1] in page.content()
    context.close()
