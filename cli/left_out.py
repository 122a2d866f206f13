"""What an export leaves out because it lies in cold storage: asks for its restore if that is wanted, and says how to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from archive import layout
from archive.restore import ask_for_each, look_at_each, said_of, state_of
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
        asked: those whose restore was asked for now, as the store shows them since.
        before: those that need no restore any more, as the store shows them: it was asked for before, or is done.
        failures: why a restore could not be asked for, one for each object.
    """

    keys: list[str]
    recordings: list[str]
    asked: list[StoredObject]
    before: list[StoredObject]
    failures: list[str]

    def report(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "recordings": self.recordings,
            "restores_asked": len(self.asked),
            "restores_asked_before": len(self.before),
            "restore_failed": self.failures[0] if self.failures else None,
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
        told = {said_of(wish, one) if one.state != "readable" else "it can be read now" for one in self.asked}
        told |= {f"what was asked for before {state_of(one)}" for one in self.before}
        if self.failures:
            told.add(f"{many(len(self.failures), 'object')} could not be asked for, see above")
        return f"{said}; {'; '.join(sorted(told))}. {again}"


def cold_of(problems: Iterable[Problem]) -> LeftOut:
    """The cold audio among the problems of an export."""
    keys = [one.key for one in problems if one.kind == "cold"]
    return LeftOut(keys, _recordings_of(keys), [], [], [])


def restored(archive: Archive, left: LeftOut, wish: RestoreWish, log: Callable[[list[str]], None]) -> LeftOut:
    """Ask for the restore of what nobody asked for yet; blocks.

    Args:
        archive: the archive.
        left: what an export left out.
        wish: how to restore it.
        log: notes the ids of the recordings, before anything is asked for.
    """
    shown = [*look_at_each(archive, left.keys)]
    failures = [str(one) for one in shown if isinstance(one, StoreError)]
    objects = [one for one in shown if isinstance(one, StoredObject)]
    cold = [one.key for one in objects if one.state == "cold"]
    asked: list[StoredObject | StoreError] = []
    if cold:
        log(_recordings_of(cold))
        asked = [*ask_for_each(archive, cold, wish)]
    return left._replace(
        asked=[one for one in asked if isinstance(one, StoredObject)],
        before=[one for one in objects if one.state != "cold"],
        failures=failures + [str(one) for one in asked if isinstance(one, StoreError)],
    )


def _recordings_of(keys: Iterable[str]) -> list[str]:
    return sorted({recording[1] for key in keys if (recording := layout.recording_of(key)) is not None})
