"""The frequent requests of S3 without boto3's pipeline, which costs a worker several times what signing and sending do.

boto3 resolves everything: the credentials, which may be refreshed, the address and its style, the region, the pool of
connections with its TLS, proxies and time limits. Any answer other than done, refused or absent goes to boto3 at once,
which retries, follows the bucket's region and reports errors. If a request cannot be resolved (another signature, no
credentials), all requests go to boto3.

Each request is signed (`s3_signature.py`), and none waits for `100 Continue`, as boto3's writes do.

The connections are those of boto3's pool. Requests are written to them and answers read from them here: boto3, urllib3
and http.client together take three times as long for a small request, most of it for headers.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from archive.stores.s3_errors import COLD, Cold, Missing, OutOfRange
from archive.stores.s3_signature import Signer
from archive.stores.store import KeyExists
from process import http1
from process.logs import get_logger

log = get_logger()

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_REST_SECONDS = 60.0
_GIVEN_UP_SECONDS = 3600.0
_LARGEST_ERROR_BYTES = 64 * 1024
_JOINED_BYTES = 64 * 1024  # of a body, sent together with the head of its request
_COLD = f"<Code>{COLD}</Code>".encode()
_SAMPLE = "callvault"
_AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=[^,]+/\d{8}/([a-z0-9-]+)/s3/aws4_request,")
_is_wanted: ContextVar[bool] = ContextVar("is_wanted", default=False)


@dataclass(frozen=True)
class Answer:
    """An answer of the store: its headers, with names in lower case, and the body of a GET, as boto3's `StreamingBody`."""

    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Request:
    """A request.

    Attributes:
        method: `HEAD`, `GET` or `PUT`.
        key: the object's, in the bucket.
        name: the object's address, for errors.
        headers: their names in small letters.
        body: of a put.
        sha256: of the body, hexadecimal.
        query: names and values, in the order of the names.
    """

    method: str
    key: str
    name: str
    headers: Mapping[str, str]
    body: bytes | None = None
    sha256: str = EMPTY_SHA256
    query: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Way:
    """How boto3 reaches the bucket: the path before a key, its host, the region, the user agent, and the connections."""

    path: str
    host: str
    region: str
    agent: str
    pool: Any


