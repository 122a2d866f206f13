"""The answers that threads read: every form of HTTP/1.1, and nothing that is cut off counts as whole."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process.http1 import Answer, BrokenAnswer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: a\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\nx-trailer: 1\r\n\r\n"


def asked(*sent: bytes, method: str = "GET", closes: bool = False) -> tuple[Answer, bytes]:
    """The answer to a request and its body, of a server that sends these pieces."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        for piece in sent:
            theirs.sendall(piece)
        if closes:
            theirs.shutdown(socket.SHUT_WR)
        answer = Answer(ours, method)
        return answer, b"".join(answer.pieces())


@pytest.mark.parametrize(
    ("sent", "is_reusable"),
    [
        (OK, True),
        (CHUNKED, True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK, True),
        (OK.replace(b"ETag: a", b"Connection: close"), False),
        (OK.replace(b"ETag: a", b"Connection: keep-alive, Close\r\nConnection: x"), False),
        (OK.replace(b"1.1", b"1.0"), False),
        (OK + OK, False),
    ],
)
def test_an_answer_may_come_in_any_form_of_http(sent: bytes, is_reusable: bool) -> None:
    answer, body = asked(sent)
    assert (answer.status, body, answer.is_over, answer.is_reusable) == (200, b"{}", True, is_reusable)
    assert not {"link", "x-trailer"} & {name for name, _ in answer.headers}


@pytest.mark.parametrize(
    "sent", [b"HTTP/1.1 200 OK\r\n\r\n{}", b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n{}"]
)
def test_a_body_of_unknown_length_ends_with_its_connection(sent: bytes) -> None:
    answer, body = asked(sent, closes=True)
    assert (body, answer.is_over, answer.is_reusable) == (b"{}", True, False)


@pytest.mark.parametrize(
    ("sent", "is_reusable"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\netag: x\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n", True),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nunasked", False),
    ],
)
def test_the_answer_to_a_head_has_no_body(sent: bytes, is_reusable: bool) -> None:
    answer, body = asked(sent, method="HEAD")
    assert (body, answer.is_over, answer.is_reusable) == (b"", True, is_reusable)


@given(st.integers(min_value=0, max_value=len(OK) - 1), st.booleans())
def test_an_answer_that_is_cut_off_anywhere_is_refused(length: int, is_chunked: bool) -> None:
    with pytest.raises(BrokenAnswer):
        asked((CHUNKED if is_chunked else OK)[:length], closes=True)


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000 + b"\r\n\r\n",
        b"",
    ],
)
def test_what_is_no_answer_is_refused(sent: bytes) -> None:
    with pytest.raises(BrokenAnswer):
        asked(sent, closes=True)


@given(st.lists(st.integers(min_value=1, max_value=90), max_size=8), st.sampled_from([OK, CHUNKED]))
def test_it_does_not_matter_how_an_answer_is_cut_into_pieces(cuts: list[int], whole: bytes) -> None:
    def pieces() -> Iterator[bytes]:
        at = 0
        for cut in cuts:
            yield whole[at : at + cut]
            at += cut
        yield whole[at:]

    class Slow:
        """A connection whose bytes arrive in these pieces."""

        def __init__(self) -> None:
            self.coming = list(filter(None, pieces()))

        def recv(self, most: int) -> bytes:
            piece = self.coming.pop(0)
            if len(piece) > most:
                self.coming.insert(0, piece[most:])
            return piece[:most]

    connection: Any = Slow()
    answer = Answer(connection, "GET")
    assert b"".join(answer.pieces()) == b"{}"
    assert answer.is_reusable and not connection.coming


@pytest.mark.parametrize("endless", [b"0\r\nx: ", b"1;x="])
def test_an_answer_in_chunks_that_brings_no_bytes_ends(endless: bytes) -> None:
    class Endless:
        """A connection that sends a trailer, or an extension of a chunk, without an end."""

        def __init__(self) -> None:
            self.next = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + endless

        def recv(self, most: int) -> bytes:
            sent, self.next = self.next, b"x" * 20_000
            return sent

    connection: Any = Endless()
    with pytest.raises(BrokenAnswer, match="endless"):
        list(Answer(connection, "GET").pieces())


def test_bytes_that_tls_has_decrypted_keep_a_connection_from_being_used_again() -> None:
    class Tls:
        """A TLS connection that has read more than it gave."""

        def recv(self, most: int) -> bytes:
            return OK

        def pending(self) -> int:
            return 7

    connection: Any = Tls()
    answer = Answer(connection, "GET")
    assert list(answer.pieces()) == [b"{}"] and not answer.is_reusable


def test_a_connection_stays_silent_no_longer_than_its_time_limit() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0.05)
        theirs.sendall(OK[:-1])
        answer = Answer(ours, "GET")
        with pytest.raises(TimeoutError):
            list(answer.pieces())
        assert not answer.is_reusable
