"""The transport under httpx: the same answers and errors as httpx's own, over kept connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lab.lines import server_context
from lab.servers import RunningSandbox
from sandbox.world import World
from telnyx_api import errors
from telnyx_api import transport as transport_module
from telnyx_api.account import Account
from telnyx_api.client import TelnyxClient
from telnyx_api.transport import Transport, transport

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
KEY = "KEY-that-must-never-show"


class Server:
    """A server that reads each request of each connection, and then calls a function of the test."""

    def __init__(self, answer: Answer) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
                )
                self.requests.append(head + await reader.readexactly(length))
                await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Server, str]]:
    server = Server(answer)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server, f"http{'s' if tls else ''}://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


def sends(*pieces: bytes, closes: bool = False) -> Answer:
    """An answer in pieces, each read before the next is sent."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if closes:
            writer.close()

    return answer


def client(connections: int = 4, seconds: float = 5.0, pool: float | None = None) -> httpx.AsyncClient:
    timeout = httpx.Timeout(seconds, pool=seconds if pool is None else pool)
    return httpx.AsyncClient(transport=Transport(connections), timeout=timeout)


async def test_connections_are_kept_and_are_no_more_than_allowed() -> None:
    async with serving(sends(OK)) as (server, url), client(connections=3) as http:
        for _ in range(5):
            assert (await http.post(url, json={"a": 1})).json() == {}
        assert server.connections == 1
        await asyncio.gather(*[http.get(url) for _ in range(20)])
        assert server.connections == 3
    assert server.requests[0].endswith(b'\r\n\r\n{"a":1}')


