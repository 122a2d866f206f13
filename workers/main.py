"""The worker process: its job functions, start and stop.

It runs one arq worker per queue, so that bulk work never delays a webhook, and neither delays a seal or scheduled work.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import msgspec
from redis.exceptions import RedisError, ResponseError

from archive import layout
from archive.stores.store import StoreError, StoreRefused
from config.settings import Settings
from config.sources import unknown_settings
from process.alive import show_alive
from process.logs import configure_logs, get_logger
from process.notify import READY, notify
from process.tasks import end_tasks
from process.tracing import open_tracing
from text.errors import UserError
from text.one_line import one_line
from text.times import format_duration, utc_now
from workers.catalogue.parquet import has_parquet
from workers.clock import run_clock
from workers.deletion.duties import is_sealed_first, publish_duties, publish_own_duties
from workers.engine.clocks import MOST_APART_SECONDS, clocks_agree
from workers.engine.connect import connect_worker
from workers.engine.leases import Leases
from workers.engine.run import LONGEST_SECONDS, job
from workers.engine.worker import Function, LeasingWorker
from workers.export.keep import Keeper
from workers.keys import BULK_QUEUE, CLOCK_QUEUE, CLOCKS, MAIN_QUEUE, NO_WORKER, QUEUES, SEAL_QUEUE, WORKER_ENDED
from workers.queue.backlog import oldest_waiting_seconds
from workers.queue.binding import AnotherArchive
from workers.queue.connect import connect_receiver
from workers.queue.script import AsyncRedis, server_seconds, write_when_full
from workers.recordings.requests import JOBS
from workers.running import Running, keep_published, living_workers, running_here
from workers.runtime import CLOCK_JOBS, SEAL_JOBS, Runtime, open_runtime

log = get_logger()

DRAIN_SECONDS = 25
_FEW_JOBS = {CLOCK_QUEUE: CLOCK_JOBS, SEAL_QUEUE: SEAL_JOBS}  # at once
# Each look costs an idle worker 0.2 ms of CPU. Only jobs of the main queue must start within milliseconds.
_LOOK_SECONDS = {MAIN_QUEUE: 0.05, BULK_QUEUE: 0.25, CLOCK_QUEUE: 0.5, SEAL_QUEUE: 0.5}
_YIELD_SECONDS = 2
_BINDING_SECONDS = 2
_CLOCK_SECONDS = 10
_CLOCKS_KEPT_SECONDS = 60  # after the last report of a worker, since one that was killed does not remove its own
_REDIS_SECONDS = 2
_NICENESS = 5  # a third of a receiver's share where both want all of the CPU


def job_functions(queue: str) -> list[Function]:
    """The arq functions of a queue, by the table of jobs."""
    return [
        job(getattr(import_module(row.module), name), row.request, queue, needs_archive=row.needs_archive)
        for name, row in JOBS.items()
    ]


async def watch_binding(runtime: Runtime, reported: str | None = None) -> str | None:
    """Bind a Redis that lost its data, and alert once if it belongs to another archive: no job runs then.

    Args:
        runtime: the worker's parts.
        reported: what the last call returned.

    Returns:
        The problem; None if Redis belongs to this archive.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away.
    """
    try:
        await runtime.assert_bound()
    except AnotherArchive as error:
        if str(error) == reported:
            return reported
        advice = "Workers archive, delete and seal nothing until this is fixed; waiting jobs then continue."
        await runtime.alerts.send("another-archive", "redis", f"{str(error)[0].upper()}{str(error)[1:]}.", advice)
        return str(error)
    return None


async def _keep_bound(runtime: Runtime) -> None:
    """Check the binding every two seconds in each process; a scheduled task would run on one worker only."""
    reported: str | None = None
    while True:
        try:
            reported = await watch_binding(runtime, reported)
        except (StoreError, RedisError, OSError):
            pass  # the jobs report an outage
        await asyncio.sleep(_BINDING_SECONDS)


async def _publish_clock(runtime: Runtime, worker_id: str) -> None:
    """Compare this machine's clock with the clock of Redis, and publish the difference while it is large."""
    while True:
        try:
            ahead = utc_now().timestamp() - await runtime.clock.look(runtime.redis)
            if abs(ahead) > MOST_APART_SECONDS:
                row = ("HSET", CLOCKS, worker_id, round(ahead, 1))
                await write_when_full(runtime.redis, row, ("EXPIRE", CLOCKS, _CLOCKS_KEPT_SECONDS))
            else:
                await runtime.redis.hdel(CLOCKS, worker_id)
        except (RedisError, OSError):
            pass  # the jobs report an outage
        await asyncio.sleep(_CLOCK_SECONDS)


