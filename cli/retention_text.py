"""What `callvault retention` prints: tables for a person, and the documents of `--json`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from archive.decision_records import AppliedRules
from archive.prices import Prices
from archive.retention import grace_seconds_of
from cli.console import bold, in_columns
from text.counts import many
from text.money import format_money
from text.periods import zone_of
from text.printable import printable
from text.sizes import format_size
from text.times import first_instant, format_column, format_duration, format_instant, format_moment
from workers.retention.apply import Change, Difference
from workers.retention.explain import Ending, Explanation
from workers.retention.file import RulesFile
from workers.retention.survey import Plan, Sum

_WHAT = {("audio",): "audio", ("transcripts",): "transcripts", ("audio", "transcripts"): "audio, transcripts"}
_LEAVES = {"metadata": "metadata", "hashes": "hashes only"}


class Rate(NamedTuple):
    """What bytes cost that go: the prices of the archive's store, and the class in which objects are written now."""

    prices: Prices
    storage_class: str | None

    @property
    def is_known(self) -> bool:
        """Whether the table has a price of this class."""
        return self.prices.month(self.storage_class, 1) is not None

    def month(self, one: Sum) -> float | None:
        """What audio costs a month; None: the table has no price of the class, or no audio goes."""
        return self.prices.month(self.storage_class, one.bytes, one.recordings) if one.bytes else None

    def __str__(self) -> str:
        example = ", an example: `callvault cost --print-prices`" if self.prices.is_example else ""
        name = self.storage_class or self.prices.default
        lying = f"as if all of it lay in class {name}, " if name else ""
        return f"{lying}at the prices of {self.prices.date}{example}"


def plan_as_json(plan: Plan, planned: Sequence[AppliedRules], now: datetime, rate: Rate) -> dict[str, Any]:
    """A plan as `--json` prints it."""
    prices = rate.prices
    return {
        "zone": planned[-1].zone if planned else "UTC",
        "grace_seconds": planned[-1].grace_seconds if planned else None,
        "now": format_instant(now),
        "over": _sum(plan.over) | {"cost_a_month": rate.month(plan.over)},
        "kept_for_ever": _sum(plan.kept),
        "lines": [
            msgspec.to_builtins(line) | _sum(one) | {"cost_a_month": rate.month(one)}
            for line, one in sorted(plan.lines.items(), key=lambda item: item[0])
        ],
        "prices": {"currency": prices.currency, "date": prices.date, "is_example": prices.is_example}
        | {"storage_class": rate.storage_class or prices.default},
        "rules": [
            msgspec.to_builtins(rule) | {"recordings": plan.by_rule[rule.name], "may_match": plan.doubtful[rule.name]}
            for rule in (planned[-1].rules if planned else ())
        ],
        "locked_longer": _sum(plan.locked)
        | {"until": _written(plan.locked_until), "locks_looked_at": plan.locks_looked_at},
        "looked_at": plan.looked_at,
        "commit_records_read": plan.read,
        "unreadable": plan.unreadable,
    }


def _written(at: datetime | None) -> str | None:
    return None if at is None else format_instant(at)


def _sum(one: Sum) -> dict[str, Any]:
    return {"recordings": one.recordings, "bytes": one.bytes, "held": one.held}


