"""Downloads of audio: a stream of bytes that is whole or raises; resumed by Range, its address renewed when expired.

A download is resumed only where a strong ETag shows that the rest is of the same bytes; a weak one, or `Last-Modified`
alone, may stand for two contents (RFC 9110, 8.8.1 and 13.1.5). Otherwise it has to begin anew.

A download address is presigned: it carries its own authority and lives for minutes. The API key never goes to it
(S3 refuses a request with both, and whoever runs the host would have the key). This is synchronous on purpose: it runs
in the thread that hashes and uploads, so that no chunk is handed over between the event loop and a thread.
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

from telnyx_api.addresses import Forbidden, judge, public_transport
from telnyx_api.source_mark import SourceMark
from text.counts import many

CHUNK_BYTES = 256 * 1024

# Both in a row, without a byte in between: a long recording may be cut, and its address expire, as often as it likes.
_MOST_FAILURES = 8
_MOST_RENEWALS = 3
_MOST_REDIRECTS = 5
_LONGEST_WAIT_SECONDS = 4.0
_PACE_SECONDS = 60.0  # of waiting for the provider, over which a rate is measured
_SNIFFED_BYTES = 512
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


class DownloadFailed(Exception):
    """The bytes could not be had this time: cut off again and again without progress, refused, or changed meanwhile."""


class AddressAway(DownloadFailed):
    """The server behind an address does not answer, or answers 408, 429 or 5xx; nothing is said of the audio."""


class TooSlow(AddressAway):
    """Bytes come more slowly than the least rate that was asked for; the download holds a place that others need."""


class NotHandedOut(DownloadFailed):
    """The server behind a fresh address says that it does not give the audio, or gives not a byte of it."""


class NotAudio(NotHandedOut):
    """A page of HTML, XML or JSON, or another text, in place of audio; archiving it would be archiving an error message."""


class ForbiddenAddress(DownloadFailed):
    """An address that is never fetched, or led to one: plain HTTP or a private network, though the API is a public one."""


class CannotBeResumed(DownloadFailed):
    """A download broke off, and nothing shows that the rest would be of the same bytes. Beginning anew may succeed."""


class Cancelled(Exception):
    """The job was cancelled while its download ran."""


class Downloads:
    """Fetches presigned addresses over one connection pool; safe to use from several threads.

    Args:
        is_local: whether the API itself is on this machine or a private network, so that downloads may be too.
        connections: most connections at once.
        timeout_seconds: for each read.
        least_rate: bytes a second, below which a download ends; 0: none does.
    """

    def __init__(
        self, *, is_local: bool, connections: int = 32, timeout_seconds: float = 30.0, least_rate: float = 0.0
    ) -> None:
        self._is_local = is_local
        self._least_rate = least_rate
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.Client(
            timeout=httpx.Timeout(timeout_seconds, connect=5.0),
            limits=limits,
            transport=None if is_local else public_transport(limits),
            follow_redirects=False,
            headers={"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "callvault"},
        )

    def close(self) -> None:
        """Close the connection pool."""
        self._http.close()

    def stream(self, url: str, renew: Callable[[], str], cancelled: threading.Event) -> Download:
        """Begin a download.

        Args:
            url: the presigned address.
            renew: asks Telnyx for a fresh address of the same bytes; called when the address has expired.
            cancelled: set by whoever wants the download to stop.
        """
        return Download(self.ask, url, renew, cancelled, _Pace(self._least_rate))

    def look(self, url: str) -> SourceMark:
        """What an address says of the bytes behind it. A small GET, since an address presigned for GET refuses HEAD.

        Raises:
            ForbiddenAddress: the address may not be fetched.
            AddressAway: it does not answer now.
            NotHandedOut: it has expired, or what is behind it is gone, or empty.
            DownloadFailed: the answer makes no sense.
        """
        with self.ask(url, {"Range": "bytes=0-0"}) as response:
            _refuse_status(response)
            mark = _mark(response)
            if response.headers.get("content-length") == "1":
                with suppress(httpx.HTTPError):
                    response.read()  # so that the connection can be used again
            return mark

    @contextmanager
    def ask(self, url: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """Send a GET, and close its answer at the end of the block. Redirects are followed, each address judged as the first.

        Raises:
            ForbiddenAddress: an address may not be fetched.
            AddressAway: no head of an answer came.
            DownloadFailed: there are too many redirects.
        """
        for _ in range(1 + _MOST_REDIRECTS):
            response = self._send(url, headers)
            try:
                following = response.next_request
                if following is None:
                    yield response
                    return
                url = str(following.url)
            finally:
                response.close()
        raise DownloadFailed(f"the download address redirects more than {_MOST_REDIRECTS} times")

    def _send(self, url: str, headers: dict[str, str]) -> httpx.Response:
        try:
            judge(url, is_local=self._is_local)
            return self._http.send(self._http.build_request("GET", url, headers=headers), stream=True)
        except Forbidden as error:
            raise ForbiddenAddress(str(error)) from None
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ForbiddenAddress(f"the download address, or one it redirects to, is invalid: {error}") from None
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__} {error}".rstrip()
            raise AddressAway(f"download host {urlsplit(url).hostname} does not answer: {reason}") from error


class Download(Iterator[bytes]):
    """The bytes behind an address, in chunks, to the last one. Made by `Downloads.stream`.

    Iterating raises:
        NotAudio: a text in place of audio.
        ForbiddenAddress: the address may not be fetched.
        CannotBeResumed: it broke off, and its rest may be of other bytes.
        AddressAway: its server does not answer now.
        TooSlow: it is slower than the least rate.
        DownloadFailed: it was cut off again and again without progress, its address stays expired, or the answer makes no sense.
        Cancelled: as asked.

    Attributes:
        source: what the server said of the bytes; known once the first chunk is there.
        is_measured: whether the server said how many bytes there are. If not, only the audio itself can tell whether it
            is whole.
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
        """See above."""
        return self.source.size is not None

    def _read(self) -> Iterator[bytes]:
        got = failures = renewals = 0
        held, is_judged = b"", False  # the first bytes, until they can be told from a text
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
                            if is_judged:
                                yield chunk
                                continue
                            held += chunk
                            if len(held) >= _SNIFFED_BYTES:
                                _refuse_text(held)
                                is_judged = True
                                yield held
                if is_expired:
                    renewals += 1
                    self._url = self._renew()
                    continue
                total = self.source.size
                if total is None or got == total:
                    if not got:
                        raise NotHandedOut("the audio is empty")
                    if not is_judged:  # so short, and the end of what was sent
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
            self._pace.judge(0)

    def _body(self, response: httpx.Response) -> Iterator[bytes]:
        """The bytes of an answer as they come, in chunks; before an error all that came, so that a resumption asks for the rest.

        Raises:
            httpx.HTTPError: the connection broke.
            TooSlow: they come too slowly.
            Cancelled: as asked.
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
                self._pace.judge(len(piece))
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
    """Whether bytes come as fast as they must, by the time that was spent waiting for the provider and nothing else.

    While a slow store takes the bytes, nobody waits for the provider, and the time does not count.

    Args:
        least_rate: bytes a second.
    """

    def __init__(self, least_rate: float) -> None:
        self._least_rate = least_rate
        self._waited = 0.0
        self._came = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count what the block takes as waiting for the provider."""
        since = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - since

    def judge(self, came: int) -> None:
        """Count bytes that came; once a minute of waiting is over, hold what came in it against the least rate.

        Raises:
            TooSlow: it was less.
        """
        self._came += came
        if self._waited < _PACE_SECONDS:
            return
        if self._came < self._least_rate * self._waited:
            least = f"{self._least_rate:g} bytes a second (CALLVAULT_LEAST_DOWNLOAD_RATE)"
            raise TooSlow(f"received {many(self._came, 'byte')} in {self._waited:.0f} s; the minimum is {least}")
        self._waited, self._came = 0.0, 0


