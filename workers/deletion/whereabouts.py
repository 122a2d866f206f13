"""What a decision meets: where its recording is, and which deletions were under way.

Everything is answered as far as the archive and Telnyx answer: a decision does not wait for the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date

from redis.exceptions import RedisError

from archive import kinds, layout
from archive.archive import Archive
from archive.erasures import read_disposals, rule_of
from archive.readers import ERASURE, GONE, RECEIPT
from archive.records import CommitRecord, UnreadableRecord
from archive.retention import PARTS, part_of
from archive.stores.store import StoreError
from telnyx_api.errors import NotFound, TelnyxError
from text.one_line import one_line
from text.times import format_moment
from workers.catalogue.lookup import find_in_archive
from workers.deletion.decided import Decided
from workers.deletion.duties import other_units
from workers.deletion.may_delete import LONGEST_QUESTION_SECONDS
from workers.deletion.schedule import Leaving
from workers.queue.script import server_seconds
from workers.runtime import Runtime

Concerns = Callable[[CommitRecord], bool]

_TELNYX_SECONDS = 10.0
NO_REDIS = "whether a deletion or an erasure was under way (Redis does not answer; run the command again once it does)"
_LOOK_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 180.0
_OTHER_UNITS_SECONDS = 2 * LONGEST_QUESTION_SECONDS  # what another unit has asked about by then has left or will not


@dataclass(frozen=True)
class Whereabouts:
    """Where a recording is.

    Attributes:
        folder: in the archive; None: it is not committed, or lies far from the day that Telnyx names.
        is_at_telnyx: whether Telnyx has its original; None: unknown.
        gone: what the archive records of the end of its original, one line; None: nothing.
        erased: what the archive records of its erasure or disposal, likewise.
        unknown: a line for each look-up that failed, with the reason.
    """

    folder: str | None = None
    is_at_telnyx: bool | None = None
    gone: str | None = None
    erased: str | None = None
    unknown: tuple[str, ...] = ()


async def find_recording(runtime: Runtime, recording_id: str) -> Whereabouts:
    """Look for a recording; the answer names what could not be asked, and nothing is raised."""
    unknown: list[str] = []
    near: date | None = None
    is_there: bool | None = None
    try:
        near = await _day_at_telnyx(runtime, recording_id)
        is_there = near is not None
    except (TelnyxError, ValueError) as error:
        unknown.append(f"whether its original is still at Telnyx ({error})")
    try:
        folder, gone, erased = await runtime.in_thread(_in_archive, runtime.archive, recording_id, near)
    except (StoreError, UnreadableRecord) as error:
        unknown.append(f"where it lies in the archive ({error})")
        return Whereabouts(is_at_telnyx=is_there, unknown=tuple(unknown))
    return Whereabouts(folder, is_there, gone, erased, tuple(unknown))


async def is_at_telnyx(runtime: Runtime, recording_id: str) -> bool | None:
    """Whether Telnyx shows a recording; None if Telnyx does not answer now."""
    try:
        return await _day_at_telnyx(runtime, recording_id) is not None
    except (TelnyxError, ValueError):
        return None


async def is_known_at_telnyx(runtime: Runtime, connection_id: str) -> bool:
    """Whether Telnyx has a recording of a connection.

    Raises:
        TelnyxError: Telnyx does not answer.
    """
    async for _ in runtime.telnyx.recordings.list(filter={"connection_id": connection_id}, page_size=1):
        return True
    return False


async def _day_at_telnyx(runtime: Runtime, recording_id: str) -> date | None:
    """The day of a recording at Telnyx; None if Telnyx does not show it.

    Raises:
        TelnyxError, ValueError: it cannot be asked now, or names no day.
    """
    if not runtime.has_api_key:
        raise TelnyxError("TELNYX_API_KEY is not set")
    try:
        async with asyncio.timeout(_TELNYX_SECONDS):
            return (await runtime.telnyx.recordings.retrieve(recording_id)).dated.date()
    except NotFound:
        return None
    except TimeoutError:
        raise TelnyxError(f"no answer within {_TELNYX_SECONDS:g} s") from None


def _in_archive(archive: Archive, recording_id: str, near: date | None) -> tuple[str | None, str | None, str | None]:
    folder = archive.find_folder(recording_id, near) if near else find_in_archive(archive, recording_id)
    if folder is None:
        return None, None, None
    return folder, _gone(archive, folder), erasure_of(archive, folder)


def _gone(archive: Archive, folder: str) -> str | None:
    key = layout.receipt_key(folder)
    if (data := archive.read_small(key)) is not None:
        return f"deleted at Telnyx, which was confirmed at {format_moment(RECEIPT.read(data, key).confirmed_gone_at)}"
    key = layout.gone_key(folder)
    if (data := archive.read_small(key)) is not None:
        return f"gone at Telnyx before we asked for its deletion, found at {format_moment(GONE.read(data, key).found_gone_at)}"
    return None


def erasure_of(archive: Archive, folder: str) -> str | None:
    """The recorded erasure of a recording, or what rules disposed of, in one line; None without one; blocks.

    What a record names and is still there was not disposed of: a hold may have come in between.

    Raises:
        UnreadableRecord: the record cannot be read.
        StoreError: the archive cannot be asked now.
    """
    present = frozenset(archive.keys_of(folder))
    key = layout.erasure_key(folder)
    if (data := archive.read_small(key)) is None:
        return _disposal_of(archive, folder, present)
    record = ERASURE.read(data, key)
    if rule_of(record) is None:
        return f"erased at {format_moment(record.erased_at)} by {record.by}: {record.why}"
    left = [one for one in record.objects if one.key in present]
    if len(left) == len(record.objects):
        return _disposal_of(archive, folder, present)
    how = " in part" if left else ""
    return f"disposed of{how} at {format_moment(record.erased_at)} under retention rule {record.rule}"


def _disposal_of(archive: Archive, folder: str, present: Collection[str]) -> str | None:
    gone = [
        (part_of(kinds.kind_of(one.key)), record)
        for record in read_disposals(archive, folder, present)
        for one in record.objects
        if one.key not in present
    ]
    if not gone:
        return None
    parts, last = {part for part, _ in gone}, gone[-1][1]
    goes = " and ".join(part for part in PARTS if part in parts)
    return f"disposed of ({goes}) at {format_moment(last.disposed_at)} under retention rule {last.rule}"


async def moment_of(runtime: Runtime) -> float | None:
    """Now, by the clock of Redis; None if Redis does not answer."""
    try:
        return await server_seconds(runtime.redis)
    except (RedisError, OSError):
        return None


async def what_left_before(runtime: Runtime, concerns: Concerns | None, since: float | None) -> Decided:
    """What was deleted before the decision, as far as it can be seen; the decision is in force anyway.

    Args:
        runtime: the worker's parts.
        concerns: which recordings it is about, by their commit records; None: all.
        since: when it was made, by the clock of Redis; None: Redis did not answer.
    """
    if since is None:
        return Decided(unknown=(NO_REDIS,))
    try:
        return await _what_left(runtime, concerns, since)
    except (RedisError, OSError, StoreError, UnreadableRecord) as error:
        return Decided(unknown=(f"whether a deletion was under way ({one_line(error)})",))


async def _what_left(runtime: Runtime, concerns: Concerns | None, since: float) -> Decided:
    """Wait for the deletions under way; returns the originals deleted since an instant that it concerns."""
    every = {id_: row for id_, row in (await runtime.leaving.all()).items() if not row.is_over}
    rows = {id_: row for id_, row in every.items() if await _may_concern(runtime, row, concerns)}
    under_way = await wait_for(runtime, set(rows))
    left = await _those_of(runtime, await runtime.leaving.left_since(since), concerns)
    for id_, row in rows.items():  # a turn that died before its receipt
        if row.folder and id_ not in left and id_ not in under_way:
            is_there = await is_at_telnyx(runtime, id_)
            if is_there is None:
                under_way.add(id_)
            elif not is_there:
                left[id_] = row.folder
    transcriptions = await _those_of(runtime, await runtime.leaving.transcriptions_left(), concerns)
    stay = [id_ for id_ in transcriptions if id_ not in left and await is_at_telnyx(runtime, id_) is not False]
    return Decided(left=tuple(left), under_way=tuple(under_way), transcriptions=tuple(stay))


async def _may_concern(runtime: Runtime, row: Leaving, concerns: Concerns | None) -> bool:
    """Whether a decision concerns a deletion under way; if that cannot be read, it counts as one."""
    if not row.folder or concerns is None:
        return True
    try:
        record = await runtime.in_thread(runtime.archive.commit_record, row.folder)
    except (StoreError, UnreadableRecord):
        return True
    return record is None or concerns(record)


async def _those_of(runtime: Runtime, folders: Mapping[str, str], concerns: Concerns | None) -> dict[str, str]:
    return {id_: folder for id_, folder in folders.items() if await _is_of(runtime, folder, concerns)}


async def _is_of(runtime: Runtime, folder: str, concerns: Concerns | None) -> bool:
    if concerns is None:
        return True
    record = await runtime.in_thread(runtime.archive.commit_record, folder)
    return record is not None and concerns(record)


async def wait_for(runtime: Runtime, recording_ids: set[str]) -> set[str]:
    """Wait for the results of deletions that were under way; returns those whose result is still unknown."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    others = await other_units(runtime)
    waiting = await runtime.leaving.under_way(recording_ids)
    while waiting and loop.time() - began < _LONGEST_WAIT_SECONDS:
        await asyncio.sleep(_LOOK_SECONDS)
        waiting = await runtime.leaving.under_way(waiting)
    if others:  # what they are about cannot be seen from here
        await asyncio.sleep(max(0.0, _OTHER_UNITS_SECONDS - (loop.time() - began)))
    return waiting
