"""What a person decides about originals: hold them, release a hold, approve findings, pause all deletion.

Each function writes the decision into the archive first, then waits for deletions that were under way. So once it returns, no
worker sends a deletion that the decision forbids, and the answer says whether one was sent before.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal

from redis.exceptions import RedisError

from archive import layout
from archive.decision_records import Decision
from archive.decisions import (
    decisions_about,
    decisions_on,
    findings_of,
    new_id,
    put_decision,
    put_hold_once,
    standing_holds,
)
from archive.hold import Hold
from archive.layout import Scope
from archive.records import CommitRecord, UnreadableRecord
from archive.stores.store import StoreError
from config.values import is_id
from process.logs import get_logger
from text.errors import UserError
from text.one_line import one_line
from text.times import format_instant, utc_now
from workers.deletion.decided import NOWHERE, Decided, Released
from workers.deletion.duties import workers_duties
from workers.deletion.kept import cases_on, what_keeps
from workers.deletion.may_delete import pause_of
from workers.deletion.whereabouts import (
    NO_REDIS,
    Whereabouts,
    erasure_of,
    find_recording,
    is_at_telnyx,
    moment_of,
    wait_for,
    what_left_before,
)
from workers.engine.lease import HeldElsewhere
from workers.keys import DECIDED_EARLY, DECISIONS_ANNOUNCED
from workers.queue.script import write_when_full
from workers.recordings.writing import sole_writer
from workers.runtime import Runtime

log = get_logger()

_ERASURE_SECONDS = 30.0
_NOT_SHOWN = ", or belongs to another account than this API key (Telnyx does not show it)"


class NothingHeld(UserError):
    """There is nothing to release."""


async def hold(runtime: Runtime, recording_id: str, why: str, by: str, *, once: bool = False) -> Decided:
    """Hold a recording: until a release, its original is not deleted and its archived copy is not erased.

    The hold is placed first. A look-up that fails after it, without an API key, Telnyx or Redis, does not undo it.

    Args:
        runtime: the parts that jobs share.
        recording_id: the recording.
        why: the reason; by: who decides.
        once: whether a hold that stands, by the same person for the same reason, is this one, sent again.

    Raises:
        UserError: no reason is given, or that cannot be the id of a recording.
        StoreError: the archive did not take it; no hold stands.
    """
    if not is_id(recording_id):
        raise UserError(f"{recording_id!r} cannot be the id of a recording")
    decision = _decision("hold", "recording", recording_id, why, by)
    since = await moment_of(runtime)
    is_new = True
    if once:
        decision, is_new = await runtime.in_thread(put_hold_once, runtime.archive, decision)
    else:
        await runtime.in_thread(put_decision, runtime.archive, decision)
    found = await find_recording(runtime, recording_id)
    unknown = [*found.unknown] if since is not None else [*found.unknown, NO_REDIS]
    decided = Decided()
    try:
        if since is not None:
            await announce_copy(runtime, decision, found.folder)
            decided = await _what_came_before(runtime, recording_id, found, since)
        elif found.folder is not None:
            copy = layout.decision_copy_key(found.folder, decision.id)
            await runtime.in_thread(runtime.archive.put_once, copy, decision)
    except (RedisError, OSError, StoreError, UnreadableRecord) as error:
        unknown.append(f"whether a deletion was under way ({one_line(error)})")
    is_gone = found.is_at_telnyx is False and not decided.left
    return replace(
        decided,
        is_new=is_new,
        had_gone=f" ({found.gone})" if found.gone else _NOT_SHOWN if is_gone and found.folder is not None else None,
        erased=decided.erased or found.erased,
        is_nowhere=is_gone and found.folder is None and not unknown,
        unknown=(*unknown, *decided.unknown),
    )


async def _what_came_before(runtime: Runtime, recording_id: str, found: Whereabouts, since: float) -> Decided:
    """Wait for a deletion or an erasure that was under way when a recording was held; returns how it ended."""
    row = await runtime.leaving.of(recording_id)
    under_way = await wait_for(runtime, {recording_id})
    is_there = await is_at_telnyx(runtime, recording_id)
    was_there = found.is_at_telnyx or (row is not None and not row.is_over)
    if recording_id in await runtime.leaving.left_since(since) or (is_there is False and was_there and not under_way):
        return Decided(left=(recording_id,))
    if found.folder is not None and not under_way and is_there is not False:
        await runtime.schedule.done(found.folder)
    transcriptions = await runtime.leaving.transcriptions_left()
    decided = Decided(under_way=tuple(under_way), transcriptions=tuple({recording_id} & transcriptions.keys()))
    if found.folder is None:
        return decided
    try:
        async with sole_writer(runtime.redis, recording_id, _ERASURE_SECONDS):  # an erasure keeps it to its end
            erased = await runtime.in_thread(erasure_of, runtime.archive, found.folder)
    except HeldElsewhere:
        return replace(decided, unknown=("whether it is being erased: a job or a command is writing it",))
    return replace(decided, erased=erased)


async def release(runtime: Runtime, recording_id: str, why: str, by: str) -> Released:
    """Release the holds of a recording that are in force now. It approves no findings.

    Raises:
        NothingHeld: no decision about it holds it; the text says what keeps it.
        StoreError, redis.exceptions.RedisError: one of them is away, and nothing is recorded.
    """
    found = await find_recording(runtime, recording_id)
    folder = found.folder
    if folder is None:
        known = await runtime.in_thread(decisions_about, runtime.archive, "recording", recording_id)
    else:
        known = await runtime.in_thread(decisions_on, runtime.archive, folder)
    lifts = sorted(standing_holds(known))
    if not lifts:
        kept = None if folder is None else await what_keeps(runtime, folder) or await _in_cases(runtime, folder)
        stays = "nothing was changed" if kept is None else f"Callvault still keeps its original: {kept}"
        raise NothingHeld(
            f"recording {recording_id} has no hold of its own, so there is nothing to release; {stays}. To approve "
            "findings, run `callvault deletions approve`; to release a connection, `callvault deletions release --connection`"
        )
    is_told = await _write(runtime, _decision("release", "recording", recording_id, why, by, lifts=lifts), folder)
    if found.erased is None and found.gone is None:
        is_told = await _schedule(runtime, folder) and is_told
    return await _follows(runtime, found, is_told)


async def _follows(runtime: Runtime, found: Whereabouts, is_told: bool) -> Released:
    """What follows a release or an approval. It is recorded, so what cannot be read now is reported and not raised."""
    try:
        return replace(await _released(runtime, found), is_told=is_told)
    except (RedisError, OSError, StoreError, UnreadableRecord) as error:
        return Released(instead=f"unknown: what becomes of its original ({one_line(error)})", is_told=is_told)


async def _released(runtime: Runtime, found: Whereabouts) -> Released:
    """What becomes of a recording that was released or approved."""
    if found.erased is not None:
        return Released(instead=f"the recording was {found.erased}")
    folder = found.folder
    if found.gone is not None:
        return Released(None if folder is None else await _in_cases(runtime, folder), found.gone)
    if folder is not None:
        is_gone = found.is_at_telnyx is False
        return Released(gone="Telnyx does not show it") if is_gone else Released(await what_keeps(runtime, folder))
    if found.unknown:
        return Released(instead="; ".join(f"unknown: {line}" for line in found.unknown))
    return Released(instead=NOWHERE if found.is_at_telnyx is False else None)


async def _in_cases(runtime: Runtime, folder: str) -> str | None:
    """The open cases that hold a recording, which no release frees it from; None if none does."""
    found = await runtime.in_thread(cases_on, runtime.archive, folder)
    return "; ".join(f"held by {case}" for case in found) or None


async def hold_connection(runtime: Runtime, connection_id: str, why: str, by: str) -> Decided:
    """Hold all recordings of a connection, those to come too.

    Raises:
        UserError: no reason is given, or that cannot be the id of a connection.
        StoreError: the archive did not take it; no hold stands.
    """
    if not is_id(connection_id):
        raise UserError(f"--connection: {connection_id!r} cannot be the id of a connection")
    decision = _decision("hold", "connection", connection_id, why, by)
    since = await moment_of(runtime)
    await _write(runtime, decision)

    def concerns(record: CommitRecord) -> bool:
        return str(record.recording.get("connection_id")) == connection_id

    return await what_left_before(runtime, concerns, since)


async def release_connection(runtime: Runtime, connection_id: str, why: str, by: str) -> str | None:
    """Release the holds of a connection that are in force now.

    Returns:
        What holds it anyway; None if nothing does.

    Raises:
        UserError: no decision holds it.
        StoreError: the archive is away.
    """
    known = await runtime.in_thread(decisions_about, runtime.archive, "connection", connection_id)
    if not (lifts := sorted(standing_holds(known))):
        held = await _held_by_setting(runtime, connection_id)
        line = f"no decision holds connection {connection_id}, so there is nothing to release"
        raise UserError(line if held is None else f"{line}; it is on hold anyway: {held}")
    await _write(runtime, _decision("release", "connection", connection_id, why, by, lifts=lifts))
    return await _held_by_setting(runtime, connection_id)


async def _held_by_setting(runtime: Runtime, connection_id: str) -> str | None:
    duties = await workers_duties(runtime)
    return "a worker's CALLVAULT_HOLD_CONNECTIONS names it" if connection_id in duties.hold_connections else None


async def approve(runtime: Runtime, recording_id: str, why: str, by: str) -> tuple[list[str], Released]:
    """Allow the deletion of an original in spite of findings or of changed content at Telnyx. It releases no hold.

    Returns:
        What was approved, and what follows.

    Raises:
        UserError: it is not archived, its original is gone, or nothing was found.
        StoreError: the archive is away, and nothing is recorded.
    """
    found = await find_recording(runtime, recording_id)
    folder = found.folder
    record = None if folder is None else await runtime.in_thread(runtime.archive.commit_record, folder)
    if folder is None or record is None:
        more = "".join(f"; unknown: {line}" for line in found.unknown)
        raise UserError(f"recording {recording_id} is not archived, so there is nothing to approve{more}")
    if found.gone is not None:
        raise UserError(
            f"the original of recording {recording_id} was already gone ({found.gone}): there is nothing to approve"
        )
    versions = await runtime.in_thread(runtime.archive.versions, folder)
    findings = findings_of(versions, record)
    if not findings:
        same = (
            "; Telnyx describes it differently now, but its audio is the same, so nothing keeps it" if versions else ""
        )
        raise UserError(f"recording {recording_id} has no findings, so there is nothing to approve{same}")
    is_told = await _write(runtime, _decision("approve", "recording", recording_id, why, by, findings=findings), folder)
    is_told = await _schedule(runtime, folder) and is_told
    return findings, await _follows(runtime, found, is_told)


async def pause(runtime: Runtime, why: str, by: str) -> Decided:
    """Delete nothing until resumed, wherever a worker runs.

    Raises:
        UserError: no reason is given.
        StoreError: the archive did not take it; deletion goes on.
    """
    since = await moment_of(runtime)
    standing, is_new = await _paused(runtime, why, by)
    if since is not None:
        with suppress(RedisError, OSError):  # a worker shows it within half a minute
            await show_pause(runtime, standing)
    return replace(await what_left_before(runtime, None, since), is_new=is_new)


async def stop(runtime: Runtime, why: str, by: str) -> bool:
    """Pause deletion without waiting for what is under way, as the safety stop does; False if it was paused before.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away.
    """
    standing, is_new = await _paused(runtime, why, by)
    await show_pause(runtime, standing)
    return is_new


async def _paused(runtime: Runtime, why: str, by: str) -> tuple[Hold, bool]:
    """The pause in force, and whether it was written now."""
    standing = await runtime.in_thread(pause_of, runtime.archive)
    if standing is not None:
        return standing, False
    decision = _decision("hold", "everything", "", why, by)
    await _write(runtime, decision)
    return Hold(why, by, decision.at), True


async def show_pause(runtime: Runtime, pause: Hold | None) -> None:
    """Copy the pause, or that there is no pause, to Redis, which status and pages read.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    if pause is None:
        await runtime.schedule.show_pause(None)
    else:
        await runtime.schedule.show_pause(pause.why, pause.by, pause.at)


