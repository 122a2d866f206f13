"""What a person decides about originals: to hold them, to lift a hold, to approve what was found, to pause all deletion.

A decision is written into the archive first; then a deletion that was already under way is waited for. So once this returns, no
deletion leaves that the decision forbids, and the answer says whether one had left before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from config.errors import UserError
from config.times import format_instant, utc_now
from config.values import is_id
from workers.archive import layout
from workers.archive.decisions import (
    Decisions,
    Scope,
    decisions_about,
    findings_of,
    new_id,
    put_decision,
    read_decisions,
    standing_holds,
)
from workers.archive.records import Decision
from workers.jobs.duties import stated_duties, unit_of
from workers.jobs.kept import duties_of_workers, what_keeps
from workers.keys import DECIDED_EARLY
from workers.queue.script import server_seconds, write_when_full
from workers.runtime import Runtime
from workers.telnyx.errors import NotFound
from workers.telnyx.models import Recording

_LOOK_SECONDS = 0.1
_MOST_NAMED = 10
_LONGEST_WAIT_SECONDS = 180.0
_OTHER_UNITS_SECONDS = 10.0  # what another unit has asked about by then has left or will not
_ONCE_FREE = "its original is deleted once it is due and nothing else keeps it"


@dataclass(frozen=True)
class Decided:
    """What came of a decision.

    Attributes:
        is_new: whether it was written; False: it stood already.
        left: ids of the recordings whose original had left before.
        under_way: of those whose deletion was sent before and whose end is not known yet.
        transcriptions: of those that stay, but of which the deletion of a transcription was sent before.
    """

    is_new: bool = True
    left: tuple[str, ...] = ()
    under_way: tuple[str, ...] = ()
    transcriptions: tuple[str, ...] = ()

    @property
    def came_too_late(self) -> bool:
        """Whether something left, or may leave, that it would have kept."""
        return bool(self.left or self.under_way or self.transcriptions)


def too_late(decided: Decided) -> str:
    """What a person must know of a decision that came too late for something; empty if it did not."""
    said = ""
    if decided.left:
        said += f"; too late for {len(decided.left)}, already deleted at Telnyx: {_some(decided.left)}"
    if decided.under_way:
        count, named = len(decided.under_way), _some(decided.under_way)
        said += f"; the deletion of {count} was sent before, and its end is not known yet: {named}"
    if decided.transcriptions:
        count, named = len(decided.transcriptions), _some(decided.transcriptions)
        said += f"; the deletion of the transcriptions of {count} was sent before; they are archived: {named}"
    return said


def what_follows(kept: str | None) -> str:
    """What becomes of an original that was released or approved.

    Args:
        kept: what keeps it all the same; None: nothing but its time.
    """
    return _ONCE_FREE if kept is None else f"its original stays all the same: {kept}"


def _some(ids: tuple[str, ...]) -> str:
    return ", ".join(ids[:_MOST_NAMED]) + (f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else "")


async def hold(runtime: Runtime, recording_id: str, why: str, by: str) -> Decided:
    """Hold an original: it is not deleted until this hold is lifted.

    Raises:
        UserError: it is not at Telnyx (any more).
        TelnyxError, StoreError, redis.exceptions.RedisError: one of them is away; the hold may stand all the same.
    """
    recording = await _recording(runtime, recording_id)
    folder = await _folder(runtime, recording, recording_id)
    await _write(runtime, _decision("hold", "recording", recording_id, why, by), folder)
    under_way = await _wait_for(runtime, {recording_id})
    if not await _is_there(runtime, recording_id):
        return Decided(left=(recording_id,))
    if folder is not None and not under_way:
        await runtime.due.done(folder)
    transcriptions = await runtime.leaving.transcriptions_left()
    return Decided(under_way=tuple(under_way), transcriptions=tuple({recording_id} & transcriptions.keys()))


async def hold_connection(runtime: Runtime, connection_id: str, why: str, by: str) -> Decided:
    """Hold all originals of a connection, those to come too.

    Raises:
        UserError: that cannot be the id of a connection.
        StoreError, redis.exceptions.RedisError: one of them is away; the hold may stand all the same.
    """
    if not is_id(connection_id):
        raise UserError(f"--connection: {connection_id!r} cannot be the id of a connection")
    since = await server_seconds(runtime.redis)
    await _write(runtime, _decision("hold", "connection", connection_id, why, by))
    return await _what_left(runtime, connection_id, since)


async def release(runtime: Runtime, recording_id: str, why: str, by: str) -> str | None:
    """Lift the holds of an original that stand now, and no other. It approves nothing that was found in its audio.

    Returns:
        What keeps it all the same; None: nothing but its time.

    Raises:
        UserError: no decision about it holds it; the text says what keeps it.
        TelnyxError, StoreError, redis.exceptions.RedisError: one of them is away.
    """
    recording = await _recording(runtime, recording_id)
    folder = await _folder(runtime, recording, recording_id)
    lifts = sorted(standing_holds(await _decisions(runtime, recording_id, folder)))
    if not lifts:
        kept = None if folder is None else await what_keeps(runtime, folder)
        stays = "nothing was changed" if kept is None else f"its original stays all the same: {kept}"
        raise UserError(
            f"recording {recording_id} is not on hold by a decision about it, so there is nothing to lift; {stays}. What was "
            "found in its audio is let go by `callvault deletions approve`, a connection by `deletions release --connection`"
        )
    await _write(runtime, _decision("release", "recording", recording_id, why, by, lifts=lifts), folder)
    await _schedule(runtime, folder)
    return None if folder is None else await what_keeps(runtime, folder)


async def release_connection(runtime: Runtime, connection_id: str, why: str, by: str) -> str | None:
    """Lift the holds of a connection that stand now.

    Returns:
        What holds it all the same; None: nothing.

    Raises:
        UserError: no decision holds it.
        StoreError: the archive is away.
    """
    known = await runtime.in_thread(decisions_about, runtime.archive, "connection", connection_id)
    if not (lifts := sorted(standing_holds(known))):
        held = await _held_by_setting(runtime, connection_id)
        line = f"connection {connection_id} is not on hold by a decision, so there is nothing to lift"
        raise UserError(line if held is None else f"{line}; it is on hold all the same: {held}")
    await _write(runtime, _decision("release", "connection", connection_id, why, by, lifts=lifts))
    return await _held_by_setting(runtime, connection_id)


async def _held_by_setting(runtime: Runtime, connection_id: str) -> str | None:
    duties = await duties_of_workers(runtime)
    return "CALLVAULT_HOLD_CONNECTIONS of a worker names it" if connection_id in duties.hold_connections else None


async def is_known_at_telnyx(runtime: Runtime, connection_id: str) -> bool:
    """Whether Telnyx has a recording of a connection.

    Raises:
        TelnyxError: Telnyx does not answer.
    """
    async for _ in runtime.telnyx.recordings.list(filter={"connection_id": connection_id}, page_size=1):
        return True
    return False


async def approve(runtime: Runtime, recording_id: str, why: str, by: str) -> tuple[list[str], str | None]:
    """Let an original go in spite of what was found in its audio, or of another content that Telnyx has shown. It lifts no hold.

    Returns:
        What was approved, and what keeps the original all the same; None: nothing but its time.

    Raises:
        UserError: it is not archived, or nothing was found.
        TelnyxError, StoreError, redis.exceptions.RedisError: one of them is away.
    """
    recording = await _recording(runtime, recording_id)
    folder = await _folder(runtime, recording, recording_id)
    record = None if folder is None else await runtime.in_thread(runtime.archive.commit_record, folder)
    if folder is None or record is None:
        raise UserError(f"recording {recording_id} is not archived yet, so nothing was found in it")
    findings = findings_of(await runtime.in_thread(runtime.archive.versions, folder), record)
    if not findings:
        raise UserError(f"nothing was found in recording {recording_id}, so there is nothing to approve")
    await _write(runtime, _decision("approve", "recording", recording_id, why, by, findings=findings), folder)
    await _schedule(runtime, folder)
    return findings, await what_keeps(runtime, folder)


async def pause(runtime: Runtime, why: str, by: str) -> Decided:
    """Delete nothing until resumed, wherever a worker runs.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away.
    """
    since = await server_seconds(runtime.redis)
    is_new = await stop(runtime, why, by)
    what = await _what_left(runtime, None, since)
    return replace(what, is_new=is_new)


async def stop(runtime: Runtime, why: str, by: str) -> bool:
    """Pause deletion without waiting for what is under way, as a worker does that stops itself; False if it was paused.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away.
    """
    known = await runtime.in_thread(decisions_about, runtime.archive, "everything")
    standing = standing_holds(known)
    if not standing:
        await _write(runtime, _decision("hold", "everything", "", why, by))
    await runtime.due.show_pause("; ".join(sorted(set(standing.values()))) or why)
    return not standing


async def resume(runtime: Runtime, why: str, by: str) -> bool:
    """Go on deleting; False if it was not paused.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away.
    """
    known = await runtime.in_thread(decisions_about, runtime.archive, "everything")
    lifts = sorted(standing_holds(known))
    if lifts:
        await _write(runtime, _decision("release", "everything", "", why, by, lifts=lifts))
    await runtime.due.show_pause(None)
    return bool(lifts)


def _decision(
    word: Literal["hold", "release", "approve"],
    scope: Scope,
    subject: str,
    why: str,
    by: str,
    *,
    lifts: Sequence[str] = (),
    findings: Sequence[str] = (),
) -> Decision:
    if not why.strip():
        raise UserError("--why: say why; it is written into the archive")
    return Decision(
        id=new_id(),
        decision=word,
        scope=scope,
        subject=subject,
        why=why,
        by=by,
        at=format_instant(utc_now()),
        lifts=list(lifts),
        findings=list(findings),
    )


async def _write(runtime: Runtime, decision: Decision, folder: str | None = None) -> None:
    if folder is None and decision.scope == "recording":
        await write_when_full(runtime.redis, ("HSET", DECIDED_EARLY, decision.subject, "1"))
    await runtime.in_thread(put_decision, runtime.archive, decision, folder)
    if folder is not None:
        await runtime.announce(layout.decision_copy_key(folder, decision.id), decision)


async def take_up_decisions(runtime: Runtime, recording_id: str, folder: str) -> None:
    """Put what was decided about a recording before it was committed into its folder, for the seal of its day and for searches.

    Should Redis have been lost in between, it is missing there; what counts lies under the recording's id all the same.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away; the job runs again.
    """
    if not await runtime.redis.hexists(DECIDED_EARLY, recording_id):
        return
    known = await runtime.in_thread(decisions_about, runtime.archive, "recording", recording_id)
    for decision in known.values():
        if isinstance(decision, Decision):
            key = layout.decision_copy_key(folder, decision.id)
            await runtime.in_thread(runtime.archive.put_record, key, decision)
            await runtime.announce(key, decision)
    if known:  # else it is being written just now
        await runtime.redis.hdel(DECIDED_EARLY, recording_id)


async def _recording(runtime: Runtime, recording_id: str) -> Recording:
    try:
        return await runtime.telnyx.recordings.retrieve(recording_id)
    except NotFound:
        line = f"recording {recording_id} is not at Telnyx, so there is no original to decide about"
        raise UserError(f"{line}; `callvault find --id {recording_id}` says what the archive has") from None


async def _folder(runtime: Runtime, recording: Recording, recording_id: str) -> str | None:
    """Where a recording is committed; None if it is not, or too far from its present date to be found."""
    return await runtime.in_thread(runtime.archive.find_folder, recording_id, recording.dated.date())


async def _decisions(runtime: Runtime, recording_id: str, folder: str | None) -> Decisions:
    """All decisions about a recording: those under its id, and those in its folder."""
    known = await runtime.in_thread(decisions_about, runtime.archive, "recording", recording_id)
    if folder is None:
        return known
    keys = await runtime.in_thread(runtime.archive.keys_of, f"{folder}decisions/")
    return {**await runtime.in_thread(read_decisions, runtime.archive, keys), **known}


async def _schedule(runtime: Runtime, folder: str | None) -> None:
    if folder is not None and runtime.settings.delete_originals == "verified":
        await runtime.due.hasten(folder, runtime.settings.delete_after.total_seconds())


async def _what_left(runtime: Runtime, connection_id: str | None, since: float) -> Decided:
    """Wait for the deletions under way, and say which originals have left since an instant; of one connection, or all."""
    rows = {id_: row for id_, row in (await runtime.leaving.all()).items() if not row.is_over}
    under_way = await _wait_for(runtime, set(rows))
    left = await runtime.leaving.left_since(since)
    for id_, row in rows.items():  # a turn that died before its receipt
        if row.folder and id_ not in left and id_ not in under_way and not await _is_there(runtime, id_):
            left[id_] = row.folder
    transcriptions = await runtime.leaving.transcriptions_left()
    stay = {id_: folder for id_, folder in transcriptions.items() if id_ not in left and await _is_there(runtime, id_)}
    return Decided(
        left=tuple([id_ for id_, folder in left.items() if await _is_of(runtime, folder, connection_id)]),
        under_way=tuple(under_way),
        transcriptions=tuple([id_ for id_, folder in stay.items() if await _is_of(runtime, folder, connection_id)]),
    )


async def _is_of(runtime: Runtime, folder: str, connection_id: str | None) -> bool:
    if connection_id is None:
        return True
    record = await runtime.in_thread(runtime.archive.commit_record, folder)
    return record is not None and str(record.recording.get("connection_id")) == connection_id


async def _wait_for(runtime: Runtime, recording_ids: set[str]) -> set[str]:
    """Wait until the end of deletions that were under way is known; returns those whose end is not."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    units = await runtime.in_thread(stated_duties, runtime.archive)
    others = [unit for unit, duties in units.items() if unit != unit_of(runtime.settings) and not duties.retired]
    waiting = await runtime.leaving.under_way(recording_ids)
    while waiting and loop.time() - began < _LONGEST_WAIT_SECONDS:
        await asyncio.sleep(_LOOK_SECONDS)
        waiting = await runtime.leaving.under_way(waiting)
    if others:  # what they are about cannot be seen from here
        await asyncio.sleep(max(0.0, _OTHER_UNITS_SECONDS - (loop.time() - began)))
    return waiting


async def _is_there(runtime: Runtime, recording_id: str) -> bool:
    try:
        await runtime.telnyx.recordings.retrieve(recording_id)
    except NotFound:
        return False
    return True
