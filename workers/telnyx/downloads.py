"""Downloads of audio: a stream of bytes that is whole or raises; resumed by Range, its address renewed when expired.

A download address is presigned: it carries its own authority and lives for minutes. The API key never goes to it
(S3 refuses a request with both, and whoever runs the host would have the key). This is synchronous on purpose: it runs
in the thread that hashes and uploads, so that no chunk is handed over between the event loop and a thread.
"""

from __future__ import annotations

import ipaddress
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx

from config.values import is_local_host

CHUNK_BYTES = 256 * 1024

_RESUMES = 8
_RENEWALS = 3
_LONGEST_WAIT_SECONDS = 4.0
_SNIFFED_BYTES = 512


class DownloadFailed(Exception):
    """The bytes could not be had this time: cut off too often, refused, or changed meanwhile."""


class NotAudio(DownloadFailed):
    """An HTML, XML or JSON page in place of audio; archiving it would be archiving an error message."""


class ForbiddenAddress(DownloadFailed):
    """An address that is never fetched: plain HTTP or a private network, though the API is a public one."""


class Cancelled(Exception):
    """The job was cancelled while its download ran."""


class Downloads:
    """Fetches presigned addresses over one connection pool; safe to use from several threads.

    Args:
        is_local: whether the API itself is on this machine or a private network, so that downloads may be too.
        connections: most connections at once.
    """

    def __init__(self, *, is_local: bool, connections: int = 32, timeout_seconds: float = 30.0) -> None:
        self._is_local = is_local
        self._http = httpx.Client(
            timeout=httpx.Timeout(timeout_seconds, connect=5.0),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,
            headers={"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "callvault"},
        )

    def close(self) -> None:
        """Close the connection pool."""
        self._http.close()

    def stream(self, url: str, renew: Callable[[], str], cancelled: threading.Event) -> Iterator[bytes]:
        """The bytes behind an address, in chunks, to the last one.

        Args:
            url: the presigned address.
            renew: asks Telnyx for a fresh address of the same bytes; called when the address has expired.
            cancelled: set by whoever wants the download to stop.

        Raises:
            NotAudio: an error page in place of audio.
            ForbiddenAddress: the address may not be fetched.
            DownloadFailed: the budget of resumptions and renewals is used up, or the bytes changed meanwhile.
            Cancelled: as asked.
        """
        got = 0
        total: int | None = None
        validator = ""
        resumes = renewals = 0
        while True:
            self._check(url)
            headers = {"Range": f"bytes={got}-"} if got else {}
            if got and validator:
                headers["If-Range"] = validator
            try:
                with self._http.stream("GET", url, headers=headers) as response:
                    if response.status_code in (403, 410) and renewals < _RENEWALS:
                        renewals += 1
                        url = renew()
                        continue
                    total, validator = _accept(response, got, total, validator)
                    for chunk in response.iter_raw(CHUNK_BYTES):
                        if cancelled.is_set():
                            raise Cancelled
                        if not got:
                            _refuse_page(chunk)
                        got += len(chunk)
                        yield chunk
                if total is None or got == total:
                    if not got:
                        raise DownloadFailed("the audio is empty")
                    return
                reason = f"{got} of {total} bytes"
                if got > total:
                    raise DownloadFailed(f"more bytes than announced: {reason}")
            except (httpx.InvalidURL, UnicodeError) as error:
                raise ForbiddenAddress(f"not an address to download from, or led to none: {error}") from None
            except httpx.HTTPError as error:
                reason = f"{type(error).__name__} after {got} bytes"
            resumes += 1
            if resumes > _RESUMES:
                raise DownloadFailed(f"cut off {resumes} times, last: {reason}")
            time.sleep(random.uniform(0, min(_LONGEST_WAIT_SECONDS, 0.1 * 2**resumes)))  # noqa: S311

    def _check(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError as error:
            raise ForbiddenAddress(f"not an address to download from: {error}") from None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise ForbiddenAddress(f"not an address to download from: scheme {parts.scheme!r}")
        if self._is_local:
            return
        if parts.scheme != "https":
            raise ForbiddenAddress(f"plain http to {host!r}")
        if is_local_host(host) or _resolves_to_private(host):
            raise ForbiddenAddress(f"{host!r} is in a private network")


def _resolves_to_private(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False  # the request itself will say so
    return any(not ipaddress.ip_address(address[4][0]).is_global for address in found)


def _accept(response: httpx.Response, got: int, total: int | None, validator: str) -> tuple[int | None, str]:
    """Check the head of an answer; returns the length of the whole and what identifies these very bytes."""
    status = response.status_code
    if status >= 500 or status in (408, 429):
        raise httpx.ReadError(f"status {status}")  # worth another try, like a cut connection
    if status not in (200, 206):
        raise DownloadFailed(f"the download address answered {status}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise DownloadFailed("the answer is compressed though that was not accepted")
    tag = response.headers.get("etag", "") or response.headers.get("last-modified", "")
    length = response.headers.get("content-length")
    if not got:
        if status == 206:
            raise DownloadFailed("a part was sent where the whole was asked for")
        return int(length) if length and length.isdigit() else None, tag if not tag.startswith("W/") else ""
    if status == 200 or (validator and tag and tag != validator):
        raise DownloadFailed("the audio changed while it was being downloaded, or cannot be resumed")
    span, _, whole = response.headers.get("content-range", "").removeprefix("bytes ").partition("/")
    if not span.startswith(f"{got}-") or (total is not None and whole.isdigit() and int(whole) != total):
        raise DownloadFailed(f"resumed at the wrong place: {response.headers.get('content-range')!r}")
    return (int(whole) if whole.isdigit() else total), validator


def _refuse_page(chunk: bytes) -> None:
    """Refuse what begins like an HTML, XML or JSON page; no WAV or MP3 file begins so."""
    head = chunk[:_SNIFFED_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<", b"{", b"[")):
        raise NotAudio("an error page in place of audio: " + repr(head[:80].decode("ascii", "replace")))
