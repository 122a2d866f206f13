"""The holds in force, for display: those that people placed, and those that settings of workers place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from archive import layout
from archive.archive import Archive
from archive.decisions import all_holds, decisions_about, decisions_on, standing_holds
from archive.hold import Hold
from archive.layout import Scope
from workers.deletion.duties import stated_duties

_SETTING = "CALLVAULT_HOLD_CONNECTIONS"


class Holding(msgspec.Struct, frozen=True):
    """A hold in force, and what it holds.

    Attributes:
        scope: `recording`, `connection`, or `everything` (deletion is paused).
        subject: the id of the recording or connection; empty for everything.
        why: the reason that was given.
        by: who placed it, or the worker whose setting it is; empty where that is not known.
        at: since when, ISO 8601, UTC; likewise.
        decided: whether a person decided it, so that a release lifts it; else a setting of a worker holds.
    """

    scope: Scope
    subject: str
    why: str
    by: str
    at: str
    decided: bool = True

    def __str__(self) -> str:
        return str(Hold(self.why, self.by, self.at))


def standing(archive: Archive) -> list[Holding]:
    """All holds in force, oldest first within each kind; blocks.

    Holds that a version before 2 wrote lie with their recordings alone, and are not among them.

    Raises:
        UnreadableRecord: what workers are set to cannot be read.
        StoreError: the archive cannot be asked now.
    """
    found = [_holding(scope, subject, hold) for scope, subject, hold in all_holds(archive)]
    kinds: tuple[Literal["everything", "connection", "recording"], ...] = ("everything", "connection", "recording")
    return sorted([*found, *_of_settings(archive)], key=lambda one: (kinds.index(one.scope), one.at, one.subject))


def holds_on(archive: Archive, folder: str, connection_id: str | None) -> list[Holding]:
    """The holds in force on one recording: its own, and those of its connection; blocks.

    Raises:
        UnreadableRecord, StoreError: as `standing`.
    """
    recording_id, own = layout.recording_id_of(folder), standing_holds(decisions_on(archive, folder))
    found = [_holding("recording", recording_id, hold) for hold in own.values()]
    if connection_id is not None:
        shared = standing_holds(decisions_about(archive, "connection", connection_id))
        found += [_holding("connection", connection_id, hold) for hold in shared.values()]
        found += [one for one in _of_settings(archive) if one.subject == connection_id]
    return found


def _holding(scope: Scope, subject: str, hold: Hold) -> Holding:
    return Holding(scope, subject, hold.why, hold.by, hold.at)


def _of_settings(archive: Archive) -> Iterator[Holding]:
    for duties in stated_duties(archive).values():
        for connection_id in duties.hold_connections if not duties.retired else ():
            yield Holding("connection", connection_id, _SETTING, duties.by, duties.at, decided=False)
