"""What takes the files of a bundle: a folder (`folder.py`) or a ZIP (`packed.py`).

Threads fetch files ahead of the writer; the writer puts them into the bundle in order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import msgspec

from archive.proof import Damaged
from archive.records import ArchivedObject
from text.errors import UserError


class BundleFile(msgspec.Struct, frozen=True):
    """A file of a bundle that comes from the archive.

    Attributes:
        path: in the bundle, with slashes.
        key: of the object in the archive.
        size: in bytes.
        sha256: hexadecimal.
    """

    path: str
    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Piece:
    """A file on its way into a bundle.

    Attributes:
        file: what it is.
        data: its bytes; None if the bundle has them already, or they are too many for memory and are read again.
    """

    file: BundleFile
    data: bytes | None


class Target(Protocol):
    """Takes the files of one bundle."""

    at_once: int  # how many recordings may be fetched at the same time

    def fetch(self, path: str, known: ArchivedObject) -> Piece:
        """Fetch an audio object, and check its hash; several threads call it.

        Raises:
            KeyError: the archive has no such object.
            Damaged: it has another hash than its commit record says.
            StoreError: the archive does not answer.
        """

    def put(self, piece: Piece) -> None:
        """Put a file into the bundle; only the writer calls it, in the order of the bundle.

        Raises:
            OSError: the bundle cannot be written.
            StoreError: the archive does not answer.
        """

    def finish(self, *, lacks_cold: bool) -> None:
        """Make the bundle whole, under its name.

        Args:
            lacks_cold: it is without audio in cold storage, which a later run could add.

        Raises:
            OSError: the bundle cannot be written.
        """


class Paths:
    """The paths of a bundle, each once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __contains__(self, path: str) -> bool:
        return path in self._taken

    def take(self, path: str) -> None:
        """Note a path.

        Raises:
            UserError: it is taken already.
        """
        if path in self._taken:
            raise UserError(f"{path}: two recordings would have this name in the bundle; export them apart")
        self._taken.add(path)


def piece_of(path: str, key: str, data: bytes) -> Piece:
    """A piece whose bytes are known; `key` is empty for a file that is not from the archive."""
    return Piece(BundleFile(path, key, len(data), hashlib.sha256(data).hexdigest()), data)


def assert_same(known: ArchivedObject, sha256: str) -> None:
    """Check a hash against the commit record.

    Raises:
        Damaged: it is another.
    """
    if sha256 != known.sha256:
        raise Damaged(known.key, f"SHA-256 is {sha256}, its commit record says {known.sha256}")
