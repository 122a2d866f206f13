"""The access log: durable before anything is shown, moved into the archive once, and read back whole."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from redis.exceptions import OutOfMemoryError

from archive import kinds, layout
from archive.access import AccessLine, decode_line, encode_line, new_line, put_lines
from archive.archive import Archive
from archive.stores.store import StoreError
from lab.redis import Server, watched
from text.times import format_instant, utc_now
from workers.access import move, reading
from workers.access.index import AccessIndex
from workers.access.log import AccessLog, NotWritten
from workers.access.move import move_access_log
from workers.access.query import AccessQuery
from workers.access.reading import AccessReader, bring_up_to_date
from workers.access.waiting import held_lines, take_batch
from workers.keys import ACCESS_WAITING, ARCHIVE, PLAYING, UNSEALED
from workers.queue.connect import connect_receiver
from workers.queue.replicas import Replicas
from workers.runtime import Runtime


def line(who: str = "Ann", what: str = "look", *recordings: str, **more: object) -> AccessLine:
    return new_line(what, who, "token", "192.0.2.7", recordings or ["r1"], **more)


def log_of(runtime: Runtime, redis: Any = None, **more: Any) -> AccessLog:
    async def archive() -> Archive:
        return runtime.archive

    return AccessLog(redis or runtime.redis, archive, lambda: runtime.archive.identity.id, **more)


def objects(folder: Path) -> list[Path]:
    return sorted((folder / "access-log").rglob("*.jsonl"))


def ids(folder: Path) -> list[str]:
    return [json.loads(row)["id"] for path in objects(folder) for row in path.read_bytes().splitlines()]


async def test_lines_written_at_once_come_into_one_object_in_order(runtime: Runtime, archive_folder: Path) -> None:
    log, lines = log_of(runtime), [line(f"person {n}") for n in range(1_200)]
    standing = await asyncio.gather(*(log.write(one) for one in lines))
    assert [one.id for one in standing] == [one.id for one in lines]
    assert objects(archive_folder) == [], "the answer does not wait for the archive"
    await move_access_log(runtime)
    assert ids(archive_folder) == [one.id for one in lines]
    (written,) = objects(archive_folder)
    assert kinds.kind_of(str(written.relative_to(archive_folder))) is kinds.ACCESS_LOG
    assert (await held_lines(runtime.redis, runtime.archive.identity.id)).lines == []
    assert await runtime.redis.zscore(UNSEALED, utc_now().date().isoformat()) is not None
    await move_access_log(runtime)
    assert len(objects(archive_folder)) == 1, "nothing waits, so nothing is written"


async def test_more_lines_than_an_object_takes_come_into_several(runtime: Runtime, archive_folder: Path) -> None:
    log, lines = log_of(runtime), [line(f"person {n}") for n in range(5_000)]
    await asyncio.gather(*(log.write(one) for one in lines))
    await move_access_log(runtime)
    assert ids(archive_folder) == [one.id for one in lines]
    assert len(objects(archive_folder)) == 3


async def test_a_worker_that_dies_in_the_middle_leaves_the_same_object_to_the_next(
    runtime: Runtime, archive_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [line("Ann"), line("Ben")]
    for one in first:
        await log_of(runtime).write(one)

    async def dies(*_: object) -> None:
        raise ConnectionError("the worker is gone")

    with monkeypatch.context() as dying, pytest.raises(ConnectionError):
        dying.setattr(move, "finish_batch", dies)
        await move_access_log(runtime)
    before = {path: path.read_bytes() for path in objects(archive_folder)}
    await log_of(runtime).write(late := line("Cid"))
    await move_access_log(runtime)
    assert {path: path.read_bytes() for path in objects(archive_folder)}.items() >= before.items()
    assert ids(archive_folder) == [*(one.id for one in first), late.id]


async def test_a_batch_that_the_archive_did_not_take_in_time_lies_under_a_later_day(
    runtime: Runtime, archive_folder: Path
) -> None:
    await log_of(runtime).write(one := line())
    three_days_ago = layout.access_log_key(utc_now() - timedelta(days=3), "0" * 16)
    batch = await take_batch(runtime.redis, runtime.archive.identity.id, three_days_ago)
    assert batch is not None and batch.key == three_days_ago
    await move_access_log(runtime)
    (written,) = objects(archive_folder)
    assert layout.day_of(str(written.relative_to(archive_folder))) == utc_now().date() and ids(archive_folder) == [
        one.id
    ]
    put_lines(runtime.archive, three_days_ago, [encode_line(early := line("Ben"))])
    await log_of(runtime).write(early)
    await take_batch(runtime.redis, runtime.archive.identity.id, three_days_ago)
    await move_access_log(runtime)
    assert sorted(ids(archive_folder)) == sorted([one.id, early.id]), "an object that is there is not written again"


async def test_while_the_archive_is_away_lines_wait_in_redis(runtime: Runtime, archive_folder: Path) -> None:
    _ = runtime.archive.identity
    archive_folder.rename(away := archive_folder.with_name("away"))
    await log_of(runtime).write(one := line())
    with pytest.raises(StoreError):
        await move_access_log(runtime)
    await log_of(runtime).write(other := line("Ben"))
    away.rename(archive_folder)
    await move_access_log(runtime)
    assert ids(archive_folder) == [one.id, other.id]


async def test_without_redis_the_archive_takes_the_lines_at_once_and_together(
    runtime: Runtime, archive_folder: Path, tmp_path: Path
) -> None:
    with Server(tmp_path) as server:
        redis = connect_receiver(server.url)
        log, lines = log_of(runtime, redis), [line(f"person {n}") for n in range(300)]
        server.kill()
        await asyncio.gather(*(log.write(one) for one in lines))
        await redis.aclose()
    assert ids(archive_folder) == [one.id for one in lines]
    assert len(objects(archive_folder)) == 1


async def test_a_full_redis_is_passed_by(runtime: Runtime, archive_folder: Path, tmp_path: Path) -> None:
    with Server(tmp_path) as server, server.client() as client:
        client.set("ballast", "x" * 2_000_000)
        client.config_set("maxmemory", "1mb")
        redis = connect_receiver(server.url)
        with pytest.raises(OutOfMemoryError):
            await redis.set("more", "1")
        await log_of(runtime, redis).write(one := line())
        await redis.aclose()
    assert ids(archive_folder) == [one.id]


async def test_without_redis_and_without_the_archive_nothing_is_written_and_the_caller_learns_why(
    runtime: Runtime, archive_folder: Path, tmp_path: Path
) -> None:
    _ = runtime.archive.identity
    archive_folder.rename(archive_folder.with_name("away"))
    with Server(tmp_path) as server:
        redis = connect_receiver(server.url)
        server.kill()
        with pytest.raises(NotWritten, match=r"the access log cannot be written.*Redis does not answer.*the archive: "):
            await log_of(runtime, redis).write(line())
        await redis.aclose()


async def test_a_redis_of_another_archive_gets_no_line(runtime: Runtime, archive_folder: Path) -> None:
    await runtime.redis.set(ARCHIVE, "f" * 32)
    await log_of(runtime).write(one := line())
    assert ids(archive_folder) == [one.id]
    assert await runtime.redis.exists(ACCESS_WAITING + "f" * 32) == 0


async def test_lines_from_before_the_archive_was_known_are_moved_too(runtime: Runtime, archive_folder: Path) -> None:
    async def none() -> Archive:
        raise AssertionError("Redis answers")

    await AccessLog(runtime.redis, none, lambda: "").write(one := line())
    assert await runtime.redis.exists(ACCESS_WAITING) == 1
    await move_access_log(runtime)
    assert ids(archive_folder) == [one.id]


async def test_one_play_is_one_line_at_several_receivers(runtime: Runtime, archive_folder: Path, redis: Any) -> None:
    first, second = log_of(runtime), log_of(runtime)
    begun = await first.write(line("Ann", "play"), "a play")
    again = await second.write(line("Ann", "play"), "a play")
    other = await second.write(line("Ben", "play"), "another play")
    assert again.id == begun.id != other.id and 3_500 < again.seconds <= 3_600
    redis.delete(PLAYING + "a play")  # an hour later
    later = await first.write(line("Ann", "play"), "a play")
    await move_access_log(runtime)
    assert ids(archive_folder) == [begun.id, other.id, later.id]


async def test_a_line_survives_the_loss_of_the_primary(runtime: Runtime, tmp_path: Path) -> None:
    with watched(tmp_path) as servers:
        redis = connect_receiver(servers.url)
        log = log_of(runtime, redis, replicas=Replicas(redis))
        lines = [line(f"person {n}") for n in range(50)]
        await asyncio.gather(*(log.write(one) for one in lines))
        primary = servers.primary
        primary.kill()
        left = [one for one in servers.servers if one is not primary]
        for server in left:
            with server.client() as client:
                rows = client.lrange(ACCESS_WAITING + runtime.archive.identity.id, 0, -1)
                assert [*dict.fromkeys(json.loads(row)["id"] for row in rows)] == [one.id for one in lines]
        await redis.aclose()


@pytest.mark.parametrize("name", ["Ann\n{}", "Ben\r\nEve", "\u2028Cid", '"}\n{"id": "x', "\x00\x1b[2J", "Ж" * 300])
async def test_no_name_ends_its_line(name: str, runtime: Runtime, archive_folder: Path) -> None:
    await log_of(runtime).write(line(name, "search", query=name, why=name))
    await move_access_log(runtime)
    (written,) = objects(archive_folder)
    (row,) = written.read_bytes().removesuffix(b"\n").split(b"\n")
    said = json.loads(row)
    assert (said["who"], said["query"], said["why"]) == (name, name, name)


def test_a_line_of_a_later_version_is_read_and_nonsense_is_not() -> None:
    known = json.loads(encode_line(line()))
    read = decode_line(json.dumps(known | {"what": "whisper", "role": "listener", "tenant": "x"}).encode())
    assert read is not None and (read.what, read.role) == ("whisper", "listener")
    assert decode_line(b"{") is decode_line(b"\xff") is decode_line(b'{"id": 1}') is None


async def test_the_index_finds_lines_by_person_recording_and_time(runtime: Runtime, tmp_path: Path) -> None:
    log, index = log_of(runtime), AccessIndex(tmp_path / "data")
    await log.write(early := line("Ann", "sign-in-refused", "r1", error="access_denied"))
    middle = utc_now()
    await log.write(play := line("Ben", "play", "r1"))
    await log.write(line("Ben", "sent", "r1", of=play.id, bytes=8_000, seconds=1.0))
    await log.write(line("Ben", "sent", "r1", of=play.id, bytes=4_000, seconds=0.5))
    await log.write(several := line("ann", "export", "r1", "r2"))

    async def found(**words: Any) -> list[str]:
        assert await bring_up_to_date(index, runtime.archive, runtime.redis) is None
        return [one.line.id for one in index.find(AccessQuery(**words), 100)]

    for _ in range(2):  # in Redis, then in the archive
        assert await found() == [several.id, play.id, early.id]
        assert await found(who="Ann") == [several.id, early.id]
        assert await found(recording="r2") == [several.id]
        assert await found(recording="r1", since=middle) == [several.id, play.id]
        assert await found(until=middle) == [early.id]
        assert [one.error for one in index.find(AccessQuery(), 100)] == [None, None, "access_denied"]
        (entry,) = index.find(AccessQuery(who="ben"), 100)
        assert (entry.bytes, entry.seconds) == (12_000, 1.5)
        latest, second = index.find(AccessQuery(), 2)
        assert [one.line.id for one in index.find(AccessQuery(), 2, second.place)] == [early.id]
        assert (
            len([*index.lines(AccessQuery(), None)]) == 5
            and json.loads(next(index.lines(AccessQuery(), 1)))["id"] == several.id
        )
        was_moved = latest.object is not None
        await move_access_log(runtime)
    assert was_moved, "the second time, each entry names the object that holds it"


async def test_a_person_is_found_in_any_case_of_any_alphabet(runtime: Runtime, tmp_path: Path) -> None:
    index = AccessIndex(tmp_path / "data")
    for who in ("Jörg", "ЖАННА"):
        await log_of(runtime).write(line(who))
    await bring_up_to_date(index, runtime.archive, runtime.redis)
    for typed, who in (("JÖRG", "Jörg"), ("жанна", "ЖАННА")):
        assert [one.line.who for one in index.find(AccessQuery(who=typed), 100)] == [who]


async def test_a_line_that_was_written_twice_counts_once(runtime: Runtime, tmp_path: Path) -> None:
    """As when Redis took a line and its answer was lost, so the receiver wrote an object."""
    one = line()
    await log_of(runtime).write(one)
    put_lines(runtime.archive, layout.access_log_key(utc_now(), "1" * 16), [encode_line(one)])
    await move_access_log(runtime)
    index = AccessIndex(tmp_path / "data")
    await bring_up_to_date(index, runtime.archive, runtime.redis)
    assert len(index.find(AccessQuery(), 100)) == 1


async def test_the_index_keeps_a_line_that_redis_and_the_archive_both_held(runtime: Runtime, tmp_path: Path) -> None:
    """As when a worker dies once the object is in the archive, and two people read the log before another drops the batch."""
    index, archive_id = AccessIndex(tmp_path / "data"), runtime.archive.identity.id
    await log_of(runtime).write(one := line())
    batch = await take_batch(runtime.redis, archive_id, layout.access_log_key(utc_now(), "1" * 16))
    assert batch is not None
    put_lines(runtime.archive, batch.key, batch.lines)
    for _ in range(2):
        await bring_up_to_date(index, runtime.archive, runtime.redis)
        assert [entry.object for entry in index.find(AccessQuery(), 100)] == [batch.key]
    await move_access_log(runtime)
    await bring_up_to_date(index, runtime.archive, runtime.redis)
    assert [entry.line.id for entry in index.find(AccessQuery(recording="r1"), 100)] == [one.id]


async def test_the_index_forgets_what_redis_lost_and_is_built_anew_when_it_is_unusable(
    runtime: Runtime, tmp_path: Path, redis: Any
) -> None:
    index, archive_id = AccessIndex(tmp_path / "data"), runtime.archive.identity.id
    await log_of(runtime).write(line("Ann"))
    await move_access_log(runtime)
    await log_of(runtime).write(line("Ben", "look", "r2"))
    await bring_up_to_date(index, runtime.archive, runtime.redis)
    assert len(index.find(AccessQuery(), 100)) == 2
    redis.delete(ACCESS_WAITING + archive_id)
    await bring_up_to_date(index, runtime.archive, runtime.redis)
    assert [one.line.who for one in index.find(AccessQuery(), 100)] == ["Ann"]
    assert index.find(AccessQuery(recording="r2"), 100) == []
    index.path.write_bytes(b"not a database" * 1_000)
    for _ in range(2):  # the first says that it was removed
        try:
            await bring_up_to_date(index, runtime.archive, runtime.redis)
        except Exception as error:
            assert "was removed; try again" in str(error)
    assert [one.line.who for one in index.find(AccessQuery(), 100)] == ["Ann"]


async def test_the_index_says_what_it_could_not_read(runtime: Runtime, archive_folder: Path, tmp_path: Path) -> None:
    index = AccessIndex(tmp_path / "data")
    await log_of(runtime).write(line("Ann"))
    await move_access_log(runtime)
    assert await bring_up_to_date(index, runtime.archive, runtime.redis) is None
    archive_folder.rename(archive_folder.with_name("away"))
    note = await bring_up_to_date(index, runtime.archive, runtime.redis)
    assert note is not None and "the archive does not answer" in note
    assert [one.line.who for one in index.find(AccessQuery(), 100)] == ["Ann"]


async def test_an_index_of_another_version_is_built_anew(runtime: Runtime, tmp_path: Path) -> None:
    index = AccessIndex(tmp_path / "data")
    await log_of(runtime).write(line("Ann"))
    await bring_up_to_date(index, runtime.archive, runtime.redis)
    with index._open() as db:
        db.executescript("DROP TABLE lines; CREATE TABLE lines (id TEXT, later TEXT); PRAGMA user_version = 99;")
    await bring_up_to_date(index, runtime.archive, runtime.redis)
    assert [one.line.who for one in index.find(AccessQuery(), 100)] == ["Ann"]


async def test_an_index_of_another_archive_is_emptied(runtime: Runtime, tmp_path: Path) -> None:
    index = AccessIndex(tmp_path / "data")
    await log_of(runtime).write(line("Ann"))
    await bring_up_to_date(index, runtime.archive, runtime.redis)
    with index._open() as db:
        db.execute("UPDATE state SET value = 'another' WHERE name = 'archive'")
    await runtime.redis.delete(ACCESS_WAITING + runtime.archive.identity.id)
    await bring_up_to_date(index, runtime.archive, runtime.redis)
    assert index.find(AccessQuery(), 100) == []


async def test_lines_older_than_the_listed_days_are_read_once_and_late_ones_still_found(
    runtime: Runtime, tmp_path: Path
) -> None:
    index = AccessIndex(tmp_path / "data")
    for days, who in ((400, "Old"), (2, "New")):
        at = utc_now() - timedelta(days=days)
        row = encode_line(line(who)).replace(format_instant(utc_now())[:10].encode(), f"{at:%Y-%m-%d}".encode())
        put_lines(runtime.archive, layout.access_log_key(at, f"{days:016x}"), [row])
        await bring_up_to_date(index, runtime.archive, runtime.redis)
    assert [one.line.who for one in index.find(AccessQuery(), 100)] == ["New", "Old"]


async def test_many_readers_list_the_archive_once_until_a_worker_moves_more(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = 0
    store_list = runtime.archive.store.list

    def counted(prefix: str) -> Any:
        nonlocal listed
        listed += 1
        return store_list(prefix)

    monkeypatch.setattr(runtime.archive.store, "list", counted)
    reader, log = AccessReader(AccessIndex(tmp_path / "data")), log_of(runtime)

    async def found() -> list[str]:
        assert await reader.bring_up_to_date(runtime.archive, runtime.redis) is None
        return [one.line.who for one in reader.index.find(AccessQuery(), 10)][::-1]

    await log.write(line("Ann"))
    assert await found() == ["Ann"]
    before = listed
    await log.write(line("Ben"))
    assert await found() == ["Ann", "Ben"], "what waits in Redis is there at once"
    assert listed == before
    await move_access_log(runtime)
    await log.write(line("Cem"))
    assert await found() == await found() == ["Ann", "Ben", "Cem"]
    assert listed > before, "and so is what a worker has moved"
    before = listed
    put_lines(runtime.archive, layout.access_log_key(utc_now(), "1" * 16), [encode_line(line("Dee"))])
    assert await found() == ["Ann", "Ben", "Cem"] and listed == before
    monkeypatch.setattr(reading, "_LISTED_SECONDS", 0)
    assert await found() == ["Ann", "Ben", "Cem", "Dee"], "what came there another way is there half a minute later"


async def test_a_long_log_is_read_in_pages_and_in_order(runtime: Runtime, tmp_path: Path) -> None:
    index = AccessIndex(tmp_path / "data")
    instants = [utc_now() - timedelta(seconds=n // 3) for n in range(2_500)][::-1]  # several at one instant
    made = [structs.replace(line(f"person {n}"), at=format_instant(at)) for n, at in enumerate(instants)]
    made.sort(key=lambda one: (one.at, one.id))
    put_lines(runtime.archive, layout.access_log_key(utc_now(), "1" * 16), map(encode_line, made))
    await bring_up_to_date(index, runtime.archive, runtime.redis)
    pages = [*index.in_order(AccessQuery(), None)]
    assert [len(page) for page in pages] == [1000, 1000, 500]
    assert [entry.line for page in pages for entry in page] == made
    assert [*index.lines(AccessQuery(), None)] == [*map(encode_line, made)]
    assert [*index.lines(AccessQuery(), 1_001)] == [*map(encode_line, made[-1_001:])]
    assert [*index.lines(AccessQuery(), 9_999)] == [*map(encode_line, made)]
    assert [*index.in_order(AccessQuery(who="nobody"), 3)] == []
