"""The transport of downloads under httpx: HTTP/1.1 for threads, over kept connections.

httpx's own transport copies each piece of a body several times, inspects every connection for each request, and takes no
function that connects (decision 23). The connection is a plain or TLS socket; `process/http1.py` reads answers from it.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import httpx

from process.http1 import Answer, BrokenAnswer
from telnyx_api.transport import bytes_of

_KEPT_SECONDS = 5.0  # without a request; httpx's own default

_Origin = tuple[str, str, int]  # scheme, host, port


class DownloadTransport(httpx.BaseTransport):
    """Sends requests without a body, and raises the errors that httpx documents. Safe to use from several threads.

    Args:
        connections: the most connections kept for later.
        connect: opens a TCP connection to a host and port within some seconds. Raises OSError.
    """

    def __init__(self, connections: int, connect: Callable[[str, int, float | None], socket.socket]) -> None:
        self._connections = connections
        self._connect_to = connect
        self._free: deque[tuple[_Origin, float, socket.socket]] = deque()  # with the time when it became free

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return the answer once its head has arrived.

        Raises:
            httpx.ConnectTimeout, httpx.ConnectError: nothing was sent.
            httpx.ReadTimeout, httpx.WriteTimeout: nothing passed in time.
            httpx.NetworkError, httpx.ProtocolError: the connection broke, or the answer is invalid.
        """
        url, timeouts = request.url, request.extensions.get("timeout", {})
        sent = bytes_of(request)
        default = 443 if url.scheme == "https" else 80
        origin = (url.scheme, url.raw_host.decode("ascii"), url.port or default)
        connection = self._take(origin) or self._connect(origin, timeouts.get("connect"))
        try:
            with _errors(httpx.WriteTimeout, httpx.WriteError):
                connection.settimeout(timeouts.get("write"))
                connection.sendall(sent)
            with _errors(httpx.ReadTimeout, httpx.ReadError):
                connection.settimeout(timeouts.get("read"))
                answer = Answer(connection, request.method)
            # As bytes: httpx wants ASCII of texts, and a server may name a file in any letters.
            headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
            return httpx.Response(answer.status, headers=headers, stream=_Body(self, origin, connection, answer))
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the connections that are free."""
        while self._free:
            self._free.pop()[2].close()

    def give_back(self, origin: _Origin, connection: socket.socket, *, is_reusable: bool) -> None:
        """Keep a connection for the next request, or close it."""
        if not is_reusable:
            connection.close()
            return
        self._free.append((origin, time.monotonic(), connection))
        if len(self._free) > self._connections:
            self._free.popleft()[2].close()

    def _take(self, origin: _Origin) -> socket.socket | None:
        """The free connection to a server that was used last."""
        for _ in range(len(self._free)):
            try:
                to, since, connection = self._free.pop()
            except IndexError:  # another thread took the last one
                return None
            if since < time.monotonic() - _KEPT_SECONDS or not _is_quiet(connection):
                connection.close()
            elif to == origin:
                return connection
            else:
                self._free.appendleft((to, since, connection))
        return None

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = httpx.create_ssl_context()  # reads SSL_CERT_FILE and SSL_CERT_DIR
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _connect(self, origin: _Origin, seconds: float | None) -> socket.socket:
        scheme, host, port = origin
        if scheme not in ("http", "https") or not host:
            raise httpx.UnsupportedProtocol(f"expected an address with http:// or https://, not {scheme}://")
        with _errors(httpx.ConnectTimeout, httpx.ConnectError):
            connection = self._connect_to(host, port, seconds)
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if scheme == "https":
                    connection.settimeout(seconds)
                    connection = self._tls.wrap_socket(connection, server_hostname=host)
            except BaseException:
                connection.close()
                raise
            return connection


class _Body(httpx.SyncByteStream):
    """The body of an answer. Closing it returns the connection, once."""

    def __init__(
        self, transport: DownloadTransport, origin: _Origin, connection: socket.socket, answer: Answer
    ) -> None:
        self._transport = transport
        self._origin = origin
        self._connection = connection
        self._answer = answer
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        with _errors(httpx.ReadTimeout, httpx.ReadError):
            yield from self._answer.pieces()

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._transport.give_back(self._origin, self._connection, is_reusable=self._answer.is_reusable)


@contextmanager
def _errors(timeout: type[httpx.TransportError], broken: type[httpx.TransportError]) -> Iterator[None]:
    """Translate the errors of a socket into those that httpx documents."""
    try:
        yield
    except BrokenAnswer as error:
        raise httpx.RemoteProtocolError(str(error)) from error
    except TimeoutError as error:
        raise timeout("timed out") from error
    except (OSError, UnicodeError) as error:  # a certificate that is not accepted is an OSError too
        raise broken(str(error)) from error


def _is_quiet(connection: socket.socket) -> bool:
    """Whether nothing waits to be read. Anything would be the server closing, or bytes that were not asked for."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return not poll.poll(0)
