"""A file that appears under its name only when it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cli.interrupt import Interrupted
from text.errors import UsedWrongly, UserError


def refuse_folder(path: Path | None) -> None:
    """Refuse a folder where a file is meant.

    Raises:
        UsedWrongly: it is one.
    """
    if path is not None and path.is_dir():
        raise UsedWrongly(f"--out: {path} is a folder; give the name of a file")


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """Write a file through a temporary one beside it, which is removed if anything fails.

    Args:
        path: of the file.
        force: replace a file that exists.

    Yields:
        The temporary file.

    Raises:
        UserError: the file exists, or cannot be written.
        UsedWrongly: it is a folder.
        Interrupted: Ctrl-C or SIGTERM came before it was whole.
    """
    refuse_folder(path)
    if not force and os.path.lexists(path):
        raise _exists(path)
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    try:
        with temporary.open("xb") as file:
            yield file
        _put_in_place(temporary, path, force=force)
    except KeyboardInterrupt:
        raise Interrupted(f"{path} was not written; run the same command again") from None
    except OSError as error:
        raise UserError(f"--out: cannot write {path}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _put_in_place(temporary: Path, path: Path, *, force: bool) -> None:
    if not force:
        try:
            os.link(temporary, path)  # unlike a rename, it replaces nothing that was made meanwhile
            return
        except FileExistsError:
            raise _exists(path) from None
        except OSError:  # a file system without links
            pass
    temporary.replace(path)


def _exists(path: Path) -> UserError:
    return UserError(f"{path} already exists; choose another file with --out, or overwrite it with --force")
