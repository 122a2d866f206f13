"""Disposes of a recording, or parts of it, whose retention rule has ended: the record first, then every version of each object.

If the commit record stays, `disposed/{number}.json` records what goes; if nothing but hashes stays, `erased.json` does, as in an
erasure on request. Everything here blocks. Whether a recording may go is decided in `workers/disposal/`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archive import kinds, layout
from archive.archive import Archive, ArchiveConflict
from archive.erasures import read_removal, rule_of
from archive.folder import Folder, commit_keys, read_folder
from archive.kinds import Kind
from archive.proof import Damaged, hash_object
from archive.readers import COMMIT_RECORD, GONE, RECEIPT
from archive.records import ArchivedObject, CommitRecord, Gone, Receipt, UnreadableRecord
from archive.removal_records import Disposal, ErasedObject, Erasure, Removal
from archive.retention import Term, part_of
from archive.stores.store import StoreError
from text.counts import many
from text.times import format_instant, utc_now

if TYPE_CHECKING:
    from archive.signatures import SealKeys

_LAST = (None, kinds.VERSION, kinds.COMMIT)  # the order of deletion: what decides about a second run goes last


class NotSealed(Exception):
    """No seal lists an object yet, so nothing would show what it was; the text names it."""


def keys_to_go(folder: Folder, due: Term) -> list[str]:
    """The keys of a folder that go at the end of a term, in the order of their deletion."""

    def order(key: str) -> tuple[int, str]:
        kind = folder.places[key].kind
        return _LAST.index(kind) if kind in _LAST else 0, key

    return sorted((key for key, place in folder.places.items() if goes_at(due, place.kind)), key=order)


def goes_at(due: Term, kind: Kind | None) -> bool:
    """Whether objects of a kind go at the end of a term."""
    return _may_be_erased(kind) if due.stays == "hashes" else part_of(kind) in due.goes


def _may_be_erased(kind: Kind | None) -> bool:
    return kind is None or not kind.survives_erasure


@dataclass(frozen=True)
class Prepared:
    """A recording that may be disposed of as far as its objects are concerned.

    Attributes:
        folder: its objects.
        rows: what goes, in the order of deletion, by key.
        standing: the records of erasure and disposal that it has.
    """

    folder: Folder
    rows: dict[str, ErasedObject]
    standing: dict[str, Removal]

    @property
    def new(self) -> list[ErasedObject]:
        """What no record names yet."""
        named = {one.key for record in self.standing.values() for one in record.objects}
        return [row for key, row in self.rows.items() if key not in named]


def prepare(archive: Archive, prefix: str, due: Term, sealed: Mapping[str, str]) -> Prepared:
    """Look at what goes: each object must be the one that its seal lists; writes and deletes nothing.

    Args:
        archive: the archive.
        prefix: the folder of the recording.
        due: a term that has ended.
        sealed: the SHA-256 of each object of its day that seals list, by key.

    Raises:
        NotSealed: it must wait.
        Damaged, UnreadableRecord: the recording is not what its seal says.
        StoreError: the store does not answer.
    """
    folder = read_folder(archive.store, prefix)
    standing = _records_of(archive, folder)
    for key, record in standing.items():
        _assert_ours(folder, key, record, sealed)
    named = {one.key: one for record in standing.values() for one in record.objects}
    known, going = _named_in_commit_records(archive, folder), keys_to_go(folder, due)
    for key in known:
        is_to_go = key.startswith(prefix) and part_of(kinds.kind_of(key)) in due.goes
        if is_to_go and key not in folder.objects and key not in named:
            raise Damaged(key, "named in its commit record, and not there")
    rows = _rows(archive, folder, going, known)
    for key, row in rows.items():
        _assert_as_sealed(key, row, sealed, named)
    left = [key for key in archive.store.remains(prefix) if key in named and goes_at(due, kinds.kind_of(key))]
    rows = {key: named[key] for key in left} | rows  # an earlier run was killed while it deleted the versions of these
    prepared, erasure = Prepared(folder, rows, standing), layout.erasure_key(prefix)
    if prepared.new and due.stays == "hashes" and erasure in standing:
        raise Damaged(erasure, f"does not name {prepared.new[0].key}, so no record would say what that was")
    return prepared


def records_as_sealed(archive: Archive, folder: Folder, sealed: Mapping[str, str]) -> list[CommitRecord]:
    """The commit record of a recording, then those of its versions: each must be the one that its seal lists.

    The term is counted from them, and holds and cases look at them, also where they stay themselves.

    Raises:
        NotSealed: it must wait.
        Damaged, UnreadableRecord: one is not what its seal says, or the commit record is missing.
        StoreError: the store does not answer.
    """
    found = []
    for key in dict.fromkeys([layout.commit_key(folder.prefix), *commit_keys(folder.objects)]):
        data = archive.read_small(key)
        if data is None:
            raise Damaged(key, "gone from the archive")
        _assert_as_sealed(key, ErasedObject(key, len(data), hashlib.sha256(data).hexdigest()), sealed, {})
        found.append(COMMIT_RECORD.read(data, key))
    return found


def original_gone(archive: Archive, folder: Folder) -> str | None:
    """The key of the record that the original of a recording is gone at Telnyx; None if none says so; blocks.

    Raises:
        UnreadableRecord: such a record is not one, or of another recording.
        StoreError: the store does not answer.
    """
    found = folder.keys_of(kinds.RECEIPT, kinds.GONE)
    for key in found:
        reader = RECEIPT if folder.places[key].kind is kinds.RECEIPT else GONE
        record: Receipt | Gone = reader.read(archive.read_small(key), key)
        if record.recording_id != folder.recording_id:
            raise UnreadableRecord(key, f"names another recording, {record.recording_id}")
    return found[0] if found else None


def dispose(
    archive: Archive,
    prepared: Prepared,
    due: Term,
    by: str,
    keys: SealKeys | None = None,
    ask: Callable[[], None] = lambda: None,
) -> dict[str, Removal]:
    """Dispose of a recording, or of parts of it; a second run finishes an interrupted one.

    Args:
        archive: the archive.
        prepared: the recording.
        due: as for `prepare`.
        by: who does it, for the record.
        keys: the keys that sign the record; None to leave it unsigned, which `verify` reports.
        ask: called in the last moment before the record is written, and before each deletion; an exception of it stops the
            disposal there.

    Returns:
        Its records by key: this run's, and those of an earlier one that this run finished.

    Raises:
        StoreError: the store is away, may not delete, or did not take the record.
    """
    standing, erasure = dict(prepared.standing), layout.erasure_key(prepared.folder.prefix)
    ask()
    if prepared.new and (due.stays == "metadata" or erasure not in standing):
        key, record = _record_of(prepared.folder, due, prepared.new, by)
        _put(archive, key, record)
        standing[key] = record
    if keys is not None:
        _sign(archive, standing, keys)
    for key in prepared.rows:
        ask()
        archive.store.erase(key)
    if left := [key for key in prepared.rows if archive.store.stat(key) is not None]:
        raise StoreError(f"{left[0]}: deleted, and still there")
    return standing


def _records_of(archive: Archive, folder: Folder) -> dict[str, Removal]:
    """The records of erasure and disposal that a folder holds, by key."""
    return {key: read_removal(archive.read_small(key), key) for key in folder.keys_of(*kinds.REMOVALS)}


def _assert_ours(folder: Folder, key: str, record: Removal, sealed: Mapping[str, str]) -> None:
    """Check a record of an earlier run that this one would continue and sign: it names what seals list, and no more than may go.

    Raises:
        Damaged: no run can have written it.
    """
    if record.recording_id != folder.recording_id:
        raise Damaged(key, f"names another recording, {record.recording_id}")
    if isinstance(record, Disposal) and key != layout.disposal_key(folder.prefix, record.number):
        raise Damaged(key, f"contains disposal {record.number}")
    if rule_of(record) is None:
        return  # of an erasure that a person asked for, which may come before the seal; no run signs it
    for one in record.objects:
        kind = kinds.kind_of(one.key)
        may_go = part_of(kind) in record.goes if isinstance(record, Disposal) else _may_be_erased(kind)
        if not (one.key.startswith(folder.prefix) and may_go):
            raise Damaged(key, f"names {one.key}, of which it cannot dispose")
        if sealed.get(one.key) != one.sha256:
            raise Damaged(
                key, f"names {one.key} with SHA-256 {one.sha256}, its seal says {sealed.get(one.key, 'nothing')}"
            )


def _named_in_commit_records(archive: Archive, folder: Folder) -> dict[str, ArchivedObject]:
    """The objects that the commit records of a folder name, by key; of several, the first counts."""
    known: dict[str, ArchivedObject] = {}
    for key in commit_keys(folder.objects):
        record = COMMIT_RECORD.read(archive.read_small(key), key)
        known |= {one.key: one for one in record.objects if one.key not in known}
    return known


def _rows(
    archive: Archive, folder: Folder, going: Iterable[str], known: Mapping[str, ArchivedObject]
) -> dict[str, ErasedObject]:
    """The hash and size of each object that goes: audio by its commit record, which was proven; anything else by its bytes."""
    found = {}
    for key in going:
        size, proven = folder.objects[key].size, known.get(key)
        if proven is not None and proven.size != size:
            raise Damaged(key, f"{many(size, 'byte')} in the store, {proven.size} in its commit record")
        sha256 = _hash(archive, folder, key) if proven is None else proven.sha256
        found[key] = ErasedObject(key, size, sha256)
    return found


def _hash(archive: Archive, folder: Folder, key: str) -> str:
    kind = folder.places[key].kind
    try:
        if kind is not None and kind.reader is not None:
            return hashlib.sha256(archive.read_small(key) or b"").hexdigest()
        return hash_object(archive.store, key)
    except KeyError:
        raise Damaged(key, "listed, and then not there") from None


def _assert_as_sealed(
    key: str, row: ErasedObject, sealed: Mapping[str, str], named: Mapping[str, ErasedObject]
) -> None:
    """Check an object that goes against its seal, and against an earlier record of its disposal.

    Raises:
        NotSealed: no seal lists it.
        Damaged: it is another object than the one that was sealed, or recorded.
    """
    if key not in sealed:
        raise NotSealed(f"{key}: no seal lists it yet")
    if sealed[key] != row.sha256:
        raise Damaged(key, f"has SHA-256 {row.sha256}, its seal says {sealed[key]}")
    if key in named and named[key].sha256 != row.sha256:
        raise Damaged(key, f"has SHA-256 {row.sha256}, the record of its disposal says {named[key].sha256}")


def _record_of(folder: Folder, due: Term, rows: list[ErasedObject], by: str) -> tuple[str, Removal]:
    at, ended_at = format_instant(utc_now()), format_instant(due.ends_at)
    if due.stays == "hashes":
        return layout.erasure_key(folder.prefix), Erasure(
            recording_id=folder.recording_id,
            objects=rows,
            why=due.why,
            by=by,
            erased_at=at,
            rule=due.rule,
            rules_number=due.number,
            ended_at=ended_at,
        )
    places = (place for place in folder.places.values() if place.kind is kinds.DISPOSAL)
    number = 1 + max((int(place.name) for place in places), default=0)
    return layout.disposal_key(folder.prefix, number), Disposal(
        recording_id=folder.recording_id,
        number=number,
        goes=list(due.goes),
        objects=rows,
        why=due.why,
        by=by,
        rule=due.rule,
        rules_number=due.number,
        ended_at=ended_at,
        disposed_at=at,
    )


def _put(archive: Archive, key: str, record: Removal) -> None:
    """Write the record; raises StoreError if another process has just written one under the same key."""
    try:
        archive.put_record(key, record)
    except ArchiveConflict:
        raise StoreError(f"{key}: another process has just written it; the next run looks again") from None


def _sign(archive: Archive, records: Mapping[str, Removal], keys: SealKeys) -> None:
    """Sign the records that rules disposed under; the one of a person is signed by `callvault erase --sign`."""
    for key, record in records.items():
        signature = layout.signature_key(key)
        if rule_of(record) is not None and archive.store.stat(signature) is None:
            archive.put(signature, keys.sign(archive.read_small(key) or b""), "application/octet-stream")
