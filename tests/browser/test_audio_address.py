"""An address of audio in the page of another application: it plays there, and nothing else of the API can be read."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import httpx
import pytest
from playwright.sync_api import Browser

from lab.processes import wait_for
from lab.servers import HttpServer
from tests.browser.conftest import Deployment


@pytest.fixture
def application() -> Iterator[tuple[str, list[str]]]:
    """Another origin: its address, and the body of the page that it shows."""
    body: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write("".join(body).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HttpServer(Handler)
    yield f"http://localhost:{server.server_port}/", body
    server.stop()


def test_the_audio_plays_in_the_page_of_another_application_which_reads_nothing_else(
    deployment: Deployment, api: httpx.Client, browser: Browser, application: tuple[str, list[str]]
) -> None:
    recording_id = deployment.calls[0]["id"]
    made = api.post(f"/api/recordings/{recording_id}/audio-address", json={"why": "ticket 17"}).json()
    origin, body = application
    body.append(f'<title>CRM</title><audio controls src="{made["url"]}"></audio>')
    page = browser.new_context().new_page()
    page.goto(origin)
    page.evaluate("document.querySelector('audio').muted = true; document.querySelector('audio').play()")
    at = "document.querySelector('audio').currentTime"
    wait_for(lambda: page.evaluate(at) > 0.3, 30, "the audio")
    page.evaluate("document.querySelector('audio').currentTime = 5")
    wait_for(lambda: page.evaluate(at) > 5.2, 30, "the audio after a jump")
    size = page.evaluate("url => fetch(url).then(a => a.arrayBuffer()).then(b => b.byteLength)", made["url"])
    assert size == made["size_bytes"]
    refused = page.evaluate("url => fetch(url).then(() => 'read', () => 'refused')", f"{deployment.url}/api/recordings")
    assert refused == "refused"
    page.context.close()
    lines = api.get("/api/access-log", params={"recording": recording_id}).json()["entries"]
    plays = [entry["line"] for entry in lines if entry["line"]["how"] == "audio address"]
    assert [(line["what"], line["why"]) for line in plays] == [("play", "ticket 17")], (
        "one, however often it is asked for"
    )