def _accept(response: httpx.Response, got: int, source: SourceMark) -> SourceMark:
    """Check the head of an answer; returns what it says of the bytes, with what was known of them.

    Raises:
        AddressAway: its server is in trouble.
        NotHandedOut: it does not give the audio.
        CannotBeResumed: it is not shown to be the rest of the same bytes.
        DownloadFailed: it is not an answer to what was asked.
    """
    _refuse_status(response)
    status = response.status_code
    if response.headers.get("content-encoding", "identity") != "identity":
        raise DownloadFailed("the server sent a compressed answer; the request asked for none")
    now = _mark(response)
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


def _refuse_status(response: httpx.Response) -> None:
    """Refuse an answer that brings no bytes.

    Raises:
        AddressAway, NotHandedOut, DownloadFailed: what its status means.
    """
    status = response.status_code
    if status in (200, 206):
        return
    is_refused = 400 <= status < 500
    kind = AddressAway if _is_away(status) else NotHandedOut if is_refused else DownloadFailed
    raise kind(f"the download address answered {status}")


def _is_away(status: int) -> bool:
    """Whether an answer says that the server is in trouble, and nothing of what was asked for."""
    return status >= 500 or status in (408, 429)


def _mark(response: httpx.Response) -> SourceMark:
    """What the head of an answer says of all the bytes, though it may bring a part of them."""
    headers = response.headers
    length = headers.get("content-length", "")
    if response.status_code == 206:
        length = headers.get("content-range", "").rpartition("/")[2]
    etag = headers.get("etag", "").strip()
    is_strong = len(etag) > 2 and etag.startswith('"') and etag.endswith('"')  # a weak one begins with W/
    size = int(length) if length.isascii() and length.isdigit() else None
    return SourceMark(size, etag if is_strong else None, headers.get("last-modified"))


def _refuse_text(beginning: bytes) -> None:
    """Refuse what begins as text, such as an HTML, XML or JSON page; WAV and MP3 files begin with bytes that no text has.

    Args:
        beginning: of a body; less than `_SNIFFED_BYTES` only if it is the whole: "RIFF" alone would be a text.
    """
    head = beginning[:_SNIFFED_BYTES]
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"{", b"[")) or _is_text(head):
        raise NotAudio("received text instead of audio: " + repr(head[:80].decode("ascii", "replace")))


def _may_begin_audio(beginning: bytes) -> bool:
    """Whether a few bytes may be the first of a WAV or MP3 file, though they are letters: "RIFF" or "ID3", or a part of it."""
    return any(mark.startswith(beginning[: len(mark)]) for mark in (b"RIFF", b"ID3"))


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # a last character may lack bytes
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(text) is None
