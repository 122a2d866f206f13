"""A server that is far away: a line that passes bytes on half a round trip later, in each direction.

The bytes of a piece lie in a pipe meanwhile and never enter this process (`splice`), so that the line takes little from the
processors that it shares with what is measured.

`python -m lab.far LISTEN_PORT SERVER_PORT ROUND_TRIP_MS` serves until it is ended.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from heapq import heappop, heappush

_PIPE_BYTES = 1 << 20  # on their way at once, in one direction of a connection
_BROKEN_OFF = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)


@contextmanager
def far(url: str, round_trip_ms: float) -> Iterator[str]:
    """Put this distance in front of the HTTP server of a URL; gives the URL of the line.

    Raises:
        AssertionError: the line is shorter than that.
    """
    from lab.processes import free_port, listens, running  # the line itself needs none of it

    port = free_port()
    server = url.rpartition(":")[2]
    # The check opens a connection and asks for nothing: a store may remember what it has answered.
    with running([sys.executable, "-m", "lab.far", str(port), server, str(round_trip_ms)], lambda: listens(port)):
        took_ms = [1000 * seconds for seconds in seconds_of_answers(port)]
        assert took_ms[0] >= 2 * round_trip_ms and min(took_ms[1:]) >= round_trip_ms, f"answers took {took_ms} ms"
        yield f"http://127.0.0.1:{port}"


def seconds_of_answers(port: int, count: int = 5) -> list[float]:
    """What answers of a server take, one after the other on one connection; the first with the time to connect."""
    took = []
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        for _ in range(count):
            connection.sendall(b"OPTIONS / HTTP/1.1\r\nHost: here\r\n\r\n")
            assert connection.recv(_PIPE_BYTES), "the server closed the connection"
            took.append(time.monotonic() - began)
            began = time.monotonic()
    return took


class _Direction:
    """One direction of a connection: a socket that is read, a pipe, and a socket that is written.

    Attributes:
        source: the socket that is read.
        is_full: whether the pipe takes no more, so that the source is not read.
        is_over: whether the end has been passed on.
        watched: what the source is watched for; it is also the sink of the other direction.
    """

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self._sink = source, sink
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(PermissionError):  # the user's pipes take too much already
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._arrived: deque[int] = deque()  # bytes that may be written; 0 is the end
        self.is_full = self.is_over = False
        self.watched = 0

    def take(self) -> int | None:
        """Take what the source has, which is watched; returns how many bytes, 0 at its end, None if the pipe is full."""
        try:
            return os.splice(self.source.fileno(), self._in, _PIPE_BYTES, flags=os.SPLICE_F_NONBLOCK)
        except BlockingIOError:
            self.is_full = True
            return None

    def arrive(self, count: int) -> None:
        """Let the next bytes out of the pipe; 0 is the end."""
        self._arrived.append(count)

    def give(self) -> bool:
        """Write what has arrived; returns whether all of it is written."""
        while self._arrived:
            if not self._arrived[0]:
                self._sink.shutdown(socket.SHUT_WR)
                self.is_over = True
            else:
                try:
                    sent = os.splice(self._out, self._sink.fileno(), self._arrived[0], flags=os.SPLICE_F_NONBLOCK)
                except BlockingIOError:
                    return False
                self._arrived[0] -= sent
            if not self._arrived[0]:
                self._arrived.popleft()
        return True

    def close(self) -> None:
        """Close the pipe, and the socket that is read."""
        self.is_over = True
        self.source.close()
        os.close(self._in)
        os.close(self._out)


class Line:
    """A line to a server of this machine.

    Args:
        listening: the socket where clients connect.
        server_port: the server's.
        round_trip_seconds: what an answer takes longer through the line than without; so does a connection.
    """

    def __init__(self, listening: socket.socket, server_port: int, round_trip_seconds: float) -> None:
        self._listening, self._server_port, self._delay_seconds = listening, server_port, round_trip_seconds / 2
        listening.setblocking(False)
        self._ready = select.epoll()
        self._ready.register(listening, select.EPOLLIN)
        self._readers: dict[int, _Direction] = {}  # by their source
        self._other: dict[_Direction, _Direction] = {}  # of the same connection
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbered = 0

    def serve(self) -> None:
        """Serve until the process ends."""
        while True:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else -1
            for file, events in self._ready.poll(wait):
                if file == self._listening.fileno():
                    self._accept()
                elif (direction := self._readers.get(file)) is not None:
                    if events & select.EPOLLOUT:
                        self._do(self._other[direction], self._give)
                    if events & ~select.EPOLLOUT and direction.watched & select.EPOLLIN:
                        self._do(direction, self._take)
            while self._due and self._due[0][0] <= time.monotonic():
                heappop(self._due)[2]()

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        self._numbered += 1
        heappush(self._due, (time.monotonic() + seconds, self._numbered, act))

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            client, _ = self._listening.accept()
            self._after(2 * self._delay_seconds, lambda: self._meet(client))  # the handshake's round trip

    def _meet(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port))
        except OSError:
            client.close()
            return
        there, back = _Direction(client, server), _Direction(server, client)
        self._other |= {there: back, back: there}
        for direction in (there, back):
            direction.source.setblocking(False)
            direction.source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._readers[direction.source.fileno()] = direction
            self._watch(direction, select.EPOLLIN, 0)

    def _watch(self, direction: _Direction, more: int, less: int) -> None:
        """Watch the source of a direction for more, or for less. One that is watched for nothing would still report its end."""
        before, direction.watched = direction.watched, direction.watched & ~less | more
        if direction.watched == before:
            return
        if not before:
            self._ready.register(direction.source, direction.watched)
        elif direction.watched:
            self._ready.modify(direction.source, direction.watched)
        else:
            self._ready.unregister(direction.source)

    def _take(self, direction: _Direction) -> None:
        if (count := direction.take()) is not None:
            self._after(self._delay_seconds, lambda: self._arrive(direction, count))
        if not count:
            self._watch(direction, 0, select.EPOLLIN)

    def _arrive(self, direction: _Direction, count: int) -> None:
        direction.arrive(count)
        self._do(direction, self._give)

    def _give(self, direction: _Direction) -> None:
        other = self._other[direction]
        is_all = direction.give()
        if direction.is_over and other.is_over:
            self._close(direction)
            return
        if direction.is_full:
            direction.is_full = False
            self._watch(direction, select.EPOLLIN, 0)
        self._watch(other, *((0, select.EPOLLOUT) if is_all else (select.EPOLLOUT, 0)))

    def _do(self, direction: _Direction, act: Callable[[_Direction], None]) -> None:
        """Do something unless the connection has ended; end it if one side has broken it off."""
        if direction not in self._other:
            return
        try:
            act(direction)
        except OSError as error:
            if error.errno not in _BROKEN_OFF:
                raise
            self._close(direction)

    def _close(self, direction: _Direction) -> None:
        for one in (direction, self._other[direction]):
            del self._readers[one.source.fileno()], self._other[one]
            one.close()


def main(listen_port: int, server_port: int, round_trip_ms: float) -> None:
    """Serve a line until the process is ended."""
    with socket.create_server(("127.0.0.1", listen_port), backlog=1024) as listening:
        Line(listening, server_port, round_trip_ms / 1000).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
