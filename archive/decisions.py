"""Decisions of people about originals, and which holds apply. No clock orders decisions.

The key of a decision has the id of its subject, so it is found without the day of the recording. A decision about a
recording has a copy in the recording's folder, which the seal of the day lists.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec

from archive import kinds, layout
from archive.ahead import ahead
from archive.archive import Archive, ArchiveConflict
from archive.decision_records import AnyDecision, Decision, EarlierDecision
from archive.hold import Hold, together
from archive.layout import Scope
from archive.readers import DECISION
from archive.records import CommitRecord, UnreadableRecord

CHANGED = (
    "changed-at-telnyx"  # a finding, with the beginning of the hash of the other content: each is approved by itself
)

Decisions = Mapping[str, AnyDecision | None]  # by name (the id of a decision); None: it cannot be read


def new_id() -> str:
    """An id for a decision."""
    return secrets.token_hex(16)


def put_decision(archive: Archive, decision: Decision) -> None:
    """Write a decision.

    Raises:
        StoreError: the store did not take it.
    """
    archive.put_record(layout.decision_key(decision.scope, decision.subject, decision.id), decision)


def put_hold_once(archive: Archive, decision: Decision) -> tuple[Decision, bool]:
    """Write a hold, unless one by the same person and for the same reason stands already; blocks.

    Its id comes from what it says and from the releases before it. So two writers at once write one object, and after a
    release it can be placed anew.

    Returns:
        The hold that stands, and whether it was written now.

    Raises:
        StoreError: the store did not take it.
    """
    known = decisions_about(archive, decision.scope, decision.subject)
    standing = standing_holds(known)
    for name, one in known.items():
        if name in standing and isinstance(one, Decision) and _says(one) == _says(decision):
            return one, False
    lifted = sorted(name for name, one in known.items() if isinstance(one, Decision) and one.decision == "release")
    said = repr((decision.scope, decision.subject, decision.by, decision.why, lifted))
    digest = hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()
    named = msgspec.structs.replace(decision, id=digest[:32])
    key = layout.decision_key(decision.scope, decision.subject, named.id)
    try:
        archive.put_record(key, named)
        return named, True
    except ArchiveConflict:  # somebody else sent the same just now, or something else was put there
        stored = read_decisions(archive, [key])[named.id]
        if isinstance(stored, Decision) and _says(stored) == _says(decision):
            return stored, False
    put_decision(archive, decision)
    return decision, True


def _says(one: Decision) -> tuple[str, str, str, str, str]:
    return one.decision, one.scope, one.subject, one.by, one.why


def decisions_about(archive: Archive, scope: Scope, subject: str = "") -> Decisions:
    """The decisions about one subject: one listing, and a read of each new decision.

    Raises:
        StoreError: the store does not answer.
    """
    return read_decisions(
        archive, (stored.key for stored in archive.store.list(layout.decision_prefix(scope, subject)))
    )


def decisions_on(archive: Archive, folder: str) -> Decisions:
    """All decisions about an archived recording, with those in its folder; blocks.

    Raises:
        StoreError: the store does not answer.
    """
    copies = read_decisions(archive, archive.keys_of(f"{folder}decisions/"))
    return {**copies, **decisions_about(archive, "recording", layout.recording_id_of(folder))}


def held_connections(archive: Archive) -> dict[str, str]:
    """The connections that a decision holds, each with the reason: one listing, and a read of each new decision; blocks.

    Raises:
        StoreError: the store does not answer.
    """
    found = (
        (subject, why_held(decisions)) for (_, subject), decisions in _by_subject(archive, layout.CONNECTION_DECISIONS)
    )
    return {subject: why for subject, why in found if why is not None}


def all_holds(archive: Archive) -> list[tuple[Scope, str, Hold]]:
    """Every hold that applies, with its scope and subject: one listing, and a read of each decision; blocks.

    It does not find holds of versions before 2, which are in the recordings' folders alone.

    Raises:
        StoreError: the store does not answer.
    """
    found = _by_subject(archive, layout.DECISIONS)
    return [(*about, hold) for about, decisions in found for hold in standing_holds(decisions).values()]


def _by_subject(archive: Archive, prefix: str) -> Iterator[tuple[tuple[Scope, str], Decisions]]:
    """The decisions under a prefix by scope and subject; those of several subjects are read at once."""
    by_subject: dict[tuple[Scope, str], list[str]] = {}
    for stored in archive.store.list(prefix):
        if (about := layout.decided_about(stored.key)) is not None:
            by_subject.setdefault(about, []).append(stored.key)
    return ahead(by_subject.items(), lambda row: (row[0], read_decisions(archive, row[1])))


def read_decisions(archive: Archive, keys: Iterator[str] | Collection[str]) -> Decisions:
    """Read decisions by their keys. One whose key is odd or of another subject counts as unreadable, and so as a hold."""
    found: dict[str, AnyDecision | None] = {}
    for key in keys:
        try:
            one: AnyDecision | None = DECISION.read(archive.read_once(key), key)
        except UnreadableRecord:
            one = None
        is_ours = kinds.kind_of(key) in (kinds.DECISION, kinds.DECISION_COPY)
        if isinstance(one, Decision) and (not is_ours or layout.decided_about(key) != (one.scope, one.subject)):
            one = None
        found[layout.name_of(key)] = one
    return found


def standing_holds(decisions: Decisions) -> dict[str, Hold]:
    """The holds that no release lifts, by name. An unreadable decision may be a hold, so it counts as one."""
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
    """The reason of the holds; None without a hold."""
    held = together(standing_holds(decisions).values())
    return None if held is None else held.why


def is_approved(decisions: Decisions, findings: Collection[str]) -> bool:
    """Whether people have approved all of these findings."""
    approved = {
        finding
        for one in decisions.values()
        if isinstance(one, Decision) and one.decision == "approve"
        for finding in one.findings
    }
    earlier = _earlier(decisions)
    if earlier is not None and earlier[1].decision == "release":  # in versions before 2 a release approved too
        approved |= {finding for finding in findings if not finding.startswith(CHANGED)}  # unknown to them
    return approved.issuperset(findings)


def findings_of(versions: Sequence[CommitRecord], record: CommitRecord) -> list[str]:
    """The findings that keep an original until a person approves them: those of its audio, and each other content.

    The findings of versions count too: Telnyx may later show other values, such as another length.
    """
    others = {o.sha256 for version in versions for o in version.objects} - {o.sha256 for o in record.objects}
    in_audio = (finding for one in (record, *versions) for finding in one.audio.findings)
    return [*dict.fromkeys(in_audio), *(f"{CHANGED} {sha256[:16]}" for sha256 in sorted(others))]


def outcome_of(decisions: Decisions) -> str | None:
    """The result of the decisions about a recording: `hold`, `approve`, `release`, or None."""
    if standing_holds(decisions):
        return "hold"
    if any(isinstance(one, Decision) and one.decision == "approve" for one in decisions.values()):
        return "approve"
    earlier = _earlier(decisions)
    return "release" if earlier is not None and earlier[1].decision == "release" else None


def _earlier(decisions: Decisions) -> tuple[str, EarlierDecision] | None:
    """The decision of a version before 2 that counts: the latest by its own instant."""
    rows = [(name, one) for name, one in decisions.items() if isinstance(one, EarlierDecision)]
    return max(rows, key=lambda row: row[0], default=None)
