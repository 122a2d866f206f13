"""The storage class of a recording's audio, and the restore of audio that cannot be read at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from archive import layout
from archive.archive import Archive
from archive.proof import Missing
from archive.records import ArchivedObject
from archive.restore import LONGEST_DAYS, Whereabouts, ask_for_restore, said_of, whereabouts
from archive.stores.store import SPEEDS, RestoreWish, StoreRefused
from service.ops.parts import Ops
from service.ops.person import Refused
from service.ops.view import View
from text.times import format_instant


class Stored(msgspec.Struct, frozen=True):
    """Where the audio of one format lies.

    Attributes:
        key: of the object.
        storage_class: as the store names it; None if it has none.
        state: `readable`, `cold`: a person must ask for its restore, or `restoring`.
        readable_until: when a restored copy ends, ISO 8601, UTC; None if nothing ends.
    """

    key: str
    storage_class: str | None
    state: str
    readable_until: str | None


def read_storage(archive: Archive, objects: Sequence[ArchivedObject]) -> list[Stored]:
    """Where objects lie, one request each; those that are missing are left out. Blocks.

    Raises:
        StoreError: the archive cannot be read now.
    """
    found = []
    for known in objects:
        with suppress(Missing):  # the page says so as damage
            found.append(_stored(whereabouts(archive, known.key)))
    return found


async def restore(ops: Ops, form: dict[str, str]) -> str:
    """Ask for the restore of all audio of a recording that is cold; one line about it.

    Raises:
        Refused: the archive does not have it, or the store does not take the request.
        StoreError: the archive cannot be read now.
    """
    recording_id, wish = form["id"], _wish(form)
    hit = await View(ops).find(recording_id)  # the door has checked the scope
    if hit is None or hit.state == "erased":
        raise Refused(404, f"recording {recording_id} is not in the archive")
    folder = layout.recording_folder(hit.row.date, recording_id)
    record = await asyncio.to_thread(ops.runtime.archive.commit_record, folder)
    said = []
    for known in record.objects if record else ():
        try:
            before = await asyncio.to_thread(whereabouts, ops.runtime.archive, known.key)
            if before.state == "cold":
                now = await asyncio.to_thread(ask_for_restore, ops.runtime.archive, known.key, wish)
                said.append(f"{known.key}: {said_of(wish, now)}.")
            else:
                said.append(f"{known.key} {before}.")
        except Missing as missing:
            raise Refused(404, str(missing)) from None
        except StoreRefused as refused:
            raise Refused(409, str(refused)) from None
    return " ".join(said) or f"recording {recording_id} has no audio in the archive"


def _wish(form: dict[str, str]) -> RestoreWish:
    speed = next((one for one in SPEEDS if one == form["tier"]), None)
    if speed is None:
        raise Refused(400, f"tier: expected {', '.join(SPEEDS[:-1])} or {SPEEDS[-1]}")
    days = form["days"]
    if not (days.isascii() and days.isdigit() and len(days) < 5 and 1 <= int(days) <= LONGEST_DAYS):
        raise Refused(400, f"days: expected a number from 1 to {LONGEST_DAYS}")
    return RestoreWish(int(days), speed)


def _stored(where: Whereabouts) -> Stored:
    until = None if where.readable_until is None else format_instant(where.readable_until)
    return Stored(where.key, where.storage_class, where.state, until)
