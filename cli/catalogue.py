"""The search catalogue as commands use it: opened, updated with progress, rebuilt if its file is corrupt."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import TypeVar

from archive.archive import Archive
from archive.stores.store import StoreError
from cli.console import now_and_then
from config.settings import Settings
from telnyx_api.account import Account
from text.counts import many
from text.errors import UserError
from text.times import format_moment
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.feed import AS_OF, OPEN_DAYS, bring_up_to_date
from workers.catalogue.lookup import day_at_telnyx, first_day, take_from_archive
from workers.catalogue.query import Query
from workers.catalogue.reach import EVERYTHING
from workers.catalogue.search import Hit, search
from workers.catalogue.search import ids_beginning as search_ids
from workers.opening import open_archive
from workers.queue.connect import connect_receiver
from workers.queue.embedded import EmbeddedServer, redis_of

T = TypeVar("T")


@contextmanager
def opened(settings: Settings, *, rebuild: bool = False) -> Iterator[tuple[Catalogue, Archive]]:
    """The catalogue and the archive of the settings; `rebuild` empties the catalogue first.

    Raises:
        StoreRefused, AnotherCatalogue: the archive does not exist, or the catalogue belongs to another.
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


def up_to_date(settings: Settings, catalogue: Catalogue, archive: Archive, *, says_how: bool = True) -> None:
    """Update the catalogue. If the archive does not answer, print how old the catalogue is and use it.

    Args:
        settings: of the process.
        catalogue: the catalogue.
        archive: the archive.
        says_how: print a line if the update read the archive, because no Redis knows all changes.

    Raises:
        StoreError: the archive does not answer, and the catalogue is empty.
    """
    is_time = now_and_then(at_once=True)

    def show(what: str, count: int) -> None:
        if is_time():
            _print(f"building the catalogue: {what}, {many(count, 'recording')} so far")

    try:
        why = _mended(catalogue, lambda: _catch_up(settings, catalogue, archive, show))
    except StoreError as error:
        if (as_of := catalogue.state(AS_OF)) is None:
            raise
        at = format_moment(as_of)
        _print(f"The archive does not answer; results are as of {at}, and newer recordings may be missing: {error}")
        return
    if why is not None and says_how:
        _print(f"Read the last {OPEN_DAYS} days and all sealed days from the archive, because {why}.")


def _print(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def look_up(settings: Settings, catalogue: Catalogue, archive: Archive, recording_id: str) -> Hit:
    """Find one recording: in the catalogue after an update, else in the archive.

    Raises:
        UserError: it is not in the archive.
        StoreError: as `up_to_date`.
    """
    up_to_date(settings, catalogue, archive, says_how=False)
    query = Query(id=recording_id)
    hits = searched(settings, catalogue, archive, query)
    if not hits and take(settings, catalogue, archive, recording_id):
        hits = searched(settings, catalogue, archive, query)
    if hits:
        return hits[0]
    since = first_day(catalogue, archive)
    raise UserError(
        f"recording {recording_id} is not in the archive (searched every day since {since}); check the ID, or search "
        "with `callvault find`"
    )


def take(settings: Settings, catalogue: Catalogue, archive: Archive, recording_id: str) -> bool:
    """Look for a recording in the archive, first under the day that Telnyx has for it; returns whether it was found.

    Raises:
        StoreError: the archive does not answer.
    """

    async def ask() -> date | None:
        from telnyx_api.client import TelnyxClient  # most searches need no client

        async with TelnyxClient(Account.from_settings(settings)) as telnyx:
            return await day_at_telnyx(telnyx, recording_id)

    near = None if settings.telnyx_api_key is None else asyncio.run(ask())
    return take_from_archive(catalogue, archive, recording_id, near)


def _catch_up(
    settings: Settings, catalogue: Catalogue, archive: Archive, show: Callable[[str, int], None]
) -> str | None:
    async def run(url: str | None) -> str | None:
        if url is None:
            return await bring_up_to_date(catalogue, archive, None, show)
        redis = connect_receiver(url)  # gives up within seconds, since a person waits
        try:
            return await bring_up_to_date(catalogue, archive, redis, show)
        finally:
            await redis.aclose()

    if settings.redis_url is None and not EmbeddedServer(settings.data_folder).folder.is_dir():
        return asyncio.run(run(None))  # a search starts no Redis: an empty one knows nothing
    with redis_of(settings) as url:
        return asyncio.run(run(url))


def _mended(catalogue: Catalogue, work: Callable[[], T]) -> T:
    """Do something; if the catalogue's file is corrupt, do it once more with a new file."""
    try:
        return work()
    except sqlite3.DatabaseError as error:
        catalogue.start_anew(error)
        return work()


def searched(settings: Settings, catalogue: Catalogue, archive: Archive, query: Query) -> list[Hit]:
    """The latest matching recording, as a list of at most one. Rebuilds a corrupt catalogue first.

    Raises:
        StoreError: the catalogue must be rebuilt, and the archive does not answer.
    """
    return _read(settings, catalogue, archive, lambda: search(catalogue.path, query, EVERYTHING, 1))


def ids_beginning(settings: Settings, catalogue: Catalogue, archive: Archive, beginning: str, most: int) -> list[str]:
    """The IDs of recordings that begin with a text, sorted; in lower case if none does otherwise.

    Raises:
        StoreError: as `searched`.
    """

    def read() -> list[str]:
        path = catalogue.path
        return search_ids(path, beginning, most) or search_ids(path, beginning.lower(), most)

    return _read(settings, catalogue, archive, read)


def _read(settings: Settings, catalogue: Catalogue, archive: Archive, read: Callable[[], T]) -> T:
    try:
        return read()
    except sqlite3.DatabaseError as error:
        catalogue.start_anew(error)
        up_to_date(settings, catalogue, archive)
        return read()
