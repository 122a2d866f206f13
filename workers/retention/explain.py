"""Why a recording stays, or until when: asked of the archive itself, as a disposal would ask."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from archive import kinds, layout
from archive.archive import Archive
from archive.decision_records import AppliedRules
from archive.erasures import read_disposals
from archive.facts import Fit, facts_of
from archive.records import UnreadableRecord
from archive.removal_records import Part
from archive.retention import PARTS, Term, candidates, part_of, terms_of
from text.errors import UserError
from text.periods import zone_of
from text.times import format_instant, utc_now
from workers.catalogue.rows import Row
from workers.deletion.kept import Holding, holds_on
from workers.deletion.whereabouts import erasure_of


class Ending(msgspec.Struct, frozen=True):
    """When something of a recording may go.

    Attributes:
        goes, stays, rule, number, why: as of `archive.retention.Term`.
        ends_at: ISO 8601, UTC.
        ends_at_local: the same in the zone of the rules, with its offset.
        is_over: whether that has passed, by this machine's clock.
    """

    goes: tuple[Part, ...]
    stays: str
    ends_at: str
    ends_at_local: str
    rule: str
    number: int
    why: str
    is_over: bool


class Ruling(msgspec.Struct, frozen=True):
    """A rule of the last ones that may decide about a part; of each part the one that decides comes first.

    Attributes:
        fit: `matches`, `may match` or `default`.
        missing: the fields that the record does not say, and the rule needs.
        ends_at: by this rule alone: ISO 8601, UTC; None: never.
    """

    part: Part
    rule: str
    fit: Fit | str
    missing: tuple[str, ...]
    keep: str
    ends_at: str | None


class Lock(msgspec.Struct, frozen=True):
    """The lock of an object of the recording, as the store shows it.

    Attributes:
        until: its end: ISO 8601, UTC. Nobody can delete the object before, or only with a permission of their own.
        is_longer: whether that is after the end that the rules give this object.
    """

    key: str
    until: str
    is_longer: bool


class Explanation(msgspec.Struct, frozen=True):
    """What retention rules say of one recording.

    Attributes:
        state: `archived`, or `erased`: then nothing is left to keep.
        gone: the parts that retention rules have disposed of.
        counted_from: the instant from which its period counts: ISO 8601, UTC; and `counted_from_what`.
        zone: where days, months and years are counted.
        number: of the last applied rules; 0: nobody has applied any.
        terms: what may go when; empty: all of it is kept for ever.
        kept_for_ever: the parts that no rule ends.
        is_in_custom_storage: whether Telnyx put the audio into a bucket of the user's, where nothing is deleted.
        rules: that may decide.
        holds: that keep it whatever its rule says.
        locks: of its objects.
        removed: when it was erased or disposed of, and by whom or under which rule, in one line; None: it is there.
    """

    recording_id: str
    state: str
    counted_from: str | None
    counted_from_what: str | None
    zone: str
    number: int
    terms: list[Ending]
    kept_for_ever: tuple[Part, ...]
    gone: tuple[Part, ...]
    is_in_custom_storage: bool
    rules: list[Ruling]
    holds: list[Holding]
    locks: list[Lock] = []
    removed: str | None = None


def explained(archive: Archive, row: Row, applied: Sequence[AppliedRules]) -> Explanation:
    """Explain what rules say of a recording; blocks.

    Args:
        archive: the archive.
        row: the recording, as the catalogue knows it.
        applied: all rules that people applied.

    Raises:
        UserError: its commit record cannot be read or is missing, so it is kept.
        StoreError: the archive does not answer.
    """
    folder = layout.recording_folder(row.date, row.recording_id)
    zone = applied[-1].zone if applied else "UTC"
    number = applied[-1].number if applied else 0
    try:
        holds = holds_on(archive, folder, row.connection_id)
        record = archive.commit_record(folder)
        if record is None and archive.is_erased(folder):
            removed = erasure_of(archive, folder)
            nothing = Explanation(row.recording_id, "erased", None, None, zone, number, [], (), PARTS, False, [], holds)
            return msgspec.structs.replace(nothing, removed=removed)
        if record is None:
            raise UserError(f"{layout.commit_key(folder)}: missing; the recording is kept until it is restored")
        records = [record, *archive.versions(folder)]
        keys = archive.keys_of(folder)
        there = {part_of(kinds.kind_of(key)) for key in keys}  # a hold may have stopped a disposal after its record
        gone = {part for one in read_disposals(archive, folder, keys) for part in one.goes if part not in there}
    except UnreadableRecord as error:
        raise UserError(f"{error}; the recording is kept until that is restored") from None
    terms = [term for term in terms_of(records, applied) if not gone.issuperset(term.goes)]
    facts = max(map(facts_of, records), key=lambda one: one.ended_at)
    rulings = [
        Ruling(part, one.rule.name, one.fit, one.missing, one.rule.keep, _written(one.ends_at))
        for part in PARTS
        for one in (candidates(facts, applied[-1], part) if applied else ())
    ]
    ending = {part for term in terms for part in term.goes}
    return Explanation(
        recording_id=row.recording_id,
        state="archived",
        counted_from=format_instant(facts.ended_at),
        counted_from_what=facts.counted_from,
        zone=zone,
        number=number,
        terms=[
            Ending(
                goes=term.goes,
                stays=term.stays,
                ends_at=format_instant(term.ends_at),
                ends_at_local=term.ends_at.astimezone(zone_of(zone)).isoformat(),
                rule=term.rule,
                number=term.number,
                why=term.why,
                is_over=term.ends_at <= utc_now(),
            )
            for term in terms
        ],
        kept_for_ever=tuple(part for part in PARTS if part not in ending | gone),
        gone=tuple(part for part in PARTS if part in gone),
        is_in_custom_storage=any(one.is_in_custom_storage for one in records),
        rules=rulings,
        holds=holds,
        locks=_locks(archive, folder, terms),
    )


def _locks(archive: Archive, folder: str, terms: Sequence[Term]) -> list[Lock]:
    """The locks of what the terms say may go, object by object."""
    found = []
    whole = {part for term in terms for part in term.goes} == set(PARTS) and terms[-1].stays == "hashes"
    for key in archive.keys_of(folder):
        stored = archive.store.stat(key)
        if stored is None or stored.locked_until is None:
            continue
        part = part_of(kinds.kind_of(key))
        ends = [term.ends_at for term in terms if part in term.goes or (whole and part is None)]
        is_longer = bool(ends) and stored.locked_until > max(ends)
        found.append(Lock(key, format_instant(stored.locked_until), is_longer))
    return found


def _written(at: datetime | None) -> str | None:
    return None if at is None else format_instant(at)
