"""The lines that commands write into the access log: by the user of this system, on this machine.

A command that only reads goes on with a warning if the line cannot be written, such as with credentials that may only read:
whoever has credentials of the store can read it without Callvault too.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from text.user import user_name

if TYPE_CHECKING:
    from archive.access import AccessLine
    from archive.archive import Archive
    from config.settings import Settings
    from workers.access.log import AccessLog
    from workers.queue.script import AsyncRedis
    from workers.runtime import Runtime


def log_reading(
    settings: Settings, archive: Archive, what: str, recordings: Iterable[str] = (), **more: object
) -> None:
    """Write a line before something of the archive is shown; warn if it cannot be written.

    Args:
        settings: of the command.
        archive: that it reads.
        what: what it does.
        recordings: the ids of the recordings.
        more: further fields of the line.

    Raises:
        UsedWrongly: it needs a reason (`CALLVAULT_ASK_WHY`), and `why` has none.
    """
    from workers.access.log import NotWritten

    assert_reason(settings, what, str(more.get("why") or ""))
    line = _line(what, recordings, **more)
    try:
        asyncio.run(_write_anywhere(settings, archive, line))
    except NotWritten as error:
        sys.stderr.write(f"callvault: this use is not in the access log: {error}\n")


def assert_reason(settings: Settings, what: str, why: str | None) -> None:
    """Check that a command has a reason, if what it does needs one (`CALLVAULT_ASK_WHY`).

    Raises:
        UsedWrongly: it has none.
    """
    from config.ask_why import act_of
    from text.errors import UsedWrongly

    if (act := act_of(settings.ask_why, what)) is not None and not (why or "").strip():
        raise UsedWrongly(f"--why: missing; CALLVAULT_ASK_WHY wants a reason to {act.help}")


async def log_list(runtime: Runtime, about: str, found: int) -> None:
    """Write a line before a list of what people decided, or of recordings, is shown; warn if it cannot be written.

    Args:
        runtime: of the command.
        about: which list.
        found: how many it has.
    """
    from workers.access.log import NotWritten

    try:
        await _log_of(runtime).write(_line("list", (), about=about, found=found))
    except NotWritten as error:
        sys.stderr.write(f"callvault: this use is not in the access log: {error}\n")


class Here(NamedTuple):
    """Where a command without a runtime writes its lines: into the Redis of the service, else into the archive."""

    redis: AsyncRedis | None
    settings: Settings


@asynccontextmanager
async def logged_change(
    place: Runtime | Here, what: str, recordings: Iterable[str] = (), **more: object
) -> AsyncIterator[None]:
    """Write a line before the block changes something, and another if it fails.

    Raises:
        UserError: it cannot be written, so nothing may be changed.
    """
    from text.errors import UserError
    from text.one_line import one_line
    from workers.access.log import NotWritten

    line, log = _line(what, recordings, **more), _log_of(place)
    try:
        await log.write(line)
    except NotWritten as error:
        raise UserError(str(error)) from None
    try:
        yield
    except Exception as error:
        failed = _line("failed", line.recordings, of=line.id, error=one_line(error))
        with suppress(NotWritten):  # the first line stands
            await log.write(failed)
        raise


@asynccontextmanager
async def logged_at_telnyx(
    settings: Settings, what: str, recordings: Iterable[str] = (), *, must: bool = False, **more: object
) -> AsyncIterator[None]:
    """Write a line before the block reads or changes something at Telnyx. Where no archive is set up, there is no access log.

    Args:
        settings: of the command.
        what: it does; recordings, more: as in a line.
        must: whether it must not happen without its line, such as a deletion. Otherwise a line that cannot be written is a
            warning: to mend what the archive needs must be possible while the archive is away.

    Raises:
        UserError: the line cannot be written, and must be.
    """
    from archive.stores.store import StoreError
    from text.errors import UserError
    from text.one_line import one_line
    from workers.opening import open_archive
    from workers.queue.connect import connect_receiver
    from workers.queue.embedded import running_redis_of

    is_set_up = settings.archive_url is not None or settings.redis_url is not None
    try:
        if not is_set_up:
            await asyncio.to_thread(open_archive, settings)
    except StoreError:
        yield
        return
    url = running_redis_of(settings)
    redis = None if url is None else connect_receiver(url)
    try:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(logged_change(Here(redis, settings), what, recordings, **more))
            except UserError as error:
                if must:
                    raise
                sys.stderr.write(f"callvault: this use is not in the access log: {one_line(error)}\n")
            yield
    finally:
        if redis is not None:
            await redis.aclose()


def _line(what: str, recordings: Iterable[str], **more: object) -> AccessLine:
    from archive.access import new_line

    return new_line(what, user_name(), "command", socket.gethostname(), recordings, **more)


def _log_of(place: Runtime | Here) -> AccessLog:
    """Writes lines from a place."""
    from workers.access.log import AccessLog
    from workers.opening import open_archive

    if not isinstance(place, Here):
        return _log(place.redis, place.archive)

    async def opened() -> Archive:
        return await asyncio.to_thread(open_archive, place.settings)

    return AccessLog(place.redis, opened, str, collect_seconds=0)  # Redis knows its archive


def _log(redis: AsyncRedis | None, archive: Archive) -> AccessLog:
    from workers.access.log import AccessLog

    async def own() -> Archive:
        return archive

    def own_id() -> str:
        return archive.identity.id if archive.is_known else ""

    return AccessLog(redis, own, own_id, collect_seconds=0)


async def _write_anywhere(settings: Settings, archive: Archive, line: AccessLine) -> None:
    """Write a line into the Redis of the service if this machine knows it and it runs, else into the archive."""
    from workers.queue.connect import connect_receiver
    from workers.queue.embedded import running_redis_of

    if (url := running_redis_of(settings)) is None:
        await _log(None, archive).write(line)
        return
    redis = connect_receiver(url)  # gives up within seconds, since a person waits
    try:
        await _log(redis, archive).write(line)
    finally:
        await redis.aclose()
