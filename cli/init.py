"""`callvault init`: make the archive of the settings, and have this Redis belong to it."""

from __future__ import annotations

import asyncio
import json
import sys

import msgspec

from config.counts import many
from config.private import private_folder
from config.settings import Settings
from workers.init import Initialised, init_archive
from workers.queue.connect import connect_receiver
from workers.runtime import open_archive_store

_REDIS = {
    "was bound": "belongs to it",
    "bound": "belongs to it from now on",
    "bound anew": "belongs to it from now on; its memory of seals and deletions is read from here anew",
}


def run(settings: Settings, url: str, *, adopt: bool, as_json: bool) -> int:
    """Make it, or say what is there; returns the exit status.

    Raises:
        UserError, StoreError: it cannot be made, or a person has to say first that it is meant.
    """
    done = asyncio.run(init(settings, url, adopt=adopt))
    identity = done.identity
    if as_json:
        report = {"archive_url": settings.archive_address} | msgspec.to_builtins(identity)
        sys.stdout.write(json.dumps(report | {"made": done.is_new, "redis": done.redis}) + "\n")
        return 0
    made = "made" if done.is_new else "there already, made"
    sys.stdout.write(f"archive  {settings.archive_address}\n")
    sys.stdout.write(f"id       {identity.id}, {made} by {identity.by} at {identity.created_at}\n")
    if identity.adopted:
        chain = many(identity.adopted_seals, "seal") if identity.adopted_seals else "no seals"
        sys.stdout.write(f"adopted  with what an earlier version wrote: {chain}\n")
    sys.stdout.write(f"redis    {_REDIS[done.redis]}\n")
    return 0


async def init(settings: Settings, url: str, *, adopt: bool = False) -> Initialised:
    """Make the archive of the settings and bind a Redis to it; raises as `init_archive`."""
    if settings.archive_url is None:  # the archive lies in the data folder
        await asyncio.to_thread(private_folder, settings.data_folder)
    store = await asyncio.to_thread(open_archive_store, settings)
    redis = connect_receiver(url)  # a person waits: seconds, not the patience of a worker
    try:
        return await init_archive(store, redis, adopt=adopt)
    finally:
        await redis.aclose()
