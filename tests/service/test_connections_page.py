"""The page of connections: each list is read apart, and connections have names everywhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from config.settings import load_settings
from lab.processes import callvault, receiver, run_callvault, wait_for
from lab.servers import HttpServer, RunningSandbox
from sandbox.main import furnish
from service.ops import connections
from service.ops.parts import Ops
from tests.workers.steps import pages
from workers.keys import CONNECTION_NAMES


@pytest.fixture
def furnished(sandbox: RunningSandbox) -> RunningSandbox:
    """A sandbox with two connections: zoom-office and teams-office."""
    furnish(sandbox.world)
    return sandbox


def _sections(page: str) -> dict[str, str]:
    """The part of the page about each connection, by its heading."""
    parts = page.split('class="connection">')[1:]
    return {part.partition('">')[2].partition(" <span")[0]: part.partition("</section>")[0] for part in parts}


@pytest.mark.parametrize("part", ["uploads", "releases", "phone_numbers"])
def test_a_list_that_telnyx_answers_with_500_is_one_line_in_its_place(
    part: str, environment: dict[str, str], furnished: RunningSandbox
) -> None:
    broken = next(iter(furnished.world.connections))
    furnished.world.faults.change({"answers": {f"/external_connections/{broken}/{part}": 500}})
    with receiver(environment) as (client, _):
        answer = client.get("/ops/connections", timeout=30)
        found = client.get("/api/connections", timeout=30).json()
    assert answer.status_code == 200
    sections = _sections(answer.text)
    assert list(sections) == ["zoom-office", "teams-office"]
    name = "numbers" if part == "phone_numbers" else part
    line = f"Telnyx answered 500 to the request for the {name} of zoom-office"
    assert sections["zoom-office"].count(line) == 1 and "Reload this page to try again." in sections["zoom-office"]
    assert sections["zoom-office"].count('class="bad"') == 1, "the other lists are there"
    assert 'class="bad"' not in sections["teams-office"]
    problems = {one["name"]: list(one["problems"]) for one in found["connections"]}
    assert problems == {"zoom-office": [name], "teams-office": []}
    assert found["problem"] is None and found["messages_problem"] is None


@pytest.fixture
def slow(furnished: RunningSandbox) -> Iterator[str]:
    """An address of the sandbox where uploads never come."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if "/uploads" in self.path:
                ended.wait(30)
                self.close_connection = True
                return
            answer = httpx.get(
                furnished.world.base_url + self.path,
                headers={"Authorization": self.headers["Authorization"]},
                trust_env=False,
                timeout=10,
            )
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HttpServer(Handler)
    yield f"http://127.0.0.1:{server.server_port}/v2"
    ended.set()
    server.stop()


async def test_a_list_that_hangs_delays_no_other_and_ends_in_time(
    environment: dict[str, str], async_redis: Any, slow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_PART_SECONDS", 1.5)
    for name, value in (environment | {"TELNYX_BASE_URL": slow}).items():
        monkeypatch.setenv(name, value)
    ops = Ops(load_settings(), async_redis)
    await ops.open()
    try:
        began = time.monotonic()
        found = await connections.look(ops, Request({"type": "http", "query_string": b"", "headers": []}))
        assert time.monotonic() - began < 4
    finally:
        await ops.close()
    for one in found.connections:
        assert one.problems == {
            "uploads": f"Telnyx did not send the uploads of {one.name} within 1.5 s. Reload this page to try again."
        }
        assert (len(one.releases), len(one.numbers)) == (1, 4)


def test_without_the_list_of_connections_the_log_messages_are_there(
    environment: dict[str, str], furnished: RunningSandbox, archive_folder: Path
) -> None:
    with callvault(["worker"], environment, "worker ready"):
        wait_for(lambda: list(archive_folder.glob("log-messages/*/*/*/*.json")), 80, "the mirror's first poll")
    furnished.world.faults.change({"answers": {"GET /v2/external_connections?": 500}})
    with receiver(environment) as (client, _):
        page = client.get("/ops/connections", timeout=30)
        assert page.status_code == 200
        assert page.text.count("Telnyx answered 500 to the request for the external connections") == 1
        assert "There are no external connections" not in page.text
        assert "The emergency address could not be validated." in page.text


def test_connections_have_their_names_on_other_pages(
    environment: dict[str, str], furnished: RunningSandbox, redis: Any
) -> None:
    ids = list(furnished.world.connections)
    named = f'<span class="name" title="connection {ids[0]}">zoom-office</span>'
    with receiver(environment) as (client, serve), callvault(["worker"], environment, "worker ready"):
        furnished.control("calls", count=1, connection_id=ids[0], webhook_url=f"{serve.url}/webhooks/telnyx")
        wait_for(lambda: client.get("/api/recordings").json()["hits"], 40, "the recording")
        recording_id = client.get("/api/recordings").json()["hits"][0]["row"]["recording_id"]
        wait_for(lambda: redis.hgetall(CONNECTION_NAMES), 80, "the names")
        other = {"1700000000000000000": "Support line"}
        assert redis.hgetall(CONNECTION_NAMES) == other | {ids[0]: "zoom-office", ids[1]: "teams-office"}
        wait_for(lambda: named in client.get("/ops/recordings").text, 10, "the name")
        assert named in client.get(f"/ops/recordings/{recording_id}").text
        assert (
            run_callvault(["deletions", "hold", "--connection", ids[0], "--why", "case 17"], environment).returncode
            == 0
        )
        assert named in client.get("/ops/deletions").text
        redis.delete(CONNECTION_NAMES)
        wait_for(lambda: named not in client.get("/ops/recordings").text, 10, "pages without the name")


def test_a_table_of_uploads_begins_with_those_that_failed_and_is_bounded(
    environment: dict[str, str], furnished: RunningSandbox
) -> None:
    connection_id = next(iter(furnished.world.connections))
    furnished.control("upload", connection_id=connection_id, status="error")
    for _ in range(30):
        furnished.control("upload", connection_id=connection_id, status="success")
    with receiver(environment) as (client, _):
        section = _sections(client.get("/ops/connections").text)["zoom-office"]
        assert len(client.get("/api/connections").json()["connections"][0]["uploads"]) == 32
    table = section.partition("<tbody>")[2].partition("</tbody>")[0]
    assert table.count("<tr>") == 20 and "error" in table.partition("</tr>")[0] and "Retry" in table
    assert f"And 12 more: run <code>callvault telnyx uploads list {connection_id}</code>" in section


def test_the_page_says_that_no_key_is_set(tmp_path: Path, redis_url: str) -> None:
    with pages({}, tmp_path, redis_url) as (client, _):
        page = client.get("/ops/connections", timeout=30)
        assert page.status_code == 200 and page.text.count("Telnyx did not send the external connections") <= 1
