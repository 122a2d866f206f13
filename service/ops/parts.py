"""What the ops pages share. It is created with the first request, so a receiver without viewers pays nothing."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from archive.archive import Archive
from archive.stores.store import StoreError, StoreRefused
from config.settings import Settings
from config.sign_in import NO_PROVIDER, SignIn
from service.ops.access import Access
from service.ops.limits import Limits
from service.ops.plays import Plays
from workers.access.index import AccessIndex
from workers.access.log import AccessLog
from workers.access.reading import AccessReader
from workers.api_tokens import KnownTokens
from workers.catalogue.follow import FollowedCatalogue
from workers.connections.names import read_names
from workers.export.place import Exports, open_exports
from workers.queue.binding import AnotherArchive
from workers.queue.replicas import Replicas
from workers.runtime import Runtime, open_runtime

if TYPE_CHECKING:
    from service.ops.activity import Counts
    from service.ops.first_run import AtTelnyx
    from service.ops.overview import Looked

_NAMES_FRESH_SECONDS = 5


class Ops:
    """The parts of the pages of one process.

    Args:
        settings: of the process.
        redis: the receiver's client, which fails within a second if Redis is away.
        replicas: the replicas of Redis that must confirm what may not be lost; None: the server alone is enough.
        ways: how people sign in besides tokens.
    """

    def __init__(
        self, settings: Settings, redis: Any, replicas: Replicas | None = None, ways: SignIn = NO_PROVIDER
    ) -> None:
        self.settings = settings
        self.ways = ways
        self.redis = redis
        self._replicas = replicas
        self.watchers = 0
        self.redis_is_away = False  # as the last request found it
        # When each object was last proven, by key, version and size.
        self.proven: dict[tuple[str, str | None, int], float] = {}
        self.levels: dict[str, dict[str, Any]] = {}  # of the channels of recordings, by SHA-256
        self.looking_at_levels = asyncio.Lock()
        self.looking = asyncio.Lock()
        self.overview: tuple[float, Looked] | None = None  # when it was read, and the result
        self.month: tuple[float, Counts] | None = None  # likewise the counts of its last month
        self.is_filled = False  # whether the archive has been seen with a recording
        self.at_telnyx: tuple[float, AtTelnyx] | None = None  # what Telnyx said while the archive was empty
        self._names: dict[str, str] = {}
        self._names_at = float("-inf")
        self._opening = asyncio.Lock()
        self._opening_exports = asyncio.Lock()
        self._exports: Exports | None = None
        self._runtime: Runtime | StoreError | None = None
        self._refusal: StoreRefused | None = None

    @cached_property
    def access(self) -> Access:
        """Decides who may enter."""
        return Access(self.settings, self.ways, self.redis, KnownTokens(self._open_archive, self.redis))

    async def open(self) -> None:
        """Create the runtime in a thread: a cloud SDK takes half a second to import, and webhooks must not wait for it.

        Each call also checks that Redis belongs to the archive, because both may be replaced while a receiver runs.
        """
        async with self._opening:
            if not isinstance(self._runtime, Runtime):
                self._runtime = await asyncio.to_thread(self._opened)
        if isinstance(self._runtime, Runtime) and self._runtime.archive.is_known:
            try:
                await self._runtime.assert_bound()
                self._refusal, self.redis_is_away = None, False
            except AnotherArchive as error:
                self._refusal, self.redis_is_away = StoreRefused(str(error)), False
            except (RedisError, OSError):
                self.redis_is_away = True  # the page shows it

    async def _open_archive(self) -> Archive:
        """The archive; raises as `runtime`."""
        await self.open()
        return self.runtime.archive

    def _opened(self) -> Runtime | StoreError:
        try:
            return open_runtime(self.settings, self.redis, needs_telnyx=False)
        except StoreError as error:
            return error

    @property
    def runtime(self) -> Runtime:
        """The runtime, which jobs use too. Without an API key, Telnyx refuses requests and the page shows that.

        Raises:
            StoreError: the archive could not be opened, or this Redis belongs to another archive.
        """
        if self._refusal is not None:
            raise self._refusal
        if isinstance(self._runtime, StoreError):
            raise self._runtime
        assert self._runtime is not None, "open() comes first"  # noqa: S101
        return self._runtime

    @property
    def is_open(self) -> bool:
        """Whether the archive could be opened and belongs to this Redis; if not, only the overview can be shown."""
        return isinstance(self._runtime, Runtime) and self._refusal is None

    async def names(self) -> dict[str, str]:
        """The names of connections by their ids; empty while Redis is away."""
        if time.monotonic() - self._names_at > _NAMES_FRESH_SECONDS:
            self._names_at = time.monotonic()
            with suppress(RedisError, OSError):
                self._names = await read_names(self.redis)
        return self._names

    @cached_property
    def catalogue(self) -> FollowedCatalogue:
        """The catalogue of this machine."""
        return FollowedCatalogue(self.settings.data_folder / "catalogue.sqlite", self.runtime.archive, self.redis)

    async def exports(self) -> Exports:
        """The place of exports, opened in a thread.

        Raises:
            StoreError: it cannot be opened or does not answer.
        """
        async with self._opening_exports:
            if self._exports is None:
                self._exports = await asyncio.to_thread(open_exports, self.settings, self.runtime.archive)
        return self._exports

    def changed(self) -> None:
        """Have the next page read anew what a change may have altered, so that the person sees it."""
        self.overview = None
        if "catalogue" in self.__dict__:
            self.catalogue.expire()

    @cached_property
    def limits(self) -> Limits:
        """Counts the requests to `/api/`."""
        return Limits(self.redis, self.settings.api_requests_per_minute)

    @cached_property
    def accesses(self) -> AccessLog:
        """Writes the access log."""
        return AccessLog(self.redis, self._open_archive, self._archive_id, self._replicas)

    def _archive_id(self) -> str:
        archive = self._runtime.archive if isinstance(self._runtime, Runtime) else None
        return archive.identity.id if archive is not None and archive.is_known else ""

    @cached_property
    def plays(self) -> Plays:
        """The plays that this process serves."""
        return Plays(self.accesses)

    @cached_property
    def access_reader(self) -> AccessReader:
        """Reads the access log by the index of this machine."""
        return AccessReader(AccessIndex(self.settings.data_folder))

    async def close(self) -> None:
        """Close what is open."""
        if "plays" in self.__dict__:
            await self.plays.close()
        if "catalogue" in self.__dict__:
            await self.catalogue.close()
        if "access" in self.__dict__:
            await self.access.close()
        if isinstance(self._runtime, Runtime):
            await self._runtime.close()
