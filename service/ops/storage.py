"""The storage class of a recording's audio, and the restore of audio that cannot be read at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import msgspec
from starlette.requests import Request

from archive import layout
from archive.archive import Archive
from archive.proof import Missing
from archive.records import ArchivedObject, UnreadableRecord
from archive.restore import LONGEST_DAYS, ask_for_restore, look_at, said_of, state_of
from archive.stores.store import SPEEDS, RestoreWish, Speed, State, StoredObject, StoreRefused
from process.logs import get_logger
from service.ops import accesses
from service.ops.parts import Ops
from service.ops.person import Refused
from service.ops.view import View, view_of
from text.times import format_instant
from workers.catalogue.reach import EVERYTHING
from workers.catalogue.search import Hit

log = get_logger()


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
    state: State
    readable_until: str | None


def read_storage(archive: Archive, objects: Sequence[ArchivedObject]) -> list[Stored]:
    """Where objects lie, one request each; those that are missing are left out. Blocks.

    Raises:
        StoreError: the archive cannot be read now.
    """
    found = []
    for known in objects:
        with suppress(Missing):  # the page says so as damage
            found.append(_stored(look_at(archive, known.key)))
    return found


class RestoreWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How audio in cold storage is restored.

    Attributes:
        tier: the speed: `bulk` is the cheapest and slowest, `expedited` the dearest and fastest.
        days: how long a restored copy stays; Azure has no copies, and keeps the audio readable.
        by: the name of the person in your application who asks, for the access log.
    """

    tier: Speed = RestoreWish.speed
    days: Annotated[int, msgspec.Meta(ge=1, le=LONGEST_DAYS)] = RestoreWish.days
    by: Annotated[str, msgspec.Meta(max_length=60)] = ""


class Restored(msgspec.Struct, frozen=True):
    """Where the audio of a recording lies after its restore was asked for.

    Attributes:
        storage: of each format.
        note: what was asked for, in one line.
    """

    recording_id: str
    storage: list[Stored]
    note: str


async def restore(ops: Ops, form: dict[str, str]) -> str:
    """Ask for the restore of all audio of a recording that is cold; one line about it.

    Raises:
        Refused: the archive does not have it, or the store does not take the request.
        StoreError: the archive cannot be read now.
    """
    wish = _wish(form)
    hit = await View(ops, EVERYTHING).find(form["id"])  # the door has checked the scope
    return (await _restore(ops, hit, form["id"], wish)).note


async def restore_by_api(ops: Ops, request: Request, wanted: RestoreWanted) -> Restored:
    """The same for a program. A request that is sent again changes nothing.

    Raises:
        Refused, StoreError: as `restore`.
    """
    recording_id = request.path_params["recording_id"]
    said = accesses.Said("restore", [recording_id], by=wanted.by.strip())
    async with accesses.logged(ops, request, request.state.person, said):
        hit = await view_of(request).find(recording_id)
        made = await _restore(ops, hit, recording_id, RestoreWish(wanted.days, wanted.tier))
    ops.changed()
    log.info("asked for a restore through the API", who=request.state.person.name, said=made.note)
    return made


async def _restore(ops: Ops, hit: Hit | None, recording_id: str, wish: RestoreWish) -> Restored:
    if hit is None or hit.state in ("erased", "disposed"):
        raise Refused(404, f"recording {recording_id} is not in the archive")
    folder = layout.recording_folder(hit.row.date, recording_id)
    try:
        record = await asyncio.to_thread(ops.runtime.archive.commit_record, folder)
        objects = [] if record is None else record.objects
        storage, said = await asyncio.to_thread(_ask_for_each, ops.runtime.archive, objects, wish)
    except Missing as missing:
        raise Refused(404, str(missing)) from None
    except (StoreRefused, UnreadableRecord) as refused:
        raise Refused(409, str(refused)) from None
    return Restored(recording_id, storage, " ".join(said) or f"recording {recording_id} has no audio in the archive")


def _ask_for_each(
    archive: Archive, objects: Sequence[ArchivedObject], wish: RestoreWish
) -> tuple[list[Stored], list[str]]:
    """Ask for the restore of each object that is cold; where each is then, and a sentence about it. Blocks."""
    storage, said = [], []
    for known in objects:
        stored = look_at(archive, known.key)
        if stored.state == "cold":
            stored = ask_for_restore(archive, known.key, wish)
            said.append(f"{known.key}: {said_of(wish, stored)}.")
        else:
            said.append(f"{known.key} {state_of(stored)}.")
        storage.append(_stored(stored))
    return storage, said


def _wish(form: dict[str, str]) -> RestoreWish:
    speed = next((one for one in SPEEDS if one == form["tier"]), None)
    if speed is None:
        raise Refused(400, f"tier: expected {', '.join(SPEEDS[:-1])} or {SPEEDS[-1]}")
    days = form["days"]
    if not (days.isascii() and days.isdigit() and len(days) < 5 and 1 <= int(days) <= LONGEST_DAYS):
        raise Refused(400, f"days: expected a number from 1 to {LONGEST_DAYS}")
    return RestoreWish(int(days), speed)


def _stored(stored: StoredObject) -> Stored:
    until = None if stored.readable_until is None else format_instant(stored.readable_until)
    return Stored(stored.key, stored.storage_class, stored.state, until)
