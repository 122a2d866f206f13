"""Updates the catalogue: within seconds from the change feed, and otherwise from the archive.

A catalogue remembers its position in the feed. If the feed no longer reaches back that far, or Redis lost it, the
catalogue reads what is missing from the archive: sealed days from their Parquet file, other days by listing them and
reading the unknown objects.

A machine may have no Redis, or one that only some workers of this archive write to, or none. Then no feed is complete:
the catalogue reads the latest days from the archive, and the answer reports that.

Every call of the catalogue runs in a thread: another process may be writing to the file, and SQLite waits for it.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import date, timedelta
from typing import NamedTuple

import msgspec
from redis.exceptions import RedisError

from archive import kinds, layout
from archive.ahead import ahead
from archive.archive import Archive
from archive.cases import read_cases
from archive.decision_records import Duties
from archive.decisions import held_connections
from archive.readers import DUTIES
from archive.records import Seal, UnreadableRecord
from archive.seals import present_seals, read_link, read_manifest
from process.logs import get_logger
from text.times import format_instant, utc_now
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.parquet import has_parquet, read_rows
from workers.catalogue.undone import as_done, remember_undone, undone
from workers.keys import LIVE_DUTIES, WRITTEN, WRITTEN_EPOCH
from workers.queue.binding import assert_bound
from workers.queue.change_feed import STREAM_LENGTH
from workers.queue.script import AsyncRedis, server_seconds, start_of

log = get_logger()

_BATCH = 500
OPEN_DAYS = 31  # days that are read from the archive if the change feed is incomplete
AS_OF = "as of"  # the name in `state` of the instant of the last update
_LIVE_SECONDS = 60  # a worker sends its heartbeat every three seconds
_FILLED = "filled"  # the name in `state` of the mark that the whole archive has been read once

Show = Callable[[str, int], None]  # receives what is being read, and how many recordings are known


def _quiet(what: str, count: int) -> None:
    pass


async def catch_up(catalogue: Catalogue, archive: Archive, redis: AsyncRedis, show: Show = _quiet) -> None:
    """Import all of the change feed of a Redis; what the feed has lost, or may have lost, comes from the archive.

    Raises:
        StoreError: the archive had to be read, and cannot be now.
        AnotherArchive: this Redis belongs to another archive.
        redis.exceptions.RedisError: Redis is away.
    """
    await assert_bound(redis, await asyncio.to_thread(_archive_of, catalogue, archive))
    epoch = f"{(await redis.get(WRITTEN_EPOCH) or b'').decode()} {await start_of(redis)}"
    cursor, read_epoch = await asyncio.to_thread(lambda: (catalogue.state("cursor"), catalogue.state("epoch")))
    if cursor is None or read_epoch != epoch or await _is_trimmed_past(redis, cursor):
        last = await redis.xrevrange(WRITTEN, count=1)
        await asyncio.to_thread(_read_what_is_missing, catalogue, archive, show)
        cursor = last[0][0].decode() if last else "0-0"
        await asyncio.to_thread(_remember, catalogue, {"cursor": cursor, "epoch": epoch})
    while entries := await redis.xrange(WRITTEN, min=f"({cursor}", count=_BATCH):
        cursor = entries[-1][0].decode()
        pairs = [(fields[b"key"].decode(), fields.get(b"data")) for _, fields in entries]
        await asyncio.to_thread(_take, catalogue, archive, pairs, cursor)


async def bring_up_to_date(
    catalogue: Catalogue, archive: Archive, redis: AsyncRedis | None, show: Show = _quiet
) -> str | None:
    """Import all that workers have written since: from the change feed, and from the archive if the feed is incomplete.

    Args:
        catalogue: the catalogue.
        archive: the archive.
        redis: where workers publish their writes; None: this machine has no Redis.
        show: receives the progress.

    Returns:
        Why this machine's change feed is incomplete, so that the latest days were read from the archive; None: it is
        complete.

    Raises:
        StoreError: the archive had to be read, and cannot be now.
        AnotherCatalogue, AnotherArchive: the catalogue or this Redis belongs to another archive.
    """
    await asyncio.to_thread(assert_same_archive, catalogue, archive)
    began = format_instant(utc_now())
    why: str | None = "this machine has no Redis (REDIS_URL is not set)"
    if redis is not None:
        try:
            await catch_up(catalogue, archive, redis, show)
            why = None if await _has_worker(redis) else "no worker uses the Redis of this machine"
        except (RedisError, OSError):
            why = "Redis does not answer"
    # Each unit publishes its duties in the archive, which shows whether there is a second one.
    units = await asyncio.to_thread(_statements, archive)
    if why is None and len(units) > 1:
        why = f"workers of {len(units)} Redis servers write into this archive"
    if why is not None:
        await asyncio.to_thread(_read_what_is_missing, catalogue, archive, show)
    await asyncio.to_thread(_take_holds, catalogue, archive, units)
    await asyncio.to_thread(_look_again, catalogue, archive)
    await asyncio.to_thread(_remember, catalogue, {AS_OF: began})
    return why


def _archive_of(catalogue: Catalogue, archive: Archive) -> str:
    return catalogue.archive_id or archive.identity.id


def _remember(catalogue: Catalogue, values: Mapping[str, str]) -> None:
    with catalogue.writing():
        for name, value in values.items():
            catalogue.remember(name, value)


def _take_holds(catalogue: Catalogue, archive: Archive, units: Sequence[Duties | None]) -> None:
    """Import the cases, and which connections are on hold; the change feed has none of them."""
    catalogue.put_cases(read_cases(archive))
    catalogue.hold_connections(_all_held(archive, units))


def _all_held(archive: Archive, units: Sequence[Duties | None]) -> set[str]:
    by_setting = (one for duties in units if duties is not None for one in duties.hold_connections)
    return {*held_connections(archive), *by_setting}


def all_held_connections(archive: Archive) -> set[str]:
    """The connections that are on hold, by decision or by a worker's setting; blocks.

    Raises:
        StoreError: the archive cannot be asked now.
    """
    return _all_held(archive, _statements(archive))


async def _has_worker(redis: AsyncRedis) -> bool:
    """Whether a worker is alive that publishes its writes in this Redis."""
    now, rows = await server_seconds(redis), await redis.hvals(LIVE_DUTIES)
    return any(now - _heartbeat_at(row) < _LIVE_SECONDS for row in rows)


def _heartbeat_at(row: bytes) -> float:
    """When a worker sent its heartbeat, in seconds since the epoch; 0.0 if that cannot be read."""
    try:
        return msgspec.json.decode(row, type=tuple[float, msgspec.Raw])[0]
    except msgspec.MsgspecError:
        return 0.0


def _statements(archive: Archive) -> list[Duties | None]:
    """The published duties of each unit that serves an archive; None: unreadable, so the unit may serve it."""
    last = kinds.last_of_each(kinds.DUTIES, archive.keys_of(layout.DUTIES))

    def read(key: str) -> Duties | None:
        try:
            return DUTIES.read(archive.read_once(key), key)
        except UnreadableRecord:
            return None

    return [one for one in map(read, last.values()) if one is None or not one.retired]


def assert_same_archive(catalogue: Catalogue, archive: Archive) -> None:
    """Check that a catalogue belongs to this archive; bind an empty one. While the store is away, its data is shown.

    Raises:
        AnotherCatalogue: it belongs to another.
        StoreError: the store is away, and the catalogue belongs to none yet.
    """
    if archive.is_known or catalogue.archive_id is None:
        catalogue.belong_to(archive.identity.id)


async def _is_trimmed_past(redis: AsyncRedis, cursor: str) -> bool:
    """Whether entries after the cursor may have been trimmed; a trimmed stream keeps its full length."""
    first = await redis.xrange(WRITTEN, count=1)
    is_behind = bool(first) and _order(first[0][0].decode()) > _order(cursor)
    return is_behind and int(await redis.xlen(WRITTEN)) >= STREAM_LENGTH


def _order(entry: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence or 0)


def _take(catalogue: Catalogue, archive: Archive, pairs: list[tuple[str, bytes | None]], cursor: str) -> None:
    """Import a batch and store the position, in one transaction; then import the seals that the batch names."""
    read = _read_each(archive, pairs)
    with catalogue.writing():
        _apply_each(catalogue, read)
        catalogue.remember("cursor", cursor)
    if any(layout.seal_of(key) is not None for key, _ in pairs):
        _take_seals(catalogue, archive, _quiet)


def _read_what_is_missing(catalogue: Catalogue, archive: Archive, show: Show) -> None:
    read_archive(catalogue, archive, everything=catalogue.state(_FILLED) is None, show=show)


def read_archive(catalogue: Catalogue, archive: Archive, *, everything: bool, show: Show = _quiet) -> None:
    """Update the catalogue from the archive; blocks.

    Args:
        catalogue: the catalogue.
        archive: the archive.
        everything: list the whole archive; else only the open days, and the days sealed since.
        show: receives the progress.

    Raises:
        StoreError: the archive cannot be read now; what was imported stays, and the next run continues there.
    """
    today = utc_now().date()
    prefixes = [layout.day_prefix(today - timedelta(days=n)) for n in range(OPEN_DAYS, -2, -1)]
    with catalogue.filling() if everything else nullcontext():
        _take_seals(catalogue, archive, show)
        for prefix in [layout.DAMAGE, *(["recordings/"] if everything else prefixes)]:
            _take_unknown(catalogue, archive, (stored.key for stored in archive.store.list(prefix)), show)
    if everything:
        with catalogue.writing():
            catalogue.remember(_FILLED, "yes")


def _take_seals(catalogue: Catalogue, archive: Archive, show: Show) -> None:
    """Import the unknown seals and all that they list: from their Parquet files, else object by object."""
    known = catalogue.seals()
    for sequence, names in present_seals(archive).items():
        if "json" not in names or sequence in known:
            continue
        key = layout.seal_key(sequence)
        try:
            _take_seal(catalogue, archive, read_link(archive.read_small(key) or b"", key).seal, show)
        except UnreadableRecord as error:
            log.warning("a seal cannot be read; run `callvault verify --seals`", error=str(error))


def _take_seal(catalogue: Catalogue, archive: Archive, seal: Seal, show: Show) -> None:
    if seal.void is not msgspec.UNSET:  # what its manifest lists, another seal lists
        with catalogue.writing():
            catalogue.put_seal(seal.sequence, seal.day, ())
        return
    key = layout.parquet_key(date.fromisoformat(seal.day), seal.sequence)
    if has_parquet() and archive.store.stat(key) is not None:
        _take_rows(catalogue, key, b"".join(archive.store.read(key)), seal.day)
    committed: list[str] = []

    def listed() -> Iterator[str]:
        for _, key in read_manifest(archive, seal.sequence):
            if kinds.kind_of(key) is kinds.COMMIT:
                committed.append(key)
            yield key

    _take_unknown(catalogue, archive, listed(), show)
    with catalogue.writing():
        catalogue.put_seal(seal.sequence, seal.day, committed)
    show(f"sealed day {seal.day}", catalogue.count())


def _take_rows(catalogue: Catalogue, key: str, data: bytes, day: str) -> None:
    """Import the rows of a seal; if their file cannot be read, object by object."""
    try:
        with catalogue.writing():
            catalogue.put_rows(read_rows(io.BytesIO(data), day))
    except sqlite3.DatabaseError:
        raise
    except Exception as error:  # pyarrow, or a row of another shape, may raise anything
        log.warning("the Parquet rows of a seal cannot be read", key=key, error=f"{type(error).__name__}: {error}")


def _take_unknown(catalogue: Catalogue, archive: Archive, keys: Iterator[str], show: Show) -> None:
    """Read and import the unknown objects; one that is gone by then is skipped."""
    unknown = (key for key in keys if not catalogue.knows(key))
    objects = ahead(unknown, lambda key: _read(archive, key))
    while batch := list(itertools.islice(objects, _BATCH)):
        with catalogue.writing():
            _apply_each(catalogue, batch)
        show("unsealed days", catalogue.count())


def _look_again(catalogue: Catalogue, archive: Archive) -> None:
    """Import what has gone since of records whose disposal was not done."""
    if keys := undone(catalogue):
        read = list(ahead(keys, lambda key: _read(archive, key)))
        with catalogue.writing():
            _apply_each(catalogue, read)


def take_folder(catalogue: Catalogue, archive: Archive, folder: str) -> None:
    """Import the folder of one recording; blocks.

    Raises:
        StoreError: the archive cannot be read now.
    """
    _take_unknown(catalogue, archive, iter(archive.keys_of(folder)), _quiet)


class _Object(NamedTuple):
    """An object to import, without what it says of objects that are still there.

    Attributes:
        key: its key.
        data: its bytes; None if there is nothing to import.
        is_undone: of the record of a disposal, whether something of it is not done; None of any other object.
    """

    key: str
    data: bytes | None
    is_undone: bool | None = None


def _read_each(archive: Archive, pairs: Sequence[tuple[str, bytes | None]]) -> list[_Object]:
    """Make ready what the change feed tells; only of a few must the archive be asked."""
    asks = [data is None or kinds.kind_of(key) in kinds.REMOVALS for key, data in pairs]
    asked = ahead(itertools.compress(pairs, asks), lambda pair: _read(archive, *pair))
    return [next(asked) if is_asked else _Object(*pair) for pair, is_asked in zip(pairs, asks, strict=True)]


def _read(archive: Archive, key: str, data: bytes | None = None) -> _Object:
    """Read an object, unless its bytes are known; blocks. One that is gone by then has nothing to import."""
    data = archive.read_small(key) if data is None else data
    return _Object(key, None, False) if data is None else _Object(key, *as_done(archive, key, data))


def _apply_each(catalogue: Catalogue, objects: Sequence[_Object]) -> None:
    """Import some objects, within a transaction."""
    for one in objects:
        if one.data is not None:
            _apply(catalogue, one.key, one.data)
    remember_undone(catalogue, {one.key: one.is_undone for one in objects if one.is_undone is not None})


def _apply(catalogue: Catalogue, key: str, data: bytes) -> None:
    """Import one object; an unreadable one does not block the others."""
    try:
        catalogue.apply(key, data)
    except (UnreadableRecord, OverflowError) as error:  # the second: a number too large for the table
        log.warning("an object cannot be read; run `callvault verify`", key=key, error=str(error))
