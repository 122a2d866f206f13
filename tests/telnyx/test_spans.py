"""Listings that prove something: rows come and go during the reads, and no row that stays is missed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from lab.servers import RunningSandbox
from sandbox import api, recordings
from sandbox.world import Recording, text_of
from telnyx_api.account import Account
from telnyx_api.client import TelnyxClient
from telnyx_api.errors import UnreadableRows, Unsettled
from telnyx_api.spans import list_window

DAY = datetime(2026, 11, 20, tzinfo=UTC)
LAST = DAY + timedelta(days=1) - timedelta(microseconds=1)


def fill(sandbox: RunningSandbox, instants: list[datetime]) -> list[Recording]:
    """Recordings created at these instants, all with the same audio."""
    one = sandbox.world.add_recording(seconds=0.1, channels=1)
    sandbox.world.recordings.clear()
    made = []
    for instant in instants:
        data = (
            one.data
            | {"id": sandbox.world.new_uuid()}
            | dict.fromkeys(("created_at", "recording_started_at"), text_of(instant))
        )
        sandbox.world.recordings[data["id"]] = made_of = Recording(data, one.audio, one.visible_from)
        made.append(made_of)
    return made


def spread(count: int) -> list[datetime]:
    return [DAY + i * (LAST - DAY) / count for i in range(count)]


def when_listed(monkeypatch: pytest.MonkeyPatch, sandbox: RunningSandbox, change: Callable[[int], None]) -> None:
    """Call a function with the number of each listing right after it."""
    listed, number = sandbox.world.live_recordings, 0

    def list_and_change() -> list[Recording]:
        nonlocal number
        found = listed()
        number += 1
        change(number)
        return found

    monkeypatch.setattr(sandbox.world, "live_recordings", list_and_change)


async def window(client: TelnyxClient) -> list[str]:
    return [str(item.id) async for item in list_window(client, client.recordings.list, DAY, LAST, {})]


@pytest.fixture
async def client(sandbox: RunningSandbox) -> AsyncIterator[TelnyxClient]:
    async with TelnyxClient(Account(sandbox.world.api_key, sandbox.base_url)) as made:
        yield made


@pytest.mark.parametrize("instants", [spread(600), [DAY + timedelta(hours=9)] * 600], ids=["spread", "at-once"])
@pytest.mark.parametrize("gives_totals", [True, False], ids=["totals", "no-totals"])
async def test_a_deletion_between_two_pages_hides_no_row(
    instants: list[datetime],
    gives_totals: bool,
    sandbox: RunningSandbox,
    client: TelnyxClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = fill(sandbox, instants)
    if not gives_totals:
        monkeypatch.setattr(recordings, "page", lambda call, items: api.page(call, items) | {"meta": {}})
    newest = sandbox.world.live_recordings()[:6]

    def delete(number: int) -> None:
        if number <= len(newest):
            newest[number - 1].deleted_at = text_of(DAY)

    when_listed(monkeypatch, sandbox, delete)
    found = await window(client)
    assert {one.data["id"] for one in made if one.deleted_at is None} <= set(found)
    assert len(found) == len(set(found)), "each row is given once"


async def test_every_row_is_given_once_however_they_lie(sandbox: RunningSandbox, client: TelnyxClient) -> None:
    rng = random.Random(7)
    edges = [DAY, LAST, DAY + timedelta(seconds=1), DAY + timedelta(hours=12) - timedelta(microseconds=1)]
    crowd = [DAY + timedelta(hours=9, microseconds=rng.randrange(3_000_000)) for _ in range(400)]
    rest = [DAY + timedelta(microseconds=rng.randrange(86_400_000_000)) for _ in range(900)]
    outside = [DAY - timedelta(microseconds=1), LAST + timedelta(microseconds=1)]
    made = fill(sandbox, [*edges, *crowd, *rest, *outside])
    found = await window(client)
    assert sorted(found) == sorted(one.data["id"] for one in made[: -len(outside)])


async def test_the_spans_cost_little_more_requests_than_pages(sandbox: RunningSandbox, client: TelnyxClient) -> None:
    at_night, by_day = spread(200), [DAY + timedelta(hours=8) + i * timedelta(hours=10) / 4800 for i in range(4800)]
    made = fill(sandbox, at_night + by_day)
    assert len(await window(client)) == len(made) == 5000
    assert len(sandbox.world.requests) <= 40, "pages of 250 would be 20"
    sandbox.world.requests.clear()
    sandbox.world.recordings.clear()
    assert await window(client) == []
    assert len(sandbox.world.requests) == 1, "a day of nothing"


async def test_a_list_that_never_settles_proves_nothing(
    sandbox: RunningSandbox, client: TelnyxClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fill(sandbox, [DAY + timedelta(hours=9)] * 300)

    def delete(number: int) -> None:
        made[number].deleted_at = text_of(DAY)

    when_listed(monkeypatch, sandbox, delete)
    with pytest.raises(Unsettled, match="changed each of 8 times that it was read"):
        await window(client)


@pytest.mark.parametrize("count", [20, 600], ids=["a-page", "spans"])
@pytest.mark.parametrize("gives_totals", [True, False], ids=["totals", "no-totals"])
async def test_rows_that_cannot_be_read_hide_no_other_and_prove_nothing(
    count: int,
    gives_totals: bool,
    sandbox: RunningSandbox,
    client: TelnyxClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not gives_totals:
        monkeypatch.setattr(recordings, "page", lambda call, items: api.page(call, items) | {"meta": {}})
    made = fill(sandbox, spread(count))
    made[5].data["duration_millis"] = "a while"
    made[count // 2].data["id"] = None
    given: list[str] = []
    rows = list_window(client, client.recordings.list, DAY, LAST, {})
    with pytest.raises(UnreadableRows) as raised:
        async for item in rows:
            given.append(str(item.id))  # noqa: PERF401  a comprehension would lose them with the error
    assert sorted(given) == sorted(one.data["id"] for n, one in enumerate(made) if n not in (5, count // 2))
    assert {row.id for row in raised.value.rows} == {made[5].data["id"], None}
    assert f"{made[5].data['id']} (duration_millis: " in str(raised.value)
