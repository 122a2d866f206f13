"""The receiver on the wire: requests in pieces, together, cut short, and with unwanted bodies."""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress
from typing import Any

import httpx

from lab.webhooks import Signer
from tests.service.test_webhooks import SAVED, post


def raw(client: httpx.Client, *pieces: bytes, answers: int = 1, ends_with: bytes = b"already accepted\n") -> bytes:
    """The receiver's answers on one connection to bytes in pieces, up to a number of answers or its close."""
    received = b""
    with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for n, piece in enumerate(pieces):
            if n:
                time.sleep(0.05)  # so that it is sent alone
            connection.sendall(piece)
        while received.count(b"HTTP/1.1 ") < answers or not received.endswith(ends_with):
            if not (more := connection.recv(65536)):
                break
            received += more
    return received


def request_of(body: bytes, headers: dict[str, str], *, method: str = "POST", **more: str) -> bytes:
    lines = {"Host": "x", "Content-Length": str(len(body))} | headers | more
    head = f"{method} /webhooks/telnyx HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return head.encode() + b"\r\n" + body


def test_a_body_that_trickles_is_ended(receiver: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", receiver.base_url.port or 80), 20) as connection:
        connection.sendall(b"POST /webhooks/telnyx HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc")
        started = time.monotonic()
        answer = connection.recv(1000)
        assert b" 408 " in answer.splitlines()[0]
        assert 8 < time.monotonic() - started < 15


def test_an_unwanted_body_blocks_no_connection(receiver: httpx.Client) -> None:
    """Neither a body that continues after its answer, nor one that falls silent there."""
    address = ("127.0.0.1", receiver.base_url.port or 0)
    with socket.create_connection(address, 20) as trickling, socket.create_connection(address, 20) as silent:
        trickling.sendall(b"POST /webhooks/telnyx HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
        silent.sendall(b"PUT /webhooks/telnyx HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        assert b" 413 " in trickling.recv(1000).splitlines()[0]
        assert b" 405 " in silent.recv(1000).splitlines()[0]
        silent.sendall(b"abc")
        until = time.monotonic() + 25
        with suppress(ConnectionError):
            while not select.select([trickling], [], [], 0.2)[0]:
                trickling.sendall(b"x")
                assert time.monotonic() < until, "it goes on"
        silent.settimeout(max(0.1, until - time.monotonic()))
        assert silent.recv(1) == b""


def test_an_answer_is_the_same_however_the_request_comes(
    receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    """We write nearly every answer at once; uvicorn writes those that close the connection."""

    def parts(received: bytes) -> tuple[bytes, set[bytes], bytes]:
        head, _, body = received.partition(b"\r\n\r\n")
        status, *lines = head.split(b"\r\n")
        return status, {line for line in lines if not line.startswith(b"date:")}, body

    headers = signers[0].headers(SAVED)
    post(receiver, SAVED, headers)
    whole = request_of(SAVED, headers)
    split = whole.index(b"\r\n\r\n") + 4
    expected = parts(raw(receiver, whole))
    assert expected[::2] == (b"HTTP/1.1 200 OK", b"already accepted\n")
    assert parts(raw(receiver, whole[:split], whole[split : split + 9], whole[split + 9 :])) == expected
    closing = parts(raw(receiver, request_of(SAVED, headers, Connection="close")))
    assert closing == (expected[0], expected[1] | {b"connection: close"}, expected[2])
    asking = raw(receiver, request_of(SAVED, headers, Expect="100-continue")[:-1], SAVED[-1:], answers=2)
    assert asking.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b"\r\ndate: " in raw(receiver, whole)


def test_requests_that_come_together_are_answered_in_their_order(
    receiver: httpx.Client, redis: Any, signers: tuple[Signer, Signer]
) -> None:
    headers = signers[0].headers(SAVED)
    post(receiver, SAVED, headers)
    forged = headers | {"telnyx-timestamp": "1"}
    three = request_of(SAVED, headers) + request_of(SAVED, forged) + request_of(SAVED, headers)
    received = raw(receiver, three, answers=3)
    assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"200", b"401", b"200"]


def test_an_answer_to_head_has_no_body(receiver: httpx.Client) -> None:
    received = raw(receiver, request_of(b"", {}, method="HEAD"), ends_with=b"\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 405 ") and received.endswith(b"\r\n\r\n")
