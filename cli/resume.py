"""How far long work has come, in a file of the data folder, so that the same command goes on from there."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


class StateFile(Generic[S]):
    """The state of one piece of work.

    Args:
        folder: the data folder.
        name: of the command.
        identity: what tells this work from other work of the same command, whose state must not resume it.
        new: the state at the start.
        days: how long a state is worth resuming from.
    """

    def __init__(self, folder: Path, name: str, identity: object, new: S, days: int) -> None:
        digest = hashlib.sha256(str(identity).encode()).hexdigest()[:16]
        self._path = folder / f"{name}-{digest}.json"
        self._new = new
        self._seconds = days * 24 * 3600

    def load(self) -> S:
        """Where the last run was stopped; the start, if there was none, or it was too long ago, or cannot be read."""
        try:
            if time.time() - self._path.stat().st_mtime < self._seconds:
                return msgspec.json.decode(self._path.read_bytes(), type=type(self._new))
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            pass
        return self._new

    def save(self, state: S) -> None:
        """Remember a state; a run that is killed meanwhile leaves the one before."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(state))
        temporary.replace(self._path)

    def forget(self) -> None:
        """The work is done."""
        self._path.unlink(missing_ok=True)
