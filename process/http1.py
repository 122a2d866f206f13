"""The answer to an HTTP/1.1 request on a connected socket, for threads that wait for it.

`http.client` reads headers with the parser of e-mails, a quarter of what a small request costs. The parser here is
httptools, as in the receiver. It reads the head, and a body in chunks (RFC 9112, 7.1). A body of known length passes it by:
its pieces are read from the socket and given on without another copy.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httptools

_AT_ONCE_BYTES = 256 * 1024
_HEAD_AT_ONCE_BYTES = 64 * 1024
_MOST_HEAD_BYTES = 100 * 1024
_WITHOUT_A_BODY = (204, 304)  # RFC 9112, 6.3


class BrokenAnswer(ConnectionError):
    """The connection ended before the answer did, or the answer is not HTTP/1.1."""


class Answer:
    """An answer, whose head has arrived. Nothing else may use the connection until the body is read or given up.

    The time limit of the socket counts for each piece.

    Args:
        connection: the socket, with the request sent.
        method: of the request; the answer to `HEAD` has no body.

    Raises:
        BrokenAnswer: no whole head arrived.
        TimeoutError, OSError: of the socket.

    Attributes:
        status: such as 200.
        headers: names in small letters, and values, as they arrived.
        is_over: whether the body has been read to its end.
    """

    def __init__(self, connection: socket.socket, method: str) -> None:
        self._connection = connection
        self._is_bodyless = method == "HEAD"
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._left: int | None = None  # bytes of a body of known length that the parser need not see
        self._ends_with_connection = False
        self._is_spoiled = False  # bytes arrived that belong to no answer
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.is_over = False
        self._read_head()

    @property
    def is_reusable(self) -> bool:
        """Whether the connection can carry another request: this answer is over, and the server keeps the connection."""
        if not self.is_over or self._ends_with_connection or self._is_spoiled:
            return False
        pending = getattr(
            self._connection, "pending", None
        )  # bytes that TLS has decrypted; to `poll` they have been read
        said = [value.lower() for name, value in self.headers if name == "connection"]
        is_closing = any(word.strip() == "close" for value in said for word in value.split(","))
        return self._parser.get_http_version() == "1.1" and not is_closing and not (pending is not None and pending())

    def header(self, name: str) -> str:
        """The value of a header, the last one if there are several; empty without one."""
        return next((value for known, value in reversed(self.headers) if known == name), "")

    def pieces(self) -> Iterator[bytes]:
        """The body in pieces of at most 256 KiB.

        Raises:
            BrokenAnswer: the connection ended before the body did.
            TimeoutError, OSError: of the socket.
        """
        yield from self._taken()
        silent_bytes = 0
        while not self.is_over:
            if self._left is None:
                data = self._receive(_AT_ONCE_BYTES)
                self._feed(data)
                taken = self._taken()
                silent_bytes = 0 if taken else silent_bytes + len(data)
                if silent_bytes > _MOST_HEAD_BYTES and not self.is_over:
                    raise BrokenAnswer("the answer has endless trailers, or extensions of chunks")
                yield from taken
                continue
            piece = self._receive(min(self._left, _AT_ONCE_BYTES))
            self._left -= len(piece)
            self.is_over = not self._left
            yield piece

    def _taken(self) -> list[bytes]:
        taken, self._pieces = self._pieces, []
        return taken

    def _read_head(self) -> None:
        came = 0
        while not self.status:
            if came > _MOST_HEAD_BYTES:
                raise BrokenAnswer(f"the head of the answer is larger than {_MOST_HEAD_BYTES} bytes")
            data = self._receive(_HEAD_AT_ONCE_BYTES)
            came += len(data)
            self._feed(data)
        if self._is_bodyless:
            self._is_spoiled = self._is_spoiled or bool(self._taken())
            self.is_over = True
        elif self._left is not None:
            self._left -= sum(map(len, self._pieces))

    def _receive(self, most: int) -> bytes:
        data = self._connection.recv(most)
        if not data and not self._ends_with_connection:
            raise BrokenAnswer(f"the answer ended within its {'body' if self.status else 'headers'}")
        return data

    def _feed(self, data: bytes) -> None:
        if not data:  # the end of a connection that ends the body
            self.is_over = True
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.is_over:
                raise BrokenAnswer(f"the answer is not HTTP/1.1: {error}") from None
            self._is_spoiled = True

    # Called by the parser

    def on_message_begin(self) -> None:
        """Refuse what follows a whole answer: nothing was asked."""
        if self.is_over:
            raise ValueError("an answer arrived without a request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a later one is a trailer, which may be dropped (RFC 9110, 6.5.1)."""
        if not self.status:
            self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Take the head. An interim one is dropped; the final one follows (RFC 9110, 15.2)."""
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self.headers = []
            return
        self.status = status
        coding, length = self.header("transfer-encoding"), self.header("content-length")
        is_chunked = coding.rpartition(",")[2].strip().lower() == "chunked"
        self._is_bodyless = self._is_bodyless or status in _WITHOUT_A_BODY
        self._ends_with_connection = not (self._is_bodyless or is_chunked or (length and not coding))
        if length and not coding and not self._is_bodyless:
            self._left = int(length)

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body that arrived with the head, or in chunks."""
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        if self.status:
            self.is_over = True
