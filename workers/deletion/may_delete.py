"""THE rule: may an original be deleted at Telnyx? Workers ask it again just before each request that deletes.

The answers come from the archive (holds, cases, pauses, duties) or from that moment (two clocks, the identity of the archive
and of Redis). No list, cache or setting of one process can release an original; each of them can keep it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from archive import kinds, layout
from archive.archive import Archive
from archive.cases import Case, open_cases, why_held_by_cases
from archive.decision_records import Duties
from archive.decisions import (
    Decisions,
    decisions_about,
    held_connections,
    is_approved,
    standing_holds,
    why_held,
)
from archive.hold import Hold, together
from archive.records import CommitRecord
from config.values import TranscriptionPolicy
from text.times import format_duration, utc_now
from workers.deletion.duties import effective_duties, policy_of
from workers.engine.clocks import clocks_agree
from workers.runtime import Runtime, sealable_at
from workers.seals.chain import follow_the_archive, is_sealed

LONGEST_QUESTION_SECONDS = 5.0  # who decides behind another Redis cannot see what leaves here, and waits twice as long
_SEAL_WAIT_SECONDS = 60.0
_PAUSED_SECONDS = 5.0
_OTHERS_SECONDS = 15.0  # what another worker, unit or clock forbids may end at any moment
_LONGEST_OTHERS_SECONDS = 600.0  # and may last for months: the waits grow to this
_TURNED_OFF = "a worker or unit of this archive has deletion turned off (CALLVAULT_DELETE_ORIGINALS)"


class Stopped(Exception):
    """No original may be deleted now; the text says why.

    Attributes:
        seconds: when to ask again.
    """

    def __init__(self, why: str, seconds: float) -> None:
        super().__init__(why)
        self.seconds = seconds


@dataclass(frozen=True)
class Rules:
    """What applies to every original, as read just now.

    Attributes:
        duties: the strictest.
        own_grace_seconds: the grace period of this process; the strictest may be longer.
        pause: the pause of deletion, if there is one.
        connections: connections that a decision holds, each with the reason.
        cases: those that are open.
        transcribing: connections whose transcriptions are awaited.
    """

    duties: Duties
    own_grace_seconds: float
    pause: Hold | None
    connections: Mapping[str, str]
    cases: Sequence[Case]
    transcribing: frozenset[str]

    @property
    def is_turned_off(self) -> bool:
        """Whether a setting turns deletion off."""
        return self.duties.delete_originals != "verified"

    @property
    def why_nothing(self) -> str | None:
        """Why no original may be deleted, whichever it is; None if some may."""
        if self.pause is not None:
            return f"deletion is paused: {self.pause}"
        return _TURNED_OFF if self.is_turned_off else None

    @property
    def transcriptions(self) -> TranscriptionPolicy:
        """Which transcriptions must be archived first."""
        return policy_of(self.duties)


@dataclass(frozen=True)
class Kept:
    """Why an original stays.

    Attributes:
        why: one line.
        seconds: when to ask again; None for a standing reason, which a person or a setting must end.
    """

    why: str
    seconds: float | None = None


async def read_rules(runtime: Runtime) -> Rules:
    """Ask everything that applies to every original.

    Raises:
        Stopped: no original may be deleted now.
        UnreadableRecord: a record about it cannot be read.
        StoreError, redis.exceptions.RedisError: one of them does not answer, or belongs to another archive now.
    """
    if not await clocks_agree(runtime):
        raise Stopped("the clocks of this machine and of Redis differ", _OTHERS_SECONDS)
    await runtime.in_thread(runtime.archive.assert_identity)
    await runtime.assert_bound()
    rules = await rules_under(runtime, await effective_duties(runtime))
    if rules.why_nothing is not None:
        raise Stopped(rules.why_nothing, await _turned_off_wait(runtime) if rules.pause is None else _PAUSED_SECONDS)
    if rules.duties.sealed_first:
        await follow_the_archive(runtime)
    return rules


async def _turned_off_wait(runtime: Runtime) -> float:
    """How long to wait while a setting elsewhere turns deletion off: as long as it has been off, ten minutes at most."""
    (off_seconds,) = await runtime.attempts.failing_seconds(["deletion turned off"], 2 * _LONGEST_OTHERS_SECONDS)
    return min(max(off_seconds, _OTHERS_SECONDS), _LONGEST_OTHERS_SECONDS)


async def rules_under(runtime: Runtime, duties: Duties) -> Rules:
    """The rules of the archive now, under some duties.

    Raises:
        UnreadableRecord, StoreError: the archive cannot be read now.
    """
    grace = runtime.settings.delete_after.total_seconds()

    def read() -> Rules:
        archive = runtime.archive
        marks = map(kinds.place_of, archive.keys_of(layout.TRANSCRIBING))
        transcribing = frozenset(mark.name for mark in marks if mark.kind is kinds.TRANSCRIBING)
        return Rules(duties, grace, pause_of(archive), held_connections(archive), open_cases(archive), transcribing)

    return await runtime.in_thread(read)


def pause_of(archive: Archive) -> Hold | None:
    """The pause of deletion that stands in the archive; None if deletion is not paused; blocks."""
    return together(standing_holds(decisions_about(archive, "everything")).values())


def why_kept(rules: Rules, record: CommitRecord, decisions: Decisions, findings: Sequence[str]) -> Kept | None:
    """Why an original stays now; None if it may be deleted.

    Args:
        rules: as read just now.
        record: its commit record.
        decisions: all decisions about it, as read just now.
        findings: what keeps it unless a person approves.
    """
    connection_id = str(record.recording.get("connection_id"))
    if (why := why_held(decisions)) is not None:
        return Kept(f"held: {why}")
    if (why := rules.connections.get(connection_id)) is not None:
        return Kept(f"its connection is on hold: {why}")
    if connection_id in rules.duties.hold_connections:
        return Kept("its connection is on hold (CALLVAULT_HOLD_CONNECTIONS)")
    if (why := why_held_by_cases(rules.cases, record)) is not None:
        return Kept(f"held by {why}")
    if (why := why_kept_by_record(record, decisions, findings)) is not None:
        return Kept(why)
    age = (utc_now() - record.latest_archived_at).total_seconds()
    if (left := rules.duties.delete_after_seconds - age) > 0:
        own = rules.own_grace_seconds - age
        others = min(left, max(-own, _OTHERS_SECONDS), _LONGEST_OTHERS_SECONDS)  # ever longer, as that grace may be
        return Kept(f"its grace period ends in {format_duration(left)}", own if own > 0 else others)
    return None


def why_kept_by_record(record: CommitRecord, decisions: Decisions, findings: Sequence[str]) -> str | None:
    """Why an original stays whatever the rules say: its audio is in custom storage, or nobody has approved a finding."""
    if record.is_in_custom_storage:
        return "custom storage: the original is the archived copy"
    if findings and not is_approved(decisions, findings):
        return "findings not approved: " + ", ".join(findings)
    return None


async def why_unsealed(runtime: Runtime, rules: Rules, folder: str) -> Kept | None:
    """Why an original stays until its day is sealed; None if the day is sealed, or need not be.

    Raises:
        StoreError, redis.exceptions.RedisError: one of them does not answer now.
    """
    if not rules.duties.sealed_first or await is_sealed(runtime, folder):
        return None
    day = layout.day_of(layout.commit_key(folder))
    left = 0.0 if day is None else sealable_at(runtime.settings, day) - utc_now().timestamp()
    return Kept("its day is not sealed yet", max(_SEAL_WAIT_SECONDS, left))


class Withheld(Exception):
    """Some of the originals of a batch may not be deleted; no request was sent.

    Attributes:
        kept: why each stays, by recording id.
    """

    def __init__(self, kept: Mapping[str, Kept]) -> None:
        super().__init__(", ".join(f"{id_}: {one.why}" for id_, one in kept.items()))
        self.kept = kept


async def ask_anew(runtime: Runtime, rows: Mapping[str, tuple[CommitRecord, Decisions, Sequence[str]]]) -> None:
    """Ask the rule in the last moment before a request.

    Args:
        runtime: the worker's parts.
        rows: by recording id the commit record, the decisions in its folder, and its findings.

    Raises:
        Stopped: no original may be deleted now.
        Withheld: some may not.
        UnreadableRecord, StoreError, redis.exceptions.RedisError: a question has no answer.
    """
    rules = await read_rules(runtime)

    async def of(recording_id: str) -> Kept | None:
        record, in_folder, findings = rows[recording_id]
        about = await runtime.in_thread(decisions_about, runtime.archive, "recording", recording_id)
        return why_kept(rules, record, {**in_folder, **about}, findings)

    answers = await asyncio.gather(*map(of, rows))
    if kept := {id_: one for id_, one in zip(rows, answers, strict=True) if one is not None}:
        raise Withheld(kept)


def moment() -> tuple[float, float]:
    """This moment by two clocks: one that nobody can set, and one that runs while the machine sleeps."""
    return time.monotonic(), time.time()


def assert_fresh(began: tuple[float, float]) -> None:
    """Check that the answers since a moment are recent enough to act on.

    Raises:
        Stopped: they are not: the store or Redis is slow, or this process was suspended.
    """
    if any(now - then > LONGEST_QUESTION_SECONDS for then, now in zip(began, moment(), strict=True)):
        raise Stopped("the checks before the deletion took too long, so their answers may be outdated", _OTHERS_SECONDS)
