"""Disposal that stopped itself: what an approval covers, while terms go on ending."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from config.settings import load_settings
from tests.seals.small import SmallArchive
from text.times import utc_now
from workers.disposal.looked import note_looked, read_looked
from workers.disposal.run import Disposer
from workers.disposal.stop import approve, read_stop
from workers.keys import DISPOSAL_LOOKED, DISPOSAL_STOPPED, DISPOSED_TODAY
from workers.looks import known_conditions
from workers.runtime import Runtime


def end_now(small: SmallArchive, *names: str) -> None:
    """Recordings whose term of a day has just ended."""
    for name in names:
        small.receipt(small.recording(5, name, utc_now() - timedelta(days=1)), utc_now())
    small.seal(5)


async def test_an_approval_covers_what_was_counted_while_other_terms_end(
    runtime: Runtime, small: SmallArchive, async_redis: Any
) -> None:
    """In a large archive a term ends every second: the stop must neither change each time, nor let others go with it."""
    end_now(small, "a", "b", "c", "d")
    first = (await Disposer(runtime).run()).stop
    assert first is not None and first.recordings == 12
    end_now(small, "later")
    assert (await Disposer(runtime).run()).stop == first
    approve(runtime.archive, first, "checked", "Ann")
    dry = await Disposer(runtime, is_dry=True).run()
    assert (dry.stop, len(dry.gone)) == (None, 12)
    done = await Disposer(runtime).run()
    assert (done.stop, len(done.gone), "later" in {one.recording_id for one in done.gone}) == (None, 12, False)
    assert (await Disposer(runtime).run()).gone == []
    second = await Disposer(runtime).run()
    assert second.gone == [] and second.stop is not None and second.stop.id != first.id
    await async_redis.delete(DISPOSED_TODAY + utc_now().date().isoformat())  # on another day
    assert [one.recording_id for one in (await Disposer(runtime).run()).gone] == ["later"]


async def test_an_approval_that_an_older_redis_brings_back_covers_nothing_else(
    runtime: Runtime, small: SmallArchive, async_redis: Any
) -> None:
    end_now(small, "a", "b", "c", "d")
    stop = (await Disposer(runtime).run()).stop
    assert stop is not None
    approve(runtime.archive, stop, "checked", "Ann")
    before = await async_redis.get(DISPOSAL_STOPPED)
    assert len((await Disposer(runtime).run()).gone) == 12
    await async_redis.set(DISPOSAL_STOPPED, before)
    await async_redis.delete(DISPOSED_TODAY + utc_now().date().isoformat())
    end_now(small, *(f"other-{number}" for number in range(11)))
    assert (await Disposer(runtime).run()).gone == []
    asks = await Disposer(runtime).run()
    assert (asks.gone, asks.stop is not None and asks.stop.id != stop.id) == ([], True)


async def test_disposal_that_waits_for_an_hour_is_a_condition_and_what_people_want_is_none(
    runtime: Runtime, small: SmallArchive, async_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def known() -> list[str]:
        return [
            one.what for one in await known_conditions(async_redis, runtime.settings) if one.kind == "disposal-waits"
        ]

    small.write("retention/00000002.json", b"{")
    report = await Disposer(runtime).run()
    assert (report.is_meant, "cannot be read" in str(report.stopped)) == (False, True)
    await note_looked(async_redis, report.stopped)
    assert await known() == [], "not at once: Telnyx may be away for a moment"
    first = await read_looked(async_redis)
    assert first is not None
    await async_redis.set(DISPOSAL_LOOKED, msgspec.json.encode(msgspec.structs.replace(first, since=first.at - 3700)))
    await note_looked(async_redis, "another reason")
    assert await known() == ["another reason"], "it has waited all the time"
    hour = utc_now().hour
    monkeypatch.setenv("CALLVAULT_DISPOSE_HOURS", f"{(hour + 2) % 24}-{(hour + 3) % 24}")
    meant = await Disposer(replace(runtime, settings=load_settings())).run()
    assert (meant.is_meant, "outside the hours" in str(meant.stopped)) == (True, True)
    await note_looked(async_redis, None)
    assert await known() == []


@pytest.mark.parametrize("data", [b"", b"{}", b'{"at": "\xff"}', b"[1]"])
async def test_a_note_in_redis_that_cannot_be_read_counts_as_none(async_redis: Any, data: bytes) -> None:
    for key in (DISPOSAL_STOPPED, DISPOSAL_LOOKED):
        await async_redis.set(key, data)
    assert await read_stop(async_redis) is None
    assert await read_looked(async_redis) is None


async def test_a_stop_that_nobody_approves_is_counted_anew_after_a_day(
    runtime: Runtime, small: SmallArchive, async_redis: Any
) -> None:
    end_now(small, "a", "b", "c", "d")
    stop = (await Disposer(runtime).run()).stop
    assert stop is not None
    old = msgspec.structs.replace(stop, until=stop.until - 86_401)
    await async_redis.set(DISPOSAL_STOPPED, msgspec.json.encode(old))
    end_now(small, "later")
    anew = (await Disposer(runtime).run()).stop
    assert anew is not None and (anew.recordings, anew.id != stop.id) == (13, True)
