"""Removes an erased recording from the Parquet files of its day, with credentials that may delete and write."""

from __future__ import annotations

import io
import tempfile
from datetime import date
from pathlib import Path

from archive.append import put_file
from archive.archive import Archive
from text.errors import UserError
from workers.catalogue.parquet import has_parquet, read_rows, write_rows


def assert_can_forget(archive: Archive, day: date) -> None:
    """Check that a recording of this day can be removed from the day's Parquet files; blocks.

    Raises:
        UserError: the day has such files, and `pyarrow` is not installed.
        StoreError: the store is away.
    """
    if not has_parquet() and any(True for _ in archive.store.list(_folder(day))):
        raise UserError(
            f"pyarrow is missing, so the Parquet rows of {day} cannot be erased; pip install 'callvault[parquet]', or use "
            "the full image"
        )


def _folder(day: date) -> str:
    return f"catalogue/day={day.isoformat()}/"


def forget(archive: Archive, day: date, recording_id: str) -> int:
    """Rewrite each Parquet file of a day without a recording; blocks.

    Returns:
        How many files held it.

    Raises:
        UserError: the day has such files, and `pyarrow` is not installed.
        StoreError: the store is away, or may not delete.
    """
    assert_can_forget(archive, day)
    changed = 0
    for stored in list(archive.store.list(_folder(day))):
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