async def resume(runtime: Runtime, why: str, by: str) -> bool:
    """Resume deletion; False if it was not paused.

    Raises:
        StoreError: the archive did not take it; deletion stays paused.
    """
    known = await runtime.in_thread(decisions_about, runtime.archive, "everything")
    lifts = sorted(standing_holds(known))
    if lifts:
        await _write(runtime, _decision("release", "everything", "", why, by, lifts=lifts))
    standing = await runtime.in_thread(pause_of, runtime.archive)
    with suppress(RedisError, OSError):  # a worker shows it within half a minute
        await show_pause(runtime, standing)
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
        raise UserError("--why: give a reason; the archive keeps it")
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


async def _write(runtime: Runtime, decision: Decision, folder: str | None = None) -> bool:
    """Write a decision into the archive, then its copy in the recording's folder; False if Redis did not take that.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away, and nothing is recorded.
    """
    if folder is None and decision.scope == "recording":
        await write_when_full(runtime.redis, ("HSET", DECIDED_EARLY, decision.subject, "1"))
    await runtime.in_thread(put_decision, runtime.archive, decision)
    if folder is not None:
        try:
            await announce_copy(runtime, decision, folder)
        except (RedisError, OSError):
            return False
        except StoreError as error:
            log.warning("a decision has no copy beside its recording until the next reconcile", error=str(error))
    return True


async def announce_copy(runtime: Runtime, decision: Decision, folder: str | None) -> None:
    """Copy a decision into its recording's folder; a job that archives the recording now copies it itself.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them is away. A reconcile does it then.
    """
    if folder is None:
        await write_when_full(runtime.redis, ("HSET", DECIDED_EARLY, decision.subject, "1"))
    else:
        copy = layout.decision_copy_key(folder, decision.id)
        await runtime.in_thread(runtime.archive.put_once, copy, decision)
        await runtime.announce(copy, decision)
    await write_when_full(runtime.redis, ("HSET", DECISIONS_ANNOUNCED, decision.id, "1"))


async def _schedule(runtime: Runtime, folder: str | None) -> bool:
    """Schedule the deletion of an original that nothing may keep any more; False if Redis did not take that."""
    try:
        if folder is not None and runtime.settings.delete_originals == "verified":
            await runtime.schedule.hasten(folder, runtime.settings.delete_after.total_seconds())
    except (RedisError, OSError):
        return False
    return True
