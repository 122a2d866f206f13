"""THE rule: may an original be deleted at Telnyx? Read anew in the moment before each request that deletes leaves.

What it asks lies in the archive (holds, pauses, duties) or is seen in that moment (two clocks, the identity of the archive and of
Redis). No list, no cache and no setting of one process lets an original go; each of them can keep it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from config.times import format_duration, utc_now
from config.values import TranscriptionPolicy
from workers.archive import layout
from workers.archive.archive import Archive
from workers.archive.decisions import (
    Decisions,
    decisions_about,
    held_connections,
    is_approved,
    standing_holds,
    why_held,
)
from workers.archive.records import CommitRecord, Duties
from workers.hold import Hold, together
from workers.jobs.chain import follow_the_archive, is_sealed
from workers.jobs.clocks import clocks_agree
from workers.jobs.duties import effective_duties, policy_of
from workers.runtime import Runtime, sealable_at

LONGEST_QUESTION_SECONDS = 5.0  # who decides behind another Redis cannot see what leaves here, and waits twice as long
_SEAL_WAIT_SECONDS = 60.0
_PAUSED_SECONDS = 5.0
_OTHERS_SECONDS = 15.0  # what another worker, unit or clock forbids may end at any moment


class Stopped(Exception):
    """Nothing is deleted now; the text says why.

    Attributes:
        seconds: when to ask again.
    """

    def __init__(self, why: str, seconds: float) -> None:
        super().__init__(why)
        self.seconds = seconds


@dataclass(frozen=True)
class Rules:
    """What holds for every original, as it was read just now.

    Attributes:
        duties: the strictest.
        own_grace_seconds: that this process is set to; the strictest may be longer.
        connections: those on hold by a decision, each with why.
        transcribing: connections whose transcriptions are awaited.
    """

    duties: Duties
    own_grace_seconds: float
    connections: Mapping[str, str]
    transcribing: frozenset[str]

    @property
    def transcriptions(self) -> TranscriptionPolicy:
        """The policy about transcriptions."""
        return policy_of(self.duties)


@dataclass(frozen=True)
class Kept:
    """Why an original stays.

    Attributes:
        why: one line.
        seconds: when to ask again; None: not before a person decides something.
    """

    why: str
    seconds: float | None = None


async def read_rules(runtime: Runtime) -> Rules:
    """Ask everything that holds for every original.

    Raises:
        Stopped: nothing may be deleted now.
        UnreadableRecord: what is written about it cannot be read.
        StoreError, redis.exceptions.RedisError: one of them cannot be asked, or is another than it was.
    """
    if not await clocks_agree(runtime):
        raise Stopped("the clocks of this machine and of Redis differ", _OTHERS_SECONDS)
    await runtime.in_thread(runtime.archive.assert_identity)
    await runtime.assert_bound()
    paused, connections, transcribing = await runtime.in_thread(_read, runtime.archive)
    if paused is not None:
        raise Stopped(f"paused: {paused}", _PAUSED_SECONDS)
    duties = await effective_duties(runtime)
    if duties.delete_originals != "verified":
        raise Stopped(
            "a worker or unit of this archive has deletion turned off (CALLVAULT_DELETE_ORIGINALS)", _OTHERS_SECONDS
        )
    if duties.sealed_first:
        await follow_the_archive(runtime)
    return Rules(duties, runtime.settings.delete_after.total_seconds(), connections, transcribing)


def pause_of(archive: Archive) -> Hold | None:
    """The pause of deletion, by the archive: why, by whom and since when; None if it is not paused; blocks."""
    return together(standing_holds(decisions_about(archive, "everything")).values())


def _read(archive: Archive) -> tuple[Hold | None, dict[str, str], frozenset[str]]:
    transcribing = frozenset(layout.name_of(stored.key) for stored in archive.store.list(layout.TRANSCRIBING))
    return pause_of(archive), held_connections(archive), transcribing


def why_kept(rules: Rules, record: CommitRecord, decisions: Decisions, findings: Sequence[str]) -> Kept | None:
    """Why an original stays as things stand; None if it may go.

    Args:
        rules: as read just now.
        record: its commit record.
        decisions: all that are about it, likewise.
        findings: what keeps it without an approval.
    """
    connection_id = str(record.recording.get("connection_id"))
    if (why := why_held(decisions)) is not None:
        return Kept(f"held: {why}")
    if (why := rules.connections.get(connection_id)) is not None:
        return Kept(f"its connection is on hold: {why}")
    if connection_id in rules.duties.hold_connections:
        return Kept("its connection is on hold (CALLVAULT_HOLD_CONNECTIONS)")
    if record.is_in_custom_storage:
        return Kept("custom storage: the original is the archived copy")
    if findings and not is_approved(decisions, findings):
        return Kept("not approved: " + ", ".join(findings))
    age = (utc_now() - record.latest_archived_at).total_seconds()
    if (left := rules.duties.delete_after_seconds - age) > 0:
        own = rules.own_grace_seconds - age
        return Kept(f"its grace period ends in {format_duration(left)}", own if own > 0 else min(left, _OTHERS_SECONDS))
    return None


async def why_unsealed(runtime: Runtime, rules: Rules, folder: str) -> Kept | None:
    """Why an original stays until its day is sealed; None if it need not, or if it is.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them cannot be asked now.
    """
    if not rules.duties.sealed_first or await is_sealed(runtime, folder):
        return None
    day = layout.day_of(layout.commit_key(folder))
    left = 0.0 if day is None else sealable_at(runtime.settings, day) - utc_now().timestamp()
    return Kept("its day is not sealed yet", max(_SEAL_WAIT_SECONDS, left))


class Withheld(Exception):
    """Some of the originals that were about to be deleted may not be; nothing was sent.

    Attributes:
        kept: why each stays, by recording id.
    """

    def __init__(self, kept: Mapping[str, Kept]) -> None:
        super().__init__(", ".join(f"{id_}: {one.why}" for id_, one in kept.items()))
        self.kept = kept


async def ask_anew(runtime: Runtime, rows: Mapping[str, tuple[CommitRecord, Decisions, Sequence[str]]]) -> None:
    """The questions of the last moment, about originals by recording id.

    Args:
        runtime: the worker's parts.
        rows: by recording id its commit record, the decisions that lie in its folder, and what keeps it without an approval.

    Raises:
        Stopped: nothing may be deleted now.
        Withheld: some may not.
        UnreadableRecord, StoreError, redis.exceptions.RedisError: something cannot be asked.
    """
    rules = await read_rules(runtime)

    async def of(recording_id: str) -> Kept | None:
        record, beside, findings = rows[recording_id]
        about = await runtime.in_thread(decisions_about, runtime.archive, "recording", recording_id)
        return why_kept(rules, record, {**beside, **about}, findings)

    answers = await asyncio.gather(*map(of, rows))
    if kept := {id_: one for id_, one in zip(rows, answers, strict=True) if one is not None}:
        raise Withheld(kept)


def moment() -> tuple[float, float]:
    """This moment by two clocks: one that nobody sets, and one that goes on while the machine sleeps."""
    return time.monotonic(), time.time()


def assert_fresh(began: tuple[float, float]) -> None:
    """See that what was asked from a moment on may still be so.

    Raises:
        Stopped: it took too long: the store or Redis is slow, or this process stood still.
    """
    if any(now - then > LONGEST_QUESTION_SECONDS for then, now in zip(began, moment(), strict=True)):
        raise Stopped("the checks before the deletion took too long, so their answers may be outdated", _OTHERS_SECONDS)
