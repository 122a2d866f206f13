"""Make an archive and bind Redis to it: for `callvault init`, and for `up` and `demo` in their own folder."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from archive.archive import Archive
from archive.decision_records import Decision
from archive.decisions import new_id, put_decision
from archive.identity import make_identity, read_identity
from archive.records import Identity
from archive.stores.store import Store, StoreMissing
from text.errors import UserError
from text.times import format_instant, utc_now
from text.user import user_name
from workers.deletion.schedule import DeletionSchedule
from workers.keys import INITIALISING
from workers.queue.binding import assert_bound, bind_anew, bound_to, remembers_an_archive
from workers.queue.script import AsyncRedis

_LOCK_SECONDS = 120


@dataclass(frozen=True)
class Initialised:
    """The result of `init_archive`.

    Attributes:
        is_new: whether this call made the identity.
        redis: whether Redis belonged to the archive already, to none before, or to another.
    """

    identity: Identity
    is_new: bool
    redis: Literal["was bound", "bound", "bound anew"]


async def init_archive(store: Store, redis: AsyncRedis, *, adopt: bool = False) -> Initialised:
    """Make an archive in a store, and bind Redis to it. If both are done already, nothing changes.

    Args:
        store: where to make it.
        redis: the Redis that is to serve it.
        adopt: whether a person accepts the objects there and the other archive that this Redis belongs to.

    Raises:
        UserError: without `adopt`, the store holds objects or Redis belongs to another archive.
        StoreError: the store does not answer, or refuses the identity.
        redis.exceptions.RedisError: Redis does not answer.
    """
    async with redis.lock(INITIALISING, timeout=_LOCK_SECONDS, blocking_timeout=_LOCK_SECONDS):
        identity = await asyncio.to_thread(_read, store)
        bound = await bound_to(redis)
        is_new = identity is None
        if identity is None:
            identity = await _make(store, redis, adopt)
        elif bound == identity.id:
            return Initialised(identity, False, "was bound")
        if adopt:
            await bind_anew(redis, identity.id)
            return Initialised(identity, is_new, "bound anew")
        await assert_bound(redis, identity.id)
        return Initialised(identity, is_new, "bound")


def _read(store: Store) -> Identity | None:
    try:
        return read_identity(store)
    except StoreMissing:
        return None


async def _make(store: Store, redis: AsyncRedis, adopt: bool) -> Identity:
    holds = await asyncio.to_thread(_holds_objects, store)
    if not adopt and holds:
        raise UserError(
            f"no archive.json beside the objects in {store.url}: for an archive of an earlier version, run `callvault init "
            "--adopt`; if archive.json was lost, restore it from a copy; for a new archive, choose an empty place"
        )
    if not adopt and await remembers_an_archive(redis):
        raise UserError(
            f"{store.url} is not an archive, but this Redis belongs to one: check that its disk is mounted, and check REDIS_URL "
            "and CALLVAULT_ARCHIVE_URL. To make a new archive here anyway, run `callvault init --adopt`"
        )
    await asyncio.to_thread(store.create_place)
    if adopt and (why := await DeletionSchedule(redis).paused()) is not None:
        await asyncio.to_thread(_keep_pause, store, why)
    return await asyncio.to_thread(lambda: make_identity(store, adopt=holds))


def _keep_pause(store: Store, why: str) -> None:
    """Write a pause into the archive that an earlier version kept in Redis alone."""
    at, by = format_instant(utc_now()), user_name()
    pause = Decision(id=new_id(), decision="hold", scope="everything", subject="", why=why, by=by, at=at)
    put_decision(Archive(store), pause)


def _holds_objects(store: Store) -> bool:
    try:
        return next(iter(store.list("")), None) is not None
    except StoreMissing:
        return False
