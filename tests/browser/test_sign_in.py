"""Sign-in at a real OpenID provider in a real browser, for which the provider is another site."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from lab.clock import Clock
from lab.openid import OpenIdProvider, openid_provider
from lab.processes import Receiver, free_port
from tests.seals.small import SmallArchive
from tests.service.company import FOREIGN, GERMAN, INSIDE, OURS, OUTSIDE, THEIRS, add
from tests.service.test_access_log import ARCHIVE_ID
from tests.service.test_access_log import environment as company_environment


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenIdProvider, int]]:
    """A provider, and the port of the receiver that it knows."""
    port = free_port()
    with openid_provider(tmp_path_factory.mktemp("provider"), [port]) as provider:
        yield provider, port


@pytest.fixture
def site(
    environment: dict[str, str], tmp_path: Path, at: tuple[OpenIdProvider, int]
) -> Iterator[tuple[OpenIdProvider, Receiver]]:
    access, (provider, port) = tmp_path / "access.toml", at
    access.write_text('[groups]\n"listeners" = "listener"\n')
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


def test_whoever_loses_a_group_sees_within_a_minute_what_the_scope_of_the_other_leaves(
    browser: Browser, redis_url: str, tmp_path: Path, at: tuple[OpenIdProvider, int]
) -> None:
    small, clock = SmallArchive(tmp_path / "archive", {"id": ARCHIVE_ID}), Clock(tmp_path, "receiver")
    provider, port = at
    add(small, INSIDE, OURS, GERMAN, "a giraffe")
    add(small, OUTSIDE, THEIRS, FOREIGN, "a zebra")
    access = tmp_path / "access.toml"
    scoped = f'{{ role = "listener", connections = ["{OURS}"], mask = true }}'
    access.write_text(f'[groups]\neverybody = "listener"\n"EU support" = {scoped}\n')
    settings = company_environment(redis_url, small) | provider.settings(access) | clock.environment
    settings.pop("CALLVAULT_OPS_TOKEN")
    with Receiver(settings, port) as receiver:
        receiver.wait_for_output("Uvicorn running")
        page = browser.new_context(base_url=receiver.url, locale="en-US").new_page()

        def is_in(*groups: str) -> None:
            provider.set_accounts(ada={"preferred_username": "Ada", "groups": [*groups]})

        is_in("everybody", "EU support")
        page.goto("/ops")
        page.get_by_role("link", name="Sign in with").click()
        _sign_in_there(page, "ada")
        expect(page).to_have_url(f"{receiver.url}/ops")
        page.goto("/ops/recordings?session=call")
        expect(page.locator("#total")).to_have_text("2 recordings")
        expect(page.locator("main")).to_contain_text(GERMAN)
        is_in("EU support")
        clock.move(62)
        page.wait_for_timeout(150)
        page.goto("/ops")
        expect(page).to_have_url(f"{receiver.url}/ops/recordings")
        expect(page.get_by_role("navigation")).to_have_text("Recordings", use_inner_text=True)
        expect(page.locator("#total")).to_have_text("1 recording")
        expect(page.locator("#scope")).to_have_text(f"Your role shows recordings for connection {OURS}.")
        expect(page.locator("main")).to_contain_text("+49********78")
        page.goto(f"/ops/recordings/{OUTSIDE}")
        expect(page.locator("main")).to_contain_text(f"ecording {OUTSIDE} is not in the archive")
        page.goto(f"/ops/recordings/{INSIDE}")
        expect(page.get_by_role("heading", level=1)).to_contain_text("+49********78")
        is_in()
        clock.move(124)
        page.wait_for_timeout(150)
        page.goto(f"/ops/recordings/{INSIDE}")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.context.close()
