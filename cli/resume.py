"""The progress of long work, in a file of the data folder, so that the same command can continue it."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from process.private import private_file, private_folder
from text.errors import UserError

S = TypeVar("S", bound=msgspec.Struct)


class AnotherState(UserError):
    """The saved state belongs to another archive."""


class _Saved(msgspec.Struct):
    archive: str
    state: msgspec.Raw


class StateFile(Generic[S]):
    """The state of one piece of work.

    Args:
        folder: the data folder.
        name: of the command.
        identity: what distinguishes this work from other work of the same command.
        new: the state at the start.
        days: how long a state can be resumed.
        archive_id: of the archive.
        start_over: what to do where the state belongs to another archive, and the address is right.
    """

    def __init__(
        self, folder: Path, name: str, identity: object, new: S, days: int, *, archive_id: str, start_over: str
    ) -> None:
        digest = hashlib.sha256(str(identity).encode()).hexdigest()[:16]
        self._path = folder / f"{name}-{digest}.json"
        self._new = new
        self._seconds = days * 24 * 3600
        self._archive_id, self._start_over = archive_id, start_over

    def saved(self) -> S | None:
        """Where the last run was stopped; None if none was, it was too long ago, or its state is unreadable.

        Raises:
            AnotherState: it belongs to another archive.
        """
        try:
            if time.time() - self._path.stat().st_mtime < self._seconds:
                return self._read(self._path.read_bytes())
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            pass
        return None

    def load(self) -> S:
        """Where the last run was stopped; else the state at the start."""
        return self.saved() or self._new

    def _read(self, data: bytes) -> S:
        saved = msgspec.json.decode(data, type=_Saved)
        if saved.archive != self._archive_id:
            raise AnotherState(
                f"{self._path} belongs to archive {saved.archive}, but CALLVAULT_ARCHIVE_URL is archive "
                f"{self._archive_id}; check the address, or {self._start_over}"
            )
        return msgspec.json.decode(saved.state, type=type(self._new))

    def save(self, state: S) -> None:
        """Save a state, atomically."""
        private_folder(self._path.parent)
        temporary = self._path.with_suffix(".new")
        try:
            private_file(temporary)
            temporary.write_bytes(
                msgspec.json.encode(_Saved(self._archive_id, msgspec.Raw(msgspec.json.encode(state))))
            )
            temporary.replace(self._path)
        finally:
            temporary.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove the state, once the work is done."""
        self._path.unlink(missing_ok=True)
