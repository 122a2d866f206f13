"""Removes an erased recording from the Parquet files of its day, with credentials that may delete and write."""

from __future__ import annotations

import io
import tempfile
from datetime import date
from pathlib import Path

from archive.append import put_file
from archive.archive import Archive
from workers.catalogue.parquet import read_rows, write_rows


def forget(archive: Archive, day: date, recording_id: str) -> int:
    """Rewrite each Parquet file of a day without a recording; blocks.

    Returns:
        How many files held it.

    Raises:
        StoreError: the store is away, or may not delete.
    """
    changed = 0
    for stored in list(archive.store.list(f"catalogue/day={day.isoformat()}/")):
        data = b"".join(archive.store.read(stored.key))
        rows = list(read_rows(io.BytesIO(data), day.isoformat()))
        kept = [row for row in rows if row.recording_id != recording_id]
        if len(kept) == len(rows):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.parquet"
            write_rows(path, iter(kept))
            archive.store.erase(stored.key)
            put_file(archive, stored.key, path)
        changed += 1
    return changed
