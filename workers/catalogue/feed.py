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
from datetime import date, timedelta

from config.logs import get_logger
from config.times import utc_now
from workers.archive import layout
from workers.archive.ahead import ahead
from workers.archive.archive import Archive
from workers.archive.records import UnreadableRecord
from workers.archive.seals import read_link, read_manifest
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.parquet import has_parquet, read_rows
from workers.keys import WRITTEN, WRITTEN_EPOCH
from workers.queue.script import AsyncRedis

log = get_logger()

_BATCH = 500
_OPEN_DAYS = 31

Show = Callable[[str, int], None]  # what is being read, and how many recordings are known


def _quiet(what: str, count: int) -> None:
    pass


async def catch_up(catalogue: Catalogue, archive: Archive, redis: AsyncRedis, show: Show = _quiet) -> int:
    """Take all that workers have written since; returns how many objects.

    Raises:
        StoreError: the archive had to be read, and cannot be now.
        redis.exceptions.RedisError: Redis is away.
    """
    epoch = await redis.get(WRITTEN_EPOCH)
    epoch = None if epoch is None else epoch.decode()
    cursor = catalogue.state("cursor")
    first = await redis.xrange(WRITTEN, count=1)
    is_whole = cursor is not None and catalogue.state("epoch") == (epoch or "")
    if cursor is None or not is_whole or (first and _order(first[0][0].decode()) > _order(cursor) and cursor != "0-0"):
        last = await redis.xrevrange(WRITTEN, count=1)
        await asyncio.to_thread(read_archive, catalogue, archive, everything=cursor is None, show=show)
        cursor = last[0][0].decode() if last else "0-0"
        with catalogue.writing():
            catalogue.remember("cursor", cursor)
            catalogue.remember("epoch", epoch or "")
    taken = 0
    while entries := await redis.xrange(WRITTEN, min=f"({cursor}", count=_BATCH):
        cursor = entries[-1][0].decode()
        pairs = [(fields[b"key"].decode(), fields.get(b"data")) for _, fields in entries]
        await asyncio.to_thread(_take, catalogue, archive, pairs, cursor)
        taken += len(entries)
    return taken


def _order(entry: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence or 0)


def _take(catalogue: Catalogue, archive: Archive, pairs: list[tuple[str, bytes | None]], cursor: str) -> None:
    """Take a batch and remember how far it is, in one transaction."""
    seals = [place[0] for key, _ in pairs if (place := layout.seal_of(key)) is not None]
    read = [(key, archive.read_small(key) or b"" if data is None else data) for key, data in pairs]
    with catalogue.writing():
        for key, data in read:
            _apply(catalogue, key, data)
        for sequence in seals:
            _apply_seal(catalogue, archive, sequence)
        catalogue.remember("cursor", cursor)


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
    if everything:
        with catalogue.filling():
            _read(catalogue, archive, _load_seals(catalogue, archive, show), everything, show)
    else:
        _read(catalogue, archive, _load_seals(catalogue, archive, show), everything, show)


def _read(catalogue: Catalogue, archive: Archive, loaded: set[date], everything: bool, show: Show) -> None:
    """List what is not loaded from Parquet files, and read what is not known."""
    today = utc_now().date()
    if everything:
        listed = archive.store.list("recordings/")
    else:
        days = {today - timedelta(days=n) for n in range(-1, _OPEN_DAYS)} | loaded
        prefixes = [layout.day_prefix(day) for day in sorted(days)]
        listed = itertools.chain.from_iterable(archive.store.list(prefix) for prefix in prefixes)
    unknown = (stored.key for stored in listed if not catalogue.knows(stored.key))
    pairs = ahead(unknown, lambda key: (key, archive.read_small(key) or b""))
    while batch := list(itertools.islice(pairs, _BATCH)):
        with catalogue.writing():
            for key, data in batch:
                _apply(catalogue, key, data)
        show("recordings", catalogue.count())
    for sequence in _unknown_seals(catalogue, archive):
        with catalogue.writing():
            _apply_seal(catalogue, archive, sequence)


def _load_seals(catalogue: Catalogue, archive: Archive, show: Show) -> set[date]:
    """Take the rows of the seals that are not known yet; returns the days of those that have no Parquet file."""
    without: set[date] = set()
    for sequence in _unknown_seals(catalogue, archive):
        link = _seal(archive, sequence)
        if link is None:
            continue
        day = date.fromisoformat(link)
        key = layout.parquet_key(day, sequence)
        data = b"".join(archive.store.read(key)) if has_parquet() and archive.store.stat(key) is not None else None
        if data is None:
            without.add(day)
            continue
        with catalogue.writing():
            catalogue.put_rows(read_rows(io.BytesIO(data), link))
            _apply_seal(catalogue, archive, sequence)
        show(f"sealed day {link}", catalogue.count())
    return without


def _unknown_seals(catalogue: Catalogue, archive: Archive) -> Iterator[int]:
    last = catalogue.last_seal()
    for stored in archive.store.list("seals/"):
        place = layout.seal_of(stored.key)
        if place is not None and place[1] == "json" and place[0] > last:
            yield place[0]


def _seal(archive: Archive, sequence: int) -> str | None:
    key = layout.seal_key(sequence)
    try:
        return read_link(archive.read_small(key) or b"", key).seal.day
    except UnreadableRecord as error:
        log.warning("a seal cannot be read; run `callvault verify --seals`", error=str(error))
        return None


def _apply_seal(catalogue: Catalogue, archive: Archive, sequence: int) -> None:
    day = _seal(archive, sequence)
    if day is None:
        return
    try:
        catalogue.put_seal(sequence, day, (key for _, key in read_manifest(archive, sequence)))
    except UnreadableRecord as error:
        log.warning("a manifest cannot be read; run `callvault verify --seals`", error=str(error))


def _apply(catalogue: Catalogue, key: str, data: bytes) -> None:
    """Take one object; one that cannot be read keeps no other out."""
    try:
        catalogue.apply(key, data)
    except UnreadableRecord as error:
        log.warning("an object cannot be read; run `callvault verify`", error=str(error))
