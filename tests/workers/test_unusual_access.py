"""A person who takes unusually many recordings within an hour is reported, once, and nobody waits for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from archive import layout
from archive.access import AccessLine, encode_line, new_line
from text.times import format_instant, utc_now
from workers.access.move import move_access_log
from workers.access.unusual import notice_unusual
from workers.access.waiting import Batch
from workers.keys import ACCESS_WAITING, ALERTS, TAKEN
from workers.runtime import Runtime

LIMIT = 10
_number = iter(range(10**6))


@pytest.fixture
def limited(runtime: Runtime) -> Runtime:
    return replace(runtime, settings=runtime.settings.replaced(unusual_recordings=LIMIT))


def lines(
    number: int, who: str = "Ann", what: str = "play", at: datetime | None = None, **more: Any
) -> Iterator[AccessLine]:
    for n in range(number):
        found = new_line(what, who, more.pop("how", "oidc"), "192.0.2.7", [f"r{n}"], **more)
        yield found if at is None else _at(found, at)


def _at(line: AccessLine, at: datetime) -> AccessLine:
    return msgspec.structs.replace(line, at=format_instant(at))


def batch(*found: AccessLine) -> Batch:
    return Batch(layout.access_log_key(utc_now(), f"{next(_number):016x}"), [encode_line(one) for one in found])


async def reported(runtime: Runtime) -> list[str]:
    found = [json.loads(row) for row in await runtime.redis.lrange(ALERTS, 0, -1)]
    return [alert["text"] for alert in found if alert["kind"] == "unusual-access"]


async def test_lines_of_all_receivers_count_together_and_the_alert_names_person_number_and_command(
    limited: Runtime,
) -> None:
    waiting = ACCESS_WAITING + limited.archive.identity.id
    await limited.redis.rpush(waiting, *(encode_line(one) for one in lines(LIMIT, "Ann O'Neil")))
    await move_access_log(limited)
    assert await reported(limited) == [], "as many as the limit are usual"
    await limited.redis.rpush(waiting, *(encode_line(one) for one in lines(1, "Ann O'Neil", "download")))
    await move_access_log(limited)
    (text,) = await reported(limited)
    assert text.startswith("Ann O'Neil (oidc, from 192.0.2.7) has played, downloaded or exported 11 recordings within")
    advice = json.loads((await limited.redis.lrange(ALERTS, 0, 0))[0])["advice"]
    assert """callvault access-log --who 'Ann O'"'"'Neil' --since 2h`""" in advice
    assert await limited.redis.lrange(waiting, 0, -1) == []


async def test_an_export_counts_by_its_recordings_and_a_look_not_at_all(limited: Runtime) -> None:
    now = utc_now()
    await notice_unusual(limited, batch(*lines(100, what="look"), *lines(100, what="sent", of="x")), now)
    await notice_unusual(limited, batch(*lines(1, what="search", found=5_000)), now)
    assert await reported(limited) == []
    await notice_unusual(limited, batch(*lines(1, what="export", query="a", found=LIMIT + 1)), now)
    assert "exported 11 recordings" in (await reported(limited))[0]
    selected = new_line("export", "Ben", "oidc", "h", [f"r{n}" for n in range(12)])
    await notice_unusual(limited, batch(selected), now)
    assert "Ben" in (await reported(limited))[0]


async def test_a_bundle_counts_once_however_often_its_ranges_are_asked_for(limited: Runtime) -> None:
    now = utc_now()

    def ranges(who: str, export: str, what: str = "download") -> AccessLine:
        return new_line(what, who, "oidc", "192.0.2.7", found=LIMIT - 1, about=f"export {export}")

    await notice_unusual(
        limited, batch(ranges("Ann", "1, encrypted for 1 recipient", "export"), ranges("Ann", "1")), now
    )
    await notice_unusual(limited, batch(*[ranges("Ann", "1")] * 20, ranges("Ben", "1")), now)
    assert await reported(limited) == []
    await notice_unusual(limited, batch(ranges("Ann", "2")), now)
    (text,) = await reported(limited)
    assert "18 recordings" in text


async def test_each_person_is_reported_once_an_hour_and_by_the_way_of_signing_in(limited: Runtime) -> None:
    now = utc_now()
    for _ in range(3):
        await notice_unusual(limited, batch(*lines(LIMIT + 1)), now)
    assert len(await reported(limited)) == 1
    await notice_unusual(limited, batch(*lines(LIMIT, how="token")), now)
    assert len(await reported(limited)) == 1, "another Ann, with another way of signing in"
    await notice_unusual(limited, batch(*lines(LIMIT + 1, "Ben")), now)
    assert len(await reported(limited)) == 2


async def test_an_hour_is_a_sliding_one_and_wrong_clocks_do_not_empty_it(limited: Runtime) -> None:
    now = utc_now()
    before = now - timedelta(minutes=61)
    await notice_unusual(limited, batch(*lines(LIMIT, at=before), *lines(1, at=now)), now)
    assert await reported(limited) == [], "within no hour more than the limit"
    await notice_unusual(limited, batch(*lines(LIMIT - 1, at=now + timedelta(days=3))), now)
    assert await reported(limited) == []
    await notice_unusual(limited, batch(*lines(1, at=now - timedelta(minutes=59))), now)
    assert len(await reported(limited)) == 1


async def test_a_batch_that_is_moved_twice_counts_once(limited: Runtime) -> None:
    """As when a worker dies between the object and the end of the batch."""
    one = batch(*lines(LIMIT))
    for _ in range(2):
        await notice_unusual(limited, one, utc_now())
    assert await reported(limited) == []


async def test_without_the_setting_and_with_nonsense_nothing_is_counted(runtime: Runtime, limited: Runtime) -> None:
    await notice_unusual(runtime, batch(*lines(100)), utc_now())
    nonsense = Batch("access-log/x", [b"{", b'{"what": "play"}', *batch(*lines(1)).lines])
    await notice_unusual(limited, nonsense, utc_now())
    assert await reported(limited) == []


async def test_nonsense_among_the_counts_does_not_hold_up_the_log(limited: Runtime) -> None:
    await notice_unusual(limited, batch(*lines(1)), utc_now())
    person = hashlib.sha256(repr(("Ann", "oidc", "")).encode()).hexdigest()[:32]
    assert await limited.redis.hgetall(TAKEN + person)
    await limited.redis.hset(TAKEN + person, "no minute", "no number")
    await notice_unusual(limited, batch(*lines(1)), utc_now())


async def test_a_redis_that_fails_does_not_hold_up_the_log(limited: Runtime) -> None:
    class Away:
        def __getattr__(self, name: str) -> Any:
            raise OSError("Redis is away")

    await notice_unusual(replace(limited, redis=Away()), batch(*lines(100)), utc_now())
