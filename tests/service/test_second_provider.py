"""Sign-in and sign-out at a provider of another kind: `oidc-provider-mock`, on Authlib, found by its discovery document alone.

It names no way in which a client authenticates, and puts groups into the id token and the userinfo alike.
"""

from __future__ import annotations

import html
import re
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from lab.clock import Clock
from lab.processes import Receiver, free_port, listens, running
from lab.stores import make_archive

ACCESS = '[groups]\nlisteners = "listener"\n"voice team" = "operator"\n'


@pytest.fixture(scope="module")
def provider() -> Iterator[httpx.Client]:
    """A client of the provider; `localhost`, as for a browser another site than a receiver on 127.0.0.1."""
    port = free_port()
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(port)]
    with (
        running(command, lambda: listens(port), {"AUTHLIB_INSECURE_TRANSPORT": "1"}),
        httpx.Client(base_url=f"http://localhost:{port}", trust_env=False, timeout=30) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock"), "receiver")


@pytest.fixture(scope="module")
def started(
    kept_redis_url: str, provider: httpx.Client, clock: Clock, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Receiver]:
    folder = tmp_path_factory.mktemp("receiver")
    make_archive(folder / "archive")
    (folder / "access.toml").write_text(ACCESS)
    settings = clock.environment | {
        "REDIS_URL": kept_redis_url,
        "CALLVAULT_ARCHIVE_URL": (folder / "archive").as_uri(),
        "CALLVAULT_DATA": str(folder / "data"),
        "CALLVAULT_ACCESS_FILE": str(folder / "access.toml"),
        "CALLVAULT_OIDC_ISSUER": str(provider.base_url).rstrip("/"),
        "CALLVAULT_OIDC_CLIENT_ID": "callvault",
        "CALLVAULT_OIDC_CLIENT_SECRET": "any + secret",
    }
    with Receiver(settings) as process:
        process.wait_for_output("Uvicorn running")
        yield process


@pytest.fixture
def receiver(started: Receiver, redis_url: str, clock: Clock, provider: httpx.Client) -> Receiver:
    """The same for all tests, with an empty Redis, a provider in which nobody has signed in, and the time that it is."""
    provider.cookies.clear()
    clock.move(0)
    time.sleep(0.15)
    return started


def _knows(provider: httpx.Client, name: str, *groups: str) -> None:
    claims: dict[str, Any] = {"name": name.title(), "email": f"{name}@example.com", "email_verified": True}
    assert provider.put(f"/users/{name}", json=claims | {"groups": [*groups]}).status_code == 204


def _sign_in(browser: httpx.Client, form: dict[str, str]) -> httpx.Response:
    """Go to the provider, answer its form, and come back."""
    there = browser.get("/ops/sign-in/start", follow_redirects=True)
    assert "Authorize Client" in there.text, there.text
    return browser.post(there.url, data=form, follow_redirects=True)


def test_a_person_signs_in_loses_a_group_and_signs_out_at_a_provider_of_another_kind(
    provider: httpx.Client, receiver: Receiver, clock: Clock
) -> None:
    _knows(provider, "ada", "staff", "listeners")
    with httpx.Client(base_url=receiver.url, trust_env=False, timeout=30) as browser:
        page = _sign_in(browser, {"sub": "ada"})
        assert (page.status_code, page.url.path) == (200, "/ops") and "ada@example.com" in page.text
        assert browser.get("/api/recordings").status_code == 200
        assert browser.get("/api/connections").status_code == 403
        _knows(provider, "ada", "voice team")
        clock.move(61)
        time.sleep(0.15)  # the receiver reads its clock anew
        assert browser.get("/api/recordings").status_code == 403, "a lost group loses access, and a new one gives it"
        assert browser.get("/api/dead-letters").status_code == 200
        csrf = browser.get("/ops").text.partition('X-CSRF-Token": "')[2].partition('"')[0]
        out = html.unescape(browser.post("/ops/sign-out", data={"csrf": csrf}).text)
        there = re.findall(r'http://localhost[^"]*/oauth2/end_session[^"]*', out)[0]
        assert parse_qs(urlsplit(there).query)["post_logout_redirect_uri"] == [f"{receiver.url}/ops/sign-in"]
        asked = browser.get(there)
        assert asked.status_code == 200 and "id_token_hint" not in there, (
            "the provider asks, as no token is in an address"
        )
        back = {"redirect_uri": f"{receiver.url}/ops/sign-in"}
        done = browser.post(f"{provider.base_url}/oauth2/end_session/confirm", data=back, follow_redirects=True)
        assert done.status_code == 200 and str(done.url) == f"{receiver.url}/ops/sign-in"
        assert browser.get("/api/overview").status_code == 401


def test_whoever_is_refused_or_has_no_group_or_was_signed_out_there_does_not_enter(
    provider: httpx.Client, receiver: Receiver, clock: Clock
) -> None:
    _knows(provider, "eve", "staff")
    _knows(provider, "ada", "listeners")
    with httpx.Client(base_url=receiver.url, trust_env=False, timeout=30) as browser:
        denied = _sign_in(browser, {"action": "deny"})
        assert denied.status_code == 401 and "could not sign you in" in denied.text
        assert _sign_in(browser, {"sub": "eve"}).status_code == 403
        assert browser.get("/api/overview").status_code == 401
        assert _sign_in(browser, {"sub": "ada"}).status_code == 200
        assert provider.post("/users/ada/revoke-tokens").status_code == 204
        assert browser.get("/api/recordings").status_code == 200, "for a minute at most"
        clock.move(61)
        time.sleep(0.15)  # the receiver reads its clock anew
        assert browser.get("/api/recordings").status_code == 401
