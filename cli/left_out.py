"""What an export leaves out because it lies in cold storage: asks for its restore if that is wanted, and says how to go on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from archive import layout
from archive.restore import ask_for_each, said_of
from archive.stores.store import RestoreWish, StoredObject, StoreError
from text.counts import many

if TYPE_CHECKING:
    from archive.archive import Archive
    from archive.problems import Problem


class LeftOut(NamedTuple):
    """The cold audio of an export.

    Attributes:
        keys: of the objects.
        recordings: the ids of their recordings.
        asked: those whose restore was asked for, as the store shows them since.
        failure: why it could not be asked for, for all or for the rest.
    """

    keys: list[str]
    recordings: list[str]
    asked: list[StoredObject]
    failure: str | None = None

    def report(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "recordings": self.recordings,
            "restores_asked": len(self.asked),
            "restore_failed": self.failure,
        }

    def sentence(self, wish: RestoreWish | None, again: str) -> str:
        """What is left out, and what to do; begins with a space, and is empty if nothing is.

        Args:
            wish: how to restore it; None: nobody asked for that.
            again: how to add it later.
        """
        if not self.keys:
            return ""
        whose = many(len(self.recordings), "recording") if self.recordings else many(len(self.keys), "object")
        said = f" Left out: the audio of {whose}, in cold storage"
        if wish is None:
            return f"{said}; --restore asks the store for it."
        if not self.asked:
            return f"{said}; nothing could be asked for, see above."
        told = sorted({said_of(wish, one) for one in self.asked if one.state != "readable"})
        said += f"; {' and '.join(told) if told else 'it can be read now'}"
        rest = "; for the rest nothing could be asked for, see above" if self.failure else ""
        return f"{said}{rest}. {again}"


def cold_of(problems: Iterable[Problem]) -> LeftOut:
    """The cold audio among the problems of an export."""
    keys = [one.key for one in problems if one.kind == "cold"]
    found = {recording[1] for key in keys if (recording := layout.recording_of(key)) is not None}
    return LeftOut(keys, sorted(found), [])


def restored(archive: Archive, left: LeftOut, wish: RestoreWish) -> LeftOut:
    """Ask for the restore of all of it; blocks. What fails is said, and ends it."""
    asked = []
    try:
        for stored in ask_for_each(archive, left.keys, wish):
            asked.append(stored)  # noqa: PERF402, those before a failure count
    except StoreError as error:
        return left._replace(asked=asked, failure=str(error))
    return left._replace(asked=asked)
