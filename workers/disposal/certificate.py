"""The certificate of destruction: what retention rules disposed of in a period, summed up from the records in the archive.

It lists the archive's recordings and reads every record of a disposal, so it needs no list or index that could be wrong. Each
record is checked as `callvault verify` does: its signature, its rule, and its hashes against the seals. Everything here blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import msgspec

from archive import kinds, layout
from archive.archive import Archive
from archive.dispose import original_gone
from archive.erasures import Erasures, Removed, UnderRule, read_removal, rule_of
from archive.folder import Folder, folders_in
from archive.records import UnreadableRecord
from archive.removal_records import ErasedObject, Erasure, Removal
from archive.seals import Chain, lines_of
from text.times import format_instant, parse_instant, utc_now

COVERS = (
    "Every object below was deleted from the archive, with all versions that the store showed, after its retention rule had "
    "ended. Its SHA-256 stays in the record of the disposal, and in the seal of its day where one is named.",
    "The original at Telnyx was gone before: each recording has a receipt of its deletion, or a record that Telnyx no longer "
    "had it.",
)
COVERS_NOTHING = ("The archive had no record of a disposal in this period when this was made.",)
CANNOT_PROVE = (
    "Copies that the archive does not know: downloads, exports, replicas of the bucket, backups, and what a store keeps after a "
    "deletion (soft delete) until its own period ends.",
    "That the store and Telnyx destroyed the bytes on their disks; both said that they deleted them.",
    "What is not in a seal yet has no seal below. Make the certificate again once the day is sealed.",
)
NOT_OVER = "The period had not ended when this was made: what is disposed of in it later is not here."


class Destroyed(msgspec.Struct, frozen=True):
    """One record of a disposal.

    Attributes:
        recording_id: of the recording.
        record: the key of the record; `record_sha256`: of its bytes; `is_signed`: whether a valid signature lies beside it.
        at: when it was disposed of; `ended_at`: when the term ended; ISO 8601, UTC.
        rule: the rule, and `rules_number`: of the applied rules that have it; `why`: in one sentence.
        by: the process that disposed of it.
        objects: key, size and SHA-256 of each object.
        stays: what stays in the archive: `metadata` or `hashes`.
        original: the key of the record that its original was gone at Telnyx.
        seal: the number of the seal that lists the record; None if none does yet.
    """

    recording_id: str
    record: str
    record_sha256: str
    is_signed: bool
    at: str
    ended_at: str
    rule: str
    rules_number: int
    why: str
    by: str
    objects: list[ErasedObject]
    stays: str
    original: str
    seal: int | None


class Sum(msgspec.Struct):
    """What one rule disposed of in the period."""

    rule: str
    rules_number: int
    recordings: int = 0
    objects: int = 0
    bytes: int = 0


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """The certificate, as its JSON has it.

    Attributes:
        archive_id: of the archive.
        since, until: the period, UTC days, both included.
        made_at: ISO 8601, UTC, before the archive was read; `by`: who made it.
        head_sequence, head_sha256: of the last seal in the chain at that moment; None without a seal.
        recordings, objects, bytes: of the whole period; a recording counts once.
        sums: by rule.
        covers: what the certificate says; `cannot_prove`: what it does not.
        problems: what is wrong with records of the period; such a record is not among `destroyed`.
        destroyed: each record, in the order of its time.
    """

    schema: str = "callvault.certificate/1"
    archive_id: str
    since: str
    until: str
    made_at: str
    by: str
    head_sequence: int | None
    head_sha256: str | None
    recordings: int
    objects: int
    bytes: int
    sums: list[Sum]
    covers: tuple[str, ...]
    cannot_prove: tuple[str, ...]
    problems: list[str]
    destroyed: list[Destroyed]


def encode_certificate(certificate: Certificate) -> bytes:
    """The bytes of its file."""
    return msgspec.json.format(msgspec.json.encode(certificate), indent=2) + b"\n"


@dataclass
class _Found:
    destroyed: list[Destroyed]
    problems: list[str]


def certify(
    archive: Archive,
    chain: Chain,
    since: date,
    until: date,
    by: str,
    trusted: Collection[bytes] | None = None,
    show: Callable[[int], None] = lambda _: None,
) -> Certificate:
    """Make the certificate of a period.

    Args:
        archive: the archive.
        chain: its seals.
        since, until: UTC days of the disposals, both included.
        by: who makes it.
        trusted: raw public keys, one of which must have signed each record; None to check signatures alone.
        show: called with the number of recordings looked at.

    Raises:
        UnreadableRecord: a manifest cannot be read.
        StoreError: the store does not answer.
    """
    made_at = utc_now()
    erasures, found, sealed = Erasures(archive, archive.identity, trusted), _Found([], []), _Sealed(archive, chain)
    for number, folder in enumerate(folders_in(archive.store.list("recordings/")), 1):
        if records := [*_records_of(archive, folder, found, since, until)]:
            removed, listed = erasures.read(folder.prefix, folder.objects), sealed.of(folder.day)
            removed.problems += erasures.problems_of_ends(folder.prefix, _with_commit_record(archive, folder, records))
            for one in records:
                _take(archive, folder, one, _Around(removed, listed), found)
        show(number)
    destroyed = sorted(found.destroyed, key=lambda one: (one.at, one.record))
    last = chain.links[-1] if chain.links else None
    return Certificate(
        archive_id=archive.identity.id,
        since=since.isoformat(),
        until=until.isoformat(),
        made_at=format_instant(made_at),
        by=by,
        head_sequence=last.seal.sequence if last else None,
        head_sha256=last.sha256 if last else None,
        recordings=len({one.recording_id for one in destroyed}),
        objects=sum(len(one.objects) for one in destroyed),
        bytes=sum(_size(one) for one in destroyed),
        sums=_sums(destroyed),
        covers=COVERS if destroyed else COVERS_NOTHING,
        cannot_prove=(*CANNOT_PROVE, *([NOT_OVER] if until >= made_at.date() else [])),
        problems=found.problems,
        destroyed=destroyed,
    )


class _Record(NamedTuple):
    """The record of a disposal, with its key, its bytes, their SHA-256, and its rule."""

    key: str
    data: bytes
    sha256: str
    record: Removal
    under: UnderRule


def _records_of(archive: Archive, folder: Folder, found: _Found, since: date, until: date) -> Iterator[_Record]:
    """The records of a folder by which a rule disposed of something in the period; one that cannot be read is a problem."""
    for key in folder.keys_of(*kinds.REMOVALS):
        data = archive.read_small(key) or b""
        try:
            record = read_removal(data, key)
            at = parse_instant(record.at).date()
        except (UnreadableRecord, ValueError) as error:
            found.problems.append(str(error))
            continue
        if (under := rule_of(record)) is not None and since <= at <= until:
            yield _Record(key, data, hashlib.sha256(data).hexdigest(), record, under)


def _with_commit_record(archive: Archive, folder: Folder, records: Iterable[_Record]) -> dict[str, bytes]:
    """Records of a folder, and its commit record if that stays, by key."""
    found, key = {one.key: one.data for one in records}, layout.commit_key(folder.prefix)
    data = archive.read_small(key) if key in folder.objects else None
    return found if data is None else found | {key: data}


class _Around(NamedTuple):
    """What is known of the folder of a record: what is gone from it, and what seals list of its day."""

    removed: Removed
    listed: Mapping[str, tuple[str, int]]


def _take(archive: Archive, folder: Folder, one: _Record, around: _Around, found: _Found) -> None:
    """Take in one record, unless something is wrong with it: then the certificate names the problem instead."""
    key, record, signature = one.key, one.record, layout.signature_key(one.key)
    removed, listed = around
    problems = [f"{it.key}: {it.what}" for it in removed.problems if it.key in (key, signature)]
    problems += [
        f"{it.key}: on record as deleted, and still there" for it in record.objects if it.key in folder.objects
    ]
    problems += [
        f"{key}: names another SHA-256 for {it.key} than its seal does"
        for it in record.objects
        if it.key in listed and listed[it.key][0] != it.sha256
    ]
    original: str | None = None
    try:
        if (original := original_gone(archive, folder)) is None:
            problems.append(f"{key}: no record beside it says that the original was gone at Telnyx")
    except UnreadableRecord as error:
        problems.append(str(error))
    if problems or original is None:
        found.problems += problems
        return
    sealed_as, seal = listed.get(key, ("", None))
    found.destroyed.append(
        Destroyed(
            recording_id=record.recording_id,
            record=key,
            record_sha256=one.sha256,
            is_signed=signature in folder.objects,
            at=record.at,
            ended_at=str(record.ended_at),
            rule=one.under.rule,
            rules_number=one.under.rules_number,
            why=record.why,
            by=record.by,
            objects=record.objects,
            stays="hashes" if isinstance(record, Erasure) else "metadata",
            original=original,
            seal=seal if sealed_as == one.sha256 else None,
        )
    )


class _Sealed:
    """What seals list of each day, read once a day."""

    def __init__(self, archive: Archive, chain: Chain) -> None:
        self._archive, self._chain = archive, chain
        self._days: dict[date, Mapping[str, tuple[str, int]]] = {}

    def of(self, day: date | None) -> Mapping[str, tuple[str, int]]:
        """The SHA-256 of each object that seals of a day list, and the number of the seal, by key."""
        if day is None:
            return {}
        if day not in self._days:
            self._days = {
                day: {
                    key: (sha256, link.seal.sequence)
                    for link in self._chain.of_day(day)
                    for sha256, key in lines_of(self._archive, link)
                }
            }
        return self._days[day]


def _size(one: Destroyed) -> int:
    return sum(row.size for row in one.objects)


def _sums(destroyed: list[Destroyed]) -> list[Sum]:
    sums: dict[tuple[int, str], Sum] = {}
    recordings: dict[tuple[int, str], set[str]] = {}
    for one in destroyed:
        name = (one.rules_number, one.rule)
        total = sums.setdefault(name, Sum(one.rule, one.rules_number))
        total.objects += len(one.objects)
        total.bytes += _size(one)
        recordings.setdefault(name, set()).add(one.recording_id)
        total.recordings = len(recordings[name])
    return [sums[name] for name in sorted(sums)]
