"""Which addresses are fetched: a name is resolved once, all its addresses are checked, one is used."""

from __future__ import annotations

import http.server
import ipaddress
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings
from lab.lines import server_context
from lab.servers import HttpServer
from telnyx_api import addresses
from telnyx_api.addresses import is_public
from telnyx_api.downloads import AddressAway, Downloads, ForbiddenAddress
from workers.engine.failing import failure_class_of
from workers.engine.failure_classes import may_have_passed

NAME = "recordings.example.com"
PUBLIC, PRIVATE = "127.0.0.2", "127.0.0.1"  # stands for the first


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "198.18.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%1", "fc00::1", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::7f00:1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
        *("64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a00:1::1", "2001:0:7f00:1::", "not an address", ""),
    ],
)
def test_only_single_hosts_of_the_public_internet_count_as_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "52.217.1.1", "2600:1f00::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_public_addresses_count_as_public(address: str) -> None:
    assert is_public(address)


class Site:
    """A server of one file over TLS, whose certificate is for `NAME`."""

    def __init__(self, folder: Path, host: str) -> None:
        self.seen: list[str] = []
        self.answer: tuple[int, str] = (200, "")
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.seen.append(self.headers["host"])
                status, location = site.answer
                self.send_response(status)
                if location:
                    self.send_header("location", location)
                self.send_header("content-length", "6")
                self.end_headers()
                self.wfile.write(b"RIFF\x00\x00")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(HttpServer):
            address = host

            def server_bind(self) -> None:
                self.server_address = (self.address, 0)
                super().server_bind()

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients that do not trust it hang up

        self.server = Server(Handler)
        context, self.certificate = server_context(folder, NAME)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]


class Names:
    """Resolves names: the answers in turn, the last one repeatedly; addresses resolve to themselves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        resolve = socket.getaddrinfo

        def getaddrinfo(host: str, *args: Any, **options: Any) -> Any:
            if host not in self.answers:
                ipaddress.ip_address(host)  # no real server is asked
                return resolve(host, *args, **options)
            self.asked.append(host)
            in_turn = self.answers[host]
            found = in_turn.pop(0) if len(in_turn) > 1 else in_turn[0]
            if not found:
                raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            return [one for address in found for one in resolve(address, *args, **options)]

        monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(addresses, "is_public", lambda address: address == PUBLIC)
    made = Site(tmp_path, PUBLIC)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
    yield made
    made.server.stop()


@pytest.fixture
def downloads(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Downloads]:
    monkeypatch.setattr("telnyx_api.downloads._LONGEST_WAIT_SECONDS", 0.01)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    made = Downloads(is_local=False, timeout_seconds=2)
    yield made
    made.close()


def fetch(downloads: Downloads, url: str) -> bytes:
    return b"".join(downloads.stream(url, lambda: url, threading.Event()))


def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(
    downloads: Downloads, site: Site, names: Names
) -> None:
    names.answers[NAME] = [[PUBLIC], [PRIVATE]]  # as an attacker who rebinds the name
    url = f"https://{NAME}:{site.port}/a.wav"
    assert fetch(downloads, url) == b"RIFF\x00\x00"
    assert names.asked == [NAME]
    assert site.seen == [f"{NAME}:{site.port}"], "the request is for the name, and so is the certificate"
    with pytest.raises(ForbiddenAddress, match=f"'{NAME}' resolves to {PRIVATE}") as refused:
        fetch(downloads, url)
    assert len(site.seen) == 1
    assert may_have_passed(failure_class_of(refused.value, Settings()).name), "names change, and reconcile retries"


def test_the_certificate_must_be_of_the_name(downloads: Downloads, site: Site, names: Names) -> None:
    names.answers["other.example.com"] = [[PUBLIC]]
    with pytest.raises(AddressAway, match=r"other\.example\.com"):
        fetch(downloads, f"https://other.example.com:{site.port}/a.wav")
    assert site.seen == []


def test_a_name_that_stands_for_one_private_address_among_others_is_refused(
    downloads: Downloads, site: Site, names: Names
) -> None:
    names.answers[NAME] = [[PUBLIC, PRIVATE]]
    with pytest.raises(ForbiddenAddress, match=PRIVATE):
        fetch(downloads, f"https://{NAME}:{site.port}/a.wav")
    with pytest.raises(ForbiddenAddress, match=PRIVATE):
        downloads.look(f"https://{NAME}:{site.port}/a.wav")
    assert site.seen == []


def test_a_name_that_temporarily_does_not_resolve_is_an_outage(downloads: Downloads, site: Site, names: Names) -> None:
    names.answers[NAME] = [[], [], [PUBLIC]]
    url = f"https://{NAME}:{site.port}/a.wav"
    with pytest.raises(AddressAway, match="does not resolve"):
        downloads.look(url)
    assert fetch(downloads, url) == b"RIFF\x00\x00"


@pytest.mark.parametrize(
    "location",
    [
        "https://169.254.169.254/latest",
        "https://inside.example.com/",
        "http://recordings.example.com/",
        "https://localhost/",
    ],
)
def test_a_redirect_is_checked_like_the_first_address(
    location: str, downloads: Downloads, site: Site, names: Names
) -> None:
    names.answers = {NAME: [[PUBLIC]], "inside.example.com": [[PRIVATE]]}
    site.answer = (302, location)
    with pytest.raises(ForbiddenAddress):
        fetch(downloads, f"https://{NAME}:{site.port}/a.wav")
    assert len(site.seen) == 1


def test_behind_a_proxy_of_the_environment_the_proxy_connects(
    site: Site, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_error(502)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    proxy = HttpServer(Proxy)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.server_port}")
    monkeypatch.setenv("NO_PROXY", "direct.example.com")
    names.answers["direct.example.com"] = [[PRIVATE]]
    downloads = Downloads(is_local=False, timeout_seconds=2)
    with pytest.raises(AddressAway):
        downloads.look(f"https://{NAME}:{site.port}/a.wav")
    with pytest.raises(ForbiddenAddress):
        downloads.look("https://10.0.0.1/a.wav")
    with pytest.raises(ForbiddenAddress, match=PRIVATE):
        downloads.look(f"https://direct.example.com:{site.port}/a.wav")
    assert asked == [f"{NAME}:{site.port}"]
    downloads.close()
    proxy.stop()
