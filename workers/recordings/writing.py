"""Write something of a recording: one writer at a time, and nothing of an erased one.

On a store that ignores `If-None-Match`, two writers of one recording would overwrite each other's objects. And a job that
runs during an erasure must not bring erased objects back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from archive import layout
from archive.archive import Archive
from archive.cases import open_cases, why_held_by_cases, why_held_without_record
from archive.commit import Commit
from archive.decisions import decisions_about, decisions_on, why_held
from archive.erase import erase_what_is_left, what_is_left
from archive.erasures import Erasures, rule_of
from archive.proof import Damaged
from archive.readers import ERASURE
from archive.records import UnreadableRecord
from archive.stores.store import StoreRefused
from process.logs import get_logger
from text.counts import many
from text.errors import UserError
from workers.engine.lease import held
from workers.keys import WRITER
from workers.queue.script import AsyncRedis
from workers.runtime import Runtime
from workers.seals.signing import open_seal_keys

log = get_logger()


def sole_writer(redis: AsyncRedis, recording_id: str, wait_seconds: float = 2.0) -> AbstractAsyncContextManager[None]:
    """Hold the lease to write a recording while the block runs. If another writer takes it, the block is cancelled.

    Args:
        redis: the client.
        recording_id: its id at Telnyx.
        wait_seconds: how long to wait for another writer.

    Raises:
        HeldElsewhere: another writer keeps it, or took it.
        redis.exceptions.RedisError: Redis is away.
    """
    return held(redis, WRITER + recording_id, f"recording {recording_id}", wait_seconds)


class Erased(UserError):
    """The recording was erased, so no job writes anything of it."""


async def refuse_if_erased(runtime: Runtime, folder: str) -> None:
    """Stop a job that is about to write something of an erased recording, or has just done so.

    Jobs call it under the recording's lease: before they write, and after, in case a process without the lease erased the
    recording meanwhile. What was written since is erased too; without the permission, an alert asks a person to do it.

    Raises:
        Erased: it was erased, or disposed of. What is left of a disposal stays: only the process that disposes may finish it.
        Damaged: the erasure record is not valid, or the recording is held; nothing is erased, and a person must check.
        StoreError: the store is away; the caller must stop.
    """
    if not await runtime.in_thread(runtime.archive.is_erased, folder):
        return
    if (doubt := await runtime.in_thread(_doubt, runtime, folder)) is not None:
        advice = (
            "Run `callvault verify` and find out who wrote it. The worker neither erases nor writes anything there."
        )
        await runtime.alerts.send("archive-damaged", "recordings", f"{doubt}.", advice)
        raise doubt
    if await runtime.in_thread(_is_disposal, runtime.archive, folder):
        await runtime.schedule.done(folder)
        raise Erased(f"{folder}: disposed of under a retention rule, and nothing of it is written any more")
    try:
        if keys := await runtime.in_thread(erase_what_is_left, runtime.archive, folder):
            log.warning("erased what was written after an erasure", folder=folder, objects=len(keys))
    except StoreRefused as error:
        left = await runtime.in_thread(what_is_left, runtime.archive, folder)
        text = f"{folder} was erased, and {many(len(left), 'object was', 'objects were')} written there since: {error}."
        advice = "Run `callvault erase` on it again with credentials that may delete."
        await runtime.alerts.send("erasure-incomplete", folder, text, advice)
    await runtime.schedule.done(folder)
    raise Erased(f"{folder}: erased at its owner's wish, and nothing of it is written any more")


def _doubt(runtime: Runtime, folder: str) -> Damaged | None:
    """Why a worker does not act on the record of an erasure; None if it does; blocks.

    Somebody who may write to the bucket, but not delete, could otherwise make the worker delete for them.
    """
    archive, settings = runtime.archive, runtime.settings
    trusted = None if settings.seal_key is None else open_seal_keys(settings).trusted
    problems = Erasures(archive, archive.identity, trusted).read(folder, archive.keys_of(folder)).problems
    if problems:
        return Damaged(problems[0].key, problems[0].what)
    if what_is_left(archive, folder) and (why := _why_held(runtime, folder)) is not None:
        return Damaged(layout.erasure_key(folder), f"says that the recording was erased, and {why}")
    return None


def _is_disposal(archive: Archive, folder: str) -> bool:
    """Whether a retention rule, and no person, had a recording erased; blocks."""
    key = layout.erasure_key(folder)
    return rule_of(ERASURE.read(archive.read_small(key), key)) is not None


def _why_held(runtime: Runtime, folder: str) -> str | None:
    """What holds a recording whose erasure is not done; blocks. An erasure removes the commit record last."""
    archive = runtime.archive
    if (why := why_held(decisions_on(archive, folder))) is not None:
        return f"it is on hold ({why})"
    try:
        record = archive.commit_record(folder)
    except UnreadableRecord:
        why = why_held_without_record(open_cases(archive), folder)
        return None if why is None else f"it is held by {why}"
    if record is None:
        return None
    connection = record.recording.get("connection_id")
    if connection is not None:
        why = why_held(decisions_about(archive, "connection", str(connection)))
        if str(connection) in runtime.settings.hold_connections:
            why = "CALLVAULT_HOLD_CONNECTIONS"
        if why is not None:
            return f"its connection {connection} is on hold ({why})"
    why = why_held_by_cases(open_cases(archive), record)
    return None if why is None else f"it is held by {why}"


@asynccontextmanager
async def unless_erased(runtime: Runtime, folder: str, commit: Commit | None = None) -> AsyncIterator[None]:
    """Write something of a recording, unless it was erased before, meanwhile or right after.

    What fails in between may fail since its objects were just being erased, which is no damage.

    Args:
        runtime: the worker's parts.
        folder: the recording's folder.
        commit: the commit that the block is, which asks for an erasure together with other things; None: the block is not one.

    Raises:
        Erased: it was.
        StoreError: the store is away.
    """
    if commit is None or commit.was_erased is not False:
        await refuse_if_erased(runtime, folder)
    try:
        yield
    except Exception:
        await refuse_if_erased(runtime, folder)
        raise
    if commit is None or commit.is_erased is not False:
        await refuse_if_erased(runtime, folder)
