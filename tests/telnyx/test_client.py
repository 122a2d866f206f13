"""Our client over HTTP: errors, retries and their budget, pages that shift while they are read."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.settings import Settings
from lab.processes import free_port
from lab.servers import HttpServer, RunningSandbox
from sandbox.world import World
from telnyx_api import client as client_module
from telnyx_api import errors
from telnyx_api.account import Account
from telnyx_api.client import TelnyxClient
from telnyx_api.pages import unseen
from workers.engine.failing import failure_class_of

Answer = tuple[int, dict[str, str], bytes]
KEY = "KEY-that-must-never-show"


class Scripted:
    """A real HTTP server that answers from a list; the last answer repeats. `None` cuts the connection."""

    def __init__(self) -> None:
        self.answers: list[Answer | None] = [(200, {}, b"{}")]
        self.requests: list[tuple[str, str]] = []
        scripted = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                scripted.requests.append((self.command, self.path))
                answer = scripted.answers.pop(0) if len(scripted.answers) > 1 else scripted.answers[0]
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, body = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = HttpServer(Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v2"

    def fail(self, status: int, **headers: str) -> Answer:
        body = {"errors": [{"code": "10015", "title": "Bad", "detail": "why", "source": {"pointer": "/host"}}]}
        return status, {"x-request-id": "req-1"} | headers, json.dumps(body).encode()


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.server.stop()


@pytest.fixture
async def client(server: Scripted) -> AsyncIterator[TelnyxClient]:
    async with TelnyxClient(Account(KEY, server.url), timeout_seconds=2) as made:
        yield made


GOOD: Answer = (200, {}, b'{"data": {"id": "r"}}')
KINDS = {
    400: errors.BadRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.BadRequest,
    422: errors.Invalid,
    429: errors.RateLimited,
    500: errors.ServerError,
    504: errors.ServerError,
}


@pytest.mark.parametrize("status", KINDS)
async def test_each_status_raises_its_error_with_telnyxs_details(
    status: int, client: TelnyxClient, server: Scripted
) -> None:
    server.answers = [server.fail(status)]
    with pytest.raises(errors.StatusError) as caught:
        await client.siprec_connectors.create(name="x", host="h", port=1)
    error = caught.value
    assert type(error) is KINDS[status]
    assert (error.status, error.request_id) == (status, "req-1")
    assert error.errors == (errors.ErrorDetail("10015", "Bad", "why", "/host"),)
    assert "POST /v2/siprec_connectors" in str(error)
    assert "at /host" in str(error)
    assert KEY not in f"{error} {error!r} {vars(error)}"


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'{"errors": "x"}', b'{"detail": "no such thing"}'])
async def test_an_error_without_a_documented_body_is_still_its_error(
    body: bytes, client: TelnyxClient, server: Scripted
) -> None:
    server.answers = [(404, {}, body)]
    with pytest.raises(errors.NotFound):
        await client.recordings.retrieve("x")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": 7}', b'{"data": {"id": {"a": 1}}}'])
async def test_an_undocumented_answer_is_reported(body: bytes, client: TelnyxClient, server: Scripted) -> None:
    server.answers = [(200, {}, body)]
    with pytest.raises(errors.UnexpectedAnswer):
        await client.recordings.retrieve("x")


async def test_an_answer_without_an_end_is_not_kept(
    client: TelnyxClient, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_LARGEST_ANSWER_BYTES", 1_000_000)
    whole = gzip.compress(b'{"data": {"id": "r", "filler": "' + b"x" * 999_000 + b'"}}')
    bomb = gzip.compress(b" " * 100_000_000)
    server.answers = [(200, {"content-encoding": "gzip"}, whole), (200, {"content-encoding": "gzip"}, bomb)]
    assert (await client.recordings.retrieve("r")).id == "r"
    with pytest.raises(errors.UnexpectedAnswer, match="larger than 1000000 bytes"):
        await client.recordings.retrieve("x")


async def test_an_answer_that_trickles_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.02)

    monkeypatch.setattr(client_module, "_LONGEST_ANSWER_SECONDS", 0.3)
    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v2"
    async with TelnyxClient(Account(KEY, address), budget_seconds=0.5) as client:
        with pytest.raises(errors.TimedOut):
            await client.recordings.retrieve("x")
    server.close()


async def test_a_refused_connection_and_a_timeout_are_different_errors() -> None:
    async with TelnyxClient(Account(KEY, f"http://127.0.0.1:{free_port()}"), budget_seconds=1) as client:
        with pytest.raises(errors.ConnectionFailed) as caught:
            await client.recordings.retrieve("x")
    assert not isinstance(caught.value, errors.TimedOut)
    assert not caught.value.was_sent


@pytest.mark.parametrize("failure", [408, 429, 500, 502, 503, 504, None])
async def test_a_transient_error_is_retried(failure: int | None, client: TelnyxClient, server: Scripted) -> None:
    failed = None if failure is None else server.fail(failure)
    server.answers = [failed, failed, GOOD]
    assert (await client.recordings.retrieve("r")).id == "r"
    assert len(server.requests) == 3


@pytest.mark.parametrize("failure", [400, 401, 403, 404, 422])
async def test_a_permanent_error_is_not_retried(failure: int, client: TelnyxClient, server: Scripted) -> None:
    server.answers = [server.fail(failure), GOOD]
    with pytest.raises(errors.StatusError):
        await client.recordings.retrieve("r")
    assert len(server.requests) == 1


async def test_retry_after_is_honoured(client: TelnyxClient, server: Scripted) -> None:
    server.answers = [server.fail(429, **{"retry-after": "1"}), GOOD]
    started = time.monotonic()
    await client.recordings.retrieve("r")
    assert 1 <= time.monotonic() - started < 8


@pytest.mark.parametrize("year", [2016, 2036])
def test_a_retry_date_is_compared_with_the_clock_that_set_it(year: int) -> None:
    headers = {"date": f"Mon, 01 Dec {year} 10:00:00 GMT", "retry-after": f"Mon, 01 Dec {year} 10:00:07 GMT"}
    assert (
        errors.error_of(
            httpx.Response(429, headers=headers, request=httpx.Request("GET", "http://x")), b""
        ).retry_after_seconds
        == 7
    )


async def test_the_rate_limits_reset_is_honoured(client: TelnyxClient, server: Scripted) -> None:
    server.answers = [server.fail(429, **{"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}), GOOD]
    started = time.monotonic()
    await client.recordings.retrieve("r")
    assert 1 <= time.monotonic() - started < 8


FAILURES = st.lists(st.sampled_from([408, 409, 429, 500, 503, None]), min_size=1, max_size=12)
CREATES: list[Callable[[TelnyxClient], Any]] = [
    lambda c: c.siprec_connectors.create(name="x", host="h", port=1),
    lambda c: c.media.upload(media_url="http://x"),
    lambda c: c.uploads.create("1", number_ids=["1"]),
    lambda c: c.uploads.retry("1", "2"),
    lambda c: c.external_connections.create(external_sip_connection="zoom", outbound={}),
    lambda c: c.dialogflow_connections.create("1", service_account={}),
    lambda c: c.custom_storage_credentials.create("1", backend="gcs", configuration={}),
]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(failures=FAILURES, create=st.sampled_from(CREATES))
async def test_a_create_that_telnyx_may_have_carried_out_is_never_repeated(
    failures: list[int | None], create: Callable[[TelnyxClient], Any], server: Scripted, no_waits: None
) -> None:
    server.requests.clear()
    server.answers = [None if f is None else server.fail(f) for f in failures] + [(200, {}, b'{"data": {}}')]
    async with TelnyxClient(Account(KEY, server.url), timeout_seconds=2) as client:
        try:
            await create(client)
        except errors.TelnyxError:
            pass
    # Only a 429 means that nothing was done.
    allowed = next((i for i, f in enumerate(failures) if f != 429), len(failures)) + 1
    assert len(server.requests) <= min(allowed, 5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(failures=FAILURES)
async def test_retries_never_exceed_their_budget(failures: list[int | None], server: Scripted, no_waits: None) -> None:
    server.requests.clear()
    server.answers = [None if f is None else server.fail(f) for f in failures] + [GOOD]
    async with TelnyxClient(Account(KEY, server.url), timeout_seconds=2) as client:
        try:
            await client.recordings.retrieve("r")
        except errors.TelnyxError:
            assert len(server.requests) == 5
    assert len(server.requests) == min(5, len(failures) + 1)


@pytest.fixture
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("telnyx_api.client._FIRST_WAIT_SECONDS", 0.001)


async def test_a_long_outage_ends_with_the_budget_of_time() -> None:
    async with TelnyxClient(Account(KEY, f"http://127.0.0.1:{free_port()}"), budget_seconds=0.5) as client:
        started = time.monotonic()
        with pytest.raises(errors.ConnectionFailed):
            await client.recordings.retrieve("r")
        assert time.monotonic() - started < 8


@pytest.mark.parametrize("value", ["", ".", ".."])
async def test_a_path_parameter_never_changes_the_path(value: str, client: TelnyxClient, server: Scripted) -> None:
    with pytest.raises(ValueError, match="is not a valid path segment"):
        await client.recordings.retrieve(value)
    assert server.requests == []


async def test_odd_characters_in_a_path_are_encoded(client: TelnyxClient, server: Scripted) -> None:
    server.answers = [(200, {}, b'{"data": {"id": "a/b?c#d e"}}')]
    await client.recordings.retrieve("a/b?c#d e")
    assert server.requests == [("GET", "/v2/recordings/a%2Fb%3Fc%23d%20e")]


async def test_fields_that_we_do_not_know_are_kept(client: TelnyxClient, server: Scripted) -> None:
    server.answers = [(200, {}, b'{"data": {"id": "r", "brand_new": {"x": 1}, "duration_millis": null}}')]
    recording = await client.recordings.retrieve("r")
    assert recording.as_returned() == {"id": "r", "brand_new": {"x": 1}, "duration_millis": None}


async def test_the_204_of_the_old_bulk_deletion_is_accepted_too(client: TelnyxClient, server: Scripted) -> None:
    server.answers = [(204, {}, b"")]
    assert (await client.recordings.bulk_delete(ids=["a"])).status is None


async def test_secrets_of_storage_are_in_no_repr(client: TelnyxClient, server: Scripted) -> None:
    body = {"data": {"backend": "s3", "configuration": {"backend": "s3", "aws_secret_access_key": "hush"}}}
    server.answers = [(200, {}, json.dumps(body).encode())]
    credentials = await client.custom_storage_credentials.retrieve("1")
    assert "hush" not in f"{credentials!r} {credentials}"
    assert credentials.as_returned() == body


def page_body(items: list[Any], number: int, total: int | None, envelope: str = "data") -> bytes:
    meta = {} if total is None else {"meta": {"page_number": number, "total_pages": total}}
    return json.dumps({envelope: items} | meta).encode()


async def test_items_that_are_wrapped_once_more_are_unwrapped(client: TelnyxClient, server: Scripted) -> None:
    server.answers = [(200, {}, page_body([{"data": {"id": "a"}}, {"id": "b"}], 1, 1))]
    assert [r.id async for r in client.recordings.list()] == ["a", "b"]


async def test_without_a_total_an_empty_or_repeated_page_ends_the_walk(client: TelnyxClient, server: Scripted) -> None:
    server.answers = [
        (200, {}, page_body([{"code": "1"}, {"code": "1"}], 1, None, "log_messages")),
        (200, {}, page_body([{"code": "2"}], 2, None, "log_messages")),
        (200, {}, page_body([{"code": "2"}], 3, None, "log_messages")),
    ]
    assert [m.code async for m in client.log_messages.list()] == ["1", "1", "2"]
    server.answers = [(200, {}, page_body([{"id": "a"}], 1, None)), (200, {}, page_body([], 2, None))]
    assert [r.id async for r in client.recordings.list()] == ["a"]


async def test_a_list_that_announces_more_pages_is_walked_although_undocumented(
    client: TelnyxClient, server: Scripted
) -> None:
    def page(number: int, *names: str) -> Answer:
        meta = {"page_number": number, "total_pages": 2, "total_results": 3, "page_size": 2}
        return 200, {}, json.dumps({"data": [{"media_name": name} for name in names], "meta": meta}).encode()

    server.answers = [page(1, "a", "b"), page(2, "c")]
    assert [one.media_name async for one in client.media.list()] == ["a", "b", "c"]
    assert [path for _, path in server.requests] == ["/v2/media", "/v2/media?page%5Bnumber%5D=2"]

    server.answers = [page(1, "a", "b")]  # for every page: an incomplete list must not pass for a complete one
    with pytest.raises(errors.UnexpectedAnswer, match="meta reports 2 pages, but page 2 has no new rows"):
        [one async for one in client.media.list()]


async def test_the_next_page_is_fetched_while_the_current_one_is_consumed(sandbox: RunningSandbox) -> None:
    for _ in range(6):
        sandbox.world.add_recording(seconds=0.25)
    async with TelnyxClient(Account(sandbox.world.api_key, sandbox.base_url)) as client:
        walk = aiter(client.recordings.list(page_size=2))
        await anext(walk)
        for _ in range(100):
            if len(sandbox.world.requests) == 2:
                break
            await asyncio.sleep(0.01)
        assert [r["query"] for r in sandbox.world.requests] == [
            "page%5Bsize%5D=2",
            "page%5Bnumber%5D=2&page%5Bsize%5D=2",
        ]
        assert len([r async for r in walk]) == 5


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 250), there=st.integers(0, 60), inserted=st.lists(st.integers(0, 5), max_size=60))
async def test_pages_give_every_item_once_whatever_is_inserted_meanwhile(
    size: int, there: int, inserted: list[int], sandbox: RunningSandbox
) -> None:
    world = sandbox.world
    world.recordings.clear()
    before = {world.add_recording(seconds=0.25).data["id"] for _ in range(there)}
    async with TelnyxClient(Account(world.api_key, sandbox.base_url)) as client:
        found = []
        async for recording in client.recordings.list(page_size=size):
            found.append(recording.id)
            for _ in range(inserted.pop() if inserted else 0):
                world.add_recording(seconds=0.25)
    assert len(found) == len(set(found))
    assert before <= set(found)


def test_a_page_of_nothing_new_is_known() -> None:
    seen: set[int] = set()
    assert unseen([{"id": "a"}, {"id": "b"}], seen) == [{"id": "a"}, {"id": "b"}]
    assert unseen([{"id": "b"}, {"id": "c"}], seen) == [{"id": "c"}]
    assert unseen([{"id": "a"}], seen) == []


async def test_one_workers_429_slows_all_down(async_redis: Any, sandbox: RunningSandbox) -> None:
    from workers.queue.limits import SharedLimiter

    recording = World.add_recording(sandbox.world, seconds=0.25).data["id"]
    account = Account(sandbox.world.api_key, sandbox.base_url)
    async with (
        TelnyxClient(account, SharedLimiter(async_redis)) as one,
        TelnyxClient(account, SharedLimiter(async_redis)) as other,
    ):
        sandbox.world.faults.change({"api_429": 1, "retry_after_seconds": 1})
        first = asyncio.create_task(one.recordings.retrieve(recording))
        await asyncio.sleep(0.3)
        sandbox.world.faults.change({"api_429": 0})
        asked = len(sandbox.world.requests)
        started = time.monotonic()
        await other.recordings.retrieve(recording)
        assert time.monotonic() - started > 0.4, "it waited without a request"
        assert len(sandbox.world.requests) <= asked + 2
        await first


@pytest.mark.parametrize("status", [408, 500, 503])
async def test_a_telnyx_in_trouble_is_an_outage_which_nothing_is_given_up_for(
    status: int, server: Scripted, no_waits: None
) -> None:
    server.answers = [(status, {}, b"")]
    async with TelnyxClient(Account(KEY, server.url), budget_seconds=0.1) as client:
        with pytest.raises(errors.ServerError) as failed:
            await client.recordings.retrieve("r")
    assert failure_class_of(failed.value, Settings()).name == "outage"


async def test_an_unreadable_row_blocks_no_other(client: TelnyxClient, server: Scripted) -> None:
    rows: list[Any] = [{"id": "a"}, {"id": "b", "duration_millis": "a while"}, None, {"id": "c"}]
    pages = [{"data": rows[:2], "meta": {"total_pages": 2}}, {"data": rows[2:], "meta": {"total_pages": 2}}]
    server.answers = [(200, {}, json.dumps(page).encode()) for page in pages]
    given: list[str | None] = []
    with pytest.raises(
        errors.UnreadableRows, match=r"GET /recordings: 2 rows cannot .*: b \(duration_millis: "
    ) as raised:
        async for recording in client.recordings.list():
            given.append(recording.id)  # noqa: PERF401  a comprehension would lose them with the error
    assert given == ["a", "c"]
    assert [row.id for row in raised.value.rows] == ["b", None]
