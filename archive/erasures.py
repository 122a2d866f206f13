"""Which records of erasures and disposals `callvault verify` accepts: they explain missing objects, so each is checked.

Its signature is checked, and a record that names a retention rule is checked against the rules that people applied. Where the
commit record stays, the rules give the recording an end, and the record of a disposal may name no earlier one.

Older versions did not sign erasures. Their records are accepted if a seal lists them that the archive had when it got its
identity (`Identity.adopted_seals`).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import msgspec

from archive import kinds, layout
from archive.archive import Archive
from archive.decision_records import AppliedRules
from archive.problems import Problem, wrong
from archive.readers import COMMIT_RECORD, DISPOSAL, ERASURE
from archive.records import Identity, UnreadableRecord
from archive.removal_records import Disposal, ErasedObject, Removal
from archive.retention import NEVER, part_of, read_applied, terms_of
from archive.seals import lines_of, read_link
from archive.signers import check_signature
from text.times import format_instant, parse_instant

_APART = timedelta(days=1)  # a time zone may have been corrected since


class UnderRule(msgspec.Struct, frozen=True):
    """A retention rule, and a day on which it disposed of something.

    Attributes:
        rule: its name.
        rules_number: of the applied rules that have it.
        day: of the disposal: UTC, ISO 8601.
    """

    rule: str
    rules_number: int
    day: str


@dataclass
class Removed:
    """What records say is gone from a folder.

    Attributes:
        hashes: the SHA-256 of each object, by key.
        says: the key of the record that says so, by the key of the object.
        under: the rule, by the key of the object; an object that a person had erased is not in it.
        problems: of these records.
    """

    hashes: dict[str, str] = field(default_factory=dict)
    says: dict[str, str] = field(default_factory=dict)
    under: dict[str, UnderRule] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def take(self, key: str, prefix: str, objects: Iterable[ErasedObject], under: UnderRule | None) -> None:
        """Take in the objects that a record names; an earlier record of the same object stays."""
        for one in objects:
            if one.key.startswith(prefix) and one.key not in self.hashes:
                self.hashes[one.key], self.says[one.key] = one.sha256, key
                if under is not None:
                    self.under[one.key] = under


class Erasures:
    """Reads the records of erasures and disposals of an archive. Several threads use it.

    Args:
        archive: the archive.
        identity: its identity; None if unknown.
        trusted: raw public keys, one of which must have signed each record; None to check signatures alone.
    """

    def __init__(self, archive: Archive, identity: Identity | None, trusted: Collection[bytes] | None) -> None:
        self._archive = archive
        self._identity = identity
        self._trusted = trusted
        self._lock = threading.Lock()
        self._adopted: dict[str, str] | None = None
        self._rules: Sequence[AppliedRules] | None = None

    def read(self, folder: str, present: Collection[str]) -> Removed:
        """What the records of a folder say is gone, and the problems of these records.

        Args:
            folder: the folder of a recording.
            present: its keys.
        """
        removed, erasure = Removed(), layout.erasure_key(folder)
        records = [*([erasure] if erasure in present else []), *disposals_in(folder, present)]
        for key in records:
            self._read_record(folder, key, present, removed)
        alone = {key for key in present if key.endswith(".sig")}.difference(map(layout.signature_key, records))
        for key in sorted(alone):
            if kinds.kind_of(key) in kinds.REMOVAL_SIGNATURES:
                removed.problems.append(Problem("unknown", key, "a signature without its record"))
        return removed

    def _read_record(self, folder: str, key: str, present: Collection[str], removed: Removed) -> None:
        data = self._archive.read_small(key) or b""
        try:
            record = read_removal(data, key)
        except UnreadableRecord as error:
            removed.problems.append(wrong(error))
            return
        if not folder.endswith(f"/{layout.encode_name(record.recording_id)}/"):
            removed.problems.append(Problem("damaged", key, f"names another recording, {record.recording_id}"))
            return
        if isinstance(record, Disposal) and key != layout.disposal_key(folder, record.number):
            removed.problems.append(Problem("damaged", key, f"contains disposal {record.number}"))
            return
        removed.take(key, folder, record.objects, rule_of(record))
        removed.problems += self._problems_of_rule(key, record)
        if (signature := layout.signature_key(key)) in present:
            removed.problems += check_signature(self._archive, "erasure", signature, data, self._trusted)[1]
        elif self._trusted is not None and not self._is_older(key, data):
            what = "it has no signature, though CALLVAULT_SEAL_KEY is set"
            removed.problems.append(Problem("erasure", key, what))

    def _problems_of_rule(self, key: str, record: Removal) -> list[Problem]:
        """Compare a record with the rules that people applied: the rule must be one of them, and its term over."""
        under = rule_of(record)
        if under is None:
            return []
        try:
            is_early = parse_instant(record.at) < parse_instant(str(record.ended_at))
        except ValueError:
            return [Problem("damaged", key, "contains a time that cannot be read")]
        if is_early:
            return [Problem("erasure", key, f"disposed of at {record.at}, before the term ended at {record.ended_at}")]
        rules = self._applied_rules()
        if rules is not None and under.rule not in _names_in(rules, under.rules_number):
            what = f"names the retention rule {under.rule!r} of applied rules {under.rules_number}, which the archive lacks"
            return [Problem("erasure", key, what)]
        return []

    def problems_of_ends(self, folder: str, records: Mapping[str, bytes]) -> list[Problem]:
        """Compare the ends that records of disposals name with those that the rules give by the commit record beside them.

        Args:
            folder: the folder of a recording.
            records: its records by key: those of disposals, and its commit record. Without that, nothing can be compared.
        """
        key, names, found = layout.commit_key(folder), disposals_in(folder, records), list[Problem]()
        if not names or key not in records or (applied := self._applied_rules()) is None:
            return []
        for name in names:
            try:
                record, commit = DISPOSAL.read(records[name], name), COMMIT_RECORD.read(records[key], key)
                ended_at = parse_instant(record.ended_at)
            except (UnreadableRecord, ValueError):
                continue  # which other lines report
            terms = terms_of([commit], applied[: record.rules_number])  # a version can only lengthen it
            ends = {part: term.ends_at for term in terms for part in term.goes}
            parts = sorted({part for one in record.objects if (part := part_of(kinds.kind_of(one.key))) is not None})
            for part in parts:
                if (end := ends.get(part, NEVER)) > ended_at + _APART:
                    until = "for ever" if end == NEVER else f"until {format_instant(end)}"
                    what = f"names {record.ended_at} as the end of {part}, which applied rules {record.rules_number} keep {until}"
                    found.append(Problem("erasure", name, what))
        return found

    def _applied_rules(self) -> Sequence[AppliedRules] | None:
        """The rules that people applied, the first first; None if one cannot be read, which `verify` reports."""
        with self._lock:
            if self._rules is None:
                try:
                    self._rules = read_applied(self._archive)
                except UnreadableRecord:
                    return None
            return self._rules

    def _is_older(self, key: str, data: bytes) -> bool:
        """Whether an older version wrote the record, which could not sign."""
        with self._lock:
            if self._adopted is None:
                self._adopted = self._read_adopted()
        return self._adopted.get(key) == hashlib.sha256(data).hexdigest()

    def _read_adopted(self) -> dict[str, str]:
        """The erasure records that the adopted seals list; empty if the chain does not match the identity."""
        listed: dict[str, str] = {}
        before: str | None = None
        identity = self._identity
        try:
            for sequence in range(1, identity.adopted_seals + 1 if identity else 1):
                key = layout.seal_key(sequence)
                link = read_link(self._archive.read_small(key) or b"", key)
                if link.seal.previous_sha256 != before:
                    return {}
                rows = lines_of(self._archive, link)
                listed |= {name: sha256 for sha256, name in rows if kinds.kind_of(name) is kinds.ERASURE}
                before = link.sha256
        except UnreadableRecord:
            return {}
        return listed if identity is not None and before == identity.adopted_head else {}


def _names_in(applied: Sequence[AppliedRules], number: int) -> Collection[str]:
    return {rule.name for rules in applied if rules.number == number for rule in rules.rules}


def disposals_in(folder: str, present: Iterable[str]) -> list[str]:
    """Of the keys of a recording's folder those of the records of its disposals, in order."""
    keys = [key for key in present if key.startswith(f"{folder}disposed/")]
    return sorted(key for key in keys if kinds.kind_of(key) is kinds.DISPOSAL)


