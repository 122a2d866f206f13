"""The doctor's check of locks: does the store really lock an object as it is written?"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any

from archive.source import Source
from archive.stores.store import KeyExists, Store, StoreError, StoreRefused
from cli.check import Noted, Wrong
from config.settings import Settings
from text.errors import UserError
from text.one_line import one_line
from text.times import utc_now
from workers.opening import open_archive, open_archive_store

_LOCKED_FOR = timedelta(days=1)
_BODY = b"callvault doctor\n"
_PROBES = "probe/lock-"
_RIGHTS = "on S3, seeing locks takes s3:ListBucketVersions, s3:GetObjectRetention and s3:GetObjectLegalHold"
_TURN_ON = (
    "turn on what locks need: Object Lock of the bucket (S3), object retention of the bucket (Google), version-level "
    "immutability of the container (Azure); see docs/stores.md"
)


async def check_locks(settings: Settings, redis: Any) -> str:
    """Check that the store takes, shows and keeps a lock, by a small object that is locked for a day; one a day."""
    if settings.retention is None and not settings.lock_by_rules:
        return "not asked for (CALLVAULT_RETENTION, CALLVAULT_LOCK_BY_RULES)"
    if settings.archive_address.startswith("file:"):
        raise Noted("the archive is a folder, which has no locks", "use a bucket, or unset the settings of locks")
    try:
        return await asyncio.to_thread(_try, settings)
    except (StoreError, UserError) as error:
        raise Noted(f"cannot be checked: {one_line(error)}", "fix the archive first, or try again later") from None


def _try(settings: Settings) -> str:
    """Lock an object for a day, whatever else the settings lock, and try to delete it.

    Raises:
        Wrong: the store takes, shows or keeps no lock.
        Noted: these credentials cannot find out.
        UserError, StoreError: the archive cannot be opened or does not answer.
    """
    open_archive(settings)  # refuses what is no archive
    store, now = open_archive_store(settings.replaced(retention=None)), utc_now()
    locked = f"{_PROBES}{now:%Y-%m-%d}"
    _remove_earlier(store, locked)
    try:
        store.put(locked, Source(_BODY, (), now + _LOCKED_FOR), "text/plain", {})
    except KeyExists:
        pass  # of an earlier run today
    except StoreRefused as error:
        raise Wrong(f"an object with a lock was refused: {one_line(error)}", _TURN_ON) from None
    try:
        shown = store.locked_until(locked)
    except StoreRefused as error:
        raise Noted(f"these credentials may not see locks: {one_line(error)}", _RIGHTS) from None
    if shown is None or shown <= now:
        with suppress(StoreError):  # so that the next run tries anew
            store.erase(locked)
        raise Wrong(
            "an object was written with a lock, and the store shows none: nothing is locked, or these credentials may not see it",
            f"{_TURN_ON}. {_RIGHTS[0].upper()}{_RIGHTS[1:]}",
        )
    try:
        store.erase(locked)
    except StoreRefused:
        return f"the store shows the lock of an object ({settings.retention_mode}){_refused(store)}"
    raise Wrong("the store shows the lock of an object, and still deleted it", _TURN_ON)


def _refused(store: Store) -> str:
    """What it says that a locked object could not be deleted: nothing, unless one without a lock can be."""
    with suppress(KeyExists):
        store.put(f"{_PROBES}none", Source(_BODY), "text/plain", {})
    try:
        store.erase(f"{_PROBES}none")
    except StoreRefused:
        return ". Not checked: whether it keeps locks, since these credentials may delete nothing, as they should"
    return ", and refused its deletion. Not checked: earlier versions, and who may lift locks"


def _remove_earlier(store: Store, today: str) -> None:
    """Remove what earlier days left, as far as locks and rights allow."""
    for one in store.list(_PROBES):
        if one.key != today:
            with suppress(StoreError):
                store.erase(one.key)
