"""The parts that every job works with, as one value: made when a worker starts, closed when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from redis.exceptions import RedisError

from archive import layout
from archive.archive import Archive
from archive.records import Record, encode_record
from archive.sealed import SealedRecordings
from archive.seals import Chain
from config.setting import Secret
from config.settings import Settings
from config.values import is_local_host
from process.logs import LogThrottle, get_logger
from telnyx_api.account import Account
from text.times import end_of_day
from workers.alerts.alerts import Alerts
from workers.deletion.schedule import DeletionSchedule, LeavingOriginals
from workers.engine.attempts import Attempts
from workers.engine.clocks import ServerClock
from workers.engine.connect import connect_command
from workers.opening import open_archive
from workers.queue.binding import assert_bound
from workers.queue.change_feed import announce
from workers.queue.history import History
from workers.queue.limits import SharedLimiter
from workers.queue.script import AsyncRedis
from workers.retention.locks import RuleLocks

if TYPE_CHECKING:
    from telnyx_api.client import TelnyxClient
    from telnyx_api.downloads import Downloads

T = TypeVar("T")

log = get_logger()

_NO_KEY = "not set"
CLOCK_JOBS = 8  # four of deletion, two of reconcile, the count, the search for unsealed days: none waits for another
SEAL_JOBS = 4  # a day that is slow to reconcile delays no other; one at a time extends the chain
_DELETIONS_AT_ONCE = 16
_TURNS_AT_ONCE = 12


@dataclass(frozen=True)
class Runtime:
    """The parts of a worker that jobs use.

    Attributes:
        deletion_gate: limits how many originals are checked at once, so that other jobs get threads.
        duties_seen: by worker, the duties that it published and since when.
        store_answers: set while the store answered the last job that looked for a commit, or the worker at its start.
    """

    settings: Settings
    account: Account
    redis: AsyncRedis
    archive: Archive
    attempts: Attempts
    alerts: Alerts
    schedule: DeletionSchedule
    leaving: LeavingOriginals
    history: History
    clock: ServerClock
    threads: ThreadPoolExecutor
    chain: Chain  # as this process last read it; read it through `workers/seals/chain.py`
    sealed: SealedRecordings
    deletion_gate: asyncio.Semaphore
    locks: RuleLocks | None
    duties_seen: dict[bytes, tuple[bytes, float]] = field(default_factory=dict)
    throttle: LogThrottle = field(default_factory=LogThrottle)
    store_answers: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_api_key(self) -> bool:
        """Whether there is an API key, so that Telnyx can be asked."""
        return self.account.api_key != _NO_KEY

    @cached_property
    def telnyx(self) -> TelnyxClient:
        """The client of the account; made on first use, since most commands need none."""
        from telnyx_api.client import TelnyxClient

        return TelnyxClient(self.account, SharedLimiter(self.redis), connections=_jobs_at_once(self.settings))

    @cached_property
    def downloads(self) -> Downloads:
        """Downloads audio; made on first use."""
        from telnyx_api.downloads import Downloads

        return Downloads(
            is_local=is_local_host(urlsplit(self.account.base_url).hostname or ""),
            connections=_jobs_at_once(self.settings),
            least_rate=self.settings.least_download_rate,
        )

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Run a blocking function in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, function, *args)

    async def assert_bound(self) -> None:
        """Check that this Redis belongs to this archive; bind a Redis that belongs to no archive yet.

        Raises:
            AnotherArchive: Redis belongs to another archive.
            StoreError: the identity of the archive cannot be read now.
            redis.exceptions.RedisError: Redis does not answer.
        """
        if not self.archive.is_known:
            await self.in_thread(lambda: self.archive.identity)
        await assert_bound(self.redis, self.archive.identity.id)

    async def announce(self, key: str, record: Record, *asked: tuple[str, ...]) -> list[Any]:
        """Publish a new record on the change feed, and mark its day as unsealed.

        Returns:
            The answers of commands that are asked right after that, in the same round trip.

        Raises:
            redis.exceptions.RedisError: Redis does not answer; the job that wrote the record runs again.
        """
        day = layout.day_of(key)
        at = 0.0 if day is None else sealable_at(self.settings, day)
        return await announce(self.redis, key, encode_record(record), day, at, *asked)

    async def close(self) -> None:
        """Close connections and threads."""
        await self.alerts.close()
        if "telnyx" in vars(self):
            await self.telnyx.close()
        if "downloads" in vars(self):
            self.downloads.close()
        self.threads.shutdown(wait=False, cancel_futures=True)


def _jobs_at_once(settings: Settings) -> int:
    return 2 * settings.concurrency + CLOCK_JOBS + SEAL_JOBS  # of the four queues: main, bulk, the clock's, seals


def sealable_at(settings: Settings, day: date) -> float:
    """The earliest time at which a day can be sealed, in seconds since the epoch."""
    return (end_of_day(day) + settings.seal_after).timestamp()


def open_alerts(settings: Settings, redis: AsyncRedis) -> Alerts:
    """The alerts of the settings."""
    urls = [url.get_secret_value() for url in settings.alert_urls]
    return Alerts(redis, urls, settings.quiet_hours, settings.alert_severities)


def open_runtime(
    settings: Settings, redis: AsyncRedis, *, needs_telnyx: bool = True, needs_archive: bool = True
) -> Runtime:
    """Make the parts of a worker.

    Args:
        settings: of the process.
        redis: a client; the caller closes it.
        needs_telnyx: whether the caller needs an API key. Without a key, Telnyx refuses each request.
        needs_archive: as for `open_archive`.

    Raises:
        SettingsError: the API key is not set, and needed.
        StoreRefused: the archive cannot be opened.
    """
    if settings.telnyx_api_key is None and not needs_telnyx:
        settings = settings.replaced(telnyx_api_key=Secret(_NO_KEY))
    account = Account.from_settings(settings)
    clock = ServerClock()
    archive = open_archive(settings, clock.latest, needs_archive=needs_archive)
    threads = _jobs_at_once(settings) + _DELETIONS_AT_ONCE + _TURNS_AT_ONCE
    made = Runtime(
        settings=settings,
        account=account,
        redis=redis,
        archive=archive,
        attempts=Attempts(redis),
        alerts=open_alerts(settings, redis),
        schedule=DeletionSchedule(redis),
        leaving=LeavingOriginals(redis),
        history=History(redis),
        clock=clock,
        threads=ThreadPoolExecutor(threads, thread_name_prefix="callvault"),
        chain=Chain(archive),
        sealed=SealedRecordings(archive),
        deletion_gate=asyncio.Semaphore(_DELETIONS_AT_ONCE),
        locks=RuleLocks(archive) if settings.lock_by_rules else None,
    )
    if made.locks is not None:
        archive.lock_end = made.locks.end_of
    if needs_telnyx:  # fail at the start, not in a job
        _ = made.telnyx, made.downloads
    return made


@asynccontextmanager
async def runtime_at(
    settings: Settings,
    redis_url: str,
    *,
    needs_telnyx: bool = True,
    needs_redis: bool = True,
    needs_archive: bool = True,
) -> AsyncIterator[Runtime]:
    """The parts of a worker, for a command; they and their Redis are closed at the end.

    Args:
        settings: of the process.
        redis_url: the address of its Redis.
        needs_telnyx: as for `open_runtime`.
        needs_redis: whether the command needs Redis. If not, and Redis is down, its binding is not checked.
        needs_archive: as for `open_archive`.

    Raises:
        SettingsError, StoreRefused: as `open_runtime`.
        AnotherArchive: this Redis belongs to another archive.
        redis.exceptions.RedisError, OSError: Redis is away, and needed.
    """
    redis = await connect_command(redis_url, needs_redis=needs_redis)
    try:
        runtime = open_runtime(settings, redis, needs_telnyx=needs_telnyx, needs_archive=needs_archive)
        try:
            with suppress(RedisError, OSError):  # then this machine's clock counts
                await runtime.clock.look(redis)
            if runtime.archive.is_known:  # else the archive is away; `Archive` writes nothing before it knows it
                try:
                    await runtime.assert_bound()
                except (RedisError, OSError):
                    if needs_redis:
                        raise
            yield runtime
        finally:
            await runtime.close()
    finally:
        await redis.aclose()
