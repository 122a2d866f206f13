"""Removes what was erased or disposed of from the Parquet files of its day, with credentials that may delete and write."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

import msgspec

from archive import kinds, layout
from archive.append import put_file
from archive.archive import Archive
from archive.folder import folders_in
from text.errors import UserError
from workers.catalogue.parquet import has_parquet, read_rows, write_rows
from workers.catalogue.rows import Row


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
    return _rewrite(archive, day, lambda row: None if row.recording_id == recording_id else row)


def forget_disposed(archive: Archive, day: date) -> int:
    """Rewrite each Parquet file of a day that still holds what was erased or disposed of; blocks.

    What is gone is seen from a listing of the day: a row of an erased recording goes, and of a recording with a record of a
    disposal each transcript whose object is not there.

    Returns:
        How many files held something of it.

    Raises:
        UserError, StoreError: as `forget`.
    """
    erased: set[str] = set()
    left: dict[str, set[str]] = {}
    for folder in folders_in(archive.store.list(layout.day_prefix(day))):
        if folder.has(kinds.ERASURE) and not folder.has(kinds.COMMIT):
            erased.add(folder.recording_id)
        elif folder.has(kinds.DISPOSAL):
            places = (folder.places[key] for key in folder.keys_of(kinds.TRANSCRIPTION))
            left[folder.recording_id] = {place.name for place in places}

    def without(row: Row) -> Row | None:
        if row.recording_id in erased:
            return None
        there = left.get(row.recording_id)
        if there is None or there.issuperset(row.transcription_ids):
            return row
        pairs = zip(row.transcription_ids, row.transcripts, strict=False)
        kept = [(name, text) for name, text in pairs if name in there]
        names, texts = [name for name, _ in kept], [text for _, text in kept]
        return msgspec.structs.replace(row, transcription_ids=names, transcripts=texts)

    return _rewrite(archive, day, without) if erased or left else 0


def _rewrite(archive: Archive, day: date, change: Callable[[Row], Row | None]) -> int:
    """Rewrite the Parquet files of a day of which a row changes; a row that becomes None goes."""
    assert_can_forget(archive, day)
    changed = 0
    for stored in list(archive.store.list(_folder(day))):
        data = b"".join(archive.store.read(stored.key))
        rows = list(read_rows(io.BytesIO(data), day.isoformat()))
        kept = [after for row in rows if (after := change(row)) is not None]
        if kept == rows:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.parquet"
            write_rows(path, iter(kept))
            archive.store.erase(stored.key)
            put_file(archive, stored.key, path)
        changed += 1
    return changed
