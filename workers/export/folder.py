"""A bundle in a folder. One that is not whole has a mark; the next run continues it, and fetches no whole audio twice."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from archive.ahead import AT_ONCE
from archive.records import ArchivedObject
from archive.stores.store import Store
from text.errors import UserError
from workers.export.index import About
from workers.export.target import BundleFile, Paths, Piece, assert_same

MARK = ".unfinished"
PART = ".part"
_FOLDERS = ("audio/", "proof/", "transcripts/")


class Folder:
    """A folder that takes a bundle, until its block ends: then threads that still write begin no more files.

    Args:
        store: of the archive.
        out: the folder, in which `begun` has found or put a mark.
    """

    at_once = AT_ONCE

    def __init__(self, store: Store, out: Path) -> None:
        self._store, self._out, self._paths = store, out, Paths()
        self._lock, self._is_closed = threading.Lock(), False
        self._parts: set[Path] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._is_closed = True
            for part in self._parts:
                part.unlink(missing_ok=True)

    def fetch(self, path: str, known: ArchivedObject) -> Piece:
        """See `Target.fetch`. The file is in its place when this returns."""
        target = self._out / path
        piece = Piece(BundleFile(path, known.key, known.size, known.sha256), None)
        if target.exists() and _sha256(target) == known.sha256:
            return piece
        digest = hashlib.sha256()
        with self._written(target) as copy:
            for chunk in self._store.read(known.key):
                digest.update(chunk)
                copy.write(chunk)
            assert_same(known, digest.hexdigest())
        return piece

    def put(self, piece: Piece) -> None:
        """See `Target.put`."""
        self._paths.take(piece.file.path)
        if piece.data is None:
            return
        with self._written(self._out / piece.file.path) as file:
            file.write(piece.data)

    @contextmanager
    def _written(self, target: Path) -> Iterator[BinaryIO]:
        """A file that has its name once the block has written it.

        Raises:
            OSError: the folder's block has ended, or the file cannot be written.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name[:200] + PART)
        with self._lock:
            if self._is_closed:
                raise OSError(errno.ECANCELED, "the export was stopped", str(part))
            file = part.open("wb")
            self._parts.add(part)
        try:
            with file:
                yield file
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
            with self._lock:
                self._parts.discard(part)

    def finish(self, *, lacks_cold: bool) -> None:
        """See `Target.finish`. What an earlier run left and this one did not confirm goes.

        A bundle that lacks cold audio keeps its mark, so that the next run adds what was restored meanwhile.
        """
        for path in _files(self._out):
            name = path.relative_to(self._out).as_posix()
            is_of_a_bundle = name.startswith(_FOLDERS) or name.endswith(PART)  # the rest may be a person's own
            if is_of_a_bundle and name not in self._paths:
                path.unlink()
        if not lacks_cold:
            (self._out / MARK).unlink(missing_ok=True)


@contextmanager
def begun(out: Path, about: About) -> Iterator[None]:
    """Put a mark into a new or empty folder, or find that an unfinished bundle in it is the same; for the block.

    Raises:
        UserError: the folder holds something else, or another export writes into it.
        OSError: it cannot be written.
    """
    mark = {"archive_id": about.archive_id, "query": about.query}
    part = out / f"{MARK}{PART}"
    if not out.exists() or (out.is_dir() and {*out.iterdir()} <= {part}):  # or a run was killed before it had a mark
        out.mkdir(parents=True, mode=0o700, exist_ok=True)
        out.chmod(0o700)  # an empty folder may have been there
        part.write_text(json.dumps(mark))
        part.rename(out / MARK)
    elif not (out / MARK).is_file():
        raise UserError(f"{out} already exists; choose another folder with --out")
    with open_locked(out / MARK) as file:
        try:
            known = json.load(file)
        except ValueError:
            known = None
        if known != mark:
            raise UserError(f"{out} holds an unfinished export of another search; choose another name with --out")
        yield


@contextmanager
def open_locked(path: Path) -> Iterator[BinaryIO]:
    """Open a file that only its owner may read, or create it, and lock it against another export; for the block.

    Raises:
        UserError: another export has locked it.
        OSError: it cannot be opened.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path}: another export writes it now; wait for it, or choose another --out") from None
        yield file


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(out: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(out):
        for name in names:
            yield Path(folder, name)
