"""The doctor's check of locks: does the store really lock an object as it is written?"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from archive.source import Source
from archive.stores.store import KeyExists, StoreError, StoreRefused
from cli.check import Noted, Wrong
from config.settings import Settings
from text.errors import UserError
from text.one_line import one_line
from text.times import utc_now
from workers.runtime import open_archive

_LOCKED_FOR = timedelta(days=1)
_TURN_ON = (
    "turn on what locks need: Object Lock of the bucket (S3), object retention of the bucket (Google), version-level "
    "immutability of the container (Azure); see docs/stores.md"
)


async def check_locks(settings: Settings, redis: Any) -> str:
    """Check that the store takes, shows and keeps a lock, by a small object that is locked for a day; one a day at most."""
    if settings.retention is None and not settings.lock_by_rules:
        return "not asked for (CALLVAULT_RETENTION, CALLVAULT_LOCK_BY_RULES)"
    if settings.archive_address.startswith("file:"):
        raise Noted("the archive is a folder, which has no locks", "use a bucket, or unset the settings of locks")
    try:
        return await asyncio.to_thread(_try, settings)
    except (StoreError, UserError) as error:
        raise Noted(f"cannot be checked: {one_line(error)}", "fix the archive first, or try again later") from None


def _try(settings: Settings) -> str:
    """Lock an object and try to delete it.

    Raises:
        Wrong: the store takes, shows or keeps no lock.
        UserError, StoreError: the archive cannot be opened or does not answer.
    """
    store, now = open_archive(settings).store, utc_now()
    key, until = f"probe/lock-{now:%Y-%m-%d}", now + _LOCKED_FOR
    try:
        store.put(key, Source(b"callvault doctor\n", (), until), "text/plain", {})
    except KeyExists:
        pass  # of an earlier run today, which has locked it for longer than the rest of the day
    except StoreRefused as error:
        raise Wrong(f"an object with a lock was refused: {one_line(error)}", _TURN_ON) from None
    shown = store.locked_until(key)
    if shown is None or shown <= now:
        raise Wrong("an object was written with a lock, and the store shows none: nothing is locked", _TURN_ON)
    try:
        store.erase(key)
    except StoreRefused:
        return (
            f"the store shows the lock of an object ({settings.retention_mode}), and refused its deletion. Not checked: earlier "
            "versions, and who may lift locks"
        )
    raise Wrong("the store shows the lock of an object, and still deleted it", _TURN_ON)
