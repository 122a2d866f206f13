"""Erases a recording for its owner, with the owner's credentials: the service itself can delete nothing.

It first writes `erased.json` (keys, sizes, hashes, why, who) and signs it if the seal key is set. Then it erases audio,
transcriptions, commit record and the row in the Parquet files. Receipts and decisions stay; they hold hashes and ids.
Everything here blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archive import kinds, layout
from archive.archive import Archive, ArchiveConflict
from archive.proof import hash_object
from archive.readers import ERASURE
from archive.records import UnreadableRecord
from archive.removal_records import ErasedObject, Erasure
from archive.seals import Chain, lines_of
from archive.stores.store import StoreCold, StoreError
from text.errors import UserError
from text.times import format_instant, utc_now
from text.user import user_name

if TYPE_CHECKING:
    from archive.signatures import SealKeys

_MOST_ROUNDS = 5


@dataclass(frozen=True)
class Erased:
    """The result of an erasure.

    Attributes:
        record: the erasure record, maybe of an earlier run.
        key: the key of the record.
        keys: the objects that this run erased.
        is_first: whether this run wrote the record.
    """

    record: Erasure
    key: str
    keys: list[str]
    is_first: bool


def erase(
    archive: Archive,
    folder: str,
    why: str,
    by: str | None,
    keys: SealKeys | None = None,
    ask: Callable[[], None] = lambda: None,
) -> Erased:
    """Erase a recording. A second run continues an interrupted one.

    Args:
        archive: the archive.
        folder: the folder of the recording.
        why: the reason, for the record.
        by: the person; None for the user of this machine.
        keys: the keys that sign the record; None to leave it unsigned, which `verify` reports.
        ask: called just before the record is written; an exception of it stops the erasure, and nothing is erased.

    Raises:
        UserError: the archive does not have the recording, or its erasure record cannot be signed.
        StoreError: the store did not take the record, or may not delete.
    """
    key, recording_id = layout.erasure_key(folder), layout.recording_id_of(folder)
    present = {stored.key: stored for stored in archive.store.list(folder)}
    is_first = key not in present
    if not is_first:
        record = ERASURE.read(archive.read_small(key), key)
        if keys is not None:
            sign_erasure(archive, folder, keys)
    else:
        gone = [k for k in present if not _is_kept(k)]
        if not gone:
            raise UserError(f"recording {recording_id} is not in the archive")
        record = Erasure(
            recording_id=recording_id,
            objects=[ErasedObject(k, present[k].size, _hash_of(archive, folder, k)) for k in gone],
            why=why,
            by=by or user_name(),
            erased_at=format_instant(utc_now()),
        )
        ask()
        archive.put_erasure(folder, record)
        if keys is not None:
            _sign(archive, folder, archive.read_small(key) or b"", keys)
    return Erased(record, key, erase_what_is_left(archive, folder), is_first)


def _hash_of(archive: Archive, folder: str, key: str) -> str:
    """The SHA-256 of an object that is to be erased; of cold audio as its commit record names it, so nobody waits for a restore.

    Raises:
        StoreError: the store does not answer, or the object is cold and no record names it.
    """
    try:
        return hash_object(archive.store, key)
    except StoreCold:
        try:
            records = [archive.commit_record(folder), *archive.versions(folder)]
        except UnreadableRecord:
            records = []
        named = {o.key: o.sha256 for record in records if record is not None for o in record.objects}
        if key not in named:
            raise
        return named[key]


def erase_what_is_left(archive: Archive, folder: str) -> list[str]:
    """Erase the rest of an erased recording until a listing finds nothing more.

    A job that was running when the record was written may have added objects since.

    Returns:
        The keys of the erased objects.

    Raises:
        StoreError: the store may not delete, or does not answer.
    """
    erased: list[str] = []
    for _ in range(_MOST_ROUNDS):
        left = what_is_left(archive, folder)
        if not left:
            return erased
        # The commit record last: it says which connection and cases the recording belongs to.
        for k in sorted(left, key=lambda k: kinds.kind_of(k) is kinds.COMMIT):
            archive.store.erase(k)
        erased += left
    raise StoreError(f"{folder}: another process keeps writing here; stop it, then run the erasure again")


def what_is_left(archive: Archive, folder: str) -> list[str]:
    """The keys of a recording's folder that an erasure removes, also those of which only an earlier version is left."""
    keys = [*(stored.key for stored in archive.store.list(folder)), *archive.store.remains(folder)]
    return [key for key in keys if not _is_kept(key)]


def _is_kept(key: str) -> bool:
    kind = kinds.kind_of(key)
    return kind is not None and kind.survives_erasure


def sign_erasure(archive: Archive, folder: str, keys: SealKeys) -> Erasure:
    """Sign an existing erasure record, after its hashes were compared with the seals.

    Raises:
        UserError: the record is missing, unreadable, has other hashes than the seals, or has another signature.
        StoreError: the store does not answer, or did not take the signature.
    """
    key = layout.erasure_key(folder)
    data = archive.read_small(key)
    if data is None:
        raise UserError(f"{key}: the recording has no erasure record to sign; erase it first")
    try:
        record = ERASURE.read(data, key)
        sealed = _sealed_hashes(archive, folder)
    except UnreadableRecord as error:
        raise UserError(f"{error}; nothing was signed. Run `callvault verify --seals`") from None
    for o in record.objects:
        if sealed.get(o.key, o.sha256) != o.sha256:
            raise UserError(f"{key}: its SHA-256 of {o.key} differs from the seal's; nothing was signed")
    _sign(archive, folder, data, keys)
    return record


def is_signed(archive: Archive, folder: str) -> bool:
    """Whether the erasure record of a folder has a signature."""
    return archive.store.stat(layout.signature_key(layout.erasure_key(folder))) is not None


def _sealed_hashes(archive: Archive, folder: str) -> dict[str, str]:
    """The SHA-256 of each object of a recording that seals list, by key.

    Raises:
        UnreadableRecord: a seal or a manifest cannot be read, or a manifest is not the one of its seal.
    """
    day = layout.day_of(folder)
    chain = Chain(archive)
    chain.refresh()
    links = chain.of_day(day) if day else ()
    return {key: sha256 for link in links for sha256, key in lines_of(archive, link) if key.startswith(folder)}


def _sign(archive: Archive, folder: str, data: bytes, keys: SealKeys) -> None:
    key = layout.signature_key(layout.erasure_key(folder))
    try:
        archive.put(key, keys.sign(data), "application/octet-stream")
    except ArchiveConflict:
        raise UserError(
            f"{key}: another signature is already there; find out who wrote it, then remove it with the store's own tools"
        ) from None
