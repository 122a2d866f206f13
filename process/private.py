"""Files of this machine that only the user of the service may read: numbers, transcripts and states lie in the data folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def private_folder(folder: Path) -> None:
    """Make a folder that only this user may enter, or close one of this user that others may.

    One of another user, or one that is shared on purpose (with a sticky bit, as /tmp is), is left as it is.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid == os.geteuid() and not found.st_mode & stat.S_ISVTX:
        _close(folder, found.st_mode, 0o700)


def private_file(path: Path) -> None:
    """Make an empty file that only this user may read, or close one that is there.

    Raises:
        OSError: it cannot be made.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    close_files([path])


def close_files(paths: Iterable[Path]) -> None:
    """Let nobody else read some files; what is gone meanwhile, or of another user, is left."""
    for path in paths:
        with suppress(OSError):
            _close(path, path.stat().st_mode, 0o600)


def _close(path: Path, mode: int, most: int) -> None:
    if stat.S_IMODE(mode) & ~most:
        path.chmod(stat.S_IMODE(mode) & most)
