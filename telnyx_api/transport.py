"""A transport for httpx: HTTP/1.1 over kept connections, at a cost that does not grow with their number.

httpx's own transport scans its whole pool twice for each request and polls each idle connection. With sixteen requests at
once that took five times the CPU of everything else (decision 23). Here free connections lie on a stack, and a closed one
is found when it is taken. The parser is httptools, as in the receiver.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import socket
import ssl
import time
import urllib.request
from asyncio.staggered import staggered_race
from collections import deque
from collections.abc import AsyncIterator
from functools import cached_property, partial
from itertools import chain, zip_longest
from typing import Any, cast

import httptools
import httpx

_KEPT_SECONDS = 5.0  # without a request; httpx's own default
_STAGGER_SECONDS = 0.25  # RFC 8305, 5 and 8: the next address is tried while the one before still does not answer
_MOST_HEAD_BYTES = 100 * 1024
_MOST_UNREAD_BYTES = 256 * 1024
_NOT_IN_A_HEAD = re.compile(rb"[\r\n\0]")
_WITHOUT_A_BODY = (204, 304)  # RFC 9112, 6.3

_Origin = tuple[str, str, int | None]  # scheme, host, port


def transport(connections: int) -> httpx.AsyncBaseTransport | None:
    """The transport to one server; None if the environment names a proxy: then httpx's own is used.

    Args:
        connections: the most connections at once.
    """
    proxies = urllib.request.getproxies()
    return None if proxies.keys() & {"http", "https", "all"} else Transport(connections)


class Transport(httpx.AsyncBaseTransport):
    """Sends requests with bodies in memory, and raises the errors that httpx documents. Use it inside one running loop.

    Args:
        connections: the most connections at once; later requests wait, up to their timeout `pool`.
    """

    def __init__(self, connections: int) -> None:
        self._places = asyncio.Semaphore(connections)
        self._open: set[_Connection] = set()
        self._free: dict[_Origin, deque[_Connection]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; return the answer once its head has arrived.

        Raises:
            httpx.PoolTimeout, httpx.ConnectTimeout, httpx.ConnectError: nothing was sent.
            httpx.ReadTimeout: nothing arrived in time.
            httpx.NetworkError, httpx.ProtocolError: the connection broke, or the answer is invalid.
        """
        sent = bytes_of(request)
        timeouts = request.extensions.get("timeout", {})
        if self._places.locked():
            try:
                async with asyncio.timeout(timeouts.get("pool")):
                    await self._places.acquire()
            except TimeoutError:
                raise httpx.PoolTimeout("every connection was in use") from None
        else:
            await self._places.acquire()  # returns at once
        try:
            url = request.url
            origin = (url.scheme, url.raw_host.decode("ascii"), url.port)
            connection = self._take(origin) or await self._connect(origin, timeouts.get("connect"))
            body = _Body(self, origin, connection, timeouts.get("read"))
        except BaseException:
            self._places.release()
            raise
        try:
            status, headers = await connection.ask(sent, timeouts.get("read"))
        except BaseException:
            await body.aclose()
            raise
        return httpx.Response(status, headers=headers, stream=body)

    async def aclose(self) -> None:
        """Close all connections."""
        for connection in list(self._open):
            connection.abort()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = httpx.create_ssl_context()  # reads SSL_CERT_FILE and SSL_CERT_DIR
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _take(self, origin: _Origin) -> _Connection | None:
        """The free connection that was used last."""
        free = self._free.get(origin)
        while free and free[0].free_since < time.monotonic() - _KEPT_SECONDS:
            free.popleft().abort()
        while free:
            connection = free.pop()
            if connection.is_free and connection.is_quiet():
                return connection
            connection.abort()
        return None

    def give_back(self, origin: _Origin, connection: _Connection) -> None:
        """Keep a connection for the next request, or close it if its answer was not read to the end."""
        if connection.is_free:
            connection.free_since = time.monotonic()
            self._free.setdefault(origin, deque()).append(connection)
        else:
            connection.abort()
        self._places.release()

    async def _connect(self, origin: _Origin, seconds: float | None) -> _Connection:
        scheme, host, port = origin
        if scheme not in ("http", "https") or not host:
            raise httpx.UnsupportedProtocol(f"expected an address with http:// or https://, not {scheme}://")
        tls = {"ssl": self._tls, "server_hostname": host} if scheme == "https" else {}
        made = partial(_Connection, self._open)
        try:
            async with asyncio.timeout(seconds):
                connected = await _socket(host, port or (443 if tls else 80))
                try:
                    loop = asyncio.get_running_loop()
                    _, connection = await loop.create_connection(made, sock=connected, **cast(Any, tls))
                except BaseException:
                    connected.close()
                    raise
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection in time") from None
        except (OSError, UnicodeError) as error:  # a certificate that is not accepted is an OSError too
            raise httpx.ConnectError(f"{host}: {_why(error)}") from error
        return connection


