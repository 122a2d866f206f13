"""A deployment with ops pages: a sandbox with calls, a worker, a receiver, and a real Chromium."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis as sync_redis
from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

from lab.processes import callvault, receiver, wait_for
from lab.servers import RunningSandbox
from lab.stores import make_archive
from sandbox.main import furnish
from sandbox.world import World
from tests.browser.chromium import OPTIONS, chromium
from text.times import utc_now
from workers.queue.embedded import EmbeddedServer

TOKEN = "a-token-for-tests-only"
_AXE = Path(__file__).parents[2] / ".tools" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
_VIOLATIONS = """
  (rules) => axe.run({...rules, resultTypes: ["violations"], reporter: "no-passes", preload: false})
    .then((found) => found.violations)
"""
# A document that is left complains of the stream that it loses.
_LEAVE_IN_SILENCE = "addEventListener('pagehide', () => { console.error = () => {}; })"
SCREENS: dict[str, Any] = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}


@dataclass
class Deployment:
    """What tests know of the deployment.

    Attributes:
        server: its Redis, and redis: a client of that.
        spoken: a recording with an archived transcription, and a word of that.
    """

    url: str
    sandbox: RunningSandbox
    server: EmbeddedServer
    redis: Any
    archive: Path
    calls: list[dict[str, Any]] = field(default_factory=list)
    spoken: tuple[str, str] = ("", "")

    @property
    def webhooks(self) -> str:
        return self.url + "/webhooks/telnyx"

    @cached_property
    def session(self) -> Any:
        """The cookie of Ada, who has signed in, for a browser."""
        with httpx.Client(base_url=self.url, trust_env=False, timeout=30) as client:
            client.post("/ops/sign-in", data={"name": "Ada", "token": TOKEN})
            value = client.cookies["callvault_session"]
        made = {"name": "callvault_session", "value": value, "url": self.url}
        return made | {"httpOnly": True, "sameSite": "Strict"}


def _fill(world: World) -> list[dict[str, Any]]:
    """Calls of yesterday and today, the first with a transcription."""
    furnish(world)
    world.recordings.clear()
    world.transcriptions.clear()
    noon = datetime.combine(utc_now().date() - timedelta(days=1), datetime.min.time(), UTC) + timedelta(hours=12)
    made = [world.add_recording(seconds=6, started_at=noon + timedelta(minutes=7 * n)) for n in range(12)]
    made += [world.add_recording(seconds=3, silent=n == 0) for n in range(3)]
    for one in made[:4]:
        world.complete_transcription(world.add_transcription(one))
    return [one.data for one in made]


@contextmanager
def deployed(root: Path, world: World) -> Iterator[Deployment]:
    """A worker and a receiver on a sandbox with this world, and on an empty archive; for the block."""
    server, sandbox = EmbeddedServer(root / "valkey"), RunningSandbox(world)
    server.start()
    make_archive(root / "archive")
    environment = sandbox.environment | {
        "REDIS_URL": server.url,
        "CALLVAULT_ARCHIVE_URL": (root / "archive").as_uri(),
        "CALLVAULT_DATA": str(root / "data"),
        "CALLVAULT_OPS_TOKEN": TOKEN,
        "CALLVAULT_API_REQUESTS_PER_MINUTE": "0",  # a fuzz test sends more
        "CALLVAULT_DELETE_ORIGINALS": "verified",
        "CALLVAULT_NOT_FOUND_WAIT": "1s",
        "CALLVAULT_SEAL_AFTER": "1s",
    }
    with (
        sync_redis.Redis.from_url(server.url, decode_responses=True) as redis,
        callvault(["worker"], environment, "worker ready"),
        receiver(environment) as (_, serve),
    ):
        yield Deployment(serve.url, sandbox, server, redis, root / "archive")
    sandbox.stop()
    server.stop()


@contextmanager
def deployed_with_calls(root: Path) -> Iterator[Deployment]:
    """A deployment whose archive has the calls of a sandbox, and the seal of yesterday; for the block."""
    world = World(seed=7)
    calls = _fill(world)
    with deployed(root, world) as made:
        archive = made.archive
        records = "recordings/*/*/*/*/"
        wait_for(lambda: len(list(archive.glob(records + "recording.json"))) == len(calls), 120, "the first reconcile")
        wait_for(lambda: len(list(archive.glob(records + "transcriptions/*.json"))) == 4, 120, "the transcriptions")
        wait_for(lambda: list(archive.glob("seals/*.json")), 120, "the seal of yesterday")
        transcription = next(t for t in world.transcriptions.values() if t["recording_id"] == calls[0]["id"])
        word = max(transcription["transcription_text"].split(), key=len).strip(".,?!")
        made.calls, made.spoken = calls, (calls[0]["id"], word)
        yield made


@pytest.fixture(scope="package")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment that tests of all files share: they may add calls, and leave those that it has as they were.

    A file whose tests take parts of it away, or send it anything at all, has a `deployment` of its own.
    """
    with deployed_with_calls(tmp_path_factory.mktemp("deployment")) as made:
        yield made


