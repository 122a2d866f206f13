"""A bundle as one ZIP, written once and never read back: to a stream, or to a file that the next run continues.

An audio file may be in a ZIP only if it is whole, and a ZIP cannot take back what was written. So an object is hashed before it
is written: from memory if there is room, else it is read twice.

An interrupted file keeps its whole entries. The next run makes the same files in the same order, keeps entries for as long
as they are the same, and cuts the file at the first that differs: nothing stays in it that the bundle does not list.
"""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import IO

from archive.records import ArchivedObject
from archive.stores.store import MIB, Store, StoreError
from text.times import utc_now
from workers.export.kept import Kept, read_kept
from workers.export.stream import ReaderGone
from workers.export.target import BundleFile, Paths, Piece, assert_same

_MEMORY_BYTES = 64 * MIB
_AT_ONCE = 8


class Packed:
    """A ZIP that takes a bundle.

    Args:
        store: of the archive.
        file: takes the bytes: a stream that is only written, or a file opened for reading and writing.
        root: the folder in the ZIP.
        continues: whether the file may hold entries of an earlier run.

    Raises:
        OSError: the file cannot be read.
    """

    at_once = _AT_ONCE

    def __init__(self, store: Store, file: IO[bytes], root: str, *, continues: bool = False) -> None:
        self._store, self._file, self._root = store, file, root
        self._paths, self._memory = Paths(), _Memory(_MEMORY_BYTES)
        self._kept: list[Kept] = list(read_kept(file)) if continues else []
        self._known = {one.info.filename: one.sha256 for one in self._kept}
        self._confirmed, self._continues = 0, continues
        self._packed: zipfile.ZipFile | None = None
        self._now = utc_now()

    def fetch(self, path: str, known: ArchivedObject) -> Piece:
        """See `Target.fetch`. The piece has its bytes if there is memory for them."""
        file = BundleFile(path, known.key, known.size, known.sha256)
        if self._known.get(self._name(path)) == known.sha256:
            return Piece(file, None)
        has_room = self._memory.take(known.size)
        chunks: list[bytes] = []
        digest, size = hashlib.sha256(), 0
        try:
            for chunk in self._store.read(known.key):
                digest.update(chunk)
                size += len(chunk)
                if has_room and size <= known.size:
                    chunks.append(chunk)
            assert_same(known, digest.hexdigest())
        except BaseException:
            self._memory.give(known.size if has_room else 0)
            raise
        return Piece(file, b"".join(chunks) if has_room else None)

    def put(self, piece: Piece) -> None:
        """See `Target.put`."""
        self._paths.take(piece.file.path)
        name = self._name(piece.file.path)
        is_audio = piece.file.path.startswith("audio/")
        try:
            if self._is_kept(name, piece.file.sha256):
                return
            info = _entry(name, self._now, zipfile.ZIP_STORED if is_audio else zipfile.ZIP_DEFLATED)
            info.file_size = piece.file.size
            with self._open().open(info, "w") as entry:
                for chunk in self._bytes_of(piece):
                    entry.write(chunk)
        finally:
            if is_audio and piece.data is not None:
                self._memory.give(piece.file.size)

    def finish(self, *, lacks_cold: bool) -> None:
        """See `Target.finish`: write the directory of the ZIP."""
        self._open().close()

    def abandon(self) -> None:
        """End after a failure; a file keeps its whole entries."""
        if self._packed is not None:
            with suppress(OSError, ValueError, ReaderGone):
                self._packed.close()

    def _name(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _is_kept(self, name: str, sha256: str) -> bool:
        """Whether the next entry of an earlier run is this one."""
        if self._packed is not None or self._confirmed >= len(self._kept):
            return False
        kept = self._kept[self._confirmed]
        if (kept.info.filename, kept.sha256) != (name, sha256):
            return False
        self._confirmed += 1
        return True

    def _open(self) -> zipfile.ZipFile:
        """The ZIP, open behind the entries that were confirmed."""
        if self._packed is None:
            confirmed = self._kept[: self._confirmed]
            if self._continues:
                self._file.seek(confirmed[-1].end if confirmed else 0)
                self._file.truncate()
            self._packed = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED, allowZip64=True)
            self._packed.filelist.extend(one.info for one in confirmed)
            self._packed.NameToInfo.update((one.info.filename, one.info) for one in confirmed)
            for one in confirmed:
                _finished(one.info)
            self._kept, self._known = [], {}
        return self._packed

    def _bytes_of(self, piece: Piece) -> Iterator[bytes]:
        """The bytes of a piece: read from the archive again if they are not in memory.

        Raises:
            StoreError: the archive does not answer, or the object has changed since it was checked.
        """
        if piece.data is not None:
            yield piece.data
            return
        digest = hashlib.sha256()
        try:
            for chunk in self._store.read(piece.file.key):
                digest.update(chunk)
                yield chunk
        except KeyError:
            raise StoreError(f"{piece.file.key}: gone while it was exported; export again") from None
        if digest.hexdigest() != piece.file.sha256:
            raise StoreError(f"{piece.file.key}: changed while it was exported; export again")


class _Memory:
    """Memory for fetched audio. Nobody waits for it: what does not fit is read twice."""

    def __init__(self, free_bytes: int) -> None:
        self._free, self._lock = free_bytes, threading.Lock()

    def take(self, count: int) -> bool:
        """Take some bytes if they are free."""
        with self._lock:
            if count > self._free:
                return False
            self._free -= count
            return True

    def give(self, count: int) -> None:
        """Give them back."""
        with self._lock:
            self._free += count


def _entry(name: str, at: datetime, compression: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (at.year, at.month, at.day, at.hour, at.minute, at.second))
    info.compress_type = compression
    return _finished(info)


def _finished(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """Set what only the directory of a ZIP has of an entry: a file that its owner may read."""
    info.create_system = 3  # Unix
    info.external_attr = 0o600 << 16
    return info