def write_plan(plan: Plan, planned: Sequence[AppliedRules], rate: Rate, *, is_in_force: bool) -> None:
    """Print a plan for a person."""
    if not planned:
        _line("no retention rules are applied, and CALLVAULT_RETENTION_FILE is not set: everything is kept for ever")
        return
    rules = planned[-1]
    since = f"in force as rules {rules.number}, applied by {printable(rules.by)} at {format_moment(rules.at, None)}"
    state = since if is_in_force else "NOT in force; run `callvault retention apply`"
    _line(
        f"{many(len(rules.rules), 'rule')}, {state}. Zone {rules.zone}, grace {format_duration(rules.grace_seconds)}."
    )
    if plan.lines:
        _line("")
        head = ("end", "rule", "goes", "stays", "recordings", "audio", "on hold")
        _table((*head, "a month") if rate.is_known else head, _rows(plan, rate))
        _line("")
    if plan.lines and rate.is_known:
        _line(f"a month: what the audio costs, {rate}")
    month = rate.month(plan.over)
    cost = "" if month is None else f", which costs {format_money(month, rate.prices.currency)} a month"
    _line(f"past their end now: {_amount(plan.over)}{cost}")
    _line(f"kept for ever: {_amount(plan.kept)}")
    for rule in rules.rules:
        doubtful = plan.doubtful[rule.name]
        if plan.looked_at and rule.has_conditions and not doubtful and not plan.by_rule[rule.name]:
            _line(f"rule {rule.name} decides about no recording; check its conditions")
        if doubtful:
            _line(
                f"rule {rule.name} may match {many(doubtful, 'recording')}, whose records lack what it asks for; "
                "it can only keep them longer"
            )
    if plan.locked_until is not None:
        until = f"the last lock ends at {format_moment(plan.locked_until, None)}"
        _line(f"locked longer than the rule, of those that end within 31 days: {_amount(plan.locked)}; {until}")
    if plan.unreadable:
        line = "commit record cannot be read", "commit records cannot be read"
        _line(f"{many(plan.unreadable, *line)}; those recordings are kept. Run `callvault verify`")


def _rows(plan: Plan, rate: Rate) -> Iterable[tuple[str, ...]]:
    for line in sorted(plan.lines):
        found = plan.lines[line]
        size = format_size(found.bytes) if "audio" in line.goes else ""
        held = str(found.held) if found.held else ""
        month = rate.month(found)
        cost = "" if month is None else format_money(month, rate.prices.currency)
        cells = line.when, line.rule, _WHAT[line.goes], _LEAVES[line.stays], str(found.recordings), size, held
        yield (*cells, cost) if rate.is_known else cells


def write_source(looked_at: int, read: int, as_of: str | None) -> None:
    """Print from what a plan was made."""
    records = f", and {many(read, 'commit record')}" if read else ""
    at = "" if as_of is None else f" as of {format_moment(as_of, None)}"
    _line(f"from the catalogue{at}: {many(looked_at, 'recording')}{records}")


def write_changes(changed: Sequence[Change], found: Difference, new: AppliedRules, before: AppliedRules | None) -> None:
    """Print what other rules change, for the person who is asked."""
    for one in changed:
        mark = "+" if one.before is None else "-" if one.after is None else "~"
        shown = [_value(one.name, value) for value in (one.before, one.after) if value is not None]
        _line(f"{mark} {one.name.removesuffix('_seconds')}: {' -> '.join(shown)}")
    if before is None:
        _line("These are the first rules: until now, everything is kept for ever.")
    _line(f"goes earlier: {_amount(found.earlier)}")
    _line(f"goes later, or stays for ever: {_amount(found.later)}")
    if found.less_stays.recordings:
        _line(f"leaves hashes only, and left the metadata before: {many(found.less_stays.recordings, 'recording')}")
    seconds = grace_seconds_of(new, before)
    when = f"once the grace ({format_duration(seconds)}) is over" if seconds else "at once"
    _line(f"past their end {when}: {_amount(found.over)}")
    if found.first is not None:
        _line(f"the first of all ends at {format_moment(found.first, zone_of(new.zone))}")


def write_locks(mode: str) -> None:
    """Print what the rules lock, for the person who is asked: a lock outlives the rule that gave it."""
    who = "nobody can end" if mode == "compliance" else "only somebody with a permission of their own can end"
    _line(
        f"what is archived from now on is locked to the end of its rule (CALLVAULT_LOCK_BY_RULES); {who} a lock earlier"
    )


def _value(name: str, value: Any) -> str:
    if not isinstance(value, dict):
        return format_duration(value) if name == "grace_seconds" else str(value)
    shown = {name: one for name, one in value.items() if name != "name"}
    return " ".join(
        f"{name}={','.join(map(str, one)) if isinstance(one, list | tuple) else one}" for name, one in shown.items()
    )