def read_disposals(archive: Archive, folder: str, present: Iterable[str]) -> list[Disposal]:
    """The records of the disposals of a recording, in order; blocks.

    Args:
        archive: the archive.
        folder: the folder of the recording.
        present: its keys.

    Raises:
        UnreadableRecord: one cannot be read.
        StoreError: the store does not answer.
    """
    return [DISPOSAL.read(archive.read_small(key), key) for key in disposals_in(folder, present)]


def disposed_keys(archive: Archive, folder: str, present: Iterable[str] | None = None) -> dict[str, Disposal]:
    """The objects of a recording that were disposed of, each with the record that says so; blocks.

    Args:
        archive: the archive.
        folder: the folder of the recording.
        present: its keys; None: list them.

    Raises:
        UnreadableRecord, StoreError: as `read_disposals`.
    """
    keys = archive.keys_of(f"{folder}disposed/") if present is None else present
    return {one.key: record for record in read_disposals(archive, folder, keys) for one in record.objects}


def is_gone_on_record(archive: Archive, folder: str, key: str) -> bool:
    """Whether the recording was erased, or this object of it was disposed of, so that nobody writes it again; blocks.

    Raises:
        UnreadableRecord, StoreError: as `read_disposals`.
    """
    return archive.is_erased(folder) or key in disposed_keys(archive, folder)


def read_removal(data: bytes | None, key: str) -> Removal:
    """Read the record of an erasure or of a disposal, whichever belongs under its key.

    Raises:
        UnreadableRecord: as `RecordReader.read`.
    """
    record: Removal = (ERASURE if kinds.kind_of(key) is kinds.ERASURE else DISPOSAL).read(data, key)
    return record


def rule_of(record: Removal) -> UnderRule | None:
    """The rule under which a record disposed of something; None if a person had it erased."""
    if not isinstance(record.rule, str) or not isinstance(record.rules_number, int):
        return None
    return UnderRule(record.rule, record.rules_number, record.at[:10])
