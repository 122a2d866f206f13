"""Downloads of audio: a stream that is complete or raises. It resumes by Range, and renews an expired address.

A download resumes only with a strong ETag, which shows that the rest belongs to the same bytes. A weak one, or
`Last-Modified` alone, may match two contents (RFC 9110, 8.8.1 and 13.1.5); then the download starts again.

A download address is presigned: it carries its own authority and expires after minutes. The API key is never sent to it:
S3 refuses a request with both, and the host would learn the key. Downloads are synchronous on purpose: they run in the
thread that hashes and uploads, so no chunk passes between the event loop and a thread.
"""

from __future__ import annotations

import codecs
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import httpx

from telnyx_api.addresses import Forbidden, allowed, download_transport
from telnyx_api.source_mark import SourceMark
from text.counts import many

CHUNK_BYTES = 256 * 1024

_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "Connection": "keep-alive", "User-Agent": "callvault"}

# In a row, without a byte in between: a long recording may be cut off and its address expire any number of times.
_MOST_FAILURES = 8
_MOST_RENEWALS = 3
_MOST_REDIRECTS = 5
_LONGEST_WAIT_SECONDS = 4.0
_PACE_SECONDS = 60.0  # of waiting for the provider, over which a rate is measured
_SNIFFED_BYTES = 512
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


class DownloadFailed(Exception):
    """The download failed: cut off repeatedly without progress, refused, or changed meanwhile."""


class AddressAway(DownloadFailed):
    """The server does not answer, or answers 408, 429 or 5xx. Says nothing about the audio."""


class TooSlow(AddressAway):
    """The download is slower than the minimum rate, and blocks a place that others need."""


class AudioRefused(DownloadFailed):
    """The server refuses a fresh address, or returns no bytes."""


class NotAudio(AudioRefused):
    """The server returned HTML, XML, JSON or other text instead of audio: probably an error message."""


class ForbiddenAddress(DownloadFailed):
    """An address, or a redirect, to plain HTTP or a private network although the API is public."""


class CannotBeResumed(DownloadFailed):
    """The download was cut off, and nothing shows that the rest belongs to the same bytes. A new download may succeed."""


class Cancelled(Exception):
    """The job was cancelled while its download ran."""


