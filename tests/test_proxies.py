"""The proxies of deploy/proxies, each with its own file before a real receiver: bodies, addresses, limits, paths."""

from __future__ import annotations

import gzip
import json
import re
import socket
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from lab.processes import Missing, Receiver, free_port, program, receiver, wait_for
from lab.proxies import FILES, NAME, PROXIES, proxy
from lab.webhooks import Signer, event
from service.webhooks import LARGEST_BODY_BYTES
from workers.queue.embedded import EmbeddedServer

MIB = 1024 * 1024
SIGNER = Signer()
PATH = "/webhooks/telnyx"
OF_THE_RECEIVER_ONLY = (
    "/",
    "/ops",
    "/ops/",
    "/api/overview",
    "/metrics",
    "/healthz",
    "/readyz",
    "/webhooks",
    PATH + "/",
)


@dataclass
class Running:
    """A proxy before a receiver."""

    name: str
    port: int
    trust: ssl.SSLContext
    certificate: Path
    receiver: Receiver
    direct: httpx.Client

    def client(self, source: str = "127.0.0.1") -> httpx.Client:
        """A client of the proxy with its own address."""
        transport = httpx.HTTPTransport(verify=self.trust, local_address=source)
        base = f"https://127.0.0.1:{self.port}"
        return httpx.Client(base_url=base, transport=transport, headers={"host": NAME}, timeout=30)

    def post(self, body: bytes, headers: dict[str, str] | None = None, source: str = "127.0.0.1") -> httpx.Response:
        """Send a webhook through the proxy, signed unless there are headers."""
        with self.client(source) as client:
            signed = SIGNER.headers(body) if headers is None else headers
            return client.post(PATH, content=body, headers=signed, extensions={"sni_hostname": NAME})

    def connect(self, source: str = "127.0.0.1") -> ssl.SSLSocket:
        """A connection through TLS."""
        plain = socket.create_connection(("127.0.0.1", self.port), 20, source_address=(source, 0))
        return self.trust.wrap_socket(plain, server_hostname=NAME)