@pytest.fixture(scope="package")  # no longer: it keeps a loop running, beside which no test can start its own
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=chromium(), args=OPTIONS)
        except Error as error:
            line = "Chromium does not start (`python -m tests.browser.chromium` installs one)"
            raise RuntimeError(f"{line}: {error}") from None
        yield started
        started.close()


@pytest.fixture(scope="package")
def contexts(browser: Browser) -> dict[tuple[str, str], BrowserContext]:
    """Contexts that tests share, by the address of their deployment and their screen; each keeps one page open.

    A new page of the same site is then drawn by the same process, and reads its scripts from the cache: half of the CPU.
    """
    return {}


def _context_of(
    contexts: dict[tuple[str, str], BrowserContext], browser: Browser, url: str, screen: str
) -> BrowserContext:
    """The context of a screen on a deployment, without anything that a test has left there."""
    if (url, screen) not in contexts:
        for other in [place for place in contexts if place[0] != url]:
            contexts.pop(other).close()
        made = browser.new_context(base_url=url, locale="en-US", timezone_id="UTC", viewport=SCREENS[screen])
        made.add_init_script(_LEAVE_IN_SILENCE)
        made.new_page().goto("/ops/sign-in")
        contexts[url, screen] = made
    context = contexts[url, screen]
    kept, *left = context.pages
    for one in left:
        one.close()
    kept.evaluate("localStorage.clear()")
    context.clear_cookies()
    return context


@pytest.fixture(params=["desk", "phone"])
def page(
    request: pytest.FixtureRequest,
    browser: Browser,
    deployment: Deployment,
    contexts: dict[tuple[str, str], BrowserContext],
) -> Iterator[Page]:
    """A signed-in page, on a desktop and on a phone; an error of its scripts fails the test."""
    context = _context_of(contexts, browser, deployment.url, request.param)
    context.add_cookies([deployment.session])
    new = context.new_page()
    complaints: list[str] = []
    new.on("pageerror", lambda error: complaints.append(str(error)))
    new.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    yield new
    new.close()
    assert [line for line in complaints if not re.search("[Ss]tatus (of|Error Code) 4", line)] == []


def until(page: Page, what: str) -> None:
    """Wait until an expression is true on a page; `Page.wait_for_function` needs `eval`, which its policy forbids."""
    wait_for(lambda: page.evaluate(what), 30, what, every_seconds=0.05)


def assert_can_be_read(page: Page, what: str) -> None:
    """axe-core finds nothing serious, and the page is no wider than the screen."""
    if not page.evaluate("'axe' in window"):
        # The page's policy forbids a script element. Each page that this one opens from now on has its own axe already.
        page.add_init_script(_AXE.read_text())
        page.evaluate(_AXE.read_text())
    _assert_nothing_serious(page, what, {})
    assert page.viewport_size is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"], what


def assert_can_be_read_in_the_dark(page: Page, what: str) -> None:
    """In dark colours, axe-core finds nothing serious either, on a page that can be read in light ones.

    It looks anew at what depends on colours: our style sheet changes nothing else in the dark.
    """
    page.emulate_media(color_scheme="dark")
    _assert_nothing_serious(page, f"{what} in the dark", {"runOnly": {"type": "tag", "values": ["cat.color"]}})
    page.emulate_media(color_scheme="light")


def _assert_nothing_serious(page: Page, what: str, rules: dict[str, Any]) -> None:
    violations = page.evaluate(_VIOLATIONS, rules)
    serious = [
        (violation["id"], [node["html"] for node in violation["nodes"]])
        for violation in violations
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == [], f"{what}: {json.dumps(serious, indent=1)}"


def sign_in(page: Page, token: str = TOKEN) -> None:
    page.goto("/ops")
    page.get_by_label("Your name").fill("Ada")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()


@pytest.fixture
def api(deployment: Deployment) -> Iterator[httpx.Client]:
    """A client with the token."""
    with httpx.Client(base_url=deployment.url, trust_env=False, timeout=30) as client:
        client.headers["Authorization"] = f"Bearer {TOKEN}"
        yield client
