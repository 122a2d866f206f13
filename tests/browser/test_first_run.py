"""The first run, charts and connections on the smallest phones, driven in a real browser."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from lab.processes import callvault, receiver
from lab.servers import RunningSandbox
from sandbox.main import furnish
from tests.browser.conftest import assert_can_be_read, assert_can_be_read_in_the_dark

_WIDTH = 320


def test_overview_and_connections_fit_the_smallest_phone_and_are_read_by_ear(
    browser: Browser, environment: dict[str, str], sandbox: RunningSandbox
) -> None:
    furnish(sandbox.world)
    connection_id = next(iter(sandbox.world.connections))
    sandbox.control("upload", connection_id=connection_id, status="error")
    sandbox.world.faults.change({"answers": {f"/{connection_id}/releases": 500}})
    with receiver(environment) as (_, serve):
        context = browser.new_context(
            base_url=serve.url, color_scheme="light", viewport={"width": _WIDTH, "height": 640}, locale="en-US"
        )
        try:
            page = context.new_page()
            for path in ("/ops", "/ops?span=hour", "/ops?span=month", "/ops/connections", "/ops/recordings"):
                page.goto(path)
                page.evaluate("for (const one of document.querySelectorAll('main details')) one.open = true")
                assert_can_be_read(page, path)
                assert_can_be_read_in_the_dark(page, path)
        finally:
            context.close()


def test_the_webhook_url_is_copied_and_the_first_recording_ends_the_first_run(
    browser: Browser, environment: dict[str, str], sandbox: RunningSandbox, archive_folder: Path
) -> None:
    with receiver(environment) as (_, serve):
        context = browser.new_context(
            base_url=serve.url, locale="en-US", permissions=["clipboard-read", "clipboard-write"]
        )
        try:
            page = context.new_page()
            page.goto("/ops")
            page.get_by_role("button", name="Copy the webhook URL").click()
            expect(page.get_by_role("button", name="Copy the webhook URL")).to_have_text("Copied")
            url = page.evaluate("navigator.clipboard.readText()")
            assert url == f"{serve.url}/webhooks/telnyx"
            sandbox.control("calls", count=1, webhook_url=url)
            heading = page.get_by_role("heading", name="The archive has no recording yet")
            expect(page.get_by_text("and was accepted")).to_be_visible(timeout=20_000)
            expect(heading).to_be_visible()
            with callvault(["worker"], environment, "worker ready"):
                expect(heading).to_be_hidden(timeout=40_000)
                expect(page.locator("#archived")).to_have_text("1", timeout=60_000)  # counted every two seconds
        finally:
            context.close()
