"""The official SDK on the sandbox, and our client against the SDK: same request, every field parsed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from lab.servers import RunningSandbox
from lab.webhooks import event
from sandbox.webhooks import Deliverer, recording_payload
from telnyx_api.account import Account
from telnyx_api.client import TelnyxClient
from telnyx_api.operation import Pages
from telnyx_api.operations import all_operations
from tests.conformance.calls import BEYOND, ROWS, Row, prepare

BOTH = [*ROWS, *BEYOND]

# What the API sends beyond the SDK's types: `meta` as documented, and a live log message
# may carry an `id` that the documents leave out.
BEYOND_THE_SDK = {"page_size", "total_results", "log_messages[].id"}


@pytest.fixture
def names(sandbox: RunningSandbox) -> dict[str, Any]:
    return prepare(sandbox.world, sandbox.world.base_url + "/_sandbox/sample.mp3")


@pytest.fixture(scope="session")
def official_sdk() -> Any:
    """The module, imported here alone: that takes two seconds, which other tests and other test processes save."""
    import telnyx

    return telnyx


@pytest.fixture
def sdk(official_sdk: Any, sandbox: RunningSandbox) -> Any:
    return sdk_of(official_sdk, sandbox, public_key=sandbox.public_key)


def sdk_of(official_sdk: Any, sandbox: RunningSandbox, **options: Any) -> Any:
    return official_sdk.Telnyx(api_key=sandbox.world.api_key, base_url=sandbox.base_url, max_retries=0, **options)


@pytest.fixture
async def client(sandbox: RunningSandbox) -> AsyncIterator[TelnyxClient]:
    account = Account(sandbox.world.api_key, sandbox.base_url)
    async with TelnyxClient(account) as made:
        yield made


def test_there_are_48_operations_in_14_families_and_a_row_for_each() -> None:
    counted = [row for row in all_operations() if row.family not in ("webhook-deliveries", "connections")]
    assert (len(counted), len({row.family for row in counted})) == (48, 14)
    assert len({row.name for row in ROWS}) == 48


def missing_fields(value: Any, path: str = "") -> list[str]:
    """The fields of an SDK type that an answer lacks."""
    found: list[str] = []
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            if name not in value.model_fields_set:
                found.append(f"{path}.{field.alias or name}")
            else:
                found += missing_fields(getattr(value, name), f"{path}.{name}")
        extra = {f"{path}.{name}" for name in (value.model_extra or {})}
        found += [f"{name} (unknown)" for name in extra if not name.endswith(tuple(BEYOND_THE_SDK))]
    elif isinstance(value, list):
        for item in value[:3]:
            found += missing_fields(item, path + "[]")
    return found


@pytest.mark.parametrize("row", BOTH, ids=lambda row: row.name)
def test_the_sdk_parses_every_answer_without_a_missing_field(row: Row, sdk: Any, names: dict[str, Any]) -> None:
    answer = row.theirs(sdk, names)
    if answer is None:
        return
    if hasattr(answer, "read"):
        assert answer.read() == b"audio"
        return
    assert missing_fields(answer) == []


def sent(sandbox: RunningSandbox) -> list[dict[str, Any]]:
    """The request as the sandbox's socket received it."""
    requests = []
    for request in sandbox.world.requests:
        query = sorted(httpx.QueryParams(request["query"]).multi_items())
        body = json.loads(request["body"]) if request["body"] else None
        requests.append({"method": request["method"], "path": request["path"], "query": query, "body": body})
    sandbox.world.requests.clear()
    return requests


async def run_ours(row: Row, client: TelnyxClient, names: dict[str, Any]) -> None:
    called = row.ours(client, names)
    if hasattr(called, "__aiter__"):
        pages: Pages[Any] = called
        async for _ in pages:
            break
        await called.aclose()
    else:
        await called


@pytest.mark.parametrize("row", BOTH, ids=lambda row: row.name)
async def test_our_client_and_the_sdk_send_the_same(
    row: Row, client: TelnyxClient, sandbox: RunningSandbox, official_sdk: Any
) -> None:
    import asyncio

    sample = sandbox.world.base_url + "/_sandbox/sample.mp3"
    await run_ours(row, client, prepare(sandbox.world, sample))
    ours = sent(sandbox)
    other = RunningSandbox(type(sandbox.world)())
    try:
        names = prepare(other.world, sample)
        await asyncio.to_thread(row.theirs, sdk_of(official_sdk, other), names)
        theirs = sent(other)
    finally:
        other.stop()
    assert ours[0] == theirs[0]


async def test_the_sdk_accepts_the_sandboxs_signatures(sandbox: RunningSandbox, sdk: Any) -> None:
    payload = recording_payload(sandbox.world, sandbox.world.add_recording(seconds=1))
    body = event("call.recording.saved", "event-1", **payload)
    deliverer = Deliverer(sandbox.world)
    headers = deliverer.sign(body)
    await deliverer.close()
    unwrapped = sdk.webhooks.unwrap(body.decode(), headers={k.lower(): v for k, v in headers.items()})
    assert unwrapped.data.payload.call_leg_id == payload["call_leg_id"]
    with pytest.raises(Exception, match=r"(?i)signature"):
        sdk.webhooks.unwrap(body.decode() + " ", headers={k.lower(): v for k, v in headers.items()})


async def test_the_sdk_pages_through_everything_as_we_do(
    sdk: Any, client: TelnyxClient, sandbox: RunningSandbox
) -> None:
    import asyncio

    for _ in range(23):
        sandbox.world.add_recording(seconds=0.25)
    theirs = await asyncio.to_thread(lambda: [r.id for r in sdk.recordings.list(page_size=5)])
    ours = [r.id async for r in client.recordings.list(page_size=5)]
    assert ours == theirs
    assert len(set(ours)) == 23


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda sdk: sdk.recordings.retrieve("none"), "NotFoundError"),
        (lambda sdk: sdk.with_options(api_key="wrong").recordings.list(), "AuthenticationError"),
        (lambda sdk: sdk.siprec_connectors.create(host="", name="x", port=1), "UnprocessableEntityError"),
        (lambda sdk: sdk.recordings.list(page_size=251), "UnprocessableEntityError"),
    ],
)
def test_the_sdk_knows_the_sandboxs_errors(call: Any, error: str, sdk: Any, official_sdk: Any) -> None:
    with pytest.raises(getattr(official_sdk, error)):
        call(sdk)
