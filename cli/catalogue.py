"""The catalogue as commands use it: opened, brought up to date with progress, and built anew where it cannot be used."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from cli.console import open_console
from config.errors import UserError
from config.settings import Settings
from workers.archive.archive import Archive
from workers.archive.stores.store import StoreError
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.feed import bring_up_to_date
from workers.catalogue.query import Query
from workers.catalogue.search import Hit, search
from workers.queue.connect import connect_receiver
from workers.queue.embedded import redis_of
from workers.runtime import open_archive

_SAY_EVERY_SECONDS = 2

T = TypeVar("T")


@contextmanager
def opened(settings: Settings, *, rebuild: bool = False) -> Iterator[tuple[Catalogue, Archive]]:
    """The catalogue and the archive of the settings; with `rebuild`, an empty one in place of what is there.

    Raises:
        StoreRefused, AnotherCatalogue: there is no archive, or the catalogue is of another.
    """
    archive = open_archive(settings)
    catalogue = Catalogue(settings.data_folder / "catalogue.sqlite")
    try:
        if rebuild:
            catalogue.empty()
        if archive.is_known:
            _mended(catalogue, lambda: catalogue.belong_to(archive.identity.id))
        yield catalogue, archive
    finally:
        catalogue.close()


def up_to_date(settings: Settings, catalogue: Catalogue, archive: Archive) -> None:
    """Bring it up to date. Where Redis or the archive is away, say that the latest may be missing, and go on with what is.

    Raises:
        StoreError: the archive is away, and the catalogue has nothing yet.
    """
    console = open_console(stderr=True)
    said = [0.0]

    def show(what: str, count: int) -> None:
        if time.monotonic() - said[0] > _SAY_EVERY_SECONDS:
            said[0] = time.monotonic()
            console.print(f"building the catalogue: {what}, {count} recordings so far")

    try:
        _mended(catalogue, lambda: _catch_up(settings, catalogue, archive, show))
    except StoreError as error:
        if catalogue.state("cursor") is None:
            raise
        console.print(f"The archive does not answer, so the latest may be missing: {error}")


def look_up(settings: Settings, catalogue: Catalogue, archive: Archive, recording_id: str) -> Hit:
    """One recording, in a catalogue that is brought up to date first.

    Raises:
        UserError: it is not in the archive.
        StoreError: as `up_to_date`.
    """
    up_to_date(settings, catalogue, archive)
    if hits := search(catalogue.path, Query(id=recording_id), 1):
        return hits[0]
    raise UserError(f"recording {recording_id} is not in the archive; `callvault find` searches it")


def _catch_up(settings: Settings, catalogue: Catalogue, archive: Archive, show: Callable[[str, int], None]) -> None:
    async def run(url: str) -> None:
        redis = connect_receiver(url)  # a person waits: seconds, not the patience of a worker
        try:
            await bring_up_to_date(catalogue, archive, redis, show)
        finally:
            await redis.aclose()

    with redis_of(settings) as url:
        asyncio.run(run(url))


def _mended(catalogue: Catalogue, work: Callable[[], T]) -> T:
    """Do something; should the file turn out corrupt, once more on a new one."""
    try:
        return work()
    except sqlite3.DatabaseError as error:
        catalogue.start_anew(error)
        return work()


def searched(catalogue: Catalogue, work: Callable[[], T], refill: Callable[[], None]) -> T:
    """Search; should the file turn out corrupt, it is built anew and searched again."""
    try:
        return work()
    except sqlite3.DatabaseError as error:
        catalogue.start_anew(error)
        refill()
        return work()