class Downloads:
    """Fetches presigned addresses over one connection pool; safe to use from several threads.

    Args:
        is_local: whether the API is on this machine or a private network, so that downloads may be too.
        connections: the most connections that are kept for later.
        timeout_seconds: the time limit of each read.
        least_rate: the minimum rate in bytes a second; 0: no minimum.
    """

    def __init__(
        self, *, is_local: bool, connections: int = 32, timeout_seconds: float = 30.0, least_rate: float = 0.0
    ) -> None:
        self._is_local = is_local
        self._least_rate = least_rate
        direct = download_transport(connections, is_local=is_local)
        self._extensions = {"timeout": httpx.Timeout(timeout_seconds, connect=5.0).as_dict()}
        self._http = httpx.Client(transport=direct, follow_redirects=False)
        # httpx's client takes longer than a request itself, to look for cookies and more that no download needs.
        self._request = self._through_client if direct is None else direct.handle_request

    def close(self) -> None:
        """Close the connection pool."""
        self._http.close()

    def stream(self, url: str, renew: Callable[[], str], cancelled: threading.Event) -> Download:
        """Start a download.

        Args:
            url: the presigned address.
            renew: asks Telnyx for a fresh address; called when the address has expired.
            cancelled: set it to stop the download.
        """
        return Download(self.ask, url, renew, cancelled, _Pace(self._least_rate))

    def look(self, url: str) -> SourceMark:
        """Size, ETag and date of the audio behind an address, by a GET of one byte: an address presigned for GET refuses HEAD.

        Raises:
            ForbiddenAddress: the address must not be fetched.
            AddressAway: the server does not answer now.
            AudioRefused: the address has expired, or the audio is gone or empty.
            DownloadFailed: the answer is invalid.
        """
        with self.ask(url, {"Range": "bytes=0-0"}) as response:
            _refuse(response)
            mark = _mark(response)
            if response.headers.get("content-length") == "1":
                with suppress(httpx.HTTPError):
                    response.read()  # so that the connection can be used again
            return mark

    @contextmanager
    def ask(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Send a GET and close the answer after the block. Follow redirects, and check each address like the first.

        Raises:
            ForbiddenAddress: an address must not be fetched.
            AddressAway: no answer came.
            DownloadFailed: there are too many redirects.
        """
        for _ in range(1 + _MOST_REDIRECTS):
            response, following = self._send(url, headers)
            try:
                if following is None:
                    yield response
                    return
                url = following
            finally:
                response.close()
        raise DownloadFailed(f"the download address redirects more than {_MOST_REDIRECTS} times")

    def _through_client(self, request: httpx.Request) -> httpx.Response:
        return self._http.send(request, stream=True)

    def _send(self, url: str, headers: dict[str, str]) -> tuple[httpx.Response, str | None]:
        """Send a GET; returns the answer, and the address to which it redirects."""
        try:
            address = allowed(url, is_local=self._is_local)
            request = httpx.Request("GET", address, headers=_HEADERS | headers, extensions=self._extensions)
            response = self._request(request)
            if not response.has_redirect_location:
                return response, None
            try:
                return response, str(request.url.join(response.headers["location"]))
            except BaseException:
                response.close()
                raise
        except Forbidden as error:
            raise ForbiddenAddress(str(error)) from None
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ForbiddenAddress(f"the download address, or one it redirects to, is invalid: {error}") from None
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__} {error}".rstrip()
            raise AddressAway(f"download host {urlsplit(url).hostname} does not answer: {reason}") from error


class Download(Iterator[bytes]):
    """The bytes behind an address, in chunks. Made by `Downloads.stream`.

    Iterating raises:
        NotAudio: the server returned text.
        ForbiddenAddress: the address must not be fetched.
        CannotBeResumed: it was cut off, and the rest may belong to other bytes.
        AddressAway: the server does not answer now.
        TooSlow: it is slower than the minimum rate.
        DownloadFailed: it was cut off repeatedly without progress, its address stays expired, or an answer is invalid.
        Cancelled: `cancelled` was set.

    Attributes:
        source: size, ETag and date from the server; known after the first chunk.
        is_measured: whether the server announced the size. If not, only the audio itself shows whether it is complete.
    """

    def __init__(
        self,
        ask: Callable[[str, dict[str, str]], AbstractContextManager[httpx.Response]],
        url: str,
        renew: Callable[[], str],
        cancelled: threading.Event,
        pace: _Pace,
    ) -> None:
        self._ask = ask
        self._url = url
        self._renew = renew
        self._cancelled = cancelled
        self._pace = pace
        self._chunks = self._read()
        self.source = SourceMark(None, None, None)

    def __next__(self) -> bytes:
        """The next chunk."""
        return next(self._chunks)

    @property
    def is_measured(self) -> bool:
        """Whether the server announced the size."""
        return self.source.size is not None

    def _read(self) -> Iterator[bytes]:
        got = failures = renewals = 0
        held, is_sniffed = b"", False  # the first bytes, until it is clear that they are not text
        while True:
            before, is_expired = got, False
            headers = {"Range": f"bytes={got}-", "If-Range": str(self.source.etag)} if got else {}
            try:
                with ExitStack() as stack:
                    with self._pace.waiting():
                        response = stack.enter_context(self._ask(self._url, headers))
                    is_expired = response.status_code in (403, 410) and renewals < _MOST_RENEWALS
                    if not is_expired:
                        self.source = _accept(response, got, self.source)
                        for chunk in self._body(response):
                            got += len(chunk)
                            if is_sniffed:
                                yield chunk
                                continue
                            held += chunk
                            if len(held) >= _SNIFFED_BYTES:
                                _refuse_text(held)
                                is_sniffed = True
                                yield held
                if is_expired:
                    renewals += 1
                    self._url = self._renew()
                    continue
                total = self.source.size
                if total is None or got == total:
                    if not got:
                        raise AudioRefused("the audio is empty")
                    if not is_sniffed:  # so short, and the end of what was sent
                        if total is not None or not _may_begin_audio(held):
                            _refuse_text(held)
                        yield held
                    return
                if got > total:
                    raise DownloadFailed(f"received {many(got, 'byte')}; the server announced {total}")
                failed: DownloadFailed = DownloadFailed(f"cut off after {got} of {many(total, 'byte')}")
            except TooSlow:
                raise
            except AddressAway as error:
                failed = error
            except httpx.HTTPError as error:
                failed = DownloadFailed(f"{type(error).__name__} after {many(got, 'byte')}")
            if got and self.source.etag is None:
                raise CannotBeResumed(f"cannot resume the download without a strong ETag: {failed}")
            if got > before:
                failures = renewals = 0
            else:
                failures += 1
            if failures > _MOST_FAILURES:
                raise type(failed)(
                    f"failed {many(failures, 'time')} in a row without progress, the last time: {failed}"
                )
            with self._pace.waiting():
                time.sleep(random.uniform(0, min(_LONGEST_WAIT_SECONDS, 0.1 * 2**failures)))  # noqa: S311
            self._pace.count(0)

    def _body(self, response: httpx.Response) -> Iterator[bytes]:
        """The bytes of an answer in chunks. Before an error, yield all that arrived, so that the download can resume.

        Raises:
            httpx.HTTPError: the connection broke.
            TooSlow: it is slower than the minimum rate.
            Cancelled: `cancelled` was set.
        """
        came, size = list[bytes](), 0
        pieces = response.iter_raw()
        while True:
            broken = piece = None
            try:
                with self._pace.waiting():
                    piece = next(pieces, None)
            except httpx.HTTPError as error:
                broken = error
            if self._cancelled.is_set():
                raise Cancelled
            if piece is not None:
                self._pace.count(len(piece))
                came.append(piece)
                size += len(piece)
            if size >= CHUNK_BYTES or (piece is None and size):
                yield came[0] if len(came) == 1 else b"".join(came)
                came, size = [], 0
            if broken is not None:
                raise broken
            if piece is None:
                return


class _Pace:
    """Whether the provider sends bytes fast enough. Time that a slow store takes does not count.

    Args:
        least_rate: the minimum, in bytes a second.
    """

    def __init__(self, least_rate: float) -> None:
        self._least_rate = least_rate
        self._waited = 0.0
        self._came = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as waiting for the provider."""
        since = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - since

    def count(self, came: int) -> None:
        """Count bytes received; after each minute of waiting, compare the rate with the minimum.

        Raises:
            TooSlow: it was lower.
        """
        self._came += came
        if self._waited < _PACE_SECONDS:
            return
        if self._came < self._least_rate * self._waited:
            least = f"{self._least_rate:g} bytes a second (CALLVAULT_LEAST_DOWNLOAD_RATE)"
            raise TooSlow(f"received {many(self._came, 'byte')} in {self._waited:.0f} s; the minimum is {least}")
        self._waited, self._came = 0.0, 0


def _accept(response: httpx.Response, got: int, source: SourceMark) -> SourceMark:
    """Check the head of an answer; return its size, ETag and date, completed by those known before.

    Raises:
        AddressAway: the server is in trouble.
        AudioRefused: the server refuses the audio.
        CannotBeResumed: nothing shows that it is the rest of the same bytes.
        DownloadFailed: the answer does not match the request.
    """
    _refuse(response)
    status, now = response.status_code, _mark(response)
    if not got:
        if status == 206:
            raise DownloadFailed("the server sent a part; the request asked for the whole")
        return now
    if status == 200 or now.etag is None or now.etag != source.etag:
        raise CannotBeResumed("the audio changed during the download, or the server cannot resume it")
    if not response.headers.get("content-range", "").startswith(f"bytes {got}-"):
        raise CannotBeResumed(f"the server resumed at the wrong offset: {response.headers.get('content-range')!r}")
    if source.size is not None and now.size is not None and now.size != source.size:
        raise CannotBeResumed(
            f"the audio had {many(source.size, 'byte')} when the download began; now it has {now.size}"
        )
    return SourceMark(source.size if now.size is None else now.size, source.etag, source.last_modified)


def _refuse(response: httpx.Response) -> None:
    """Refuse an error status, and an answer whose bytes, and size, are not those of the audio.

    Raises:
        AddressAway, AudioRefused, DownloadFailed: by the status.
        DownloadFailed: it is compressed.
    """
    status = response.status_code
    if status in (200, 206):
        if response.headers.get("content-encoding", "identity") != "identity":
            raise DownloadFailed("the server sent a compressed answer; the request asked for none")
        return
    is_refused = 400 <= status < 500
    kind = AddressAway if _is_away(status) else AudioRefused if is_refused else DownloadFailed
    raise kind(f"the download address answered {status}")


def _is_away(status: int) -> bool:
    """Whether a status means trouble of the server, and says nothing about the audio."""
    return status >= 500 or status in (408, 429)


def _mark(response: httpx.Response) -> SourceMark:
    """Size, ETag and date of the whole audio from the head of an answer, which may carry a part of it."""
    headers = response.headers
    length = headers.get("content-length", "")
    if response.status_code == 206:
        length = headers.get("content-range", "").rpartition("/")[2]
    etag = headers.get("etag", "").strip()
    is_strong = len(etag) > 2 and etag.startswith('"') and etag.endswith('"')  # a weak one begins with W/
    size = int(length) if length.isascii() and length.isdigit() else None
    return SourceMark(size, etag if is_strong else None, headers.get("last-modified"))


def _refuse_text(beginning: bytes) -> None:
    """Refuse text, such as an HTML, XML or JSON page. WAV and MP3 files begin with bytes that no text has.

    Args:
        beginning: the first `_SNIFFED_BYTES` of a body, or all of it: "RIFF" alone would count as text.
    """
    head = beginning[:_SNIFFED_BYTES]
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"{", b"[")) or _is_text(head):
        raise NotAudio("received text instead of audio: " + repr(head[:80].decode("ascii", "replace")))


def _may_begin_audio(beginning: bytes) -> bool:
    """Whether a few bytes may begin a WAV or MP3 file although they are letters: "RIFF" or "ID3", or a part of it."""
    return any(mark.startswith(beginning[: len(mark)]) for mark in (b"RIFF", b"ID3"))


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a last character may lack bytes
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(text) is None
