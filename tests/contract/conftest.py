from __future__ import annotations

import functools
import itertools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import boto3.session
import botocore.regions
import botocore.retries.adaptive
import botocore.retries.quota
import botocore.retries.standard
import botocore.session
import pytest
import stamina
from botocore.config import Config

from archive.stores.store import Store, open_store
from lab import stores
from lab.awkward import AwkwardS3, Manners
from lab.stores import SMALL_PARTS, Emulator, by_boto3, environ
from tests.contract.awkward_s3 import Play

_numbers = itertools.count()

# Every store, and how to start its server in a folder of its own.
STORES: dict[str, Callable[[Path], AbstractContextManager[Emulator]]] = {
    "file": lambda folder: nullcontext(Emulator("file", folder.as_uri(), rclone=str(folder))),
    "s3-strict": lambda _: stores.s3_strict(),
    "s3-strict-tls": stores.s3_strict_tls,
    "s3-weak": lambda folder: stores.s3_weak(folder / "data"),
    "gcs": stores.gcs,
    "azure": lambda _: stores.azure(),
    "s3-strict-by-boto3": lambda _: stores.s3_strict_by_boto3(),
}


# The process that makes small requests of S3 chooses how to send them; for tests of such a process.
each_store = pytest.mark.parametrize("emulator", [s for s in STORES if s != "s3-strict-by-boto3"], indirect=True)


@pytest.fixture(scope="session", autouse=True)
def _boto3_reads_once() -> Iterator[None]:
    """Let boto3 read its settings and Amazon's rules once a run instead of once a client, which takes 20 ms."""
    endpoint = "AWS_ENDPOINT_URL_S3"  # a client reads it
    sessions: dict[frozenset[tuple[str, str]], Any] = {}
    providers: dict[int, Any] = {}
    make_session, make_provider = boto3.session.Session, botocore.regions.EndpointProvider

    def session() -> Any:
        settings = frozenset(one for one in os.environ.items() if one[0].startswith("AWS_") and one[0] != endpoint)
        return sessions.get(settings) or sessions.setdefault(settings, make_session())

    def provider(*, ruleset_data: Any, **others: Any) -> Any:
        of = id(ruleset_data)  # the one loader keeps it
        return providers.get(of) or providers.setdefault(of, make_provider(ruleset_data=ruleset_data, **others))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        patch.setattr(botocore.regions, "EndpointProvider", provider)
        patch.setattr(boto3.session, "Session", session)
        yield


@contextmanager
def makes_clients_once(settings: dict[str, str]) -> Iterator[None]:
    """Let boto3 make equal clients of one server once, for the block; a store has three, which takes 20 ms."""
    clients: dict[object, Any] = {}
    make = botocore.session.Session.create_client

    def client(session: Any, *arguments: Any, config: Config | None = None, **named: Any) -> Any:
        if "AWS_ENDPOINT_URL_S3" not in settings or not settings.items() <= os.environ.items():
            return make(session, *arguments, config=config, **named)
        options = None if config is None else config._user_provided_options
        wanted = repr((id(session), arguments, named, options))
        if wanted not in clients:
            clients[wanted] = make(session, *arguments, config=config, **named)
        return clients[wanted]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session.Session, "create_client", client)
        yield


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have boto3 and our retries on GCS try as often as ever, and pause for less than seconds between tries."""
    # A client that several tests share has as many tries in each.
    monkeypatch.setattr(botocore.retries.quota.RetryQuota, "acquire", lambda _, amount: amount)
    monkeypatch.setattr(botocore.retries.standard.ExponentialBackoff, "delay_amount", lambda *_: 0.05)
    # After a refusal it lets a request pass every two seconds.
    monkeypatch.setattr(botocore.retries.adaptive.ClientRateLimiter, "on_sending_request", lambda *_, **__: None)
    with stamina.set_testing(True, attempts=1000, cap=True):
        yield


@pytest.fixture
def quick_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for Azure."""
    from azure.storage.blob import ExponentialRetry

    monkeypatch.setattr(ExponentialRetry, "get_backoff_time", lambda *_: 0.05)


@pytest.fixture(scope="session", params=STORES)
def emulator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """Every store in turn, each on a real server."""
    started = STORES[request.param](tmp_path_factory.mktemp(request.param))
    with started as running, makes_clients_once(running.environment):
        yield running


@pytest.fixture(scope="module")
def awkward() -> Iterator[AwkwardS3]:
    """A server of all tests of a module that speaks S3 in its own way; `play` empties it."""
    server = AwkwardS3(Manners())
    with makes_clients_once(server.environment):
        yield server
    server.stop()


@pytest.fixture(params=["lean", "boto3"])
def play(request: pytest.FixtureRequest, awkward: AwkwardS3) -> Play:
    """A store on that server with these manners: small requests by our own client, and by boto3."""

    def make(**manners: Any) -> tuple[Store, AwkwardS3]:
        awkward.begin(Manners(**manners))
        with environ(awkward.environment):
            store = open_store("s3://bucket/prefix", SMALL_PARTS)
        return (store if request.param == "lean" else by_boto3(store)), awkward

    return make


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A prefix that no other test has."""
    return f"p{next(_numbers)}-{random.Random(request.node.nodeid).randrange(10**9)}"


@pytest.fixture
def store(emulator: Emulator, prefix: str) -> Store:
    return emulator.open(prefix, SMALL_PARTS)


@pytest.fixture
def download_folder(tmp_path: Path) -> Path:
    return tmp_path / "copy"
