"""The change feed of the catalogue: entries that were trimmed, and seals with and without Parquet files."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from archive import layout
from archive.append import Making, append, put_file
from archive.archive import Archive
from archive.records import ArchivedObject, AudioSummary, CommitRecord, Damage, Proof, encode_record
from archive.register import record_damage
from archive.seals import Chain, Link, Manifest, folders_of_day
from archive.stores.store import open_store
from cli.find import write_table
from lab.processes import callvault
from lab.stores import make_archive
from text.times import format_instant, utc_now
from workers.catalogue import feed
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.feed import bring_up_to_date, catch_up, read_archive
from workers.catalogue.parquet import RowsFile
from workers.catalogue.query import Query
from workers.catalogue.reach import EVERYTHING
from workers.catalogue.rows import Row, row_of
from workers.catalogue.search import Hit, search
from workers.queue import change_feed as written
from workers.queue.change_feed import announce

TODAY = utc_now().date()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    make_archive(tmp_path / "archive")
    return Archive(open_store((tmp_path / "archive").as_uri()))


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(tmp_path / "catalogue.sqlite")


def put(archive: Archive, recording_id: str, day: date) -> tuple[str, bytes]:
    folder = layout.recording_folder(day, recording_id)
    audio = archive.put(layout.audio_key(folder, "wav"), iter((b"RIFF",)), "audio/wav")
    record = CommitRecord(
        recording={"id": recording_id, "recording_started_at": f"{day}T10:00:00Z", "from": "+13125550100"},
        objects=[
            ArchivedObject(audio.key, 4, audio.sha256, "audio/wav", Proof("read-back", "sha256", audio.sha256, None))
        ],
        audio=AudioSummary("wav", 1, 8000, 0, []),
        archived_at=format_instant(utc_now()),
        event_id=None,
        found_by="webhook",
    )
    archive.commit(folder, record)
    return layout.commit_key(folder), encode_record(record)


def seal(archive: Archive, day: date, *, with_rows: bool) -> Link:
    chain = Chain(archive)
    chain.refresh()
    with Manifest() as manifest, RowsFile() as rows:
        for folder in folders_of_day(archive, day, chain.of_day(day)):
            manifest.add(folder)
            if (row := row_of(folder)) is not None:
                rows.add(row)

        def put_rows(sequence: int) -> None:
            path = rows.finish(sequence)
            assert path is not None
            if with_rows:
                put_file(archive, layout.parquet_key(day, sequence), path)

        return append(archive, chain, day, manifest, format_instant(utc_now()), Making(put_rows))


def found(catalogue: Catalogue) -> dict[str, int | None]:
    return {hit.row.recording_id: hit.row.seal for hit in search(catalogue.path, Query(), EVERYTHING)}


async def test_entries_trimmed_from_the_change_feed_are_read_from_the_archive(
    archive: Archive, catalogue: Catalogue, async_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(written, "STREAM_LENGTH", 200)
    monkeypatch.setattr(feed, "STREAM_LENGTH", 200)
    await catch_up(catalogue, archive, async_redis)  # before the stream existed
    for name in ("first", "second"):
        key, data = put(archive, name, TODAY)
        await announce(async_redis, key, data, TODAY, 0)
        for n in range(1_000):
            await announce(async_redis, f"media/2026/01/01/{n}/x/media.json", b"{}", TODAY, 0)
        assert await async_redis.xlen("callvault:written") < 500
        await catch_up(catalogue, archive, async_redis)
        assert name in found(catalogue), "again, from an existing cursor"


async def test_a_stream_that_has_lost_nothing_costs_no_listing(
    archive: Archive, catalogue: Catalogue, async_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, data = put(archive, "one", TODAY)
    await announce(async_redis, key, data, TODAY, 0)
    await catch_up(catalogue, archive, async_redis)
    monkeypatch.setattr(feed, "read_archive", lambda *_, **__: pytest.fail("the archive was listed"))
    key, data = put(archive, "two", TODAY)
    await announce(async_redis, key, data, TODAY, 0)
    await catch_up(catalogue, archive, async_redis)
    assert found(catalogue) == {"one": None, "two": None}


async def test_a_seal_adds_what_the_change_feed_missed_of_its_day(
    archive: Archive, catalogue: Catalogue, async_redis: Any
) -> None:
    await catch_up(catalogue, archive, async_redis)
    long_ago = TODAY - timedelta(days=400)
    put(archive, "old", long_ago)
    link = seal(archive, long_ago, with_rows=False)
    await announce(async_redis, layout.seal_key(1), encode_record(link.seal), None, 0)
    await catch_up(catalogue, archive, async_redis)
    assert found(catalogue) == {"old": 1}


async def test_while_another_process_writes_into_the_catalogue_only_its_reader_waits(
    archive: Archive, catalogue: Catalogue, async_redis: Any
) -> None:
    await bring_up_to_date(catalogue, archive, async_redis)
    with closing(sqlite3.connect(catalogue.path, isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        following = asyncio.create_task(bring_up_to_date(catalogue, archive, async_redis))
        done, _ = await asyncio.wait([following], timeout=1)
        another.execute("ROLLBACK")  # reached too late if the event loop itself waits for SQLite
    assert not done, "it did not wait"
    await following


@pytest.mark.parametrize("with_rows", [(True, True, True), (False, True, False), (True, False, True), (False,) * 3])
def test_seals_with_and_without_rows_are_all_taken(
    with_rows: tuple[bool, ...], archive: Archive, catalogue: Catalogue
) -> None:
    for n, has_rows in enumerate(with_rows):
        day = TODAY - timedelta(days=100 + n)
        put(archive, f"recording-{n}", day)
        seal(archive, day, with_rows=has_rows)
    read_archive(catalogue, archive, everything=False)
    assert found(catalogue) == {"recording-0": 1, "recording-1": 2, "recording-2": 3}
    assert catalogue.seals() == {1, 2, 3}


def test_rows_that_no_column_can_hold_block_no_other(archive: Archive, catalogue: Catalogue, tmp_path: Path) -> None:
    days = [TODAY - timedelta(days=100 + n) for n in range(3)]
    for day in days:
        put(archive, f"recording-{day}", day)
        seal(archive, day, with_rows=False)
    rows = tmp_path / "archive" / layout.parquet_key(days[0], 1)
    rows.parent.mkdir(parents=True)
    rows.write_bytes(b"PAR1 and then nothing PAR1")
    key, data = put(archive, "huge", TODAY)
    with catalogue.writing():
        feed._apply(catalogue, key, data.replace(b'"size": 4', b'"size": %d' % 2**70))
        feed._apply(catalogue, *put(archive, "next", TODAY))
    read_archive(catalogue, archive, everything=False)
    assert found(catalogue).keys() >= {"next", *(f"recording-{day}" for day in days)}


def test_stray_objects_in_the_register_of_damage_are_ignored(archive: Archive, catalogue: Catalogue) -> None:
    key, _ = put(archive, "one", TODAY)
    record_damage(archive, key, "damaged", "other bytes", "verify", "2026-11-26T10:00:00Z")
    whole = Damage(key=key, number=2, state="whole", what="", found_by="x", at="")
    strays = {
        f"{layout.DAMAGE}notes.txt": b"seen",
        f"{layout.damage_folder(key)}notes.txt": b"seen",
        f"{layout.DAMAGE}a/b/c/00000001.json": b"{}",
        layout.damage_key("another", 1): encode_record(whole),
    }
    for name, data in strays.items():
        archive.put(name, data, "text/plain")
    for everything in (True, False):
        read_archive(catalogue, archive, everything=everything)
        (hit,) = search(catalogue.path, Query(), EVERYTHING)
        assert hit.state == "damaged"


def test_an_erased_recording_does_not_come_back(archive: Archive, catalogue: Catalogue) -> None:
    key, data = put(archive, "gone", TODAY)
    erased = b'{"schema":"callvault.erasure/1","recording_id":"gone","objects":[],"why":"x","by":"x","erased_at":"2026-01-01"}'
    content = b'{"schema":"callvault.transcription/1","transcription":{"transcription_text":"my secret"}}'
    folder = key.removesuffix("recording.json")
    with catalogue.writing():
        catalogue.apply(f"{folder}erased.json", erased)
        catalogue.apply(key, data)
        catalogue.apply(f"{folder}transcriptions/t.json", content)
    (hit,) = search(catalogue.path, Query(id="gone"), EVERYTHING)
    assert (hit.state, hit.row.from_number) == ("erased", None)
    assert search(catalogue.path, Query(text="secret"), EVERYTHING) == []


def test_a_table_holds_nothing_that_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    row = Row(recording_id="one", day="2026-11-25", from_number="+1\x1b[2J\r", to_number="\x07")
    write_table([Hit(row=row, state="archived", words="a \x02word\x03\x1b]0;x\x07 said\nhere")], None)
    out = capsys.readouterr().out
    assert {c for c in out if not c.isprintable()} == {"\n"}
    assert "a word ]0;x  said here" in out


def test_a_worker_without_pyarrow_says_that_it_writes_no_rows(environment: dict[str, str], tmp_path: Path) -> None:
    hiding = tmp_path / "hiding"
    hiding.mkdir()
    (hiding / "sitecustomize.py").write_text("import sys\nsys.modules['pyarrow'] = None\n")  # as if not installed
    says = "days are sealed without Parquet rows, because pyarrow is not installed"
    with callvault(["worker"], environment | {"PYTHONPATH": str(hiding)}, "worker ready") as worker:
        assert says in worker.output
    with callvault(["worker"], environment, "worker ready") as worker:
        assert says not in worker.output
