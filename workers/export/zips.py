"""A bundle as a ZIP: a file that the next run continues, or a stream of bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import BinaryIO

from archive.archive import Archive
from workers.catalogue.search import Chosen
from workers.export.bundle import Bundle, write_bundle
from workers.export.folder import begun, open_locked
from workers.export.index import About
from workers.export.packed import Packed
from workers.export.stream import streamed

_IN_PROGRESS = "bundle.zip"

Show = Callable[[int, int], None]


def unfinished(out: Path) -> Path:
    """The folder that holds a ZIP until it is whole."""
    return out.with_name(f"{out.name}.unfinished")


def write_zip(archive: Archive, chosen: Iterable[Chosen], out: Path, about: About, show: Show) -> Bundle:
    """Write a ZIP, or continue one that was interrupted; blocks. It has its name only when it is whole.

    Args:
        archive: the archive.
        chosen: the recordings, oldest first.
        out: the file, which must not exist.
        about: what the bundle is an export of.
        show: see `write_bundle`.

    Raises:
        UserError: an unfinished ZIP of this name is of another search, or another export writes it.
        OSError, StoreError, UnreadableRecord: as `write_bundle`; the ZIP can be continued.
    """
    folder = unfinished(out)
    part = folder / _IN_PROGRESS
    with begun(folder, about):
        with open_locked(part) as file:
            target = Packed(archive.store, file, out.stem, continues=True)
            try:
                bundle = write_bundle(archive, chosen, target, about, show)
            finally:
                target.abandon()
            file.flush()
            os.fsync(file.fileno())
        part.rename(out)
        shutil.rmtree(folder)
    return bundle


class ZipStream:
    """A ZIP as a stream of bytes, which nothing on this machine holds.

    Args:
        archive: the archive.
        chosen: the recordings, oldest first.
        root: the folder in the ZIP.
        about: what the bundle is an export of.
        show: see `write_bundle`.

    Attributes:
        bundle: what it holds, once the stream has ended.
    """

    def __init__(self, archive: Archive, chosen: Iterable[Chosen], root: str, about: About, show: Show) -> None:
        self._archive, self._chosen, self._root, self._about, self._show = archive, chosen, root, about, show
        self.bundle: Bundle | None = None

    def chunks(self) -> Generator[bytes]:
        """The bytes, once; raises as `write_bundle`."""
        return streamed(self._write)

    def _write(self, file: BinaryIO) -> None:
        target = Packed(self._archive.store, file, self._root)
        try:
            self.bundle = write_bundle(self._archive, self._chosen, target, self._about, self._show)
        finally:
            target.abandon()
