"""Sends to a store over a slow line: the time limit is for silence, not for a whole block.

The SDKs send a body by one `sendall`, with one time limit for all of it: the limit for connecting (urllib3 sets it before
each request; docs.python.org/3/library/socket.html#socket.socket.sendall). A block that needs longer would never arrive.
So here the limit is the longest silence, and counts for each write of as much as the kernel has room for; over TLS, which
writes all or nothing, for each small piece.
"""

from __future__ import annotations

import socket
from http.client import HTTPResponse, RemoteDisconnected
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 60.0  # the longest time without progress, in sending or in waiting for the answer
CONNECTIONS = 128  # open connections; more than the threads that use them
_PIECE_BYTES = 64 * 1024
_UNSENT_BYTES = 128 * 1024

if TYPE_CHECKING:
    _Connection = HTTPConnection
else:
    _Connection = object


class _WholeHead(HTTPResponse):
    """An answer with complete headers. http.client takes the end of a cut connection for the end of the headers: the
    answer then has no length and an empty body, and a cut list looks like the list of an empty store."""

    def begin(self) -> None:
        """Read the status and the headers.

        Raises:
            RemoteDisconnected: the connection ended before they did.
        """
        file, watched = self.fp, _Lines(self.fp)
        setting: Any = self
        setting.fp = watched
        super().begin()
        if setting.fp is watched:
            setting.fp = file
        if watched.last == b"":
            self.close()
            raise RemoteDisconnected("the answer ended within its headers")


class _Lines:
    """A file that remembers the last line read."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.last: bytes | None = None

    def readline(self, *limit: int) -> bytes:
        self.last = self.file.readline(*limit)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class _Patient(socket.socket):
    """A socket whose time limit counts for each write of `sendall`, and not for all of them together."""

    @classmethod
    def of(cls, connected: socket.socket) -> _Patient:
        """The same connection."""
        timeout_seconds = connected.gettimeout()
        patient = cls(connected.family, connected.type, connected.proto, connected.detach())
        patient.settimeout(timeout_seconds)
        return patient

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """Send all."""
        with memoryview(data) as view, view.cast("B") as left:
            sent = 0
            while sent < len(left):
                sent += self.send(left[sent:], flags)


class InPieces(_Connection):
    """A mixin, before a connection of urllib3: it sends in pieces, and refuses cut answers."""

    response_class = _WholeHead

    def _new_conn(self) -> socket.socket:
        return _Patient.of(super()._new_conn())

    def connect(self) -> None:
        """Connect, and keep the kernel's send buffer small.

        Otherwise megabytes of a block would still wait there when the time limit for its answer begins.
        """
        super().connect()
        option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
        if option is not None and self.sock is not None:
            self.sock.setsockopt(socket.IPPROTO_TCP, option, _UNSENT_BYTES)

    def send(self, data: Any) -> None:
        """Send, each piece within the longest silence."""
        if self.sock is None:
            self.connect()
        if self.sock is not None:
            self.sock.settimeout(SILENCE_SECONDS)
        if isinstance(self.sock, _Patient) or not isinstance(data, bytes | bytearray | memoryview):
            super().send(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), _PIECE_BYTES):
            super().send(view[start : start + _PIECE_BYTES])


def in_pieces(pool: Any) -> Any:
    """A subclass of a pool of urllib3 whose connections send in pieces."""
    connection = type("InPieces", (InPieces, pool.ConnectionCls), {})
    return type("InPiecesPool", (pool,), {"ConnectionCls": connection})
