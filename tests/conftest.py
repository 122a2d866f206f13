"""Fixtures: real servers on free ports, shared across tests where possible."""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
import redis as sync_redis
from hypothesis import HealthCheck, settings

from config.settings import load_settings
from lab.certificates import read_certificates_once
from lab.forks import share_forks
from lab.processes import CLEAN, ROOT
from lab.redis import LEAST_PASSWORD, LEAST_USER, folder_of_tests, least_rights
from lab.servers import HttpServer, RunningSandbox
from lab.stores import make_archive
from sandbox.world import World
from tests.order import dealt, seconds_of, shared_by
from workers.engine.connect import connect_worker
from workers.keys import RECONCILED
from workers.queue.embedded import EmbeddedServer
from workers.runtime import Runtime, open_runtime

read_certificates_once()
# On a busy machine an example takes any time to make and to run.
settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
settings.load_profile("tests")
# Their assertions show their values, as those of a test do.
pytest.register_assert_rewrite("tests.workers.steps", "tests.seals.bundles")


def pytest_configure(config: pytest.Config) -> None:
    """Have the test processes share what imports Callvault for their commands, and all take Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in its background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("numprocesses", None) and "PYTEST_XDIST_WORKER" not in os.environ:
        config.add_cleanup(share_forks(CLEAN))


@contextmanager
def _first_process_alone() -> Iterator[None]:
    """Let one process compile the modules of a new checkout, which costs it seven seconds; the others wait, and read them."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        yield
        return
    compiled_for = ROOT / ".pytest_cache" / "compiled-for"
    compiled_for.parent.mkdir(exist_ok=True)
    with compiled_for.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if compiled_for.read_text() == run:
            fcntl.flock(lock, fcntl.LOCK_UN)
        yield
        compiled_for.write_text(run)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect no garbage meanwhile, and never look at the modules again: that takes a second in each process."""
    gc.disable()
    try:
        with _first_process_alone():
            return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(trylast=True)  # pytest sorts by fixtures first
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest tests and those that share a server, where several processes run them."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes > 1:
        items[:] = dealt(items, [*map(seconds_of, items)], [*map(shared_by, items)], processes)


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedServer]:
    with folder_of_tests() as folder:
        server = EmbeddedServer(folder)
        server.start()
        with sync_redis.Redis.from_url(server.url) as client:
            client.execute_command("ACL", "SETUSER", LEAST_USER, f">{unquote(LEAST_PASSWORD)}", *least_rights())
        yield server
        server.stop()


@pytest.fixture(scope="session")
def kept_redis_url(valkey: EmbeddedServer) -> str:
    """The address of Redis, as the user with the rights of docs/redis.md and no more: for what outlives a test."""
    return valkey.url.replace("unix://", f"unix://{LEAST_USER}:{LEAST_PASSWORD}@")


@pytest.fixture
def redis_url(kept_redis_url: str, valkey: EmbeddedServer) -> str:
    """The same, emptied."""
    with sync_redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    return kept_redis_url


@pytest.fixture
def redis(redis_url: str, valkey: EmbeddedServer) -> Iterator[Any]:
    """A client of the same Redis with all rights."""
    with sync_redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def async_redis(redis_url: str) -> AsyncIterator[Any]:
    client = connect_worker(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    """An empty sandbox whose world the test sees."""
    running = RunningSandbox(World())
    yield running
    running.leave()


@pytest.fixture
def archive_folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def environment(
    sandbox: RunningSandbox, redis_url: str, valkey: EmbeddedServer, archive_folder: Path, tmp_path: Path
) -> dict[str, str]:
    """The environment of parts on the sandbox and an empty archive; reconcile is not due."""
    with sync_redis.Redis.from_url(valkey.url) as client:
        for span in ("recent", "open"):
            client.set(RECONCILED + span, "1", ex=3600)
    make_archive(archive_folder)
    return sandbox.environment | {
        "REDIS_URL": redis_url,
        "CALLVAULT_ARCHIVE_URL": archive_folder.as_uri(),
        "CALLVAULT_DATA": str(tmp_path / "data"),
    }


@pytest.fixture
async def runtime(
    environment: dict[str, str], async_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Runtime]:
    """The parts of a worker in the test's process, on the sandbox and an empty archive."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    made = open_runtime(load_settings(), async_redis)
    yield made
    await made.close()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """The log of this process so far, a line for each event with its fields."""
    caplog.set_level(logging.INFO)
    return lambda: "\n".join(f"{one.getMessage()} {getattr(one, 'callvault_fields', '')}" for one in caplog.records)


@pytest.fixture
def receiver_of_alerts() -> Iterator[Any]:
    """A real HTTP server that receives what Apprise sends."""
    texts: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            texts.append(self.rfile.read(int(self.headers.get("content-length", 0))).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HttpServer(Handler)
    yield SimpleNamespace(texts=texts, url=f"json://127.0.0.1:{server.server_port}/")
    server.stop()