def _why(error: OSError | UnicodeError) -> str:
    """Why connecting failed, in the words of the system rather than of asyncio."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError | socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__


class _Body(httpx.AsyncByteStream):
    """The body of an answer. Closing it returns the connection, once."""

    def __init__(self, transport: Transport, origin: _Origin, connection: _Connection, seconds: float | None) -> None:
        self._transport = transport
        self._origin = origin
        self._connection = connection
        self._seconds = seconds
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._connection.piece(self._seconds)) is not None:
            yield piece

    async def aclose(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._transport.give_back(self._origin, self._connection)


class _Connection(asyncio.Protocol):
    """One connection, which carries one request at a time.

    Args:
        open_ones: the open connections; this one adds and removes itself.
    """

    free_since = 0.0

    def __init__(self, open_ones: set[_Connection]) -> None:
        self._open_ones = open_ones
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._error: httpx.TransportError | None = None  # why nothing more arrives
        self._is_reusable = True
        self._is_paused = False
        self._begin()

    def _begin(self) -> None:
        self._status = 0  # until the head is there
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._pieces: deque[bytes] = deque()
        self._unread = 0
        self._ends_with_connection = False
        self._is_whole = False
        self._is_asked = False

    @property
    def is_free(self) -> bool:
        """Whether it can carry a request: it is open, and its last answer has been read completely."""
        is_read = not self._is_asked or (self._is_whole and not self._pieces)
        return self._is_reusable and is_read and not self._transport.get_write_buffer_size()

    def is_quiet(self) -> bool:
        """Whether nothing waits to be read. Anything would be the server closing, which the loop may not have seen yet."""
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket"), select.POLLIN)
        return not poll.poll(0)

    async def ask(self, sent: bytes, seconds: float | None) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Send a request and wait for the head of its answer.

        Args:
            sent: the bytes of the request.
            seconds: the longest wait for a byte.

        Returns:
            The status and the headers.
        """
        self._begin()
        self._is_asked = True
        self._transport.write(sent)
        while not self._status:
            await self._come(seconds)
        return self._status, self._headers

    async def piece(self, seconds: float | None) -> bytes | None:
        """The next piece of the body; None after the last."""
        while not self._pieces:
            if self._is_whole:
                return None
            await self._come(seconds)
        piece = self._pieces.popleft()
        self._unread -= len(piece)
        if self._is_paused and self._unread <= _MOST_UNREAD_BYTES // 2:
            self._is_paused = False
            self._transport.resume_reading()
        return piece

    def abort(self) -> None:
        """Close it at once. An answer that ends with its connection counts as cut off."""
        self._break(httpx.ReadError("the connection was closed here"))
        self._transport.abort()

    async def _come(self, seconds: float | None) -> None:
        """Wait until something arrives.

        Raises:
            httpx.ReadTimeout: nothing arrived in time.
            httpx.TransportError: nothing can arrive any more.
        """
        if self._error is not None:
            raise self._error
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, _time_out, self._waiter)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _break(self, error: httpx.TransportError) -> None:
        if self._error is None:
            self._error = error
        self._is_reusable = False

    def _has_failed(self) -> bool:
        return self._error is not None

    # Called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open_ones.add(self)

    def data_received(self, data: bytes) -> None:
        if self._has_failed():
            return
        if not self._status:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break(httpx.RemoteProtocolError(f"the server did not answer in HTTP/1.1: {error}"))
        if not self._status and self._head_bytes > _MOST_HEAD_BYTES:
            self._break(httpx.RemoteProtocolError(f"the head of the answer is larger than {_MOST_HEAD_BYTES} bytes"))
        if self._has_failed():
            self._transport.abort()
        elif self._unread > _MOST_UNREAD_BYTES and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._open_ones.discard(self)
        if error is None and self._error is None and self._status and self._ends_with_connection:
            self._is_whole = True
        if error is not None:
            self._break(httpx.ReadError(str(error) or type(error).__name__))
        else:
            what = "the answer was cut off" if self._status else "the server closed the connection without an answer"
            self._break(httpx.RemoteProtocolError(what))
        self._wake()

    # Called by the parser

    def on_message_begin(self) -> None:
        if not self._is_asked or self._is_whole:
            raise ValueError("an answer arrived without a request")

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._status:  # a later one is a trailer, which may be dropped (RFC 9110, 6.5.1)
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200:  # interim; the final answer follows (RFC 9110, 15.2)
            self._headers = []
            return
        headers = {name.lower(): value for name, value in self._headers}
        coding = headers.get(b"transfer-encoding")
        is_chunked = coding is not None and coding.rpartition(b",")[2].strip().lower() == b"chunked"
        is_measured = is_chunked or (coding is None and b"content-length" in headers)
        self._ends_with_connection = not is_measured and status not in _WITHOUT_A_BODY
        self._status = status

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._unread += len(piece)

    def on_message_complete(self) -> None:
        if self._status:
            self._is_whole = True
            self._is_reusable = self._is_reusable and self._parser.should_keep_alive()


