"""The line that puts benchmarks at a distance."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from lab.far import Line, seconds_of_answers

ROUND_TRIP_SECONDS = 0.06


@pytest.fixture
def served() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Serve connections by a function, and put a line before it; gives the line's port."""
    opened = []

    def serve(talk: Callable[[socket.socket], None]) -> int:
        here, there = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        opened.append(there)

        def accept() -> None:
            while True:
                try:
                    connection, _ = there.accept()
                except OSError:
                    return
                with connection:
                    talk(connection)

        threading.Thread(target=accept, daemon=True).start()
        threading.Thread(target=Line(here, there.getsockname()[1], ROUND_TRIP_SECONDS).serve, daemon=True).start()
        return int(here.getsockname()[1])

    yield serve
    for one in opened:
        one.shutdown(socket.SHUT_RDWR)
        one.close()


def test_a_line_is_as_long_as_it_claims_each_way(served: Callable[[Callable[[socket.socket], None]], int]) -> None:
    came: list[float] = []

    def answer(connection: socket.socket) -> None:
        while connection.recv(1 << 16):
            came.append(time.monotonic())
            connection.sendall(b"answer")

    port = served(answer)
    first, *others = seconds_of_answers(port)
    assert first >= 2 * ROUND_TRIP_SECONDS  # with the handshake
    assert min(others) >= ROUND_TRIP_SECONDS
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"opens it")
        connection.recv(1 << 16)
        sent = time.monotonic()
        connection.sendall(b"question")
        connection.recv(1 << 16)
        assert came[-1] - sent >= ROUND_TRIP_SECONDS / 2
        assert time.monotonic() - came[-1] >= ROUND_TRIP_SECONDS / 2


def test_a_line_passes_on_all_bytes_and_the_end_to_a_slow_reader(
    served: Callable[[Callable[[socket.socket], None]], int],
) -> None:
    sent = os.urandom(6_000_000)

    def echo(connection: socket.socket) -> None:
        received = bytearray()
        while piece := connection.recv(1 << 20):
            received += piece
            time.sleep(0.005)
        connection.sendall(received)

    with socket.create_connection(("127.0.0.1", served(echo)), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        back = bytearray()
        while piece := connection.recv(1 << 20):
            back += piece
            time.sleep(0.005)
    assert hashlib.sha256(back).digest() == hashlib.sha256(sent).digest()


def test_a_line_survives_connections_that_either_side_breaks_off(
    served: Callable[[Callable[[socket.socket], None]], int],
) -> None:
    def leave(connection: socket.socket) -> None:
        if connection.recv(1 << 16) == b"stay":
            connection.sendall(b"stayed")

    port = served(leave)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # resets it
            connection.sendall(b"leave" * 100_000)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"stay")
        assert connection.recv(1 << 16) == b"stayed"
        assert connection.recv(1 << 16) == b""