class Lean:
    """Sends the frequent requests to one bucket; used from several threads.

    Args:
        client: the boto3 client, whose settings and connections it uses.
        credentials: botocore's, which refresh themselves; None without credentials.
        bucket: its name.
        url: of the archive, for the log.
    """

    def __init__(self, client: Any, credentials: Any, bucket: str, url: str) -> None:
        self._client = client
        self._credentials = credentials
        self._bucket = bucket
        self._url = url
        self._session = client._endpoint.http_session
        self._signer = Signer()
        self._lock = Lock()
        self._way: _Way | None = None
        self._rests_until = 0.0
        self._has_logged = False
        client.meta.events.register("before-send.s3.HeadObject", _catch)

    def send(self, request: Request, instead: Callable[[], dict[str, Any]]) -> Answer:
        """Send a request; by boto3 if its answer is unusual.

        Args:
            request: the request.
            instead: the same by boto3.

        Raises:
            Missing: the object does not exist.
            KeyExists: it exists already.
            OutOfRange: it ends before the range begins.
            Cold: it must be restored before it can be read.
            Exception: what boto3 raises.
        """
        way = self._way_for(request)
        if way is None:
            return _answer_of_boto3(instead())
        return self._answer(request, instead, lambda: self._sent(request, way, _lent(way.pool)))

    def ask(self, request: Request, instead: Callable[[], dict[str, Any]]) -> Callable[[], Answer] | None:
        """Send a request without waiting for its answer. It takes the arguments of `send`.

        Returns:
            Waits for the answer, and returns or raises what `send` does; None if nothing was sent, because no open connection
            is free, or boto3 has to send it.
        """
        way = self._way_for(request)
        if way is None:
            return None
        lent = _lent(way.pool)
        if lent.sock is None:  # opening it would take longer than the answer
            way.pool._put_conn(lent)
            return None
        try:
            sent = self._sent(request, way, lent)
        except OSError:
            return None
        return lambda: self._answer(request, instead, lambda: sent)

    def _way_for(self, request: Request) -> _Way | None:
        """How to send a request; None if boto3 must."""
        is_plain = all(value.isascii() and value.isprintable() for value in request.headers.values())
        return self._resolved() if is_plain and time.monotonic() >= self._rests_until else None

    def _answer(self, request: Request, instead: Callable[[], dict[str, Any]], sent: Callable[[], _Sent]) -> Answer:
        """The answer to a request, from boto3 if it is unusual."""
        try:
            answer = sent().answer()
            status = answer.status
            if status in (200, 206) and request.method == "GET":
                return Answer(dict(answer.headers), answer)
            body = answer.read_small()
            if status in (200, 206):
                return Answer(dict(answer.headers), answer)
        except (BotoCoreError, HTTPError, OSError):
            return self._by_boto3(instead, None)
        if status == 404 and (request.method == "HEAD" or b"<Code>NoSuchKey</Code>" in body):
            raise Missing(request.name)
        if status == 412 and request.method == "PUT":
            raise KeyExists(request.name)
        if status == 416 and request.method == "GET":
            raise OutOfRange(request.name)
        if status == 403 and request.method == "GET" and _COLD in body:
            raise Cold(request.name)
        return self._by_boto3(instead, status)

    def _by_boto3(self, instead: Callable[[], dict[str, Any]], status: int | None) -> Answer:
        """Use boto3 for a while, which slows down if the store is busy; for long if it succeeds where this failed."""
        if status == 409:  # another write is in progress
            return _answer_of_boto3(instead())
        self._rests_until = time.monotonic() + _REST_SECONDS
        answer = _answer_of_boto3(instead())
        if status is not None and 300 <= status < 500 and status not in (408, 429):
            self._give_up(f"it answered {status} where boto3 was served", _GIVEN_UP_SECONDS)
        return answer

    def _give_up(self, why: str, seconds: float) -> None:
        self._rests_until = time.monotonic() + seconds
        if not self._has_logged:
            self._has_logged = True
            log.info("requests go to this store by boto3", store=self._url, why=why)

    def _sent(self, request: Request, way: _Way, lent: Any) -> _Sent:
        """Sign a request and send it on a connection."""
        path = way.path + quote(request.key, safe="/~")
        query = urlencode(request.query, quote_via=quote, safe="~")
        headers = {"host": way.host, **request.headers}
        headers |= self._signer.sign(
            request.method, path, headers, request.sha256, self._credentials, way.region, query
        )
        headers["user-agent"] = way.agent
        if request.method == "GET":  # as boto3 does; without it, a gateway may compress the answer (RFC 9110, 12.5.3)
            headers["accept-encoding"] = "identity"
        if request.body is not None:
            headers["content-length"] = str(len(request.body))
        lines = [f"{request.method} {path}{query and '?'}{query} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join((*lines, "", "")).encode("ascii")
        return _Sent(way.pool, lent, request.method, head, request.body or b"")

    def _resolved(self) -> _Way | None:
        """How boto3 reaches the bucket; None if boto3 must send everything, or cannot either."""
        if self._way is not None or self._credentials is None:
            return self._way
        with self._lock:
            if self._way is None:
                try:
                    sample = self._sample()
                except (BotoCoreError, ClientError, OSError):
                    return None  # boto3 reports what is missing
                self._way = _way_of(sample, self._session)
                if self._way is None:
                    self._give_up("it wants another signature, another form of requests, or a proxy", math.inf)
        return self._way

    def _sample(self) -> Any:
        """A request of boto3, caught before it is sent."""
        token = _is_wanted.set(True)
        try:
            self._client.head_object(Bucket=self._bucket, Key=_SAMPLE)
        except _Caught as caught:
            return caught.request
        finally:
            _is_wanted.reset(token)
        raise AssertionError("boto3 asks nobody before it sends")


class _Caught(Exception):
    def __init__(self, request: Any) -> None:
        super().__init__("not sent")
        self.request = request


def _catch(request: Any, **_: Any) -> None:
    """Catch a request that serves as a sample; others pass."""
    if _is_wanted.get():
        raise _Caught(request)


def _lent(pool: Any) -> Any:
    """A connection of boto3's pool; without a socket if none was free."""
    lent = pool._get_conn()
    if getattr(lent, "_response_received", False):  # boto3 was refused early here: until closed, it sends nothing
        lent.close()
    return lent


class _Sent:
    """A request that was sent on a connection. If nobody wants its answer, the connection is closed.

    Args:
        pool: urllib3's, which lent the connection.
        lent: the connection.
        method: of the request.
        head: the head of the request.
        body: its body.
    """

    def __init__(self, pool: Any, lent: Any, method: str, head: bytes, body: bytes) -> None:
        self._pool, self._lent, self._method = pool, lent, method
        lent.send(head + body[:_JOINED_BYTES])
        if len(body) > _JOINED_BYTES:
            lent.send(memoryview(body)[_JOINED_BYTES:])

    def answer(self) -> _Answer:
        """Wait for the head of the answer; it has the connection from now on."""
        answer = _Answer(self._pool, self._lent, self._method)
        self._lent = None
        return answer

    def __del__(self) -> None:
        """Give the connection back, closed, unless its answer has it."""
        if self._lent is not None:
            self._lent.close()
            self._pool._put_conn(self._lent)


class _Answer(http1.Answer):
    """The answer to a request on a connection of boto3's pool, which gets the connection back once its body is over.

    Args:
        pool: urllib3's.
        lent: the connection, with the request sent.
        method: of the request.
    """

    def __init__(self, pool: Any, lent: Any, method: str) -> None:
        super().__init__(lent.sock, method)
        self._pool = pool
        self._lent = lent

    def iter_chunks(self, chunk_size: int) -> Iterator[bytes]:
        """As `StreamingBody` has it."""
        for piece in self.pieces():
            for start in range(0, len(piece), chunk_size):
                yield piece[start : start + chunk_size]

    def read_small(self) -> bytes:
        """The body, or its beginning if it is larger than 64 KiB; then the connection is given back."""
        try:
            read = b""
            for piece in self.pieces():
                read += piece
                if len(read) > _LARGEST_ERROR_BYTES:
                    break
            return read
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back; it is closed unless the body has been read."""
        if self._lent is not None:
            lent, self._lent = self._lent, None
            if not self.is_reusable:
                lent.close()
            self._pool._put_conn(lent)


def _way_of(sample: Any, session: Any) -> _Way | None:
    """How a sampled request reaches the bucket; None if it has another form than ours, or goes through a proxy."""
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in sample.headers.items()
    }
    found = _AUTHORIZATION.match(headers.get("authorization", ""))
    parts = urlsplit(sample.url)
    if found is None or parts.query or not parts.path.endswith(f"/{_SAMPLE}"):
        return None
    if session._proxy_config.proxy_url_for(sample.url) is not None:
        return None
    # The default port is left out, as HTTP clients do.
    default = {"http": 80, "https": 443}.get(parts.scheme)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    host = host if parts.port in (None, default) else f"{host}:{parts.port}"
    pool = session._manager.connection_from_url(sample.url)
    session._setup_ssl_cert(pool, sample.url, session._verify)
    return _Way(parts.path.removesuffix(_SAMPLE), host, found[1], headers.get("user-agent", ""), pool)


def _answer_of_boto3(answer: dict[str, Any]) -> Answer:
    return Answer(answer["ResponseMetadata"]["HTTPHeaders"], answer.get("Body"))