async def _publish_running(runtime: Runtime, worker_id: str) -> None:
    """Publish what this worker runs with, the archive and the place of exports as soon as they are known; keep that place."""
    keeper = Keeper(runtime)
    own = await running_here(runtime.settings, "worker", worker_id)

    def now() -> Running:
        archive_id = runtime.archive.identity.id if runtime.archive.is_known else None
        return msgspec.structs.replace(own, archive_id=archive_id, exports_place=keeper.place)

    keeping = asyncio.create_task(keeper.run())
    try:
        await keep_published(runtime.redis, runtime.settings, now)
    finally:
        await end_tasks([keeping])


def _worker(runtime: Runtime, leases: Leases, queue: str) -> LeasingWorker:
    return LeasingWorker(
        job_functions(queue),
        runtime.redis,
        leases,
        queue=queue,
        runtime=runtime,
        most_jobs=_FEW_JOBS.get(queue, runtime.settings.concurrency),
        timeout_seconds=LONGEST_SECONDS + 60,  # the leases watch over dead workers, not this
        poll_seconds=_LOOK_SECONDS[queue],
    )


class WorkerStopped(UserError):
    """The worker stopped itself; the text has what failed, why it stopped, and what to do."""


def _stopped_by(error: BaseException) -> WorkerStopped:
    """The error that a person reads when a worker has ended."""
    known = isinstance(error, RedisError | OSError)
    what = one_line(error) if known else f"a bug in Callvault, {type(error).__name__}: {one_line(error)}; report it"
    rest = "It cannot claim jobs without Redis. " if known else ""
    return WorkerStopped(f"the worker stopped itself: {what}. {rest}Start it again; its unfinished jobs run again")


async def work(settings: Settings, redis_url: str) -> None:
    """Run jobs until SIGTERM or SIGINT, then give running jobs 25 s to finish.

    Raises:
        SettingsError, StoreRefused, AnotherArchive: the worker cannot start.
        WorkerStopped: Redis or the worker itself failed; a supervisor starts it again.
    """
    redis = connect_worker(redis_url, connections=4 * settings.concurrency + 56)
    runtime = open_runtime(settings, redis)
    leases = Leases(redis)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_, stop.set)
    alive = asyncio.create_task(show_alive("worker", settings.data_folder))  # also while it waits for an outage to end
    try:
        await _wait_for_redis(redis)
        await runtime.clock.look(redis)
        await _prepare_store(runtime)
        if runtime.archive.is_known:
            await runtime.assert_bound()
        await leases.beat()
        with suppress(ResponseError):  # `publish_duties` logs it and tries again
            # Else the last other worker to stop would report that no worker runs.
            await publish_own_duties(runtime, leases.worker_id)
        await redis.delete(NO_WORKER, WORKER_ENDED)
        workers = {queue: _worker(runtime, leases, queue) for queue in QUEUES.values()}
        reaper = asyncio.create_task(leases.run())
        counting = asyncio.create_task(runtime.history.run())
        binding = asyncio.create_task(_keep_bound(runtime))
        publishing = asyncio.create_task(publish_duties(runtime, leases.worker_id))
        running_with = asyncio.create_task(_publish_running(runtime, leases.worker_id))
        own_clock = asyncio.create_task(_publish_clock(runtime, leases.worker_id))
        clock = run_clock(runtime)
        yielding = asyncio.create_task(_hold_bulk_while_webhooks_wait(runtime, workers[BULK_QUEUE]))
        running = [asyncio.create_task(worker.async_run()) for worker in workers.values()]
        stopping = asyncio.create_task(stop.wait())
        _warn_if_deleted_before_seal(settings)
        if not has_parquet():
            log.info("days are sealed without Parquet rows, because pyarrow is not installed")
        notify(READY)
        log.info("worker ready", archive=settings.archive_address, concurrency=settings.concurrency)
        await asyncio.wait([stopping, *running], return_when=asyncio.FIRST_COMPLETED)
        failed = [error for ended in running if ended.done() and (error := ended.exception())]
        for error in failed:
            log.error("worker failed", error=f"{type(error).__name__}: {error}")
        await end_tasks([stopping, yielding, binding, own_clock, *clock, *running])
        await _drain([*workers.values()])
        await end_tasks([reaper, counting, alive, publishing, running_with])
        await runtime.history.flush()
        log.info("worker stopped")
        if failed and not stop.is_set():
            raise _stopped_by(failed[0])
    finally:
        await leases.close()
        await _record_no_worker(redis)
        await runtime.close()
        with suppress(Exception):
            await redis.aclose()


async def _record_no_worker(redis: AsyncRedis) -> None:
    """Record since when no worker runs, if this was the last one: nobody else may notice."""
    with suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(_REDIS_SECONDS):  # a worker's client would wait longer than a supervisor does
            if await living_workers(redis):
                return
            await write_when_full(redis, ("SET", NO_WORKER, await server_seconds(redis), "NX"))


