"""How bytes go out to a store over a thin line: each write is bounded by silence, never a whole block by a time.

The SDKs send a body by one `sendall`, whose time limit counts for all of it, and that limit is the one for connecting
(urllib3 sets it before each request; docs.python.org/3/library/socket.html#socket.socket.sendall). A block that needs
longer than it takes to connect would never arrive. So here each write of as much as the kernel has room for may take as
long as a line may be silent; over TLS, which writes what it is given or nothing, each small piece.
"""

from __future__ import annotations

import socket
from http.client import HTTPResponse, RemoteDisconnected
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 60.0  # in which nothing is taken from us, or nothing comes after all was sent
CONNECTIONS = 128  # kept open; more than the threads that use them
_PIECE_BYTES = 64 * 1024
_UNSENT_BYTES = 128 * 1024

if TYPE_CHECKING:
    _Connection = HTTPConnection
else:
    _Connection = object


class _WholeHead(HTTPResponse):
    """An answer whose headers are whole. http.client takes the end of a cut connection for the end of the headers: the
    answer then has no length, its body is empty, and a list without entries looks like one of an empty store."""

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
    """A file that remembers the last line that was read of it."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.last: bytes | None = None

    def readline(self, *limit: int) -> bytes:
        self.last = self.file.readline(*limit)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class _Patient(socket.socket):
    """A socket whose time limit counts for each of the writes of `sendall`: for silence, and not for all that is sent."""

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
    """What has a connection of urllib3's send in pieces, and take no answer that is cut; inherited from before it."""

    response_class = _WholeHead

    def _new_conn(self) -> socket.socket:
        return _Patient.of(super()._new_conn())

    def connect(self) -> None:
        """Connect, and keep little waiting in the kernel: what waits there is not sent, though `send` has returned.

        Otherwise megabytes of a block would still be on their way when the wait for its answer begins.
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
    """A kind of pool like another of urllib3's, whose connections send in pieces."""
    connection = type("InPieces", (InPieces, pool.ConnectionCls), {})
    return type("InPiecesPool", (pool,), {"ConnectionCls": connection})
