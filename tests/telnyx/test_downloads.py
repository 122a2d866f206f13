"""Downloads over real sockets: resumed, renewed, refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from config.settings import Settings
from lab.servers import HttpServer
from sandbox.audio import Audio, make_mp3, make_wav
from telnyx_api.downloads import (
    AddressAway,
    Cancelled,
    CannotBeResumed,
    DownloadFailed,
    Downloads,
    ForbiddenAddress,
    NotAudio,
    TooSlow,
)
from telnyx_api.source_mark import SourceMark
from workers.engine.failing import failure_class_of

DATA = bytes(range(256)) * 4096


class Files:
    """A server of one file; `plan` determines how it treats each request in turn."""

    def __init__(self) -> None:
        self.plan: list[str] = []
        self.seen: list[dict[str, str]] = []
        self.data = DATA
        files = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                files.seen.append({k.lower(): v for k, v in self.headers.items()} | {"path": self.path})
                self._answer(files.plan.pop(0) if files.plan else "good")

            def _answer(self, how: str) -> None:
                data, start = files.data, 0
                asked = self.headers.get("range", "")
                if asked.startswith("bytes=") and how != "no range":
                    first, _, last = asked[6:].partition("-")
                    start = int(first)
                    if last:
                        data = data[: int(last) + 1]
                status = 206 if asked and how != "no range" else 200
                code, _, location = how.partition(" to ")
                if code.isdigit():
                    status, data, start = int(code), b"<Error/>", 0
                if how == "page":
                    data, start = b"\n <html>no</html>", 0
                if how == "empty":
                    data = b""
                self.send_response(status)
                tag = '"other"' if how == "changed" else '"tag"'
                tag = {"cut weak": 'W/"tag"', "weak": 'W/"tag"', "cut untagged": "", "untagged": ""}.get(how, tag)
                if tag:
                    self.send_header("etag", tag)
                self.send_header("last-modified", "Wed, 25 Nov 2026 10:00:00 GMT")
                if how == "named":
                    self.send_header("content-disposition", 'attachment; filename="Gespräch.wav"')
                if how == "compressed":
                    self.send_header("content-encoding", "gzip")
                if status == 206:
                    shift = 1 if how == "wrong place" else 0
                    self.send_header(
                        "content-range", f"bytes {start + shift}-{len(data) - 1}/{len(files.data) + (how == 'longer')}"
                    )
                if location:
                    self.send_header("location", location)
                if how == "unmeasured":
                    self.close_connection = True
                else:
                    self.send_header("content-length", str(len(data) - start))
                self.end_headers()
                body = data[start:]
                if how.startswith("cut"):
                    most = how.removeprefix("cut after ")
                    body = body[: int(most) if most.isdigit() else len(body) // 2]
                    self.close_connection = True
                if how == "drip":
                    self.close_connection = True
                    with suppress(OSError):
                        for at in range(0, len(body), 20):
                            self.wfile.write(body[at : at + 20])
                            time.sleep(0.01)
                    return
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HttpServer(Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/a.wav?X-Amz-Signature=s"


@pytest.fixture
def files() -> Iterator[Files]:
    made = Files()
    yield made
    made.server.stop()


@pytest.fixture
def downloads() -> Iterator[Downloads]:
    made = Downloads(is_local=True, timeout_seconds=2)
    yield made
    made.close()


def fetch(downloads: Downloads, files: Files) -> bytes:
    renewals = []

    def renew() -> str:
        renewals.append(1)
        return files.url + f"&fresh={len(renewals)}"

    return b"".join(downloads.stream(files.url, renew, threading.Event()))


def test_the_bytes_come_whole_and_without_authorization(downloads: Downloads, files: Files) -> None:
    assert fetch(downloads, files) == DATA
    assert "authorization" not in files.seen[0]
    assert files.seen[0]["accept-encoding"] == "identity"


def test_a_header_in_other_letters_keeps_nothing_from_being_fetched(downloads: Downloads, files: Files) -> None:
    files.plan = ["named"]
    assert fetch(downloads, files) == DATA


def test_a_cut_download_is_resumed_where_it_stopped(downloads: Downloads, files: Files) -> None:
    files.plan = ["cut", "cut", "500", "cut", "429"]
    assert fetch(downloads, files) == DATA
    starts = [s.get("range") for s in files.seen]
    assert starts[0] is None
    assert starts[1] == f"bytes={len(DATA) // 2}-"
    assert all(s["if-range"] == '"tag"' for s in files.seen[1:])


@pytest.mark.parametrize("status", ["403", "410"])
def test_an_expired_address_is_renewed_also_half_way(status: str, downloads: Downloads, files: Files) -> None:
    files.plan = [status, "cut", status]
    assert fetch(downloads, files) == DATA
    assert files.seen[-1]["path"].endswith("&fresh=2")


def test_an_address_that_stays_expired_is_given_up(downloads: Downloads, files: Files) -> None:
    files.plan = ["403"] * 10
    with pytest.raises(DownloadFailed, match="403"):
        fetch(downloads, files)
    assert len(files.seen) == 4


@pytest.mark.parametrize("how", ["changed", "no range", "wrong place", "longer", "weak", "untagged"])
def test_bytes_not_proven_the_same_are_never_joined(how: str, downloads: Downloads, files: Files) -> None:
    files.plan = ["cut", how]
    with pytest.raises(CannotBeResumed):
        fetch(downloads, files)


@pytest.mark.parametrize("how", ["cut weak", "cut untagged"])
def test_without_a_strong_etag_nothing_is_resumed(how: str, downloads: Downloads, files: Files) -> None:
    files.plan = [how]
    with pytest.raises(CannotBeResumed, match="without a strong ETag"):
        fetch(downloads, files)
    assert len(files.seen) == 1, "the rest is not requested"


def test_a_download_returns_what_the_server_declared_about_its_bytes(downloads: Downloads, files: Files) -> None:
    files.plan = ["cut"]
    download = downloads.stream(files.url, lambda: files.url, threading.Event())
    assert b"".join(download) == DATA
    assert download.source == SourceMark(len(DATA), '"tag"', "Wed, 25 Nov 2026 10:00:00 GMT")
    files.plan = ["unmeasured"]
    unmeasured = downloads.stream(files.url, lambda: files.url, threading.Event())
    assert b"".join(unmeasured) == DATA
    assert not unmeasured.is_measured, "a connection without a length may end early"


@pytest.mark.parametrize("how", ["good", "no range", "weak"])
def test_a_comparison_fetches_no_audio(how: str, downloads: Downloads, files: Files) -> None:
    files.plan = [how]
    etag = None if how == "weak" else '"tag"'
    assert downloads.look(files.url) == SourceMark(len(DATA), etag, "Wed, 25 Nov 2026 10:00:00 GMT")
    assert files.seen[0]["range"] == "bytes=0-0"
    assert "authorization" not in files.seen[0]


@pytest.mark.parametrize("how", ["403", "404", "500", "compressed"])
def test_a_check_of_something_that_does_not_answer_fails(how: str, downloads: Downloads, files: Files) -> None:
    files.plan = [how]
    with pytest.raises(DownloadFailed, match=how):
        downloads.look(files.url)


def test_a_download_that_is_cut_for_ever_ends(
    downloads: Downloads, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telnyx_api.downloads._LONGEST_WAIT_SECONDS", 0.01)
    files.plan = ["cut"] * 100
    with pytest.raises(DownloadFailed, match="9 times in a row without progress"):
        fetch(downloads, files)


def test_a_long_download_ends_however_often_it_is_cut_while_each_connection_brings_some_of_it(
    downloads: Downloads, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telnyx_api.downloads._LONGEST_WAIT_SECONDS", 0.01)
    files.plan = [
        "cut after 30000",
        "403",
        "500",
        "cut after 1",
    ] * 30  # fewer bytes than a chunk, and an address that expires
    assert fetch(downloads, files) == DATA
    starts = [int(seen["range"][6:-1]) for seen in files.seen if "range" in seen]
    assert starts == sorted(starts) and len(files.seen) > 100, "it never starts over"


@pytest.mark.parametrize("status", ["500", "503", "429", "408"])
def test_a_failing_server_is_an_outage(
    status: str, downloads: Downloads, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telnyx_api.downloads._LONGEST_WAIT_SECONDS", 0.01)
    files.plan = [status] * 20
    with pytest.raises(AddressAway, match=status) as failed:
        fetch(downloads, files)
    assert len(files.seen) == 9
    assert failure_class_of(failed.value, Settings()).is_never_given_up
    files.plan = [status]
    with pytest.raises(AddressAway, match=status):
        downloads.look(files.url)


def test_an_unreachable_server_is_an_outage(
    downloads: Downloads, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telnyx_api.downloads._LONGEST_WAIT_SECONDS", 0.01)
    files.server.stop()
    for url in (files.url, files.url.replace("127.0.0.1", "not-there.invalid")):
        with pytest.raises(AddressAway) as failed:
            next(downloads.stream(url, lambda: files.url, threading.Event()))
        assert failure_class_of(failed.value, Settings()).is_never_given_up
        assert "Signature" not in str(failed.value)


def test_a_download_that_brings_almost_nothing_ends(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telnyx_api.downloads._PACE_SECONDS", 0.3)
    downloads = Downloads(is_local=True, timeout_seconds=2, least_rate=100_000)
    files.plan = ["cut", "drip"]  # it was fast enough at first
    with pytest.raises(TooSlow, match="CALLVAULT_LEAST_DOWNLOAD_RATE") as failed:
        fetch(downloads, files)
    assert len(files.seen) == 2, "it is not resumed, which would occupy its slot"
    assert failure_class_of(failed.value, Settings()).is_never_given_up
    downloads.close()


def test_a_slow_consumer_does_not_slow_the_download(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telnyx_api.downloads._PACE_SECONDS", 0.3)
    downloads = Downloads(is_local=True, timeout_seconds=2, least_rate=2_000_000)
    got = b""
    for chunk in downloads.stream(files.url, lambda: files.url, threading.Event()):
        time.sleep(0.5)  # a store that accepts half a megabyte a second
        got += chunk
    assert got == DATA
    downloads.close()


def test_an_error_page_is_not_audio(downloads: Downloads, files: Files) -> None:
    files.plan = ["page"]
    with pytest.raises(NotAudio, match="<html>"):
        fetch(downloads, files)


PAGES = (b'<?xml version="1.0"?>', b"\xef\xbb\xbf<Error>", b'{"error": 1}', b"[]")
TEXTS = (
    b"Access denied\r\n",
    "Für Sie nicht.".encode(),
    b"upstream connect error\n" * 100,
    "é".encode() * 1000 + b"\0",
)


@pytest.mark.parametrize("body", [*PAGES, *TEXTS])
def test_text_of_every_kind_is_known(body: bytes, downloads: Downloads, files: Files) -> None:
    files.data = body
    with pytest.raises(NotAudio):
        fetch(downloads, files)


@pytest.mark.parametrize("audio", [make_wav("x", 1, 2), make_mp3("x", 1), make_mp3("x", 0.1, 2)])
def test_audio_is_no_text(audio: Audio, downloads: Downloads, files: Files) -> None:
    files.data = b"".join(audio.read(0, audio.size))
    assert fetch(downloads, files) == files.data


@pytest.mark.parametrize("most", [1, 4, 7, 15])
def test_the_first_bytes_of_truncated_audio_do_not_count_as_text(
    most: int, downloads: Downloads, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telnyx_api.downloads._LONGEST_WAIT_SECONDS", 0.01)
    files.data = b"RIFF$$  WAVEfmt " + DATA
    files.plan = [f"cut after {most}"] * 3
    assert fetch(downloads, files) == files.data
    assert [seen.get("range") for seen in files.seen] == [None, *(f"bytes={most * n}-" for n in (1, 2, 3))]

    files.plan = [f"cut after {most}"]
    files.data = b"Access denied, and so much for that."
    with pytest.raises(NotAudio):
        fetch(downloads, files)


@pytest.mark.parametrize("body", [b"R", b"RIFF", b"RIFF$$  WAVE", b"ID"])
def test_possibly_truncated_bytes_do_not_count_as_text(body: bytes, downloads: Downloads, files: Files) -> None:
    files.data, files.plan = body, ["unmeasured"]
    assert fetch(downloads, files) == body, "the client sees that it is not whole"
    files.data, files.plan = b"Refused", ["unmeasured"]
    with pytest.raises(NotAudio):
        fetch(downloads, files)


@pytest.mark.parametrize("how", ["404", "400", "empty", "compressed", "301"])
def test_content_that_is_not_audio_is_refused(how: str, downloads: Downloads, files: Files) -> None:
    files.plan = [how]
    with pytest.raises(DownloadFailed):
        fetch(downloads, files)
    assert len(files.seen) == 1


def test_redirects_are_followed_five_at_most_also_when_a_download_is_resumed(
    downloads: Downloads, files: Files
) -> None:
    hops = [f"{status} to /{status}?X-Amz-Signature=t" for status in (301, 302, 303, 307, 308)]
    files.plan = [*hops, "cut", *hops]
    assert fetch(downloads, files) == DATA
    assert [seen["path"].partition("?")[0] for seen in files.seen] == 2 * [
        "/a.wav",
        "/301",
        "/302",
        "/303",
        "/307",
        "/308",
    ]
    assert files.seen[-1]["range"] == f"bytes={len(DATA) // 2}-"
    files.plan = [*hops, "301 to /once-more"]
    with pytest.raises(DownloadFailed, match="redirects more than 5 times"):
        fetch(downloads, files)
    files.plan = ["302 to /b", "good"]
    assert downloads.look(files.url).size == len(DATA)


@pytest.mark.parametrize("location", ["ftp://host/x", "//user:pass@host/x", "https://[", "http://host:99999999/"])
def test_a_redirect_to_what_is_no_address_is_a_failed_download(
    location: str, downloads: Downloads, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("telnyx_api.downloads._LONGEST_WAIT_SECONDS", 0.01)
    files.plan = [f"301 to {location}"] * 20
    with pytest.raises(DownloadFailed):
        fetch(downloads, files)


def test_a_cancelled_download_stops_at_its_next_chunk(downloads: Downloads, files: Files) -> None:
    cancelled = threading.Event()
    stream = downloads.stream(files.url, lambda: files.url, cancelled)
    next(stream)
    cancelled.set()
    with pytest.raises(Cancelled):
        next(stream)


@pytest.mark.parametrize(
    "url",
    [
        "http://s3.amazonaws.com/x",
        "https://127.0.0.1/x",
        "https://localhost/x",
        "https://10.0.0.1/x",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/x",
        "https://metadata/x",
        "file:///etc/passwd",
        "ftp://x/y",
        "https://user:pass@s3.amazonaws.com/x",
        "https:///x",
    ],
)
def test_with_the_real_api_nothing_private_or_plain_is_fetched(url: str) -> None:
    downloads = Downloads(is_local=False)
    with pytest.raises(ForbiddenAddress):
        next(downloads.stream(url, lambda: url, threading.Event()))
    with pytest.raises(ForbiddenAddress):
        downloads.look(url)
    downloads.close()
