"""How the catalogue is fed: within seconds by the stream of what workers write, and made good from the archive.

A catalogue remembers how far it has read the stream. Where the stream no longer reaches back so far, or Redis was lost
and the stream with it, what is missing is read from the archive: sealed days from their Parquet file, others by listing
them and reading only what is not known yet.
"""

from __future__ import annotations

import asyncio
import io
import itertools
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import date, timedelta

import msgspec
from redis.exceptions import RedisError

from config.logs import get_logger
from config.times import utc_now
from workers.archive import layout
from workers.archive.ahead import ahead
from workers.archive.archive import Archive
from workers.archive.records import Seal, UnreadableRecord
from workers.archive.seals import present_seals, read_link, read_manifest
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.parquet import has_parquet, read_rows
from workers.keys import WRITTEN, WRITTEN_EPOCH
from workers.queue.binding import assert_bound
from workers.queue.script import AsyncRedis
from workers.queue.written import STREAM_LENGTH

log = get_logger()

_BATCH = 500
_OPEN_DAYS = 31

Show = Callable[[str, int], None]  # what is being read, and how many recordings are known


def _quiet(what: str, count: int) -> None:
    pass


async def catch_up(catalogue: Catalogue, archive: Archive, redis: AsyncRedis, show: Show = _quiet) -> None:
    """Take all that workers have written since.

    Raises:
        StoreError: the archive had to be read, and cannot be now.
        AnotherArchive: this Redis belongs to another archive.
        redis.exceptions.RedisError: Redis is away.
    """
    await assert_bound(redis, catalogue.archive_id or archive.identity.id)
    epoch = (await redis.get(WRITTEN_EPOCH) or b"").decode()
    cursor = catalogue.state("cursor")
    if cursor is None or catalogue.state("epoch") != epoch or await _is_trimmed_past(redis, cursor):
        last = await redis.xrevrange(WRITTEN, count=1)
        await asyncio.to_thread(read_archive, catalogue, archive, everything=cursor is None, show=show)
        cursor = last[0][0].decode() if last else "0-0"
        with catalogue.writing():
            catalogue.remember("cursor", cursor)
            catalogue.remember("epoch", epoch)
    while entries := await redis.xrange(WRITTEN, min=f"({cursor}", count=_BATCH):
        cursor = entries[-1][0].decode()
        pairs = [(fields[b"key"].decode(), fields.get(b"data")) for _, fields in entries]
        await asyncio.to_thread(_take, catalogue, archive, pairs, cursor)


async def bring_up_to_date(catalogue: Catalogue, archive: Archive, redis: AsyncRedis, show: Show = _quiet) -> None:
    """Take all that workers have written since; with Redis away, from the archive alone.

    Raises:
        StoreError: the archive had to be read, and cannot be now.
        AnotherCatalogue, AnotherArchive: the catalogue or this Redis belongs to another archive.
    """
    await asyncio.to_thread(assert_same_archive, catalogue, archive)
    try:
        await catch_up(catalogue, archive, redis, show)
    except (RedisError, OSError):
        everything = catalogue.state("cursor") is None
        await asyncio.to_thread(read_archive, catalogue, archive, everything=everything, show=show)


def assert_same_archive(catalogue: Catalogue, archive: Archive) -> None:
    """See that a catalogue is of this archive; an empty one is from here on. Where the store is away, what it has is shown.

    Raises:
        AnotherCatalogue: it is of another.
        StoreError: the store is away, and the catalogue is of none yet.
    """
    if archive.is_known or catalogue.archive_id is None:
        catalogue.belong_to(archive.identity.id)


async def _is_trimmed_past(redis: AsyncRedis, cursor: str) -> bool:
    """Whether entries behind the cursor may have been pushed out; a stream that was trimmed keeps its full length."""
    first = await redis.xrange(WRITTEN, count=1)
    is_behind = bool(first) and _order(first[0][0].decode()) > _order(cursor)
    return is_behind and int(await redis.xlen(WRITTEN)) >= STREAM_LENGTH


def _order(entry: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence or 0)


def _take(catalogue: Catalogue, archive: Archive, pairs: list[tuple[str, bytes | None]], cursor: str) -> None:
    """Take a batch and remember how far it is, in one transaction; then the seals that it tells of."""
    read = [(key, archive.read_small(key) or b"" if data is None else data) for key, data in pairs]
    with catalogue.writing():
        for key, data in read:
            _apply(catalogue, key, data)
        catalogue.remember("cursor", cursor)
    if any(layout.seal_of(key) is not None for key, _ in pairs):
        _take_seals(catalogue, archive, _quiet)


def read_archive(catalogue: Catalogue, archive: Archive, *, everything: bool, show: Show = _quiet) -> None:
    """Make the catalogue good from the archive; blocks.

    Args:
        catalogue: the catalogue.
        archive: the archive.
        everything: list all of it; else only the open days, and the days that got a seal since.
        show: told how far it is.

    Raises:
        StoreError: the archive cannot be read now; what was taken stays, and another run goes on from there.
    """
    today = utc_now().date()
    prefixes = [layout.day_prefix(today - timedelta(days=n)) for n in range(_OPEN_DAYS, -2, -1)]
    with catalogue.filling() if everything else nullcontext():
        _take_seals(catalogue, archive, show)
        for prefix in [layout.DAMAGE, *(["recordings/"] if everything else prefixes)]:
            _take_unknown(catalogue, archive, (stored.key for stored in archive.store.list(prefix)), show)


def _take_seals(catalogue: Catalogue, archive: Archive, show: Show) -> None:
    """Take the seals that are not in here yet, and all that they list: by their Parquet files, else object by object."""
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
        rows = read_rows(io.BytesIO(b"".join(archive.store.read(key))), seal.day)
        with catalogue.writing():
            catalogue.put_rows(rows)
    _take_unknown(catalogue, archive, (key for _, key in read_manifest(archive, seal.sequence)), show)
    with catalogue.writing():
        catalogue.put_seal(seal.sequence, seal.day, (key for _, key in read_manifest(archive, seal.sequence)))
    show(f"sealed day {seal.day}", catalogue.count())


def _take_unknown(catalogue: Catalogue, archive: Archive, keys: Iterator[str], show: Show) -> None:
    """Read and take the objects that are not in here yet; one that is gone meanwhile says nothing."""
    unknown = (key for key in keys if not catalogue.knows(key))
    pairs = ahead(unknown, lambda key: (key, archive.read_small(key)))
    while batch := list(itertools.islice(pairs, _BATCH)):
        with catalogue.writing():
            for key, data in batch:
                if data is not None:
                    _apply(catalogue, key, data)
        show("recordings", catalogue.count())


def _apply(catalogue: Catalogue, key: str, data: bytes) -> None:
    """Take one object; one that cannot be read keeps no other out."""
    try:
        catalogue.apply(key, data)
    except UnreadableRecord as error:
        log.warning("an object cannot be read; run `callvault verify`", error=str(error))