@pytest.mark.parametrize(
    "answer",
    [
        sends(OK[:30], OK[30:]),
        sends(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", OK),
        sends(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nx-trailer: 1\r\n\r\n"
        ),
        sends(b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: Upgrade\r\ncontent-length: 2\r\n\r\n{}"),
    ],
)
async def test_an_answer_may_come_in_any_form_of_http(answer: Answer) -> None:
    async with serving(answer) as (server, url), client() as http:
        for _ in range(3):
            response = await http.get(url)
            assert (response.status_code, response.content) == (200, b"{}")
            assert "link" not in response.headers and "x-trailer" not in response.headers
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        sends(b"HTTP/1.1 200 OK\r\n\r\n{", b"}", closes=True),
        sends(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n{}", closes=True),
        sends(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
        sends(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"),
        sends(OK + OK.replace(b"{}", b"[]").replace(b"200", b"404")),  # a second, unrequested answer
    ],
)
async def test_a_connection_that_cannot_carry_another_answer_is_not_used_again(answer: Answer) -> None:
    async with serving(answer) as (server, url), client() as http:
        for n in range(1, 4):
            response = await http.post(url)
            assert (response.status_code, response.content) == (200, b"{}")
            assert server.connections == n


async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (sends(closes=True), httpx.RemoteProtocolError),
        (reset, httpx.NetworkError),
        (sends(OK[:20], closes=True), httpx.RemoteProtocolError),
        (sends(OK[:-1], closes=True), httpx.RemoteProtocolError),
        (
            sends(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", closes=True),
            httpx.RemoteProtocolError,
        ),
        (sends(b"SSH-2.0-OpenSSH_9.2\r\n"), httpx.RemoteProtocolError),
        (sends(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"), httpx.RemoteProtocolError),
        (sends(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), httpx.RemoteProtocolError),
        (sends(b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"y" * 1000 + b"\r\n"] * 200), httpx.RemoteProtocolError),
        (sends(OK[:20]), httpx.ReadTimeout),
        (sends(OK[:-1]), httpx.ReadTimeout),
    ],
)
async def test_an_incomplete_answer_is_an_error_and_closes_its_connection(
    answer: Answer, kind: type[Exception]
) -> None:
    async with serving(answer) as (server, url), client(connections=1, seconds=0.3) as http:
        for n in range(1, 3):
            with pytest.raises(kind) as failed:
                await http.get(url)
            assert type(failed.value).__str__(failed.value)
            assert server.connections == n


@pytest.mark.parametrize("made", [Transport, lambda _: None])
async def test_a_connection_that_the_server_closed_meanwhile_is_not_used(
    made: Callable[[int], Transport | None],
) -> None:
    closed = asyncio.Event()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with serving(answer) as (server, url), httpx.AsyncClient(transport=made(4)) as http:
        for n in range(1, 4):
            closed.clear()
            assert (await http.post(url)).status_code == 200
            assert server.connections == n
            await closed.wait()


async def test_a_pending_close_of_a_kept_connection_is_noticed() -> None:
    closing: list[socket.socket] = []
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(10)  # a thread that waits forever would hang the end of a failed test

    def serve() -> None:
        for _ in range(2):
            one, _address = listening.accept()
            one.settimeout(10)
            closing.append(one)
            one.recv(65536)
            one.sendall(OK)

    thread = asyncio.create_task(asyncio.to_thread(serve))
    async with client() as http:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert (await http.post(url)).status_code == 200
        closing[0].close()  # without a turn of the loop before the next request
        assert (await http.post(url)).status_code == 200
    await thread
    closing[1].close()
    listening.close()


async def test_a_free_connection_is_kept_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "_KEPT_SECONDS", 0.0)
    async with serving(sends(OK)) as (server, url), client() as http:
        for _ in range(3):
            await http.get(url)
    assert server.connections == 3


@pytest.mark.parametrize("tls", [False, True])
async def test_an_answer_that_we_cut_off_ourselves_is_not_taken_for_whole(
    tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer without a length ends only where the server closes the connection."""
    context, certificate = server_context(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    half = sends(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    async with (
        serving(half, context if tls else None) as (_, url),
        client() as http,
        http.stream("GET", url) as response,
    ):
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"half"
        await http.aclose()
        with pytest.raises(httpx.ReadError):
            await anext(pieces)


async def test_a_cancelled_request_leaves_no_connection_and_no_slot_behind() -> None:
    async with serving(sends()) as (server, url), client(connections=2) as http:
        for n in (2, 4):
            waiting = [asyncio.create_task(http.get(url)) for _ in range(5)]
            while len(server.requests) < n:
                await asyncio.sleep(0.01)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
    async with serving(sends(OK)) as (server, url), client(connections=1) as http:
        async with http.stream("GET", url):
            pass  # and its body is not read
        assert (await http.get(url)).content == b"{}"


async def test_a_request_that_gets_no_connection_in_time_fails_clearly() -> None:
    async with serving(sends()) as (_, url), client(connections=1, seconds=5, pool=0.1) as http:
        first = asyncio.create_task(http.get(url))
        await asyncio.sleep(0.05)
        with pytest.raises(httpx.PoolTimeout):
            await http.get(url)
        first.cancel()


async def test_a_connection_without_an_answer_times_out() -> None:
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    filling = [socket.socket() for _ in range(4)]
    for one in filling:
        one.setblocking(False)
        one.connect_ex(full.getsockname())
    async with client(seconds=0.2) as http:
        with pytest.raises(httpx.ConnectTimeout):
            await http.get(f"http://127.0.0.1:{full.getsockname()[1]}")
    for one in [full, *filling]:
        one.close()


async def test_the_next_address_of_a_name_is_tried_where_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(sends(OK)) as (_, url), client() as http:
        port = int(url.rpartition(":")[2])
        stream = socket.SOCK_STREAM
        addresses = [
            (socket.AF_INET6, stream, 6, "", ("100::1", port, 0, 0)),  # RFC 6666: discarded
            (socket.AF_INET, stream, 6, "", ("127.0.0.1", port)),
        ]

        async def resolve(*_: object) -> object:
            return addresses

        monkeypatch.setattr(transport_module, "_addresses", resolve)
        assert (await http.get(f"http://name.example:{port}")).status_code == 200


async def test_a_missing_name_or_server_is_a_connection_error() -> None:
    async with client() as http:
        for url, why in (
            ("http://127.0.0.1:1", r"^127\.0\.0\.1: Connection refused$"),
            ("http://no-such-name.invalid", r"^no-such-name\.invalid: [^\[(]+$"),
            (f"http://{'a' * 70}.example", "label"),
        ):
            with pytest.raises(httpx.ConnectError, match=why):
                await http.get(url)
        with pytest.raises(httpx.UnsupportedProtocol):
            await http.get("ftp://127.0.0.1")


async def test_the_certificate_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, certificate = server_context(tmp_path, "127.0.0.1")
    async with serving(sends(OK), context) as (server, url):
        async with client() as http:
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                await http.get(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with client() as http:
            for _ in range(3):
                assert (await http.get(url)).content == b"{}"
        assert len(server.requests) == 3
        with pytest.raises(httpx.ConnectError):
            async with client() as http:
                await http.get(url.replace("127.0.0.1", "localhost"))


async def test_a_large_answer_is_not_read_ahead() -> None:
    sent = 0

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 64000000\r\n\r\n")
        while sent < 64_000_000:
            writer.write(b"x" * 1_000_000)
            sent += 1_000_000
            await writer.drain()

    async with serving(answer) as (_, url), client() as http, http.stream("GET", url) as response:
        await asyncio.sleep(0.3)
        assert sent < 20_000_000, "the kernel's buffers, and a little more"
        assert sum([len(piece) async for piece in response.aiter_bytes()]) == 64_000_000


async def test_a_header_with_a_line_break_is_neither_sent_nor_shown() -> None:
    async with serving(sends(OK)) as (server, url), client() as http:
        with pytest.raises(httpx.LocalProtocolError) as refused:
            await http.get(url, headers={"Authorization": f"Bearer {KEY}\r\nx: y"})
        assert KEY not in f"{refused.value!r}"
    assert server.requests == []


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(transport(1), Transport)
    body = b'{"data": {"id": "r"}}'
    async with serving(sends(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))) as (server, url):
        monkeypatch.setenv("HTTP_PROXY", url)
        async with TelnyxClient(Account(KEY, "http://api.example/v2")) as telnyx:
            assert (await telnyx.recordings.retrieve("r")).id == "r"
    assert server.requests[0].startswith(b"GET http://api.example/v2/recordings/r ")


WHOLE = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 422 Unprocessable\r\nContent-Length: 5\r\nX-A: b\r\n\r\n12345",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n2\r\n45\r\n0\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nX-A: b\r\n\r\n12345",
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(WHOLE[0], len(WHOLE[0]), [])
@given(st.sampled_from(WHOLE), st.integers(0, 110), st.lists(st.integers(1, 100), max_size=4))
def test_a_server_is_understood_as_by_httpx_itself(answer: bytes, kept: int, cuts: list[int]) -> None:
    """Whole or cut off anywhere, in whatever pieces it comes."""
    answer = answer[:kept]
    marks = [0, *sorted(set(cuts) & set(range(len(answer)))), len(answer)]
    pieces = [answer[a:b] for a, b in pairwise(marks)]

    async def heard(made: Transport | None, url: str) -> object:
        async with httpx.AsyncClient(transport=made, trust_env=False) as http:
            try:
                response = await http.get(url)
            except httpx.TransportError:
                return "an error"
            return response.status_code, response.headers.multi_items(), response.content

    async def both() -> None:
        async with serving(sends(*pieces, closes=True)) as (_, url):
            assert await heard(Transport(1), url) == await heard(None, url)

    asyncio.run(both())


async def test_a_failing_api_raises_connection_and_server_errors_only(sandbox: RunningSandbox) -> None:
    recording = World.add_recording(sandbox.world, seconds=0.25).data["id"]
    account = Account(sandbox.world.api_key, sandbox.base_url)
    async with TelnyxClient(account, connections=2, timeout_seconds=2, budget_seconds=30) as telnyx:
        sandbox.world.faults.change({"api_cut": 0.3, "api_503": 0.2, "seed": 7})
        found = await asyncio.gather(
            *[telnyx.recordings.retrieve(recording) for _ in range(20)], return_exceptions=True
        )
        whole = [one for one in found if not isinstance(one, BaseException)]
        assert len(whole) >= 15 and {one.id for one in whole} == {recording}
        assert {type(one) for one in found if isinstance(one, BaseException)} <= {
            errors.ConnectionFailed,
            errors.ServerError,
        }
        sandbox.world.faults.change({"api_cut": 1.0, "api_503": 0.0})
        with pytest.raises(errors.ConnectionFailed) as cut:
            await telnyx.siprec_connectors.create(name="x", host="h.example", port=5060)
        assert cut.value.was_sent
        sandbox.world.faults.change({"api_cut": 0.0})
        assert (await telnyx.siprec_connectors.retrieve("x")).name == "x"
