"""`callvault doctor` sends a signed test webhook through each webhook URL, and says what a proxy did to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest

from lab.lines import tls_proxy
from lab.processes import callvault, free_port, receiver, run_callvault
from lab.servers import HttpServer, RunningSandbox
from lab.webhooks import Signer
from sandbox.main import furnish

Change = Callable[[dict[str, str], bytes], tuple[dict[str, str], bytes] | int]


@contextmanager
def proxy(port: int, change: Change) -> Iterator[str]:
    """A proxy before a receiver that changes requests, or answers a status itself; gives the webhook URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            changed = change({name.lower(): value for name, value in self.headers.items()}, body)
            if isinstance(changed, int):
                return self.reply(changed, b"")
            headers, body = changed
            headers["content-length"] = str(len(body))
            answer = httpx.post(
                f"http://127.0.0.1:{port}{self.path}", content=body, headers=headers, trust_env=False, timeout=20
            )
            return self.reply(answer.status_code, answer.content)

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HttpServer(Handler)
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/webhooks/telnyx"
    finally:
        server.stop()


def row(environment: dict[str, str]) -> dict[str, Any]:
    rows = json.loads(run_callvault(["doctor", "--json"], environment).stdout)["checks"]
    return next(one for one in rows if one["check"] == "webhook URLs")


def use(sandbox: RunningSandbox, url: str) -> None:
    """Have every connection send its webhooks to one URL."""
    furnish(sandbox.world)
    for connection in sandbox.world.connections.values():
        connection["webhook_event_url"] = url
        connection["webhook_event_failover_url"] = None


def rewritten(headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    return headers, json.dumps(json.loads(body)).encode()


WRONG: dict[str, tuple[Change, bool, str, str]] = {
    "nothing": (lambda headers, body: (headers, body), True, "gets webhooks unchanged", ""),
    "writes the JSON anew": (rewritten, False, "the JSON was parsed and written anew", "no plugin"),
    "adds a line end": (lambda headers, body: (headers, body + b"\r\n"), False, "a line end was added", "as it is"),
    "drops the signature": (
        lambda headers, body: ({k: v for k, v in headers.items() if "signature" not in k}, body),
        False,
        "the header telnyx-signature-ed25519 does not arrive",
        "pass every header on",
    ),
    "cuts large bodies": (lambda headers, body: (headers, body[:1_000_000]), False, "got 1000000", "4 MiB"),
    "refuses large bodies": (
        lambda headers, body: (headers, body) if len(body) < 1_048_576 else 413,
        False,
        "answers 413 to a webhook of 2 MiB",
        "4 MiB",
    ),
    "asks for a password for large bodies": (
        lambda headers, body: (headers, body) if len(body) < 1_048_576 else 401,
        True,
        "no receiver of this Redis got the test webhook of 2 MiB",
        "in front",
    ),
    "asks for a password": (
        lambda headers, body: 401,
        True,
        "no receiver of this Redis got the test webhook",
        "in front",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_a_proxy_does_to_webhooks_is_found(
    what: str, sandbox: RunningSandbox, environment: dict[str, str], redis: Any
) -> None:
    change, is_good, found, advice = WRONG[what]
    with receiver(environment) as (_, process), proxy(process.port, change) as url:
        use(sandbox, url)
        told = row(environment)
        assert (told["good"], found in told["found"], advice in told["advice"]) == (is_good, True, True), told
        if what == "nothing":
            assert "test webhook of doctor" in process.output and "webhook refused" not in process.output
    assert not list(redis.scan_iter("callvault:prob*")), "the numbers are used once"
    assert redis.zcard("arq:queue") == 0


def test_a_proxy_that_names_no_client_is_noted(
    sandbox: RunningSandbox, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    with (
        receiver(environment) as (_, process),
        tls_proxy(process.port, tmp_path_factory.mktemp("tls")) as (port, certificate),
    ):
        use(sandbox, f"https://127.0.0.1:{port}/webhooks/telnyx")
        told = row(environment | {"SSL_CERT_FILE": str(certificate)})
    assert told["good"] and "the receiver takes 127.0.0.1, which is the proxy" in told["found"]
    assert "FORWARDED_ALLOW_IPS" in told["advice"]


def test_many_urls_of_one_receiver_are_each_seen(
    sandbox: RunningSandbox, environment: dict[str, str], redis: Any
) -> None:
    """A receiver looks up a few numbers at once only, since anyone may send some."""
    with receiver(environment) as (_, process):
        use(sandbox, f"{process.url}/webhooks/telnyx?n=0")
        first = next(iter(sandbox.world.connections.values()))
        for number in range(20):
            sandbox.world.connections[str(number)] = first | {
                "id": str(number),
                "webhook_event_url": f"{process.url}/webhooks/telnyx?n={number}",
            }
        told = row(environment)
        assert "20 receiver URLs get webhooks unchanged" in told["found"] and told["good"], told
        assert process.output.count("test webhook of doctor") == 40 and "webhook refused" not in process.output


def test_without_redis_nothing_is_called_unchanged(sandbox: RunningSandbox, environment: dict[str, str]) -> None:
    port = free_port()
    use(sandbox, f"http://127.0.0.1:{port}/webhooks/telnyx")
    with callvault(["serve", "--port", str(port)], environment, "Uvicorn running"):
        told = row(environment | {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"})
    assert "is unknown, because Redis does not answer" in told["found"]


def test_only_an_announced_number_is_kept_and_only_once(environment: dict[str, str], redis: Any) -> None:
    """Otherwise anyone could fill Redis, or read through a proxy what a receiver sees."""
    signer, body = Signer(), b'{"data":{}}'
    with receiver(environment) as (client, _):

        def ask(number: str) -> httpx.Response:
            return client.post(
                "/webhooks/telnyx", content=body, headers=signer.headers(body) | {"callvault-probe": number}
            )

        for number in ("a" * 32, "x", "A" * 32, "a" * 33, "*" * 32):
            assert ask(number).status_code == 401
            assert not redis.keys("callvault:probed:*"), number
        redis.set("callvault:probe:" + "a" * 32, "1", ex=60)
        first = ask("a" * 32)
        assert (first.status_code, first.text) == (401, "the signature matches no known key\n")
        assert redis.exists("callvault:probe:" + "a" * 32) == 0
        assert 0 < redis.ttl("callvault:probed:" + "a" * 32) <= 60
        redis.delete("callvault:probed:" + "a" * 32)
        assert ask("a" * 32).status_code == 401
        assert not redis.keys("callvault:probed:*")


def test_a_flood_of_numbers_holds_up_no_webhook(environment: dict[str, str], redis: Any) -> None:
    signer = Signer()
    with receiver(environment | {"TELNYX_PUBLIC_KEY": signer.public_key}) as (client, process):
        ends = threading.Event()

        def flood() -> None:
            with httpx.Client(base_url=process.url, trust_env=False) as own:
                while not ends.is_set():
                    own.post("/webhooks/telnyx", content=b"{}", headers={"callvault-probe": "b" * 32})

        threads = [threading.Thread(target=flood) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            for number in range(20):
                body = b'{"data":{"event_type":"call.hangup","id":"%d","payload":{}}}' % number
                answer = client.post("/webhooks/telnyx", content=body, headers=signer.headers(body))
                assert answer.status_code == 200
        finally:
            ends.set()
            for thread in threads:
                thread.join(10)
