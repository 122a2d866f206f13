"""Every page in every state: with calls, without any, while Redis is away, while the archive is away.

In each of them a page can be read by keyboard and ear, nothing lies beside the screen of a small phone, and an outage is
named with what still works. `make screenshots` takes the pictures, also of the full pages; the documents show a few.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect

from lab.processes import wait_for
from sandbox.world import World
from service.ops.tables import PAGES
from tests.browser.conftest import TOKEN, Deployment, assert_can_be_read, deployed, deployed_with_calls, sign_in
from tests.workers.steps import pages
from workers.engine.attempts import Attempt, DeadLetter

Scheme = Literal["light", "dark"]

_SCREENS: dict[str, Any] = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
_NARROW: Any = {"width": 320, "height": 700}
_TWO: list[tuple[str, Scheme]] = [("desk", "light"), ("phone", "dark")]
_ONE: list[tuple[str, Scheme]] = [("phone", "dark")]
_ALL: list[tuple[str, Scheme]] = [*_TWO, ("desk", "dark"), ("phone", "light")]
_FOLDER = os.environ.get("CALLVAULT_SCREENSHOTS")
_IMAGES = Path(__file__).parents[2] / "docs" / "images"
# The pictures that documents show: the file, and the page, screen and scheme that it comes from.
IN_DOCUMENTS = {
    "overview.png": ("overview", "desk", "light"),
    "recordings.png": ("recordings", "desk", "light"),
    "recording.png": ("recording-of-a-word", "desk", "light"),
    "recording-phone.png": ("recording-of-a-word", "phone", "dark"),
    "evidence.png": ("evidence", "desk", "light"),
}


@dataclass
class State:
    """A state of the pages.

    Attributes:
        looks: the screens and schemes in which every page is looked at.
        says: what a page says then; empty: nothing in particular. of: the pages that say it; empty: all but refusals.
    """

    looks: list[tuple[str, Scheme]]
    says: str = ""
    of: tuple[str, ...] = ()

    def must_say(self, page: str) -> bool:
        """Whether a page must name the outage."""
        return bool(self.says) and (page in self.of if self.of else page not in ("unknown", "recordings-refused"))


STATES = {
    "full": State(_ALL),
    "empty": State(_TWO),
    "archive-away": State(_TWO, "The archive", ("overview", "recordings", "recording", "evidence", "day", "deletions")),
    "redis-away": State(_TWO, "Redis does not answer"),
}
# The axe test of `test_pages.py` looks at the full pages.
WANTED = [name for name in STATES if _FOLDER or name != "full"]


def _paths(deployment: Deployment) -> dict[str, str]:
    """Every page by a name for its picture; those of the menu, and what they lead to."""
    found = {page.title.lower().replace(" ", "-"): page.path for page in PAGES if page.in_menu}
    if deployment.calls:
        found["recording"] = f"/recordings/{deployment.calls[0]['id']}"
        found["day"] = f"/evidence/{deployment.calls[0]['recording_started_at'][:10]}"
        found["recordings-of-a-word"] = f"/recordings?q={deployment.spoken[1]}"
        found["recording-of-a-word"] = f"{found['recording']}?text={deployment.spoken[1]}"
    return found | {"recordings-refused": "/recordings?q=state:lost", "unknown": "/none-such"}


@contextmanager
def _redis_away(deployment: Deployment) -> Iterator[None]:
    deployment.server.stop()
    try:
        yield
    finally:
        deployment.server.start()


@contextmanager
def _archive_away(deployment: Deployment) -> Iterator[None]:
    away = deployment.archive.rename(deployment.archive.with_suffix(".away"))
    try:
        yield
    finally:
        away.rename(deployment.archive)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One of these tests alone, for its parts go away."""
    with deployed_with_calls(tmp_path_factory.mktemp("deployment")) as made:
        yield made


@pytest.fixture
def in_state(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Deployment]]:
    """The name of a state, and a deployment in it."""
    name: str = request.param
    if name == "empty":
        with deployed(tmp_path_factory.mktemp("empty"), World(seed=7)) as empty:
            yield name, empty
        return
    deployment: Deployment = request.getfixturevalue("deployment")
    _furnish(deployment)
    if name == "full":
        _add_a_long_call(deployment)
        yield name, deployment
        return
    with _redis_away(deployment) if name == "redis-away" else _archive_away(deployment):
        yield name, deployment


def _furnish(deployment: Deployment) -> None:
    """Give every list a row: dead letters of two causes, and a log message."""
    for n, cause in enumerate(("download", "download", "not-audio")):
        attempts = [
            Attempt(f"2026-11-25T10:0{i}:00.000000Z", cause, "DownloadFailed: cut off at 1.2 MB") for i in range(3)
        ]
        name = f"archive_recording:0123456{n}-89ab-4def-8123-456789abcdef"
        last = attempts[-1]
        letter = DeadLetter(name, "archive_recording", {"v": 1}, "arq:queue", cause, last.error, last.at, attempts)
        deployment.redis.hset("callvault:dead-letters", name, msgspec.json.encode(letter))
    wait_for(lambda: list(deployment.archive.glob("log-messages/*/*/*/*.json")), 80, "the mirror's first poll")
    with httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False, timeout=30) as client:
        # so that the receiver has opened the archive and filled its catalogue before either goes away
        answer = client.get(deployment.url + "/api/recordings").raise_for_status().json()
        assert answer["total"] >= len(deployment.calls) > 0


