"""Apply retention rules: compare a file with the rules in force, and write it into the archive as the next ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from archive import layout
from archive.archive import Archive, ArchiveConflict
from archive.decision_records import AppliedRules
from archive.removal_records import Part
from archive.retention import NEVER, PARTS, Term, replaced
from text.errors import UserError
from text.times import format_duration, format_instant, utc_now
from workers.engine import telnyx_clock
from workers.engine.clocks import MOST_APART_SECONDS, seconds_apart
from workers.retention.file import RulesFile
from workers.retention.survey import Sum, Surveyed

if TYPE_CHECKING:
    from workers.runtime import Runtime

_OF_ALL_RULES = ("zone", "grace_seconds")


def as_applied(file: RulesFile, applied: Sequence[AppliedRules], by: str, now: datetime) -> AppliedRules:
    """The rules of a file as they would be in the archive."""
    return AppliedRules(
        number=len(applied) + 1,
        rules=file.rules,
        zone=file.zone,
        grace_seconds=file.grace_seconds,
        file_sha256=file.sha256,
        by=by,
        at=format_instant(now),
    )


async def assert_clocks(runtime: Runtime) -> None:
    """Check this machine's clock by Redis' and by Telnyx's, since the grace counts from now.

    A clock that is behind would end the grace too early. Redis may be on the same machine, and have the same clock.

    Raises:
        UserError: they differ, or Telnyx does not tell the time.
        redis.exceptions.RedisError: Redis is away.
    """
    if (apart := await seconds_apart(runtime.redis)) > MOST_APART_SECONDS:
        raise _clocks_differ("the Redis server's", apart, "both")
    base_url = runtime.settings.telnyx_base_url
    try:
        apart = await telnyx_clock.TelnyxClock().seconds_apart(base_url, utc_now().timestamp())
    except telnyx_clock.NoTime as error:
        what_to_do = f"Run the command again once {base_url} answers here"
        raise UserError(f"{error}, and the grace counts from now; nothing was applied. {what_to_do}") from None
    if apart > telnyx_clock.MOST_APART_SECONDS:
        raise _clocks_differ("Telnyx's", apart, "this machine and the Redis server")


def _clocks_differ(whose: str, apart: float, which: str) -> UserError:
    return UserError(
        f"this machine's clock and {whose} differ by {format_duration(apart)}, and the grace counts from now; "
        f"nothing was applied. Synchronize {which} with NTP"
    )


def put_applied(archive: Archive, rules: AppliedRules) -> None:
    """Write applied rules under their number; blocks.

    Raises:
        UserError: somebody else has applied rules meanwhile, which this person has not seen.
        StoreError: the archive did not take them.
    """
    archive.assert_identity()
    key = layout.retention_key(rules.number)
    try:
        archive.put_record(key, rules)
    except ArchiveConflict:
        raise UserError(
            f"{key}: somebody else has just applied rules; nothing was applied. Run the command again to see the difference"
        ) from None


class Change(msgspec.Struct, frozen=True):
    """A rule, or a setting of all rules, that differs.

    Attributes:
        name: of the rule, or `zone` or `grace_seconds`.
        before: as it is in force, without the values that say nothing; None: it is new.
        after: as the file has it; None: it is gone.
    """

    name: str
    before: Any
    after: Any


def changes(before: AppliedRules | None, after: AppliedRules) -> list[Change]:
    """Which rules differ, in the order of the file; those that are gone come last."""
    old = {} if before is None else {rule.name: rule for rule in before.rules}
    new = {rule.name: rule for rule in after.rules}
    found = [
        Change(name, msgspec.to_builtins(old.get(name)), msgspec.to_builtins(new.get(name)))
        for name in dict.fromkeys([*new, *old])
        if old.get(name) != new.get(name)
    ]
    for name in _OF_ALL_RULES:
        values = None if before is None else getattr(before, name), getattr(after, name)
        if values[0] != values[1]:
            found.append(Change(name, *values))
    return found


@dataclass
class Difference:
    """What other rules change for the recordings that exist now.

    Attributes:
        earlier: those of which something goes earlier than before, or goes at all.
        later: those of which something goes later than before, or stays for ever.
        less_stays: those of which only hashes stay, and the commit record stayed before.
        over: those of which something is past its end once the grace of the earlier rules is over.
        first: the first instant at which something of these goes; None: nothing does.
    """

    earlier: Sum = field(default_factory=Sum)
    later: Sum = field(default_factory=Sum)
    less_stays: Sum = field(default_factory=Sum)
    over: Sum = field(default_factory=Sum)
    first: datetime | None = None


def grace_over(applied: Sequence[AppliedRules]) -> datetime:
    """When only the last of some rules count: once the grace of each that they replaced is over."""
    return max(until for _, until, _ in replaced(applied))


def difference(rows: Iterable[Surveyed], grace_over: datetime) -> Difference:
    """Add up a survey by two histories of rules: as they are, and with the new ones at the end.

    Args:
        rows: the survey.
        grace_over: when the earlier rules count no more.
    """
    found = Difference()
    for one in rows:
        if one.facts is None:
            continue
        before, after = (_ends(terms) for terms in one.terms)
        if earlier := [part for part in one.parts if after[part] < before[part]]:
            found.earlier.add(one, earlier)
        if later := [part for part in one.parts if after[part] > before[part]]:
            found.later.add(one, later)
        if one.terms[1] and one.terms[1][-1].stays == "hashes" and not _takes_all(one.terms[0]):
            found.less_stays.add(one, ())
        if over := [part for part in one.parts if after[part] <= grace_over]:
            found.over.add(one, over)
        first = min((after[part] for part in one.parts), default=NEVER)
        if first != NEVER and (found.first is None or first < found.first):
            found.first = first
    return found


def _ends(terms: Sequence[Term]) -> dict[Part, datetime]:
    return {part: next((term.ends_at for term in terms if part in term.goes), NEVER) for part in PARTS}


def _takes_all(terms: Sequence[Term]) -> bool:
    return bool(terms) and terms[-1].stays == "hashes"
