"""What people decided about originals, as it lies in the archive; which holds stand. No clock orders anything here.

A decision lies under the id of what it is about, so it is found wherever the recording lies and whatever its date says. One about
a recording lies in the recording's folder too, where the seal of its day lists it.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

from workers.archive import layout
from workers.archive.ahead import ahead
from workers.archive.archive import Archive
from workers.archive.readers import DECISION
from workers.archive.records import AnyDecision, CommitRecord, Decision, EarlierDecision, UnreadableRecord
from workers.hold import Hold, together

Scope = Literal["recording", "connection", "everything"]

CHANGED = (
    "changed-at-telnyx"  # a finding, with the beginning of the hash of the other content: each is approved by itself
)

Decisions = Mapping[str, AnyDecision | None]  # by name (the id of a decision); None: it cannot be read


def new_id() -> str:
    """An id for a decision."""
    return secrets.token_hex(16)


def put_decision(archive: Archive, decision: Decision, folder: str | None = None) -> None:
    """Write a decision down; with the folder of its committed recording, there too.

    Raises:
        StoreError: the store did not take it now.
    """
    archive.put_record(layout.decision_key(decision.scope, decision.subject, decision.id), decision)
    if folder is not None:
        archive.put_record(layout.decision_copy_key(folder, decision.id), decision)


def decisions_about(archive: Archive, scope: Scope, subject: str = "") -> Decisions:
    """The decisions about one thing: one listing, and a read of each that was not read before.

    Raises:
        StoreError: the store cannot be asked now.
    """
    return read_decisions(
        archive, (stored.key for stored in archive.store.list(layout.decision_prefix(scope, subject)))
    )


def decisions_on(archive: Archive, folder: str) -> Decisions:
    """All decisions about an archived recording, those that lie in its folder too; blocks.

    Raises:
        StoreError: the store cannot be asked now.
    """
    beside = read_decisions(archive, archive.keys_of(f"{folder}decisions/"))
    return {**beside, **decisions_about(archive, "recording", layout.recording_id_of(folder))}


def held_connections(archive: Archive) -> dict[str, str]:
    """The connections on hold by a decision, each with why; one listing."""
    by_connection: dict[str, list[str]] = {}
    for stored in archive.store.list(layout.CONNECTION_DECISIONS):
        by_connection.setdefault(layout.subject_of(stored.key), []).append(stored.key)
    found = {subject: why_held(read_decisions(archive, keys)) for subject, keys in by_connection.items()}
    return {subject: why for subject, why in found.items() if why is not None}


def all_holds(archive: Archive) -> list[tuple[Scope, str, Hold]]:
    """Every hold that stands, with its scope and what it is about; one listing, and a read of each decision; blocks.

    Holds of versions before 2 lie in the recordings' folders alone, and are not among them.

    Raises:
        StoreError: the store cannot be asked now.
    """
    by_subject: dict[tuple[Scope, str], list[str]] = {}
    for stored in archive.store.list(layout.DECISIONS):
        if (about := layout.decided_about(stored.key)) is not None:
            by_subject.setdefault(about, []).append(stored.key)
    found = ahead(by_subject.items(), lambda row: (row[0], standing_holds(read_decisions(archive, row[1]))))
    return [(*about, hold) for about, holds in found for hold in holds.values()]


def read_decisions(archive: Archive, keys: Iterator[str] | Collection[str]) -> Decisions:
    """Read decisions by their keys. One whose subject differs from its key's counts as unreadable."""
    found: dict[str, AnyDecision | None] = {}
    for key in keys:
        try:
            one: AnyDecision | None = DECISION.read(archive.read_once(key), key)
        except UnreadableRecord:
            one = None
        if isinstance(one, Decision) and layout.decided_about(key) != (one.scope, one.subject):
            one = None
        found[layout.name_of(key)] = one
    return found


def standing_holds(decisions: Decisions) -> dict[str, Hold]:
    """The holds that no release lifts, by name. A decision that cannot be read may be a hold, so it counts as one."""
    lifted = {
        name
        for one in decisions.values()
        if isinstance(one, Decision) and one.decision == "release"
        for name in one.lifts
    }
    holds = {
        name: Hold("a decision cannot be read") if one is None else Hold(one.why, one.by, one.at)
        for name, one in decisions.items()
        if one is None or (isinstance(one, Decision) and one.decision == "hold")
    }
    earlier = _earlier(decisions)
    if earlier is not None and earlier[1].decision == "hold":
        holds[earlier[0]] = Hold(earlier[1].why, at=earlier[1].at)
    return {name: hold for name, hold in holds.items() if name not in lifted}


def why_held(decisions: Decisions) -> str | None:
    """Why something is on hold; None if it is not."""
    held = together(standing_holds(decisions).values())
    return None if held is None else held.why


def is_approved(decisions: Decisions, findings: Collection[str]) -> bool:
    """Whether a person has approved all of some findings."""
    approved = {
        finding
        for one in decisions.values()
        if isinstance(one, Decision) and one.decision == "approve"
        for finding in one.findings
    }
    earlier = _earlier(decisions)
    if earlier is not None and earlier[1].decision == "release":  # in versions before 2 one word did both
        approved |= {finding for finding in findings if not finding.startswith(CHANGED)}  # which they did not know
    return approved.issuperset(findings)


def findings_of(versions: Sequence[CommitRecord], record: CommitRecord) -> list[str]:
    """What keeps an original until a person approves: what was found in its audio, and each other content of the same id.

    Audio that agrees with what Telnyx told first may not agree with what Telnyx tells now, such as of another length.
    """
    others = {o.sha256 for version in versions for o in version.objects} - {o.sha256 for o in record.objects}
    in_audio = (finding for one in (record, *versions) for finding in one.audio.findings)
    return [*dict.fromkeys(in_audio), *(f"{CHANGED} {sha256[:16]}" for sha256 in sorted(others))]


def word_of(decisions: Decisions) -> str | None:
    """What stands of some decisions about a recording, in one word: `hold`, `approve`, `release`, or None for nothing."""
    if standing_holds(decisions):
        return "hold"
    if any(isinstance(one, Decision) and one.decision == "approve" for one in decisions.values()):
        return "approve"
    earlier = _earlier(decisions)
    return "release" if earlier is not None and earlier[1].decision == "release" else None


def _earlier(decisions: Decisions) -> tuple[str, EarlierDecision] | None:
    """Of the decisions that an earlier version wrote, the one that counts: the latest by its own instant."""
    rows = [(name, one) for name, one in decisions.items() if isinstance(one, EarlierDecision)]
    return max(rows, key=lambda row: row[0], default=None)