def difference_as_json(changed: Sequence[Change], found: Difference) -> dict[str, Any]:
    """What other rules change, as `--json` prints it."""
    sums = {name: _sum(getattr(found, name)) for name in ("earlier", "later", "less_stays", "over")}
    return {"changes": msgspec.to_builtins(changed)} | sums | {"first_end": _written(found.first)}


def write_explanation(one: Explanation, other: Explanation | None, file: RulesFile | None) -> None:
    """Print why a recording stays, or until when."""
    if one.state == "erased":
        _line(f"{one.recording_id}: {printable(one.removed or 'erased')}; nothing is left to keep")
        return
    _line(bold(one.recording_id))
    if one.counted_from is not None:
        _line(f"counted from {_in_zone(one.counted_from, one.zone)}, {one.counted_from_what}")
    if not one.number:
        _line("no retention rules are applied: it is kept for ever")
    if one.gone:
        _line(f"{' and '.join(one.gone)}: disposed of already")
    for term in one.terms:
        _write_term(term, one.zone)
    if one.number and one.kept_for_ever:
        _line(f"{' and '.join(one.kept_for_ever)}: kept for ever; {_why_for_ever(one)}")
    _write_rules(one)
    for hold in one.holds:
        about = "it" if hold.scope == "recording" else hold.what
        _line(f"kept by a hold on {about}, whatever the rules say: {printable(str(hold))}")
    if one.is_in_custom_storage:
        _line("kept by its place: the audio lies in custom storage, where Callvault deletes nothing")
    for lock in one.locks:
        longer = ", longer than its rule: it cannot go before" if lock.is_longer else ""
        _line(f"{lock.key}: locked until {format_moment(lock.until, zone_of(one.zone))}{longer}")
    if other is not None and file is not None:
        _line(f"{file.path} differs from the rules in force; once applied:")
        for term in other.terms:
            _write_term(term, other.zone)
        if other.kept_for_ever:
            _line(f"{' and '.join(other.kept_for_ever)}: kept for ever")


def _write_term(term: Ending, zone: str) -> None:
    word = "may go since" if term.is_over else "kept until"
    left = "; the commit record stays" if term.stays == "metadata" else "; only hashes stay"
    _line(f"{' and '.join(term.goes)}: {word} {_in_zone(term.ends_at, zone)}{left}")
    _line(f"  because {term.why} (rules {term.number})")


def _why_for_ever(one: Explanation) -> str:
    names = {ruling.rule for ruling in one.rules if ruling.part in one.kept_for_ever and ruling.ends_at is None}
    return f"by rule {' and '.join(sorted(names))}" if names else "no rule matches"


def _write_rules(one: Explanation) -> None:
    zone_name, ends = format_column([first_instant(ruling.ends_at) for ruling in one.rules], zone_of(one.zone))
    rows = []
    for ruling, end in zip(one.rules, ends, strict=True):
        fit = f"may match: no {', '.join(ruling.missing)}" if ruling.missing else ruling.fit
        rows.append((ruling.part, ruling.rule, fit, ruling.keep, end or "never"))
    if rows:
        _table(("part", "rule", "fit", "keeps", f"end ({zone_name})"), rows)
    if len(rows) > len({ruling.part for ruling in one.rules}):
        _line("of several rules for a part, the longest counts")


def _in_zone(at: str, zone: str) -> str:
    """An instant in the zone of the rules, by its name, and as the zone counts from UTC."""
    shown = format_moment(at, zone_of(zone))
    return shown if zone == "UTC" else f"{shown} ({zone})"


def _amount(one: Sum) -> str:
    held = f", {one.held} of them on hold" if one.held else ""
    size = f", {format_size(one.bytes)} of audio" if one.bytes else ""
    return f"{many(one.recordings, 'recording')}{size}{held}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    for n, text in enumerate(in_columns([head, *([printable(cell) for cell in row] for row in rows)])):
        _line(text if n else bold(text))


def _line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
