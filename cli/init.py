"""`callvault init`: create the archive of the settings, and bind Redis to it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from cli.console import print_json
from cli.options import DataFolder, Json, own_settings_of
from process.private import private_folder
from text.counts import many
from text.times import format_moment

if TYPE_CHECKING:
    from config.settings import Settings
    from workers.init import Initialised

_REDIS = {
    "was bound": "already bound to this archive",
    "bound": "now bound to this archive",
    "bound anew": "now bound to this archive; its data about seals and deletions is rebuilt from the archive",
}


def command(
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="Accept objects of an earlier version, or a Redis that served another archive."),
    ] = False,
    data: DataFolder = None,
    json: Json = False,
) -> int:
    """Create the archive at CALLVAULT_ARCHIVE_URL.

    Run it once for each archive. No other command creates one, so a wrong address is an error and not a
    new, empty archive.

    Example: callvault init
    """
    from workers.queue.embedded import redis_of

    settings = own_settings_of(data)
    with redis_of(settings) as url:
        done = asyncio.run(init(settings, url, adopt=adopt))
    identity = done.identity
    if json:
        report = {"archive_url": settings.archive_address} | msgspec.to_builtins(identity)
        print_json(report | {"made": done.is_new, "redis": done.redis})
        return 0
    created = "created" if done.is_new else "already exists, created"
    sys.stdout.write(f"archive  {settings.archive_address}\n")
    sys.stdout.write(
        f"id       {identity.id}, {created} by {identity.by} at {format_moment(identity.created_at, None)}\n"
    )
    if identity.adopted:
        chain = many(identity.adopted_seals, "seal") if identity.adopted_seals else "no seals"
        sys.stdout.write(f"adopted  objects of an earlier version: {chain}\n")
    sys.stdout.write(f"redis    {_REDIS[done.redis]}\n")
    return 0


async def init(settings: Settings, url: str, *, adopt: bool = False) -> Initialised:
    """Create the archive of the settings and bind a Redis to it.

    Raises:
        UserError, StoreError, RedisError: as `init_archive`.
    """
    from workers.init import init_archive
    from workers.opening import open_archive_store
    from workers.queue.connect import connect_receiver

    if settings.archive_url is None:  # the archive lies in the data folder
        await asyncio.to_thread(private_folder, settings.data_folder)
    store = await asyncio.to_thread(open_archive_store, settings)
    redis = connect_receiver(url)  # gives up within seconds, since a person waits
    try:
        return await init_archive(store, redis, adopt=adopt)
    finally:
        await redis.aclose()
