"""Rows in the bucket, for query engines: one Parquet file for each seal, zstd, with columns whose types never change.

`pyarrow` is an extra: without it, workers seal days and write no such files.
"""

from __future__ import annotations

import importlib.util
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from workers.catalogue.rows import ROW, Row

_BATCH = 2_000
_INSTANTS = ("started_at", "ended_at", "archived_at", "deleted_at")
_TEXTS = ("findings", "transcription_ids", "transcripts")

# Name and type of each column, in order. `day` is the partition: it is in the path and not in the file.
COLUMNS = (
    ("seal", "int64"),
    ("recording_id", "string"),
    ("started_at", "timestamp"),
    ("ended_at", "timestamp"),
    ("from_number", "string"),
    ("to_number", "string"),
    ("direction", "string"),
    ("connection_id", "string"),
    ("call_leg_id", "string"),
    ("call_session_id", "string"),
    ("conference_id", "string"),
    ("duration_ms", "int64"),
    ("bytes", "int64"),
    ("key", "string"),
    ("sha256", "string"),
    ("proof", "string"),
    ("findings", "list<string>"),
    ("archived_at", "timestamp"),
    ("found_by", "string"),
    ("deleted_at", "timestamp"),
    ("decision", "string"),
    ("transcription_ids", "list<string>"),
    ("transcripts", "list<string>"),
)


def has_parquet() -> bool:
    """Whether `pyarrow` is installed."""
    return importlib.util.find_spec("pyarrow") is not None


class RowsFile:
    """Collects the rows of a Parquet file on disk. A context manager, which deletes its files at the end."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._count = 0
        self._folder = tempfile.TemporaryDirectory(prefix="callvault-rows-")

    def __enter__(self) -> RowsFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._spool.close()
        self._folder.cleanup()

    def add(self, row: Row) -> None:
        """Add a row."""
        data = self._encoder.encode(row)
        self._spool.write(len(data).to_bytes(4, "big") + data)
        self._count += 1

    def finish(self, seal: int) -> Path | None:
        """Write the file.

        Args:
            seal: the sequence number that each row gets.

        Returns:
            Its path; None if there are no rows, or no `pyarrow`.
        """
        if not self._count or not has_parquet():
            return None
        path = Path(self._folder.name) / f"{seal}.parquet"
        write_rows(path, self._rows(), seal)
        return path

    def _rows(self) -> Iterator[Row]:
        self._spool.seek(0)
        while head := self._spool.read(4):
            yield ROW.decode(self._spool.read(int.from_bytes(head, "big")))


def write_rows(path: Path, rows: Iterator[Row], seal: int | None = None) -> None:
    """Write rows to a Parquet file; with `seal`, each row gets that seal."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "int64": pa.int64(),
        "string": pa.string(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "list<string>": pa.list_(pa.string()),
    }
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(itertools.islice(rows, _BATCH)):
            columns = {name: [getattr(row, name) for row in batch] for name, _ in COLUMNS}
            if seal is not None:
                columns["seal"] = [seal] * len(batch)
            # Arrow parses the instants many times faster than Python.
            arrays = [
                pa.array(columns[name]).cast(kinds[kind])
                if kind == "timestamp"
                else pa.array(columns[name], kinds[kind])
                for name, kind in COLUMNS
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def read_rows(data: IO[bytes], day: str) -> Iterator[Row]:
    """The rows of a Parquet file of a day (ISO 8601)."""
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(data).iter_batches(_BATCH):
        for values in batch.to_pylist():
            for name in _INSTANTS:
                if (value := values[name]) is not None:
                    values[name] = value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            for name in _TEXTS:
                values[name] = values[name] or []
            values["bytes"] = values["bytes"] or 0
            yield Row(day=day, **values)
