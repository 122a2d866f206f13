"""How far long work has come, in a file of the data folder, so that the same command can go on from there."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from config.errors import UserError
from config.private import private_file, private_folder

S = TypeVar("S", bound=msgspec.Struct)


class AnotherState(UserError):
    """The saved state of work on another archive."""


class _Saved(msgspec.Struct):
    archive: str
    state: msgspec.Raw


class StateFile(Generic[S]):
    """The state of one piece of work.

    Args:
        folder: the data folder.
        name: of the command.
        identity: what tells this work from other work of the same command, whose state must not resume it.
        new: the state at the start.
        days: how long a state is worth resuming from.
        archive_id: of the archive that the work is about.
        begin_anew: what a person does where the state is of another archive, and that is meant.
    """

    def __init__(
        self, folder: Path, name: str, identity: object, new: S, days: int, *, archive_id: str, begin_anew: str
    ) -> None:
        digest = hashlib.sha256(str(identity).encode()).hexdigest()[:16]
        self._path = folder / f"{name}-{digest}.json"
        self._new = new
        self._seconds = days * 24 * 3600
        self._archive_id, self._begin_anew = archive_id, begin_anew

    def saved(self) -> S | None:
        """Where the last run was stopped; None if none was, or it was too long ago, or its state cannot be read.

        Raises:
            AnotherState: it was about another archive.
        """
        try:
            if time.time() - self._path.stat().st_mtime < self._seconds:
                return self._read(self._path.read_bytes())
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            pass
        return None

    def load(self) -> S:
        """Where the last run was stopped; the start where there is no such state."""
        return self.saved() or self._new

    def _read(self, data: bytes) -> S:
        saved = msgspec.json.decode(data, type=_Saved)
        if saved.archive != self._archive_id:
            raise AnotherState(
                f"{self._path}: the saved state is of archive {saved.archive}, and the archive here is {self._archive_id}; "
                f"is the address right? {self._begin_anew}"
            )
        return msgspec.json.decode(saved.state, type=type(self._new))

    def save(self, state: S) -> None:
        """Remember a state; a run that is killed meanwhile leaves the one before."""
        private_folder(self._path.parent)
        temporary = self._path.with_suffix(".new")
        private_file(temporary)
        temporary.write_bytes(msgspec.json.encode(_Saved(self._archive_id, msgspec.Raw(msgspec.json.encode(state)))))
        temporary.replace(self._path)

    def forget(self) -> None:
        """The work is done, or its state is not wanted."""
        self._path.unlink(missing_ok=True)
