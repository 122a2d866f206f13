"""The frequent requests of S3 without boto3 are signed and sent as boto3 does; special cases go to boto3."""

from __future__ import annotations

import base64
import hashlib
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

import botocore.auth
import pytest
from awscrt.checksums import crc64nvme
from botocore import UNSIGNED
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials, RefreshableCredentials
from hypothesis import given
from hypothesis import strategies as st

from archive.archive import Archive
from archive.source import Source
from archive.stores import s3_lean
from archive.stores.s3_fallbacks import FALLBACKS, Fallback
from archive.stores.s3_lean import Lean, Request
from archive.stores.s3_signature import Signer
from archive.stores.store import MIB, Store, StoreError, StoreOptions, StoreRefused, open_store
from lab.awkward import AwkwardS3, Manners
from lab.stores import by_boto3, environ

HOSTS = st.sampled_from(["bucket.s3.eu-west-1.amazonaws.com", "127.0.0.1:9000", "r2.example.com"])
NAMES = st.sampled_from(
    ["if-none-match", "range", "content-type", "x-amz-meta-a_b", "x-amz-tagging", "x-amz-storage-class"]
)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(
    st.sampled_from(["GET", "HEAD", "PUT"]), HOSTS, KEYS, st.dictionaries(NAMES, VALUES), st.binary(max_size=50),
    st.sampled_from([None, "a/token=="]), st.text(min_size=1, max_size=40), st.sampled_from(["us-east-1", "auto"]),
    st.sampled_from([(), (("partNumber", "12"), ("uploadId", "a+b/c=.~_-"))]),
)  # fmt: skip
def test_the_signature_is_botocores(
    method: str,
    host: str,
    key: str,
    headers: dict[str, str],
    body: bytes,
    token: str | None,
    secret: str,
    region: str,
    asked: tuple[tuple[str, str], ...],
) -> None:
    path = "/" + quote(key, safe="/~")
    credentials = Credentials("AKID", secret, token)
    sha256 = hashlib.sha256(body).hexdigest()
    query = urlencode(asked, quote_via=quote, safe="~")
    ours = Signer().sign(method, path, {"host": host, **headers}, sha256, credentials, region, query)
    theirs = AWSRequest(method, f"http://{host}{path}", dict(headers), body, params=dict(asked))
    instant = datetime.strptime(ours["x-amz-date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: instant)
        botocore.auth.S3SigV4Auth(credentials.get_frozen_credentials(), "s3", region).add_auth(theirs)
    assert ours == {name.lower(): value for name, value in theirs.headers.items() if name.lower() in ours}
    assert ours.keys() | headers.keys() == {name.lower() for name in theirs.headers}


def test_the_signing_key_is_cached_per_credentials_and_day(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer()

    def signature(secret: str) -> str:
        return signer.sign("GET", "/a", {"host": "h"}, s3_lean.EMPTY_SHA256, Credentials("A", secret), "r")[
            "authorization"
        ]

    instant, later = time.gmtime(1_790_000_000), time.gmtime(1_790_000_000 + 86_400)
    monkeypatch.setattr(time, "gmtime", lambda *_: instant)
    first, again, other = signature("one"), signature("one"), signature("two")
    assert first == again != other
    instant = later
    assert signature("one") != first
    assert (
        signature("one")
        == Signer().sign("GET", "/a", {"host": "h"}, s3_lean.EMPTY_SHA256, Credentials("A", "one"), "r")[
            "authorization"
        ]
    )


@contextmanager
def awkward(**manners: Any) -> Iterator[AwkwardS3]:
    server = AwkwardS3(Manners(**manners))
    try:
        yield server
    finally:
        server.stop()


def opened(server: AwkwardS3, options: StoreOptions | None = None, **settings: str) -> Store:
    with environ(server.environment | settings):
        return open_store("s3://bucket/prefix", options)


# "Expect" costs a round trip, and saves a body only if the key exists already.
ONLY_BOTO3 = {"amz-sdk-invocation-id", "amz-sdk-request", "accept-encoding", "expect", "user-agent"}
OF_THE_MOMENT = {"authorization", "x-amz-date", "x-amz-object-lock-retain-until-date"}


@pytest.mark.parametrize("label", ["metadata", "tags"])
def test_a_put_sends_what_boto3_sends(label: Any) -> None:
    options = StoreOptions(encryption_key="k", retention=timedelta(days=1), label=label, storage_class="GLACIER_IR")
    with awkward(checks=True) as server:
        sent = []
        for is_lean in (True, False):
            store = opened(server, options) if is_lean else by_boto3(opened(server, options))
            Archive(store).put("first", iter([b"x"]), "audio/wav")
            server.seen.clear()
            server.objects.clear()
            store.put("ü a.wav", Source(iter([b"x" * 900])), "audio/wav", {"connection_id": "1", "day": "2026-11-26"})
            (put,) = server.seen
            sent.append({name: value for name, value in put.items() if name not in ONLY_BOTO3 | OF_THE_MOMENT})
            assert put["x-amz-object-lock-retain-until-date"][:3] == "202"
        assert sent[0] == sent[1]


@pytest.mark.parametrize("lean", [True, False])
def test_boto3_and_our_own_requests_describe_and_read_the_same(lean: bool) -> None:
    with awkward(checks=True) as server:
        store = opened(server)
        archived = Archive(store).put("a", iter([b"x" * 1000]), "audio/wav")
        other = opened(server) if lean else by_boto3(opened(server))
        assert other.stat("a") == store.stat("a")
        assert b"".join(other.read("a")) == b"x" * 1000
        assert (b"".join(other.read("a", 990)), other.stat("none")) == (b"x" * 10, None)
        assert Archive(other).prove_again(archived) == archived
        with pytest.raises(KeyError):
            list(other.read("none"))


def agents(server: AwkwardS3) -> list[bool]:
    """Whether boto3 sent each write."""
    return ["amz-sdk-invocation-id" in seen for seen in server.seen]


def test_a_busy_store_is_left_to_boto3_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    with awkward(checks=True) as server:
        store = opened(server)
        Archive(store).put("first", iter([b"x"]), "audio/wav")
        server.seen.clear()
        server.manners.failures.append(503)
        for name in "abc":
            Archive(store).put(name, iter([b"x"]), "audio/wav")
        assert agents(server) == [False, True, True, True]
        server.seen.clear()
        monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + 61)
        Archive(store).put("d", iter([b"x"]), "audio/wav")
        assert agents(server) == [False]


def test_a_refusal_raises_the_same_error_as_boto3() -> None:
    with awkward(checks=True, refuses={"authorization": (403, "AccessDenied")}) as server:
        store = opened(server)
        with pytest.raises(StoreRefused, match="s3:PutObject"):
            Archive(store).put("a", iter([b"x"]), "audio/wav")


def test_a_server_that_only_boto3_can_use_is_logged_once(logged: Callable[[], str]) -> None:
    with awkward(checks=True) as server:
        store = opened(server)
        Archive(store).put("first", iter([b"x"]), "audio/wav")
        server.seen.clear()
        server.manners.refusals.append((400, "AuthorizationHeaderMalformed"))
        for name in "abc":
            Archive(store).put(name, iter([b"x"]), "audio/wav")
        assert agents(server) == [False, True, True, True]
        assert logged().count("requests go to this store by boto3") == 1


@pytest.mark.parametrize("signature", ["s3", "s3v4a", UNSIGNED])
def test_another_signature_is_left_to_boto3(signature: Any) -> None:
    import boto3

    with awkward() as server, environ(server.environment):
        client: Any = boto3.client("s3", config=Config(signature_version=signature))
        lean = Lean(client, Credentials("a", "b"), "bucket", "s3://bucket")
        request = Request("PUT", "a", "s3://bucket/a", {}, b"x", hashlib.sha256(b"x").hexdigest())
        lean.send(request, lambda: client.put_object(Bucket="bucket", Key="a", Body=b"x"))
        assert agents(server) == [True]
        assert "AWS4-HMAC" not in server.seen[0].get("authorization", "")


def test_credentials_are_the_fresh_ones() -> None:
    made = 0

    def refresh() -> dict[str, str]:
        nonlocal made
        made += 1
        expiry = datetime.now().astimezone() + timedelta(seconds=1 if made == 1 else 3600)
        return {
            "access_key": f"AKID{made}", "secret_key": "s", "token": f"token{made}", "expiry_time": expiry.isoformat(),
        }  # fmt: skip

    with awkward(checks=True) as server:
        store: Any = opened(server)
        store.probe()
        credentials = RefreshableCredentials.create_from_metadata(refresh(), refresh, "test")
        store._bucket._lean._credentials = credentials
        Archive(store).put("a", iter([b"x"]), "audio/wav")
        assert "AKID2/" in server.seen[-1]["authorization"]
        assert server.seen[-1]["x-amz-security-token"] == "token2"


@pytest.mark.parametrize(
    ("bucket", "settings", "address"),
    [
        ("bucket", {}, "https://bucket.s3.eu-west-1.amazonaws.com/"),
        ("dotted.bucket", {}, "https://s3.eu-west-1.amazonaws.com/dotted.bucket/"),
        ("bucket", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://bucket.s3.dualstack.eu-west-1.amazonaws.com/"),
        ("bucket", {"AWS_ENDPOINT_URL_S3": "http://[::1]:9000/base"}, "http://[::1]:9000/base/bucket/"),
        ("bucket", {"AWS_ENDPOINT_URL_S3": "https://r2.example.com:443"}, "https://r2.example.com/bucket/"),
    ],
)
def test_a_bucket_is_reached_as_boto3_reaches_it(bucket: str, settings: dict[str, str], address: str) -> None:
    common = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "eu-west-1"}
    with environ(common | settings), pytest.MonkeyPatch.context() as patch:
        store: Any = open_store(f"s3://{bucket}")
        way = store._bucket._lean._resolved()
        assert way is not None
        scheme, _, rest = address.partition("://")
        assert (f"{way.host}{way.path}", way.region, way.pool.scheme) == (rest, "eu-west-1", scheme)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
            connection = SimpleNamespace(sock=ours, send=ours.sendall, close=ours.close)
            patch.setattr(way.pool, "_get_conn", lambda: connection)
            patch.setattr(way.pool, "_put_conn", lambda _: None)
            store._bucket.head("a b")
            asked = theirs.recv(4096).decode()
        assert asked.startswith(f"HEAD {way.path}a%20b HTTP/1.1\r\nhost: {way.host}\r\n")


def test_a_bucket_behind_a_proxy_is_left_to_boto3() -> None:
    with awkward(checks=True) as server, environ({"http_proxy": server.environment["AWS_ENDPOINT_URL_S3"]}):
        store: Any = opened(server)
        assert store._bucket._lean._resolved() is None


def test_a_header_that_would_end_early_is_left_to_boto3() -> None:
    with awkward(checks=True) as server:
        store = opened(server, StoreOptions(label="metadata"))
        store.probe()
        server.seen.clear()
        with pytest.raises(StoreError):
            store.put("a", Source(b"x"), "audio/wav", {"connection_id": "1\r\nx-amz-acl: public-read"})
        assert {seen["content-type"] for seen in server.seen} <= {"text/plain"}  # nothing but probes


@pytest.mark.parametrize("fallback", FALLBACKS, ids=lambda fallback: fallback.name)
def test_a_part_sends_what_boto3_sends(fallback: Fallback) -> None:
    body = b"x" * MIB
    crc = base64.b64encode(crc64nvme(body).to_bytes(8, "big")).decode()
    with awkward() as server:
        sent = []
        for is_lean in (True, False):
            store: Any = opened(server) if is_lean else by_boto3(opened(server))
            server.uploads["a+b/c="] = {}
            etag = store._bucket.put_part("ü a.wav", "a+b/c=", 3, body, fallback, crc)
            assert (etag, server.uploads["a+b/c="][3]) == (f'"{hashlib.md5(body).hexdigest()}"', body)
            left_out = ONLY_BOTO3 | OF_THE_MOMENT | {"query"}  # in another order
            sent.append({n: v for n, v in server.seen[-1].items() if n not in left_out})
        assert agents(server) == [False, True]
        assert sent[0] == sent[1]


@pytest.mark.parametrize(
    ("manners", "heads"),
    [
        ({}, ["a.wav"]),
        ({"checks": False}, ["a.wav", "a.json"]),
        ({"conditions": False}, ["a.wav"] * 2 + ["a.json"] * 2),
    ],
)
def test_a_record_is_proven_by_the_answer_to_its_put_if_the_store_is_honest(
    manners: dict[str, bool], heads: list[str]
) -> None:
    with awkward(**({"checks": True} | manners)) as server:
        store = opened(server)
        archive = Archive(store)
        archive.put("first", iter([b"x"]), "audio/wav")
        server.asked.clear()
        archive.put("a.wav", iter([b"x"]), "audio/wav")
        record = archive.put("a.json", b"{}", "application/json")
        assert [path.rpartition("/")[2] for method, path in server.asked if method == "HEAD"] == heads
        stored = store.stat("a.json")
        assert stored is not None and record.proof.version == stored.version
        assert record.proof.by == ("etag" if manners.get("checks") is False else "checksum")
        assert archive.prove_again(record).proof == record.proof


def test_a_record_whose_put_answers_another_checksum_is_read() -> None:
    with awkward(checks=True) as server:
        store: Any = opened(server)
        store.probe()
        put = store._bucket.put
        wrong = base64.b64encode(bytes(32)).decode()
        store._bucket.put = lambda *given: {**put(*given), "x-amz-checksum-sha256": wrong}
        assert Archive(store).put("a.json", b"{}", "application/json").proof.by == "read-back"
        path = next(path for path in server.objects if path.endswith("a.json"))
        assert ("GET", path) in server.asked
