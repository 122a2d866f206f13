"""What proxies do to bodies is found out, and said in the log of the refusal."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from lab.processes import Receiver, wait_for
from lab.processes import receiver as start_receiver
from lab.webhooks import Signer, event
from service.changed_body import LARGEST_UNDONE_BYTES, UNCHANGED, find_change, look_of
from service.signature import Signatures
from workers.queue.embedded import EmbeddedServer

SIGNER = Signer()
# As Telnyx writes it: without spaces, with characters outside ASCII, and with addresses.
SAVED = json.dumps(
    json.loads(event("call.recording.saved", "event-1", recording_id="r", url="https://here/a", caller="Jürgen €")),
    ensure_ascii=False,
    separators=(",", ":"),
).encode()
LATIN = SAVED.replace("€".encode(), b"")


def spaced(body: bytes) -> bytes:
    return json.dumps(json.loads(body)).encode()


# Each: the body that Telnyx signs, what the proxy makes of it, headers that it changes, and what is said.
CHANGES: dict[str, tuple[bytes, Callable[[bytes], bytes], dict[str, str], str]] = {
    "spaces in the JSON": (SAVED, spaced, {}, "the JSON was parsed and written anew"),
    "no spaces in the JSON": (
        spaced(SAVED),
        lambda body: json.dumps(json.loads(body), separators=(",", ":")).encode(),
        {},
        "the JSON was parsed and written anew",
    ),
    "escaped characters": (
        SAVED,
        lambda body: json.dumps(json.loads(body), separators=(",", ":")).encode(),
        {},
        "the JSON was parsed and written anew",
    ),
    "escaped slashes": (SAVED.replace(b"/", b"\\/"), lambda body: body.replace(b"\\/", b"/"), {}, "written anew"),
    "CRLF at the end": (SAVED, lambda body: body + b"\r\n", {}, "a line end was added after the body"),
    "LF at the end": (SAVED, lambda body: body + b"\n", {}, "a line end was added after the body"),
    "no LF at the end": (SAVED + b"\n", lambda body: body[:-1], {}, "the line end after the body was removed"),
    "CRLF for LF": (
        SAVED.replace(b",", b",\n"),
        lambda body: body.replace(b"\n", b"\r\n"),
        {},
        "the line ends in the body were changed",
    ),
    "Latin-1": (LATIN, lambda body: body.decode().encode("latin-1"), {}, "converted to another charset"),
    "UTF-8 twice": (SAVED, lambda body: body.decode("latin-1").encode(), {}, "converted to another charset"),
    "a byte order mark": (SAVED, lambda body: body.decode().encode("utf-8-sig"), {}, "converted to another charset"),
    "UTF-16": (SAVED, lambda body: body.decode().encode("utf-16"), {}, "converted to another charset"),
    "compressed": (SAVED, gzip.compress, {"content-encoding": "gzip"}, "the body was compressed"),
    "decompressed": (
        gzip.compress(SAVED),
        gzip.decompress,
        {"content-encoding": "gzip"},
        "decompressed, and Content-Encoding still says gzip",
    ),
    "header lost": (
        gzip.compress(SAVED),
        lambda body: gzip.compress(gzip.decompress(body), 1, mtime=1),
        {},
        "compressed and has no Content-Encoding",
    ),
    "cut": (SAVED, lambda body: body[:200], {}, "the JSON does not end"),
    "cut, with its first length": (
        SAVED,
        lambda body: body[:200],
        {"content-length": str(len(SAVED))},
        "another length",
    ),
    "emptied": (SAVED, lambda _: b"", {}, "the body is empty"),
    "indented, keys sorted": (
        SAVED,
        lambda body: json.dumps(json.loads(body), indent=2, sort_keys=True).encode(),
        {},
        "the JSON is indented",
    ),
    "another charset named": (
        SAVED,
        lambda body: body.replace("ü".encode(), b"u"),
        {"content-type": "application/json; charset=ISO-8859-1"},
        "names a charset other than UTF-8",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_proxy_did_is_found_out(what: str) -> None:
    sent, change, changed_headers, said = CHANGES[what]
    arrived = change(sent)
    assert arrived != sent
    headers = {"content-length": str(len(arrived))} | SIGNER.headers(sent) | changed_headers
    found = find_change(arrived, headers, Signatures([SIGNER.public_key]), time.time())
    assert said in found.what and found.advice


def test_another_key_is_no_change_of_the_body() -> None:
    found = find_change(SAVED, Signer().headers(SAVED), Signatures([SIGNER.public_key]), time.time())
    assert found == UNCHANGED and "TELNYX_PUBLIC_KEY" in found.advice


def test_an_old_webhook_is_recognised_too() -> None:
    headers = SIGNER.headers(SAVED, int(time.time()) - 4000)
    found = find_change(SAVED + b"\n", headers, Signatures([SIGNER.public_key]), time.time())
    assert found.what == "a line end was added after the body"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * LARGEST_UNDONE_BYTES,
        b'{"a":' * 10_000,
        b"9" * LARGEST_UNDONE_BYTES,
        b'["\\ud800"]',
        b"\xff\xfe" + b"\x00\xd8" * 1000,
        zlib.compress(b"x" * 10**7, wbits=31),
        b"\x1f\x8b",
        b"\r\n" * 30_000,
        b'"' + b"/" * 60_000 + b'"',
    ],
)
def test_no_body_stops_or_delays_it(body: bytes) -> None:
    headers = Signer().headers(b"other") | {"content-length": "9" * 5000, "content-type": "charset=" + "x" * 60_000}
    started = time.process_time()
    assert find_change(body, headers, Signatures([SIGNER.public_key]), time.time()).advice
    assert time.process_time() - started < 0.5


def test_a_large_body_of_many_small_values_is_looked_at_in_milliseconds() -> None:
    """Anyone may send one each second, and meanwhile no webhook is answered."""
    body = b"[" + b"[1], " * 800_000 + b"1]"
    started = time.process_time()
    assert look_of(body, {})["body_is"] == "JSON without spaces"
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b'{"a":"\xff"}', "incomplete JSON"),
        (b'{"a":"\\x"}', "incomplete JSON"),
        (b'{"a":1,}', "incomplete JSON"),
        (b'{"a": 1}\n', "JSON with spaces"),
        (b"a=1", "not JSON"),
    ],
)
def test_the_form_of_a_body_is_named(body: bytes, form: str) -> None:
    assert look_of(body, {})["body_is"] == form


def test_nothing_of_the_request_is_in_the_texts() -> None:
    evil = 'x\n{"event": "forged"}\x1b[31m'
    headers = {"content-length": evil, "content-type": f"a/b; charset={evil}", "content-encoding": evil}
    look = look_of(evil.encode(), headers)
    assert "forged" not in str(look) and "\\x1b" not in repr(look)
    assert look["content_length"] is None and look["charset"] == "not given" and look["encoding"] == "unknown"


@pytest.fixture
def own_receiver(valkey: EmbeddedServer, redis: Any) -> Iterator[tuple[httpx.Client, Receiver]]:
    """A receiver that has explained nothing yet."""
    environment = {"REDIS_URL": valkey.url, "TELNYX_PUBLIC_KEY": SIGNER.public_key}
    with start_receiver(environment, answer_seconds=5) as (client, process):
        yield client, process


def refusals(process: Receiver, count: int) -> list[dict[str, Any]]:
    def lines() -> list[dict[str, Any]]:
        parsed = [json.loads(line) for line in process.output.splitlines() if line.startswith("{")]
        return [line for line in parsed if line["event"] == "webhook refused"]

    wait_for(lambda: len(lines()) >= count, 10, f"{count} refusals in the log")
    return lines()


def test_the_log_line_of_a_refusal_says_what_happened_and_what_to_do(
    own_receiver: tuple[httpx.Client, Receiver],
) -> None:
    client, process = own_receiver
    headers = SIGNER.headers(SAVED) | {"content-type": "application/json; charset=utf-8"}
    assert client.post("/webhooks/telnyx", content=SAVED + b"\r\n", headers=headers).status_code == 401
    assert client.post("/webhooks/telnyx", content=SAVED + b"\n", headers=headers).status_code == 401
    assert client.post("/webhooks/telnyx", content=b"{}").status_code == 401
    first, second, third = refusals(process, 3)
    assert first["reason"] == "the signature matches no known key" and first["client"] == "127.0.0.1"
    assert first["cause"] == "a line end was added after the body" and "as it is" in first["advice"]
    facts = {
        name: first[name] for name in ("body_bytes", "content_length", "body_is", "line_end", "charset", "encoding")
    }
    size = len(SAVED) + 2
    assert facts == {
        "body_bytes": size,
        "content_length": size,
        "body_is": "JSON without spaces",
        "line_end": "CRLF",
        "charset": "utf-8",
        "encoding": "none",
    }
    assert "cause" not in second, "one a second, because anyone may send unsigned webhooks"
    assert third["reason"] == "the request has no signature" and "cause" not in third


def test_no_text_from_outside_is_in_the_log_as_it_came(own_receiver: tuple[httpx.Client, Receiver]) -> None:
    client, process = own_receiver
    evil = {
        "content-type": "a/b; charset=\x9b31mforged",
        "content-encoding": "forged",
        "x-forwarded-for": "\x9b31m <b>",
    }
    raw = {name.encode(): value.encode("latin-1") for name, value in (SIGNER.headers(SAVED) | evil).items()}
    assert client.post("/webhooks/telnyx", content=b"forged\x9b31m", headers=raw).status_code == 401
    (line,) = refusals(process, 1)
    assert line["client"] == "?31m??b?"
    assert "forged" not in json.dumps(line) and "\\u009b" not in json.dumps(line)


def test_the_clients_address_is_believed_only_from_named_proxies(valkey: EmbeddedServer, redis: Any) -> None:
    """uvicorn reads X-Forwarded-For of 127.0.0.1, or of the addresses in FORWARDED_ALLOW_IPS."""
    forwarded = {"x-forwarded-for": "198.51.100.7"}
    for named, expected in (("127.0.0.1", "198.51.100.7"), ("192.0.2.1", "127.0.0.1"), ("127.0.0.0/8", "198.51.100.7")):
        environment = {"REDIS_URL": valkey.url, "FORWARDED_ALLOW_IPS": named}
        with start_receiver(environment) as (client, process):
            client.post("/webhooks/telnyx", content=b"{}", headers=forwarded)
            assert refusals(process, 1)[0]["client"] == expected, named
