"""Keep local files private to the user of the service: the data folder holds numbers, transcripts and states."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def private_folder(folder: Path) -> None:
    """Create a folder that only this user may enter, or remove the access of others from an existing one.

    A folder of another user, or one that is shared on purpose (with a sticky bit, like /tmp), stays as it is.

    Raises:
        OSError: the folder cannot be created.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX:
        _close(folder, found.st_mode, 0o700)


def private_file(path: Path) -> None:
    """Create an empty file that only this user may read, or remove the access of others from an existing one.

    Raises:
        OSError: the file cannot be created.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    close_files([path])


def close_files(paths: Iterable[Path]) -> None:
    """Remove the access of others from some files; skip files that are gone or belong to another user."""
    for path in paths:
        with suppress(OSError):
            _close(path, path.stat().st_mode, 0o600)


def _close(path: Path, mode: int, most: int) -> None:
    if stat.S_IMODE(mode) & ~most:
        path.chmod(stat.S_IMODE(mode) & most)
