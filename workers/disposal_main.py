"""`callvault worker --dispose`: a process that disposes of recordings and does nothing else, with credentials of its own.

It runs no job and reads nothing that comes from outside, since it is the one process that may delete.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress

from redis.exceptions import RedisError

from archive.stores.store import StoreError
from config.settings import Settings, SettingsError
from config.sources import unknown_settings
from config.values import variables_of
from process.alive import show_alive
from process.logs import configure_logs, get_logger
from process.notify import READY, notify
from process.tasks import end_tasks
from process.tracing import open_tracing
from text.one_line import one_line
from workers.clock import Turn, run_turns
from workers.disposal.looked import note_looked
from workers.disposal.run import Disposer
from workers.engine.connect import connect_worker
from workers.engine.lease import HeldElsewhere
from workers.runtime import Runtime, open_runtime

log = get_logger()

_EVERY_SECONDS = 60.0
DRAIN_SECONDS = 25.0  # for the recordings under way, and the rows of their day
_LONGEST_SECONDS = 24 * 3600.0


def take_credentials(settings: Settings) -> None:
    """Put the credentials that may delete into the environment of this process, where the SDK of the store reads them.

    Raises:
        SettingsError: they are not lines of variables.
    """
    if settings.dispose_credentials is None:
        return
    try:
        os.environ.update(variables_of(settings.dispose_credentials.get_secret_value()))
    except ValueError as error:
        expected = "lines such as AWS_ACCESS_KEY_ID=..."
        raise SettingsError(f"CALLVAULT_DISPOSE_CREDENTIALS: cannot use it ({error}); expected {expected}") from None


def run(settings: Settings, redis_url: str) -> int:
    """Run the process until SIGTERM or SIGINT; returns its exit status.

    Raises:
        UserError, StoreRefused, redis.exceptions.RedisError: it cannot start.
    """
    import uvloop

    configure_logs(settings.log_level, program="dispose")
    for sentence in unknown_settings():
        log.warning(sentence)
    open_tracing("dispose")
    take_credentials(settings)
    uvloop.run(_work(settings, redis_url))
    return 0


async def _work(settings: Settings, redis_url: str) -> None:
    redis = connect_worker(redis_url, connections=16)
    runtime = open_runtime(settings, redis, needs_telnyx=False)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_, stop.set)
    alive = asyncio.create_task(show_alive("dispose", settings.data_folder))
    try:
        await runtime.clock.look(redis)
        if runtime.archive.is_known:
            await runtime.assert_bound()
        goes_on = asyncio.Event()
        disposer = Disposer(runtime, show=lambda _: goes_on.set())

        async def note_progress(_: Runtime) -> None:
            """Note that a long run is still at it."""
            if goes_on.is_set():
                goes_on.clear()
                await note_looked(redis, None)

        async def dispose(_: Runtime) -> None:
            """Dispose of what is past its term."""
            try:
                report = await disposer.run()
            except HeldElsewhere:  # a person runs it by hand just now
                await note_looked(redis, None)
                return
            except (StoreError, RedisError, OSError) as error:
                log.warning("disposal interrupted; it continues with the next run", error=one_line(error))
                raise
            await note_looked(redis, None if report.is_meant else report.stopped)
            if report.stopped is not None and (times := runtime.throttle.count(f"disposal {report.stopped}")):
                log.warning("disposal waits", why=report.stopped, times=times)

        turns = run_turns(
            runtime, [Turn(dispose, _EVERY_SECONDS, _LONGEST_SECONDS), Turn(note_progress, _EVERY_SECONDS)]
        )
        counting = asyncio.create_task(runtime.history.run())
        notify(READY)
        log.info("disposal ready", archive=settings.archive_address)
        await stop.wait()
        disposer.leave()
        with suppress(TimeoutError):
            await asyncio.wait_for(disposer.idle.wait(), DRAIN_SECONDS)
        await end_tasks([*turns, counting])
        await runtime.history.flush()
        log.info("disposal stopped")
    finally:
        await end_tasks([alive])
        await runtime.close()
        await redis.aclose()
