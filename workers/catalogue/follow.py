"""A catalogue that a running service keeps up to date while somebody uses it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TypeVar

from archive.archive import Archive
from archive.stores.store import StoreError
from process.logs import get_logger
from process.tasks import end_tasks
from text.one_line import one_line
from text.times import parse_instant
from workers.catalogue.catalogue import Catalogue
from workers.catalogue.feed import AS_OF, OPEN_DAYS, bring_up_to_date
from workers.catalogue.file import CatalogueBusy
from workers.catalogue.lookup import take_from_archive
from workers.queue.binding import AnotherArchive
from workers.queue.script import AsyncRedis

_FRESH_SECONDS = 2
_MOST_REST_SECONDS = 600
_REST = 10  # after a read of the archive, the next one waits ten times as long as that took
_PATIENCE_SECONDS = 3

T = TypeVar("T")

log = get_logger()


class FollowedCatalogue:
    """One catalogue file; opened and filled on its first use.

    Args:
        path: of the file.
        archive: its source.
        redis: where workers publish their writes.
    """

    def __init__(self, path: Path, archive: Archive, redis: AsyncRedis) -> None:
        self.path, self._archive, self._redis = path, archive, redis
        self._opening = asyncio.Lock()
        self._catalogue: Catalogue | None = None
        self._following: asyncio.Task[None] | None = None
        self._next_at = float("-inf")
        self._is_expired = False
        self._why: str | None = None
        self.problem: str | None = None

    async def ask(self, search: Callable[[Path], T]) -> T:
        """Search the file in a thread, after an update if that takes no longer than three seconds.

        Raises:
            CatalogueBusy: it cannot be read now.
            AnotherCatalogue: it belongs to another archive.
            whatever else the search raises, except for a corrupt file, which is rebuilt.
        """
        catalogue = await self._opened()
        until = time.monotonic() + _PATIENCE_SECONDS
        if self._is_expired:  # an update that runs may have begun before the change
            await self._updated(until)
        if self._following is None and (self._is_expired or time.monotonic() > self._next_at):
            self._is_expired = False
            self._following = asyncio.create_task(self._follow(catalogue))
        await self._updated(until)
        try:
            return await asyncio.to_thread(search, self.path)
        except sqlite3.DatabaseError as error:
            await asyncio.to_thread(catalogue.start_anew, error)
            self._next_at = float("-inf")
            return await asyncio.to_thread(search, self.path)

    async def _updated(self, until: float) -> None:
        """Wait for the update that runs, if one does, at most until an instant of `time.monotonic()`."""
        if self._following is not None:
            await asyncio.wait([self._following], timeout=max(0.0, until - time.monotonic()))

    def expire(self) -> None:
        """Have the next search update the file first, however young it is: something has just changed."""
        self._is_expired = True

    async def incomplete(self) -> str | None:
        """Why searches may miss recordings now; None: they miss none that was archived before the last update."""
        as_of = None if self._catalogue is None else await asyncio.to_thread(self._catalogue.state, AS_OF)
        is_whole = self._following is None and self.problem is None and as_of is not None
        return None if is_whole else await self.note() or "The catalogue is not complete yet."

    async def take_from_archive(self, recording_id: str, near: date | None) -> bool:
        """Look for one recording in the archive itself, as `lookup.take_from_archive` does.

        Raises:
            StoreError: the archive cannot be asked now.
            CatalogueBusy, AnotherCatalogue: as `ask`.
        """
        return await asyncio.to_thread(take_from_archive, await self._opened(), self._archive, recording_id, near)

    async def _opened(self) -> Catalogue:
        async with self._opening:
            if self._catalogue is None:
                self._catalogue = await asyncio.to_thread(Catalogue, self.path)
        if self._archive.is_known:
            await asyncio.to_thread(self._catalogue.belong_to, self._archive.identity.id)
        return self._catalogue

    async def note(self) -> str | None:
        """A warning that answers may be incomplete, and how old they are; None: they are current."""
        if self._following is not None:
            return "The catalogue is still being built from the archive, so results may be missing; reload in a moment."
        why = self.problem
        if why is None and self._why is not None:
            days = f"The last {OPEN_DAYS} days and all sealed days"
            why = f"{days} were read from the archive itself, because {self._why}."
        if why is None:
            return None
        as_of = None if self._catalogue is None else await asyncio.to_thread(self._catalogue.state, AS_OF)
        if as_of is None:
            return f"{why} The catalogue is not complete yet."
        return f"{why} Last update: {parse_instant(as_of):%Y-%m-%d %H:%M:%S} UTC."

    async def close(self) -> None:
        """Stop following and close the file."""
        if self._following is not None:
            await end_tasks([self._following])
        if self._catalogue is not None:
            await asyncio.to_thread(self._catalogue.close)

    async def _follow(self, catalogue: Catalogue) -> None:
        began, rest = time.monotonic(), 0.0
        try:
            self._why = await bring_up_to_date(catalogue, self._archive, self._redis)
            self.problem = None
            rest = 0.0 if self._why is None else _REST * (time.monotonic() - began)
        except StoreError as error:
            self.problem = f"The archive does not answer, so the latest recordings may be missing: {error}."
        except AnotherArchive as error:
            self.problem = f"The latest recordings may be missing: {error}."
        except sqlite3.DatabaseError as error:
            try:
                await asyncio.to_thread(catalogue.start_anew, error)
            except CatalogueBusy as busy:
                self.problem = f"The latest recordings may be missing: {busy}."
        except Exception as error:
            log.error("the catalogue cannot be updated", error=f"{type(error).__name__}: {error}", exc_info=True)
            self.problem = f"The catalogue cannot be updated ({one_line(error)}); see the log."
        finally:
            self._next_at = time.monotonic() + min(max(_FRESH_SECONDS, rest), _MOST_REST_SECONDS)
            self._following = None