@pytest.fixture(scope="module", params=PROXIES)
def running(
    request: pytest.FixtureRequest, valkey: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    name = request.param
    environment = {"REDIS_URL": valkey.url, "TELNYX_PUBLIC_KEY": SIGNER.public_key}
    with receiver(environment) as (direct, process):
        try:
            with proxy(name, process.port, tmp_path_factory.mktemp(name)) as (port, trust, certificate):
                yield Running(name, port, trust, certificate, process, direct)
        except Missing:
            if name == "nginx":
                raise
            pytest.skip(f"skipped because {name} is not installed")


def saved(event_id: str, size_bytes: int = 0) -> bytes:
    """An event, filled up to a size."""
    body = event("call.recording.saved", event_id, recording_id=event_id, filler="")
    return body.replace(b'"filler": ""', b'"filler": "' + b"x" * max(0, size_bytes - len(body)) + b'"')


@pytest.mark.parametrize("size", [0, MIB, MIB + 1, LARGEST_BODY_BYTES])
def test_a_signed_webhook_arrives_as_it_was_sent(running: Running, redis: Any, size: int) -> None:
    body = saved("whole", size)
    assert not size or len(body) == size
    assert running.post(body).text == "accepted\n"
    assert running.post(body).text == "already accepted\n"


def test_a_larger_one_is_refused(running: Running, redis: Any) -> None:
    body = saved("large", LARGEST_BODY_BYTES + 1)
    assert running.post(body).status_code == 413
    assert running.post(saved("next")).status_code == 200


def test_a_body_in_chunks_arrives_as_it_was_sent(running: Running, redis: Any) -> None:
    for size, status in ((2000, 200), (2 * MIB, 200), (LARGEST_BODY_BYTES + 1, 413)):
        body = saved(f"chunks-{size}", size)

        def chunks(body: bytes = body) -> Iterator[bytes]:
            for at in range(0, len(body), 50_000):
                yield body[at : at + 50_000]

        with running.client() as client, suppress(httpx.WriteError):
            answer = client.post(
                PATH, content=chunks(), headers=SIGNER.headers(body), extensions={"sni_hostname": NAME}
            )
            assert answer.status_code == status, size


def test_a_compressed_body_arrives_compressed(running: Running, redis: Any) -> None:
    """The receiver itself wants plain JSON: a good signature shows that these are the bytes that were signed."""
    body = gzip.compress(saved("gzip"))
    headers = SIGNER.headers(body) | {"content-encoding": "gzip"}
    direct = running.direct.post(PATH, content=body, headers=headers)
    through = running.post(body, headers)
    assert (through.status_code, through.text) == (direct.status_code, direct.text) == (400, "the body is not JSON\n")


def test_odd_bytes_arrive_as_they_were_sent(running: Running, redis: Any) -> None:
    for number, end in enumerate((b"\r\n", b"\n", b" ", b"\t\r\n\r\n")):
        body = saved(f"odd-{number}").replace(b", ", b" ,\r\n\t") + end
        assert running.post(body).text == "accepted\n"
        text = SIGNER.headers(body) | {"content-type": "application/json; charset=ISO-8859-1"}
        assert running.post(body, text).text == "already accepted\n"


def test_a_client_may_speak_http_2(running: Running, redis: Any, tmp_path: Path) -> None:
    body = saved("h2", MIB + 1)
    (tmp_path / "body").write_bytes(body)
    headers = [word for one in SIGNER.headers(body).items() for word in ("-H", ": ".join(one))]
    done = subprocess.run(
        [
            *(program("curl", "curl"), "--silent", "--show-error", "--http2", "--noproxy", "*"),
            *("--resolve", f"{NAME}:{running.port}:127.0.0.1", "--cacert", str(running.certificate)),
            *("--max-time", "30", "-w", "%{http_version} %{http_code}", "--data-binary", f"@{tmp_path / 'body'}"),
            *headers,
            f"https://{NAME}:{running.port}{PATH}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "accepted\n2 200", done.stderr


def test_a_slow_body_is_ended_and_holds_up_nobody(running: Running, redis: Any) -> None:
    with running.connect() as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 1000\r\n\r\nabc".encode())
        started = time.monotonic()
        assert running.post(saved("meanwhile")).status_code == 200
        assert time.monotonic() - started < 5
        connection.settimeout(30)
        answer = b""
        with suppress(ConnectionError):
            answer = connection.recv(1000)
        assert time.monotonic() - started < 28
        assert answer == b"" or re.match(rb"HTTP/1.1 (408|502|504) ", answer), "Telnyx retries these, and silence"
    assert running.post(saved("afterwards")).status_code == 200


@pytest.mark.parametrize("path", OF_THE_RECEIVER_ONLY)
def test_nothing_but_webhooks_is_on_the_public_name(running: Running, path: str) -> None:
    with running.client() as client:
        for method in ("GET", "POST"):
            answer = client.request(method, path, extensions={"sni_hostname": NAME})
            assert answer.status_code == 404 and "location" not in answer.headers
        answer = client.get("/ops/../metrics", extensions={"sni_hostname": NAME})
        assert "callvault_" not in answer.text


def test_the_receiver_learns_the_clients_address_and_no_invented_one(running: Running, redis: Any) -> None:
    forged = {
        "x-forwarded-for": "203.0.113.9",
        "forwarded": "for=203.0.113.9",
        "x-real-ip": "203.0.113.9",
        "x-forwarded-proto": "http",
    }
    before = len(running.receiver.output)
    assert running.post(b"{}", forged, source="127.0.0.2").status_code == 401
    wait_for(lambda: "webhook refused" in running.receiver.output[before:], 10, "the refusal in the log")
    lines = [json.loads(line) for line in running.receiver.output[before:].splitlines() if "webhook refused" in line]
    assert lines[0]["client"] == "127.0.0.2"


def test_a_flood_from_one_address_is_limited_and_others_get_through(running: Running, redis: Any) -> None:
    if running.name == "caddy":
        assert "no limit of rates" in (FILES / "Caddyfile").read_text()
        return
    request = f"POST {PATH} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    deadline = time.monotonic() + 60

    def flood(_: int) -> Counter[bytes]:
        """Send until one is limited. A proxy ends a connection after some requests."""
        answers: Counter[bytes] = Counter()
        while b"429" not in answers and time.monotonic() < deadline:
            with running.connect("127.0.0.3") as connection, suppress(ConnectionError, TimeoutError):
                connection.settimeout(20)
                for _ in range(9):
                    connection.sendall(request * 100)
                    received = b""
                    while received.count(b"HTTP/1.1 ") < 100 and (more := connection.recv(65536)):
                        received += more
                    answers.update(re.findall(rb"HTTP/1.1 (\d+) ", received))
        return answers

    with ThreadPoolExecutor(8) as threads:
        answers = sum(threads.map(flood, range(8)), Counter())
    assert answers[b"429"] and answers.keys() <= {b"401", b"429"}, answers
    assert answers[b"401"] >= 2000, "a burst gets through"
    assert running.post(saved("other"), source="127.0.0.2").status_code == 200


@pytest.mark.parametrize("name", PROXIES)
def test_while_no_receiver_runs_telnyx_is_asked_to_retry(name: str, tmp_path: Path) -> None:
    try:
        with proxy(name, free_port(), tmp_path) as (port, trust, _), httpx.Client(verify=trust, timeout=30) as client:
            url = f"https://127.0.0.1:{port}{PATH}"
            answer = client.post(url, content=b"{}", headers={"host": NAME}, extensions={"sni_hostname": NAME})
            assert answer.status_code in (502, 503, 504)
    except Missing:
        if name == "nginx":
            raise
        pytest.skip(f"skipped because {name} is not installed")


def test_traefik_says_the_same() -> None:
    """No package of Debian brings Traefik, so its file is read and not run."""
    static = yaml.safe_load((FILES / "traefik" / "traefik.yaml").read_text())
    http = yaml.safe_load((FILES / "traefik" / "callvault.yaml").read_text())["http"]
    (router,) = http["routers"].values()
    assert router["rule"] == f"Host(`{NAME}`) && Path(`{PATH}`)" and router["tls"] == {}
    assert router["entryPoints"] == list(static["entryPoints"])
    assert set(router["middlewares"]) == set(http["middlewares"])
    assert http["middlewares"]["callvault-size"]["buffering"]["maxRequestBodyBytes"] == LARGEST_BODY_BYTES
    assert http["services"][router["service"]]["loadBalancer"]["serversTransport"] in http["serversTransports"]
    assert static["entryPoints"]["websecure"]["forwardedHeaders"]["trustedIPs"] == []
