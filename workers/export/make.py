"""The job that makes an export of the pages: a bundle, streamed into the place of exports, and encrypted if that was asked for.

Nothing of it lies on the worker's disk. A worker that stops or dies loses what it has made, and the next begins anew: each
attempt writes an object of its own, and the first `end.json` decides which one counts.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
from redis.exceptions import RedisError

from archive.records import UnreadableRecord
from archive.source import Source
from archive.stores.store import StoreError
from process.disks import free_bytes
from process.logs import get_logger
from process.tasks import end_tasks
from text.errors import UserError
from text.one_line import one_line
from text.sizes import format_size
from text.times import format_instant, utc_now
from workers.catalogue.query import read_box, read_query
from workers.engine.worker import again_in
from workers.export.bundle import Bundle
from workers.export.encryption import encrypted, read_recipients
from workers.export.index import about_now
from workers.export.place import SHOWN_AFTER_FAILING, End, Exports, Request, open_exports
from workers.export.zips import ZipStream
from workers.keys import EXPORTING
from workers.queue.script import AsyncRedis
from workers.recordings.requests import ExportRequest
from workers.runtime import Runtime

_AT_ONCE = 2  # of one process: each takes memory and threads
_FULL_SECONDS = 5
_ELSEWHERE_SECONDS = 10
_LOOK_SECONDS = 2.0
_PROGRESS_KEPT_SECONDS = 60
_ROOM = 1.05  # of the audio, for records and seals

log = get_logger()


class _Stopped(Exception):
    """The export was cancelled, or this worker stops."""


class Progress(msgspec.Struct, frozen=True):
    """How far an export is: recordings and bytes of all their files."""

    recordings: int
    size_bytes: int


@dataclass
class _Making:
    """An export while it is made: a thread makes it, and the loop watches it.

    Attributes:
        stop: set to end the thread at its next step.
        progress: so far.
    """

    exports: Exports
    request: Request
    stop: threading.Event = field(default_factory=threading.Event)
    progress: Progress = field(default_factory=lambda: Progress(0, 0))

    def show(self, recordings: int, size_bytes: int) -> None:
        self.progress = Progress(recordings, size_bytes)
        if self.stop.is_set():
            raise _Stopped


_running: set[str] = set()  # exports that this process makes


async def make_export(runtime: Runtime, request: ExportRequest) -> None:
    """Make an export, unless it has ended.

    Raises:
        Retry: this worker does not see its place, or makes enough exports.
        StoreError: the archive or the place of exports does not answer; the job runs again.
    """
    if len(_running) >= _AT_ONCE or request.export_id in _running:
        raise await again_in(runtime.redis, _FULL_SECONDS)
    _running.add(request.export_id)
    try:
        exports = await runtime.in_thread(open_exports, runtime.settings, runtime.archive)
        if await runtime.in_thread(exports.known_id) != request.place:
            log.info("export waits for a worker that sees its place", export=request.export_id)
            raise await again_in(runtime.redis, _ELSEWHERE_SECONDS)
        export = await runtime.in_thread(exports.read, request.export_id)
        if export is None or export.request is None or export.end is not None or export.revoked:
            return
        await _make(runtime, _Making(exports, export.request))
    finally:
        _running.discard(request.export_id)


async def read_progress(redis: AsyncRedis, export_id: str) -> Progress | None:
    """How far an export is; None if no worker makes it now, or Redis does not answer."""
    with suppress(RedisError, OSError, msgspec.MsgspecError):
        found = await redis.get(EXPORTING + export_id)
        return None if found is None else msgspec.json.decode(found, type=Progress)
    return None


async def _make(runtime: Runtime, making: _Making) -> None:
    watching = asyncio.create_task(_watch(runtime, making))
    thread = asyncio.get_running_loop().run_in_executor(runtime.threads, _end_of, runtime, making)
    try:
        end = await asyncio.shield(thread)
    except asyncio.CancelledError:
        making.stop.set()
        raise
    finally:
        await end_tasks([watching])
        with suppress(RedisError, OSError):
            await runtime.redis.delete(EXPORTING + making.request.id)
    if end is not None:
        log.info("export ended", export=making.request.id, state=end.state, why=end.why, bytes=end.size_bytes)


async def _watch(runtime: Runtime, making: _Making) -> None:
    """Publish the progress, and end the thread once the export is cancelled."""
    key = EXPORTING + making.request.id
    while True:
        with suppress(RedisError, OSError):
            await runtime.redis.set(key, msgspec.json.encode(making.progress), ex=_PROGRESS_KEPT_SECONDS)
        with suppress(StoreError):
            if not await runtime.in_thread(making.exports.is_wanted, making.request.id):
                making.stop.set()
        await asyncio.sleep(_LOOK_SECONDS)


def _end_of(runtime: Runtime, making: _Making) -> End | None:
    """Make the bundle and say how it ended; None: it was stopped, or somebody else has said it; blocks.

    Raises:
        StoreError: a passing failure.
    """
    exports, request = making.exports, making.request
    key = ""
    try:
        end = _ready(runtime, making)
        key = end.key
    except _Stopped:
        return None
    except (UserError, UnreadableRecord) as error:
        end = _failed(one_line(error))
    except StoreError as error:
        if not _is_full(error):
            raise
        end = _failed(f"the disk of the exports is full: {one_line(error)}")
    if exports.is_wanted(request.id) and exports.end(request.id, end):
        return end
    if key:
        exports.store.erase(key)  # it was cancelled meanwhile, or another worker was faster
    return None


def _ready(runtime: Runtime, making: _Making) -> End:
    exports, request = making.exports, making.request
    _assert_room(exports, request)
    about = about_now(runtime.archive, request.query, read_query(read_box(request.query)) if request.query else None)
    chosen = exports.chosen(request.id)
    packed = ZipStream(runtime.archive, chosen, f"export-{request.id}", about, making.show)
    chunks = packed.chunks()
    if request.recipients:
        chunks = encrypted(chunks, read_recipients(request.recipients))
    with closing(chunks):
        source = Source(_watched(chunks, making))
        key = exports.put_bundle(request.id, source, is_encrypted=bool(request.recipients))
    bundle: Bundle | None = packed.bundle
    if bundle is None:
        raise StoreError(f"{key}: was written before the bundle was whole")
    now = utc_now()
    return End(
        state="ready",
        at=format_instant(now),
        ends_at=format_instant(now + timedelta(hours=request.hours)),
        key=key,
        size_bytes=source.size,
        sha256=source.sha256,
        recordings=bundle.recordings,
        unsealed=bundle.unsealed,
        problems=len(bundle.problems),
    )


def _watched(chunks: Generator[bytes], making: _Making) -> Iterator[bytes]:
    for chunk in chunks:
        if making.stop.is_set():
            raise _Stopped
        yield chunk


def _assert_room(exports: Exports, request: Request) -> None:
    """Check that a folder has room for the bundle, before anything is fetched.

    Raises:
        UserError: it has not.
    """
    parts = urlsplit(exports.store.url)
    if parts.scheme != "file":
        return
    free, needed = free_bytes(Path(unquote(parts.path))), int(request.size_bytes * _ROOM)
    if needed > free:
        raise UserError(
            f"the disk of the exports has {format_size(free)} free, and this needs {format_size(needed)}; free some, or export "
            "less at a time"
        )


def _failed(why: str) -> End:
    now = utc_now()
    return End("failed", format_instant(now), format_instant(now + SHOWN_AFTER_FAILING), why=why)


def _is_full(error: StoreError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
