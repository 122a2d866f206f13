"""Rows in the bucket, for query engines: one Parquet file for each seal, zstd, with columns whose types never change.

`pyarrow` is an extra: without it, workers seal days and write no such files.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from workers.catalogue.rows import Row

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
        self._has_parquet = has_parquet()
        self._spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._waiting: list[Row] = []
        self._count = 0
        self._folder = tempfile.TemporaryDirectory(prefix="callvault-rows-")

    def __enter__(self) -> RowsFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._spool.close()
        self._folder.cleanup()

    def add(self, row: Row) -> None:
        """Add a row."""
        if self._has_parquet:
            self._waiting.append(row)
            self._count += 1
            if len(self._waiting) == _BATCH:
                self._put_aside()

    def finish(self, seal: int) -> Path | None:
        """Write the file.

        Args:
            seal: the sequence number that each row gets.

        Returns:
            Its path; None if there are no rows, or no `pyarrow`.
        """
        if not self._count:
            return None
        if self._waiting:
            self._put_aside()
        path = Path(self._folder.name) / f"{seal}.parquet"
        _write(path, map(partial(_sealed, seal), self._batches()))
        return path

    def _put_aside(self) -> None:
        """Write the waiting rows to disk, as columns: rows would have to be encoded and decoded one by one."""
        data = memoryview(_batch_of(self._waiting).serialize())
        self._spool.seek(0, os.SEEK_END)
        self._spool.write(len(data).to_bytes(8, "big"))
        self._spool.write(data)
        self._waiting.clear()

    def _batches(self) -> Iterator[Any]:
        import pyarrow as pa

        self._spool.seek(0)
        while head := self._spool.read(8):
            yield pa.ipc.read_record_batch(self._spool.read(int.from_bytes(head, "big")), _schema())


def write_rows(path: Path, rows: Iterator[Row]) -> None:
    """Write rows to a Parquet file."""
    _write(path, map(_batch_of, iter(lambda: list(itertools.islice(rows, _BATCH)), [])))


@cache
def _schema() -> Any:
    import pyarrow as pa

    kinds = {
        "int64": pa.int64(),
        "string": pa.string(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "list<string>": pa.list_(pa.string()),
    }
    return pa.schema([(name, kinds[kind]) for name, kind in COLUMNS])


def _batch_of(rows: Sequence[Row]) -> Any:
    """Rows as columns of Arrow, which parses the instants many times faster than Python."""
    import pyarrow as pa

    arrays = []
    for column in _schema():
        values = list(map(attrgetter(column.name), rows))
        is_instant = pa.types.is_timestamp(column.type)
        arrays.append(pa.array(values).cast(column.type) if is_instant else pa.array(values, column.type))
    return pa.RecordBatch.from_arrays(arrays, schema=_schema())


def _sealed(seal: int, batch: Any) -> Any:
    """The same rows, each with the sequence number of its seal."""
    import pyarrow as pa

    return batch.set_column(0, _schema().field(0), pa.array([seal] * batch.num_rows, pa.int64()))


def _write(path: Path, batches: Iterable[Any]) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(path, _schema(), compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


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