async def _wait_for_redis(redis: AsyncRedis) -> None:
    """Wait for Redis as long as its client does, and log that: a silent start would look like a hung one.

    Raises:
        redis.exceptions.RedisError: Redis does not answer.
    """
    task = asyncio.ensure_future(redis.ping())
    done, _ = await asyncio.wait([task], timeout=_REDIS_SECONDS)
    if not done:
        log.warning("Redis does not answer yet; waiting for it")
    await task


def _warn_if_deleted_before_seal(settings: Settings) -> None:
    if settings.delete_originals == "verified" and not is_sealed_first(settings):
        log.warning(
            "originals may be deleted before their day is sealed, because CALLVAULT_DELETE_AFTER is shorter than a seal "
            "takes; no seal shows what disappears from the archive in between",
            delete_after=format_duration(settings.delete_after.total_seconds()),
            seal_after=format_duration(settings.seal_after.total_seconds()),
        )


async def _prepare_store(runtime: Runtime) -> None:
    """Probe the store, and remove the unfinished uploads of killed workers. The worker also starts during an outage.

    Raises:
        StoreRefused: a person must change something first.
    """
    store = runtime.archive.store
    try:
        await runtime.in_thread(store.probe)
        await runtime.in_thread(store.stat, layout.IDENTITY_KEY)
        runtime.store_answers.set()
    except StoreRefused:
        raise
    except StoreError as error:
        log.warning("the archive does not answer yet", error=str(error))
        return
    if not await clocks_agree(runtime):
        return  # to a clock that is ahead, a running upload looks abandoned
    try:
        if removed := await runtime.in_thread(store.remove_orphans):
            log.info("unfinished uploads removed", count=removed)
    except StoreError as error:
        log.warning(
            "unfinished uploads cannot be listed; remove them with a lifecycle rule of the bucket", error=str(error)
        )


async def _hold_bulk_while_webhooks_wait(runtime: Runtime, bulk: LeasingWorker) -> None:
    """Start no bulk jobs while jobs of webhooks wait too long."""
    limit = runtime.settings.queue_age_limit.total_seconds()
    bulk.allow_pick_jobs = False  # until the first look
    while True:
        try:
            bulk.allow_pick_jobs = await oldest_waiting_seconds(runtime.redis, MAIN_QUEUE) <= limit
        except (RedisError, OSError):
            pass
        await asyncio.sleep(_YIELD_SECONDS)


async def _drain(workers: list[LeasingWorker]) -> None:
    """Wait for running jobs except those that start over cheaply, then cancel the rest; another worker runs them again.

    The tasks that claim jobs have ended before. A job that an interrupted claim took is free once this process has
    withdrawn its heartbeat.
    """
    running = [(job_id, task) for worker in workers for job_id, task in worker.tasks.items()]
    begin_anew = {name for name, row in JOBS.items() if row.begins_anew}
    await end_tasks(task for job_id, task in running if job_id.partition(":")[0] in begin_anew)
    jobs = {task for _, task in running if not task.done()}
    if jobs:
        await asyncio.wait(jobs, timeout=DRAIN_SECONDS)
    await end_tasks(jobs)


async def _record_why_ended(redis_url: str, why: str) -> None:
    """Record in Redis why this worker ended, for `callvault status` and the pages; without Redis only the log has it."""
    redis = connect_receiver(redis_url)
    with suppress(RedisError, OSError):
        if not await living_workers(redis):
            await write_when_full(redis, ("SET", WORKER_ENDED, why))
    with suppress(Exception):
        await redis.aclose()


async def _work(settings: Settings, redis_url: str) -> None:
    try:
        await work(settings, redis_url)
    except (UserError, StoreRefused, RedisError) as error:
        await _record_why_ended(redis_url, one_line(error))
        raise


def _lower_priority() -> None:
    """Run below receivers on the same machine: a webhook may wait for milliseconds, a job for seconds.

    Linux groups processes by session and weighs groups before processes (sched(7), "The autogroup feature"), so the
    group is lowered too, unless another process leads the session. Containers and systemd units have their own weights.
    """
    os.nice(_NICENESS)
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(_NICENESS))


def run(settings: Settings, redis_url: str) -> int:
    """Run a worker process; returns its exit status.

    Raises:
        UserError, StoreRefused, redis.exceptions.RedisError: the worker could not start, or stopped itself.
    """
    import uvloop

    configure_logs(settings.log_level, program="worker")
    for sentence in unknown_settings():
        log.warning(sentence)
    open_tracing("worker")
    _lower_priority()
    uvloop.run(_work(settings, redis_url))
    return 0