def _add_a_long_call(deployment: Deployment) -> None:
    """Put a call of some length first, with what was said in it: the pictures show it."""
    asked = {"count": 1, "seconds": 95, "transcribed": 1, "webhook_url": deployment.webhooks}
    (recording_id,) = deployment.sandbox.control("calls", **asked)["recordings"]
    folder = f"recordings/*/*/*/{recording_id}/"
    wait_for(lambda: list(deployment.archive.glob(folder + "transcriptions/*.json")), 40, "the transcription")
    wait_for(lambda: list(deployment.archive.glob(folder + "recording.json")), 40, "the recording")
    world = deployment.sandbox.world
    said = next(t["transcription_text"] for t in world.transcriptions.values() if t["recording_id"] == recording_id)
    deployment.calls.insert(0, world.recordings[recording_id].data)
    deployment.spoken = (recording_id, max(said.split(), key=len).strip(".,?!"))


def _settle(page: Page) -> None:
    """Wait for the picture above a player, if the page has one."""
    if page.locator(".levels").count():
        expect(page.locator(".levels p").first).to_be_visible()


def _says(page: Page, text: str) -> bool:
    """Whether a page says something, else read it anew: the catalogue asks the archive every two seconds only."""
    if text in page.get_by_role("main").inner_text():
        return True
    page.reload()
    return False


def _assert_can_be_read_and_narrow(page: Page, what: str) -> None:
    assert_can_be_read(page, what)
    before = page.viewport_size
    page.set_viewport_size(_NARROW)
    assert page.evaluate("document.documentElement.scrollWidth") <= _NARROW["width"], what
    page.set_viewport_size(before or _NARROW)


def _take(page: Page, name: str, state: str, screen: str, scheme: Scheme) -> None:
    if not _FOLDER:
        return
    folder = Path(_FOLDER)
    page.screenshot(path=folder / f"{name}.{state}.{screen}.{scheme}.png", full_page=True)
    for image, wanted in IN_DOCUMENTS.items():
        if state == "full" and wanted == (name, screen, scheme):
            page.screenshot(path=_IMAGES / image)


@pytest.mark.timeout(600 if _FOLDER else 240)
@pytest.mark.parametrize("in_state", WANTED, indirect=True)
def test_every_page_can_be_read_in_every_state(in_state: tuple[str, Deployment], browser: Browser) -> None:
    name, deployment = in_state
    state = STATES[name]
    for screen, scheme in state.looks if _FOLDER else _ONE:  # colours and screens of full pages: `test_pages.py`
        context = browser.new_context(
            base_url=deployment.url,
            locale="en-US",
            timezone_id="UTC",
            viewport=_SCREENS[screen],
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.goto("/ops")
        _assert_can_be_read_and_narrow(page, f"sign-in {name}")
        _take(page, "sign-in", name, screen, scheme)
        sign_in(page)
        for title, path in _paths(deployment).items():
            page.goto("/ops" + path)
            _settle(page)
            if state.must_say(title):
                wait_for(partial(_says, page, state.says), 30, f"{title} {name}: {state.says}")
            _assert_can_be_read_and_narrow(page, f"{title} {name}")
            _take(page, title, name, screen, scheme)
        context.close()


@contextmanager
def _signed_in_at(deployment: Deployment, browser: Browser) -> Iterator[Page]:
    with browser.new_context(base_url=deployment.url) as context:
        context.add_cookies([deployment.session])
        page = context.new_page()
        page.goto("/ops")
        yield page


@pytest.mark.parametrize("in_state", ["redis-away"], indirect=True)
def test_while_redis_is_away_each_page_says_so_in_one_line_and_shows_the_rest(
    in_state: tuple[str, Deployment], browser: Browser
) -> None:
    _, deployment = in_state
    with _signed_in_at(deployment, browser) as page:
        expect(page.get_by_role("article")).to_contain_text("Redis does not answer")
        page.goto(f"/ops/recordings/{deployment.calls[0]['id']}")
        expect(page.get_by_role("status").filter(has_text="Redis does not answer")).to_have_count(1)
        expect(page.get_by_role("heading", name="Listen")).to_be_visible()
        page.goto("/ops/dead-letters")
        expect(page.get_by_role("heading", name="Redis does not answer")).to_be_visible()
        page.get_by_role("main").get_by_role("link", name="Recordings").click()
        expect(page.locator("tr.hit").first).to_be_visible()


@pytest.mark.parametrize("in_state", ["archive-away"], indirect=True)
def test_while_the_archive_is_away_the_catalogue_still_finds_calls(
    in_state: tuple[str, Deployment], browser: Browser
) -> None:
    _, deployment = in_state
    with _signed_in_at(deployment, browser) as page:
        expect(page.get_by_role("article").first).to_contain_text("The archive")
        call = deployment.calls[0]
        page.goto(f"/ops/recordings?q={call['id']}")
        page.locator("tr.hit").get_by_role("link").click()
        expect(page.get_by_role("heading", name="The archive cannot be read")).to_be_visible()
        expect(page.locator("tr.hit")).to_contain_text(call["from"])
        page.get_by_role("main").get_by_role("link", name="Dead letters").click()
        expect(page.get_by_role("article").first).to_be_visible()


def test_an_archive_that_cannot_be_opened_leaves_the_overview_only(tmp_path: Path, redis_url: str) -> None:
    with pages({"CALLVAULT_ARCHIVE_URL": "file:///proc/x"}, tmp_path, redis_url) as (client, _):
        for page in ("/ops", "/ops/deletions"):
            shown = client.get(page).text
            assert "is not a Callvault archive" in shown and 'only <a href="/ops">the overview</a>' in shown
            assert "These pages still work" not in shown


@pytest.mark.skipif(not _FOLDER, reason="takes no pictures")
def test_the_pictures_of_documents_are_small() -> None:
    assert {path.name for path in _IMAGES.iterdir()} == set(IN_DOCUMENTS)
    assert sum(path.stat().st_size for path in _IMAGES.iterdir()) < 2_000_000
