"""What retention rules mean for all recordings, from the catalogue. It is for people: what may go is asked of the archive.

The catalogue has the parties, connection, direction and times of a recording. Where a rule asks more, or the times are odd, the
commit record is read. Versions of a recording are not looked at here: they can keep it longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from archive import layout
from archive.ahead import ahead
from archive.archive import Archive
from archive.decision_records import AppliedRules
from archive.facts import UNKNOWN, Facts, facts_of, facts_of_recording, fit_of
from archive.records import UnreadableRecord
from archive.removal_records import Part
from archive.retention import PARTS, Term, candidates, terms_of_facts
from text.periods import zone_of
from text.times import first_instant
from workers.catalogue.query import Query
from workers.catalogue.reach import EVERYTHING
from workers.catalogue.rows import Row
from workers.catalogue.search import Hit, search_all

_NOT_IN_THE_CATALOGUE = {"tags", "channels", "source"}


class Surveyed(NamedTuple):
    """A recording, and what rules mean for it.

    Attributes:
        facts: None: its commit record cannot be read.
        terms: by each of the rules that were asked about, in their order.
        parts: what the catalogue knows to be there: audio that no rule has disposed of, a transcription.
        is_read: whether its commit record was read for this.
        lock: the end of the lock of its first audio object, UTC; None: it has none, or it was not looked at.
        is_lock_known: whether it was looked at.
    """

    hit: Hit
    facts: Facts | None
    terms: tuple[tuple[Term, ...], ...]
    parts: tuple[Part, ...]
    is_read: bool
    lock: datetime | None = None
    is_lock_known: bool = False


def survey(
    path: Path, archive: Archive, *several: Sequence[AppliedRules], locks_until: datetime | None = None
) -> Iterator[Surveyed]:
    """Each recording of a catalogue that is not erased, with its terms by each of several histories of rules; blocks.

    Args:
        path: the file of the catalogue.
        archive: for the commit records that must be read.
        several: histories of applied rules, each as `read_applied` returns it.
        locks_until: look at the locks of recordings whose audio may go by then; None: look at none.

    Raises:
        StoreError: a commit record or a lock must be read, and the archive does not answer.
    """
    sets = {rules.number: rules for applied in several for rules in applied}
    distinct = [*sets.values(), *(applied[-1] for applied in several if applied)]

    def look(hit: Hit) -> Surveyed:
        facts, is_read = _facts(archive, hit.row, distinct)
        is_elsewhere = hit.row.key is not None and layout.Outside.of(hit.row.key) is not None
        known = [] if facts is None or is_elsewhere else [facts]  # in custom storage, nothing is deleted
        terms = tuple(terms_of_facts(known, applied) if known else () for applied in several)
        there = {"audio": hit.state != "disposed", "transcripts": hit.opening is not None}
        found = Surveyed(hit, facts, terms, tuple(part for part in PARTS if there[part]), is_read)
        ends_at = _audio_ends(found)
        if ends_at is None or locks_until is None or ends_at > locks_until or hit.row.key is None:
            return found
        stored = archive.store.stat(hit.row.key)
        return found._replace(lock=None if stored is None else stored.locked_until, is_lock_known=True)

    return ahead((hit for hit in search_all(path, Query(), EVERYTHING) if hit.state != "erased"), look)


def _audio_ends(one: Surveyed) -> datetime | None:
    """When its audio may go, by the first of the rules that were asked about; None: never, or it is gone."""
    return next((term.ends_at for term in one.terms[0] if "audio" in term.goes and "audio" in one.parts), None)


def _facts(archive: Archive, row: Row, sets: Iterable[AppliedRules]) -> tuple[Facts | None, bool]:
    """The facts of a row, from its commit record where the row does not say enough; and whether that was read."""
    facts = facts_of_row(row)
    asks_more = any(
        _NOT_IN_THE_CATALOGUE.intersection(fit_of(rule, facts)[1]) for rules in sets for rule in rules.rules
    )
    if not asks_more and facts.counted_from == "the end of the call" and row.key is not None:
        return facts, False
    try:
        record = archive.commit_record(layout.recording_folder(row.date, row.recording_id))
    except UnreadableRecord:
        return None, True
    return (None if record is None else facts_of(record)), True


def facts_of_row(row: Row) -> Facts:
    """The facts that the catalogue knows of a recording."""
    fields = {
        "connection_id": row.connection_id,
        "from": row.from_number,
        "to": row.to_number,
        "direction": row.direction,
        "recording_started_at": row.started_at,
        "recording_ended_at": row.ended_at,
    }
    archived_at = first_instant(row.archived_at) or UNKNOWN
    return facts_of_recording(fields, None, row.duration_ms, archived_at)


class Line(msgspec.Struct, frozen=True, order=True):
    """One line of a plan: what goes in one month, or on one day, by one rule.

    Attributes:
        when: `2031-03` or `2031-03-31`, in the zone of the rules.
        rule: its name.
        goes: what goes.
        stays: what stays.
    """

    when: str
    rule: str
    goes: tuple[Part, ...]
    stays: str


class Sum(msgspec.Struct):
    """How much that is.

    Attributes:
        recordings: their number.
        bytes: of their audio, if audio goes.
        held: how many of them are on hold now, so that they would stay.
    """

    recordings: int = 0
    bytes: int = 0
    held: int = 0

    def add(self, one: Surveyed, goes: Iterable[Part]) -> None:
        """Add a recording."""
        self.recordings += 1
        self.bytes += one.hit.row.bytes if "audio" in goes else 0
        self.held += one.hit.state == "held"


@dataclass
class Plan:
    """What would go when.

    Attributes:
        lines: the sums, by line.
        over: of what is past its end at the moment of the plan.
        kept: of the recordings of which some part is kept for ever.
        locked: of the recordings whose audio is locked longer than its rule keeps it; `locked_until`: the last of these locks.
        locks_looked_at: of how many recordings the lock was looked at.
        unreadable: recordings whose commit record cannot be read, so they are kept.
        looked_at: how many recordings were looked at; `read`: for how many of them the commit record was read.
        by_rule: how many recordings each rule decides about.
        doubtful: how many recordings each rule may match, because their records do not say enough.
    """

    lines: dict[Line, Sum] = field(default_factory=dict)
    over: Sum = field(default_factory=Sum)
    kept: Sum = field(default_factory=Sum)
    locked: Sum = field(default_factory=Sum)
    locked_until: datetime | None = None
    locks_looked_at: int = 0
    unreadable: int = 0
    looked_at: int = 0
    read: int = 0
    by_rule: Counter[str] = field(default_factory=Counter)
    doubtful: Counter[str] = field(default_factory=Counter)


def make_plan(rows: Iterable[Surveyed], applied: Sequence[AppliedRules], now: datetime, *, by_day: bool) -> Plan:
    """Add up a survey by one history of rules.

    Args:
        rows: the survey; the first of its terms count.
        applied: that history; empty: everything is kept for ever.
        now: the moment of the plan.
        by_day: a line for each day instead of each month.
    """
    plan, zone = Plan(), zone_of(applied[-1].zone) if applied else UTC
    for one in rows:
        plan.looked_at += 1
        plan.read += one.is_read
        if one.facts is None:
            plan.unreadable += 1
            continue
        terms = [term for term in one.terms[0] if set(term.goes).intersection(one.parts)]
        for term in terms:
            when = f"{term.ends_at.astimezone(zone):{'%Y-%m-%d' if by_day else '%Y-%m'}}"
            plan.lines.setdefault(Line(when, term.rule, term.goes, term.stays), Sum()).add(one, term.goes)
        if over := [part for term in terms if term.ends_at <= now for part in term.goes]:
            plan.over.add(one, over)
        if any(not any(part in term.goes for term in terms) for part in one.parts):
            plan.kept.add(one, PARTS)
        _count_locks(plan, one)
        if applied:
            _count_rules(plan, one.facts, applied[-1])
    return plan


def _count_locks(plan: Plan, one: Surveyed) -> None:
    plan.locks_looked_at += one.is_lock_known
    ends_at = _audio_ends(one)
    if one.lock is not None and ends_at is not None and one.lock > ends_at:
        plan.locked.add(one, ("audio",))
        plan.locked_until = max(plan.locked_until or one.lock, one.lock)


def _count_rules(plan: Plan, facts: Facts, rules: AppliedRules) -> None:
    deciding: set[str] = set()
    doubtful: set[str] = set()
    for part in PARTS:
        found = candidates(facts, rules, part)
        deciding.update(one.rule.name for one in found[:1])
        doubtful.update(one.rule.name for one in found if one.fit == "may match")
    plan.by_rule.update(deciding)
    plan.doubtful.update(doubtful)
