"""`--restore`, of `callvault get` and `callvault export`: ask for audio that lies in cold storage, and say when it is ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from archive.problems import restore_advice
from archive.restore import LONGEST_DAYS, ask_for_restore, look_at, said_of, state_of
from archive.stores.store import SPEEDS, RestoreWish, StoreCold, StoredObject
from cli.console import open_console, print_json
from text.errors import UsedWrongly, UserError
from text.times import format_instant

if TYPE_CHECKING:
    from archive.archive import Archive

ToRestore = Annotated[
    bool, typer.Option("--restore", help="If the audio is in cold storage, ask the store to restore it.")
]
RestoredDays = Annotated[
    int | None,
    typer.Option(
        "--days", metavar="N", help="How many days a restored copy stays. [default: 7]", min=1, max=LONGEST_DAYS
    ),
]
RestoreTier = Annotated[
    str | None,
    typer.Option(
        "--tier", metavar="TIER", help="Speed of the restore: bulk, standard or expedited. [default: standard]"
    ),
]


class Restore(NamedTuple):
    """What these options say about cold storage.

    Attributes:
        wish: how to restore it; None: do not restore it.
        as_json: print a report.
    """

    wish: RestoreWish | None
    as_json: bool


def read_restore(*, is_asked: bool, days: int | None, tier: str | None, as_json: bool) -> Restore:
    """What the options say.

    Raises:
        UsedWrongly: they do not fit each other.
    """
    if not is_asked:
        if days is not None or tier is not None:
            raise UsedWrongly(f"--{'days' if days is not None else 'tier'} needs --restore")
        return Restore(None, as_json)
    plain = RestoreWish()
    speed = next((one for one in SPEEDS if one == (tier or plain.speed)), None)
    if speed is None:
        raise UsedWrongly(f"--tier: cannot use {tier!r}; expected {', '.join(SPEEDS[:-1])} or {SPEEDS[-1]}")
    return Restore(RestoreWish(plain.days if days is None else days, speed), as_json)


def is_readable(archive: Archive, key: str, restore: Restore, recording_id: str, log: Callable[[], None]) -> bool:
    """Whether audio can be copied now: ask for its restore if it is cold and that is wanted, and say how it stands.

    Without such a wish nobody looks: most audio is not cold, and the read itself tells.

    Raises:
        Missing: it is not in the archive.
        StoreError: the store does not answer, or refuses the restore.
    """
    if restore.wish is None:
        return True
    stored = look_at(archive, key)
    is_new = stored.state == "cold"
    if is_new:
        log()
        stored = ask_for_restore(archive, key, restore.wish)
    if stored.state == "readable":
        return True
    if restore.as_json:
        print_json(_report(stored, recording_id, is_new=is_new))
        return False
    said = f"{key}: {said_of(restore.wish, stored)}" if is_new else f"{key} {state_of(stored)}, as asked for before"
    open_console(stderr=True).print(
        f"{said}. Nothing was written yet; run the same command again then, and it writes the file."
    )
    return False


def cold(error: StoreCold) -> UserError:
    """The error about audio that cannot be copied now."""
    what = "run the same command again later" if error.is_restoring else restore_advice(error.key)
    return UserError(f"{error}; nothing was written; {what}")


def _report(stored: StoredObject, recording_id: str, *, is_new: bool) -> dict[str, object]:
    until = None if stored.readable_until is None else format_instant(stored.readable_until)
    return {
        "recording_id": recording_id,
        "key": stored.key,
        "state": stored.state,
        "storage_class": stored.storage_class,
        "readable_until": until,
        "asked_now": is_new,
        "path": None,
    }
