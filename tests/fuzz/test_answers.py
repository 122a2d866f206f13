"""Any answer of Telnyx's API and storage gives a model, bytes, or an error of the failure classes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config.settings import Settings
from lab.servers import HttpServer
from telnyx_api.account import Account
from telnyx_api.client import TelnyxClient
from telnyx_api.downloads import DownloadFailed, Downloads
from telnyx_api.errors import TelnyxError
from tests.fuzz.values import DEEP, documents, like, texts
from workers.engine.failing import failure_class_of
from workers.engine.failure_classes import FAILURE_CLASSES

EXAMPLES = 60  # each is a request
HEADERS = ("content-length", "content-range", "content-encoding", "content-type", "etag", "location", "retry-after")
RECORDING = (
    "id",
    "status",
    "recording_started_at",
    "created_at",
    "duration_millis",
    "download_urls",
    "channels",
    "from",
)


class Server:
    """Gives each request the same answer, byte for byte as a test asks for."""

    def __init__(self) -> None:
        self.head, self.body = b"HTTP/1.1 200 OK\r\n\r\n", b""
        server = self

        class Handler(BaseHTTPRequestHandler):
            def handle(self) -> None:
                try:
                    self.rfile.readline(65_537)
                    while self.rfile.readline(65_537).strip():
                        pass
                    self.wfile.write(server.head + server.body)
                except OSError:
                    pass

        self.http = HttpServer(Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.stop()


def _json(document: Any) -> bytes:
    return msgspec.json.encode(document)


_answers = st.one_of(
    st.binary(max_size=200),
    st.just(DEEP),
    documents.map(_json),
    st.builds(lambda data: _json({"data": data}), st.one_of(like(*RECORDING), documents)),
    st.builds(
        lambda data, meta: _json({"data": data, "meta": meta}),
        st.one_of(st.lists(like(*RECORDING), max_size=3), documents),
        st.one_of(like("total_pages", "page_number", "total_results", "page_size"), documents),
    ),
    st.builds(
        lambda errors: _json({"errors": errors}), st.one_of(st.lists(like("code", "title", "source")), documents)
    ),
)


@given(status=st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 404, 422, 429, 500, 503]), body=_answers)
@example(status=200, body=b'{"data": [], "meta": {"total_pages": 1e400}}')
@example(status=422, body=b'{"errors": ' + DEEP)
def test_any_answer_of_the_api_is_a_model_or_an_error_of_the_table(status: int, body: bytes, server: Server) -> None:
    server.head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
    server.body = body

    async def ask() -> None:
        account = Account("KEY", f"{server.url}/v2")
        async with TelnyxClient(account, budget_seconds=0.05) as client:
            try:
                found = await client.recordings.retrieve("an-id")
                assert found.as_returned() is not None
            except TelnyxError as error:
                _judge(error)
            try:
                async with asyncio.timeout(20):
                    async for one in client.recordings.list():
                        assert one.as_returned() is not None
            except TelnyxError as error:
                _judge(error)

    asyncio.run(ask())


def _judge(error: Exception) -> None:
    assert "KEY" not in str(error).replace("KEYS", "")
    assert failure_class_of(error, Settings()).name in FAILURE_CLASSES


@given(
    status=st.sampled_from([200, 200, 206, 206, 204, 301, 403, 416, 500]),
    headers=st.dictionaries(
        st.sampled_from(HEADERS),
        st.one_of(
            st.sampled_from(
                ["0", "5", "-1", "1e3", "9" * 30, "bytes 0-4/5", "bytes 3-4/5", "bytes */5", "gzip", "br", '"t"']
            ),
            texts.map(lambda t: t.encode("ascii", "ignore").decode().replace("\r", "").replace("\n", "")[:60]),
        ),
        max_size=4,
    ),
    body=st.binary(max_size=64),
)
@example(status=200, headers={"content-length": "5", "content-encoding": "gzip"}, body=b"RIFFx")
def test_any_answer_to_a_download_is_bytes_or_a_failed_download(
    status: int, headers: dict[str, str], body: bytes, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telnyx_api.downloads.time.sleep", lambda _: None)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    server.head = f"HTTP/1.1 {status} X\r\n{lines}connection: close\r\n\r\n".encode("ascii", "ignore")
    server.body = body
    downloads = Downloads(is_local=True, timeout_seconds=1)
    try:
        got = b"".join(downloads.stream(f"{server.url}/a.wav", lambda: f"{server.url}/b.wav", threading.Event()))
        assert 0 < len(got) <= 10 * len(body)
    except DownloadFailed:
        pass
    finally:
        downloads.close()


@given(
    st.one_of(texts, texts.map(lambda text: f"https://{text}"), texts.map(lambda text: f"http://127.0.0.1:1/{text}"))
)
@example("https://[")
@example("http://127.0.0.1:1/\x00")
@example("http://127.0.0.1:99999/")
@example("https://user@host/")
@example("file:///etc/passwd")
def test_any_address_is_fetched_or_refused(url: str) -> None:
    downloads = Downloads(is_local=False, timeout_seconds=1)  # as with the real API: no address here is allowed
    try:
        with pytest.raises(DownloadFailed):
            b"".join(downloads.stream(url, lambda: url, threading.Event()))
    finally:
        downloads.close()
