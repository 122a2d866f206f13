"""Erasing a recording, at its owner's wish and with credentials of their own: the service itself can delete nothing.

What was erased is on record first (`erased.json`: keys, sizes, hashes, why, who), and then gone: audio, transcriptions,
commit record, and its row in the Parquet files. Receipts and decisions stay; they hold hashes and ids. It blocks.
"""

from __future__ import annotations

import getpass

from config.errors import UserError
from config.times import format_instant, utc_now
from workers.archive import layout
from workers.archive.archive import Archive
from workers.archive.proof import hash_object
from workers.archive.records import ERASURE, ErasedObject, Erasure

_KEPT = ("deleted.json", "erased.json")


def erase(archive: Archive, folder: str, recording_id: str, why: str, by: str | None) -> tuple[str, Erasure]:
    """Erase what lies in a recording's folder. Run again, it goes on where it was stopped.

    Returns:
        The key of the record, and the record.

    Raises:
        UserError: there is nothing of it in the archive.
        StoreError: the store did not take the record, or may not delete.
    """
    key = layout.erasure_key(folder)
    present = {stored.key: stored for stored in archive.store.list(folder)}
    gone = [k for k in present if not k.endswith(_KEPT) and "/decisions/" not in k]
    if key in present:
        record = ERASURE.read(archive.read_small(key), key)
    else:
        if not gone:
            raise UserError(f"there is nothing of recording {recording_id} in the archive")
        record = Erasure(
            recording_id=recording_id,
            objects=[ErasedObject(k, present[k].size, hash_object(archive.store, k)) for k in gone],
            why=why,
            by=by or getpass.getuser(),
            erased_at=format_instant(utc_now()),
        )
        archive.put_erasure(folder, record)
    for k in gone:
        archive.store.erase(k)
    return key, record
