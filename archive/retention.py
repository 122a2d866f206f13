"""How long recordings are kept: the rules that people applied, and the end that they give a recording. It deletes nothing.

`retention/{number}.json` are the only source: no setting and no file shortens a period before a person has applied it. Rules
that kept a recording longer still count for a grace after others replaced them, so a longer period counts at once and a
shorter one later. Before the first rules, everything is kept for ever, and that too is replaced only after a grace.

Of several rules that match, the one that ends last counts, for audio and transcripts each by itself. The default counts only
where no rule matches. A rule that needs something that the record does not say can keep a recording longer, never shorter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

import msgspec

from archive import kinds, layout
from archive.archive import Archive
from archive.decision_records import AppliedRules, RetentionRule
from archive.facts import Facts, Fit, facts_of, fit_of
from archive.readers import APPLIED_RULES
from archive.records import CommitRecord, UnreadableRecord
from archive.removal_records import Part
from text.periods import zone_of
from text.times import format_moment, parse_instant

DEFAULT = "default"  # the name of the rule of all that no other matches

PARTS: tuple[Part, ...] = ("audio", "transcripts")
NEVER = datetime.max.replace(tzinfo=UTC)  # the end of what is kept for ever
_PART: dict[kinds.Kind | None, Part] = {
    kinds.AUDIO: "audio",
    kinds.VERSION_AUDIO: "audio",
    kinds.TRANSCRIPTION: "transcripts",
}


def part_of(kind: kinds.Kind | None) -> Part | None:
    """To which part of a recording an object of some kind belongs; None: to neither, such as a commit record."""
    return _PART.get(kind)


class Term(msgspec.Struct, frozen=True):
    """When something of a recording may go.

    Attributes:
        goes: what may go.
        stays: what stays of it: `metadata`, so the commit record, or only the `hashes` of what went. Always `metadata`
            while a part of the recording stays.
        ends_at: the first instant at which it may go, UTC.
        rule: the name of the rule that decides; `default` for the default.
        number: of the applied rules in which it stands.
        why: one sentence.
    """

    goes: tuple[Part, ...]
    stays: Literal["metadata", "hashes"]
    ends_at: datetime
    rule: str
    number: int
    why: str


class Candidate(NamedTuple):
    """A rule that may decide about a part of a recording.

    Attributes:
        fit: as `fit_of` has it, or `default`.
        missing: the fields that the record does not say, and the rule needs.
        ends_at: the end of its period; None: never.
    """

    rule: RetentionRule
    fit: Fit | Literal["default"]
    missing: tuple[str, ...]
    ends_at: datetime | None


class _Ruled(NamedTuple):
    """The end of one part, and which rule decides; `ends_at` may be `NEVER`."""

    ends_at: datetime
    stays: Literal["metadata", "hashes"]
    rule: str
    number: int
    why: str


def read_applied(archive: Archive) -> list[AppliedRules]:
    """All rules that people applied, the first first: one listing, and a read of each object; blocks.

    Returns:
        An empty list if nobody has applied any: then everything is kept for ever.

    Raises:
        UnreadableRecord: one cannot be read, one is missing, or something else lies among them. What it keeps is unknown,
            so nothing may go.
        StoreError: the store does not answer.
    """
    found: dict[int, AppliedRules] = {}
    for stored in archive.store.list(layout.RETENTION):
        if kinds.kind_of(stored.key) is not kinds.RETENTION:
            raise UnreadableRecord(stored.key, "not a key of retention rules; move it out of the archive")
        rules = APPLIED_RULES.read(archive.read_small(stored.key), stored.key)
        found[rules.number] = rules
    for key in missing_rules(map(layout.retention_key, found)):
        raise UnreadableRecord(key, "missing, though later rules exist")
    return [found[number] for number in sorted(found)]


def missing_rules(keys: Iterable[str]) -> list[str]:
    """The keys of applied rules that are missing among some keys: numbers run from 1 to the last without a gap."""
    places = map(kinds.place_of, keys)
    numbers = {int(place.name) for place in places if place.kind is kinds.RETENTION}
    return [layout.retention_key(number) for number in range(1, max(numbers, default=0)) if number not in numbers]


def terms_of(records: Sequence[CommitRecord], applied: Sequence[AppliedRules]) -> tuple[Term, ...]:
    """When the parts of a recording may go.

    Args:
        records: its commit record, and those of its versions; the one that ends last counts.
        applied: all rules that people applied, as `read_applied` returns them.

    Returns:
        A term for each part that ends, the first first; one for both if one rule ends them together. Empty: all of it is
        kept for ever.
    """
    return terms_of_facts([facts_of(record) for record in records], applied)


def terms_of_facts(several: Sequence[Facts], applied: Sequence[AppliedRules]) -> tuple[Term, ...]:
    """As `terms_of`, for the facts of a recording and of its versions."""
    if not applied or not several:
        return ()
    ruled = {part: max((_ruled(facts, applied, part) for facts in several), key=_order) for part in PARTS}
    ending = sorted((one for one in ruled.items() if one[1].ends_at != NEVER), key=lambda one: one[1].ends_at)
    is_whole = len(ending) == len(PARTS) and all(one.stays == "hashes" for _, one in ending)
    if len(ending) == len(PARTS) and ending[0][1] == ending[1][1]:
        return (_term(PARTS, ending[0][1], is_last=is_whole),)
    return tuple(_term((part,), one, is_last=is_whole and one is ending[-1][1]) for part, one in ending)


def _term(goes: tuple[Part, ...], ruled: _Ruled, *, is_last: bool) -> Term:
    stays: Literal["metadata", "hashes"] = "hashes" if is_last else "metadata"
    return Term(goes, stays, ruled.ends_at, ruled.rule, ruled.number, ruled.why)


def _order(one: _Ruled) -> tuple[datetime, bool]:
    """Of two rules that end together, the one that keeps more comes last."""
    return one.ends_at, one.stays == "metadata"


def candidates(facts: Facts, rules: AppliedRules, part: Part) -> list[Candidate]:
    """The rules that may decide about a part of a recording, the one that decides first.

    A part that they say nothing of is kept for ever; the list is empty then.
    """
    zone, found = zone_of(rules.zone), []
    of_part = [rule for rule in rules.rules if rule.goes in ("both", part)]
    for rule in of_part:
        fit, missing = fit_of(rule, facts)
        if rule.name != DEFAULT and fit != "does not match":
            ends_at = None if rule.period is None else rule.period.after(facts.ended_at, zone)
            found.append(Candidate(rule, fit, missing, ends_at))
    for rule in of_part:
        if rule.name == DEFAULT and not any(one.fit == "matches" for one in found):
            ends_at = None if rule.period is None else rule.period.after(facts.ended_at, zone)
            found.append(Candidate(rule, "default", (), ends_at))
    if not any(one.fit in ("matches", "default") for one in found):
        return []
    return sorted(found, key=lambda one: (one.ends_at or NEVER, one.rule.stays == "metadata"), reverse=True)


def _ruled(facts: Facts, applied: Sequence[AppliedRules], part: Part) -> _Ruled:
    """The end of one part by all rules that people applied: the last ones count, earlier ones until their grace is over."""
    base = decided = _by(facts, applied[-1], part)
    for earlier, until, replaced_by in replaced(applied):
        old = None if earlier is None else _by(facts, earlier, part)
        keeps_more = old is None or (old.stays == "metadata" and decided.stays == "hashes")
        before = NEVER if old is None or keeps_more else old.ends_at
        if (ends_at := min(before, until)) > decided.ends_at:
            what = "everything was kept for ever" if earlier is None else f"rules {earlier.number} kept more, or longer"
            before_them = f"before rules {replaced_by.number} were applied at {format_moment(replaced_by.at)}, {what}"
            why = f"{base.why}; {before_them}, so their grace came first"
            decided = decided._replace(ends_at=ends_at, why=why)
    return decided


def _by(facts: Facts, rules: AppliedRules, part: Part) -> _Ruled:
    """The end of one part by one set of rules alone."""
    found = candidates(facts, rules, part)
    if not found:
        return _Ruled(NEVER, "metadata", "", rules.number, "no rule matches it")
    rule, fit, missing, ends_at = found[0]
    name = "the default keeps" if rule.name == DEFAULT else f"rule {rule.name} keeps"
    length = "it for ever" if rule.period is None else f"it {rule.period} from {facts.counted_from}"
    doubt = f" (it may match: the record does not say {', '.join(missing)})" if fit == "may match" else ""
    return _Ruled(ends_at or NEVER, rule.stays, rule.name, rules.number, f"{name} {length}{doubt}")


def replaced(applied: Sequence[AppliedRules]) -> Iterable[tuple[AppliedRules | None, datetime, AppliedRules]]:
    """Each earlier set of rules, until when it counts, and the one that replaced it; None: what was before the first."""
    latest = datetime.min.replace(tzinfo=UTC)
    before: AppliedRules | None = None
    for rules in applied:
        latest = max(latest, parse_instant(rules.at))  # a clock that went back shortens no grace
        yield before, latest + timedelta(seconds=grace_seconds_of(rules, before)), rules
        before = rules


def grace_seconds_of(rules: AppliedRules, before: AppliedRules | None) -> int:
    """How long shorter periods of some rules wait: the longer grace of them and of the rules that they replace."""
    return max(rules.grace_seconds, 0 if before is None else before.grace_seconds)
