"""Sign-in at a real OpenID provider in a real browser, for which the provider is another site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from lab.openid import OpenIdProvider, openid_provider
from lab.processes import Receiver, free_port


@pytest.fixture
def site(environment: dict[str, str], tmp_path: Path) -> Iterator[tuple[OpenIdProvider, Receiver]]:
    access, port = tmp_path / "access.toml", free_port()
    access.write_text('[groups]\n"listeners" = "listener"\n')
    with openid_provider(tmp_path / "provider", [port]) as provider:
        provider.set_accounts(
            ada={"preferred_username": "Ada", "groups": ["listeners"]}, eve={"preferred_username": "Eve", "groups": []}
        )
        with Receiver(environment | provider.settings(access), port) as receiver:
            receiver.wait_for_output("Uvicorn running")
            yield provider, receiver


@pytest.fixture
def page(browser: Browser, site: tuple[OpenIdProvider, Receiver]) -> Iterator[Page]:
    """A page of nobody, whose scripts and content security policy have nothing to complain about."""
    context = browser.new_context(base_url=site[1].url, locale="en-US")
    new, complaints = context.new_page(), list[str]()
    new.on("pageerror", lambda error: complaints.append(str(error)))
    new.on("console", lambda line: complaints.append(line.text) if "Content Security Policy" in line.text else None)
    yield new
    context.close()
    assert complaints == []


def _sign_in_there(page: Page, name: str) -> None:
    page.get_by_placeholder("Enter any login").fill(name)
    page.get_by_placeholder("and password").fill("x")
    page.get_by_role("button", name="Sign-in").click()
    page.get_by_role("button", name="Continue").click()


def test_a_person_signs_in_and_out_at_the_provider(page: Page, site: tuple[OpenIdProvider, Receiver]) -> None:
    provider, receiver = site
    page.goto("/ops/recordings?q=state:held")
    page.get_by_role("link", name=f"Sign in with {provider.issuer.removeprefix('http://')}").click()
    _sign_in_there(page, "ada")
    expect(page).to_have_url(f"{receiver.url}/ops/recordings?q=state:held")
    expect(page.get_by_role("navigation")).to_have_text("Overview Recordings", use_inner_text=True)
    expect(page.locator(".who")).to_have_text("Ada")
    (cookie,) = [one for one in page.context.cookies() if one["name"] == "callvault_session"]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Lax"
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{provider.issuer}/session/end*")
    page.get_by_role("button", name="Yes, sign me out").click()
    expect(page).to_have_url(f"{receiver.url}/ops/sign-in")
    page.goto("/ops")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_person_without_a_role_reads_why(page: Page) -> None:
    page.goto("/ops")
    page.get_by_role("link", name="Sign in with").click()
    _sign_in_there(page, "eve")
    expect(page.get_by_role("alert")).to_contain_text(
        "our sign-in as Eve is good, but neither you nor one of your 0 groups"
    )
    page.goto("/ops")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