def _time_out(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(httpx.ReadTimeout("no data arrived in time"))


def bytes_of(request: httpx.Request) -> bytes:
    """The bytes of a request.

    Raises:
        httpx.LocalProtocolError: a header contains a line break; the text does not quote it, since it may be a secret.
    """
    assert isinstance(request.stream, httpx.ByteStream)  # noqa: S101  any other stream would have to be chunked
    headers = request.headers.raw
    method, target = request.method.encode("ascii"), request.url.raw_path
    if _NOT_IN_A_HEAD.search(b" ".join(chain([method, target], *headers))):
        raise httpx.LocalProtocolError("a header holds a line break")
    lines = [b"%b %b HTTP/1.1" % (method, target), *[b"%b: %b" % header for header in headers], b"", b""]
    return b"\r\n".join(lines) + b"".join(request.stream)


async def _socket(host: str, port: int) -> socket.socket:
    """A socket connected to the first address of a name that answers; uvloop would try one after the other.

    Raises:
        OSError: no address answers, or the name has none.
    """
    found = await _addresses(host, port)
    first = found[0][0]  # the system's order, but by turns of both families: RFC 8305, 4
    turns = zip_longest([one for one in found if one[0] == first], [one for one in found if one[0] != first])
    tries = [partial(_try, one[0], one[4]) for turn in turns for one in turn if one is not None]
    winner, _, errors = await staggered_race(tries, _STAGGER_SECONDS)
    if winner is None:
        raise next((error for error in errors if error is not None), OSError("no address"))
    return cast(socket.socket, winner)


async def _addresses(host: str, port: int) -> list[Any]:
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _try(family: int, address: Any) -> socket.socket:
    tried = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        tried.setblocking(False)
        tried.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(tried, address)
    except BaseException:
        tried.close()
        raise
    return tried
