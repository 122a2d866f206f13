"""The lines that commands write into the access log: by the user of this system, on this machine.

A command that only reads goes on with a warning if the line cannot be written, such as with credentials that may only read:
whoever has credentials of the store can read it without Callvault too.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from text.user import user_name

if TYPE_CHECKING:
    from archive.access import AccessLine
    from archive.archive import Archive
    from config.settings import Settings
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
    """
    from workers.access.log import NotWritten

    line = _line(what, recordings, **more)
    try:
        asyncio.run(_write_anywhere(settings, archive, line))
    except NotWritten as error:
        sys.stderr.write(f"callvault: this use is not in the access log: {error}\n")


@asynccontextmanager
async def logged_change(
    runtime: Runtime, what: str, recordings: Iterable[str] = (), **more: object
) -> AsyncIterator[None]:
    """Write a line before the block changes something, and another if it fails.

    Raises:
        UserError: it cannot be written, so nothing may be changed.
    """
    from text.errors import UserError
    from text.one_line import one_line
    from workers.access.log import NotWritten

    line = _line(what, recordings, **more)
    try:
        await _write(runtime.redis, runtime.archive, line)
    except NotWritten as error:
        raise UserError(str(error)) from None
    try:
        yield
    except Exception as error:
        failed = _line("failed", line.recordings, of=line.id, error=one_line(error))
        with suppress(NotWritten):  # the first line stands
            await _write(runtime.redis, runtime.archive, failed)
        raise


def _line(what: str, recordings: Iterable[str], **more: object) -> AccessLine:
    from archive.access import new_line

    return new_line(what, user_name(), "command", socket.gethostname(), recordings, **more)


async def _write(redis: AsyncRedis | None, archive: Archive, line: AccessLine) -> None:
    from workers.access.log import AccessLog

    async def own() -> Archive:
        return archive

    def own_id() -> str:
        return archive.identity.id if archive.is_known else ""

    await AccessLog(redis, own, own_id, collect_seconds=0).write(line)


async def _write_anywhere(settings: Settings, archive: Archive, line: AccessLine) -> None:
    """Write a line into the Redis of the service if this machine knows it and it runs, else into the archive."""
    from workers.queue.connect import connect_receiver
    from workers.queue.embedded import running_redis_of

    if (url := running_redis_of(settings)) is None:
        return await _write(None, archive, line)
    redis = connect_receiver(url)  # gives up within seconds, since a person waits
    try:
        await _write(redis, archive, line)
    finally:
        await redis.aclose()
