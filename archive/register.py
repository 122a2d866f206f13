"""The register of damage: the known problems of the archive, kept in the archive so that a lost Redis does not clear it.

A row records that an object was found damaged, missing or whole again. Rows are never overwritten: of each object the
last number counts.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from archive import kinds, layout
from archive.ahead import ahead
from archive.archive import Archive, ArchiveConflict
from archive.erasures import Erasures
from archive.problems import Problem
from archive.readers import DAMAGE
from archive.records import Damage, DamageState, UnreadableRecord
from archive.stores.store import StoreCold, StoredObject, StoreError
from archive.verify import Verified, check_folder, check_root, known_identity
from archive.verify_seals import verify_seals

_TRIES = 50


def read_register(archive: Archive) -> dict[str, Damage]:
    """The last row of each object in the register, by its key: one listing, and a read of each new row; blocks.

    An unreadable row is damage itself, and does not hide earlier rows.

    Raises:
        StoreError: the store does not answer.
    """
    return _last_rows(archive, archive.store.list(layout.DAMAGE))


def _last_rows(archive: Archive, listed: Iterable[StoredObject]) -> dict[str, Damage]:
    rows: dict[str, list[str]] = {}
    for stored in listed:
        place = kinds.place_of(stored.key)
        if place.kind is kinds.DAMAGE:
            rows.setdefault(place.names[0], []).append(stored.key)

    def last(keys: list[str]) -> list[Damage]:
        found = []
        for key in sorted(keys, key=_number, reverse=True):
            found.append(_read(archive, key))
            if found[-1].key != key:
                break
        return found

    return {row.key: row for few in ahead(rows.values(), last) for row in few}


def _read(archive: Archive, key: str) -> Damage:
    try:
        return DAMAGE.read(archive.read_once(key), key)
    except UnreadableRecord as error:
        return Damage(key=key, number=0, state="damaged", what=error.what, found_by="register", at="")


def record_damage(archive: Archive, key: str, state: DamageState, what: str, found_by: str, at: str) -> Damage:
    """Record the state of an object unless its last row is the same; reads the rows of that object alone; blocks.

    Args:
        archive: the archive.
        key: the key of the object.
        state, what, found_by, at: see `Damage`.

    Returns:
        The last row of the object.

    Raises:
        StoreError: the store did not take the row.
    """
    for _ in range(_TRIES):
        rows = list(archive.store.list(layout.damage_folder(key)))
        itself = archive.store.list(key) if key.startswith(layout.DAMAGE) else ()  # an unreadable row
        last = _last_rows(archive, (*rows, *itself)).get(key)
        if last is not None and (last.state, last.what) == (state, what):
            return last
        if last is None and state == "whole":
            return Damage(key=key, number=0, state=state, what=what, found_by=found_by, at=at)
        number = 1 + max((_number(stored.key) for stored in rows), default=0)
        row = Damage(key=key, number=number, state=state, what=what, found_by=found_by, at=at)
        try:
            archive.put_record(layout.damage_key(key, number), row)
        except ArchiveConflict:
            continue  # another process took the number
        return row
    raise StoreError(f"{layout.damage_folder(key)}: other processes keep writing here; try again later")


def _number(key: str) -> int:
    place = kinds.place_of(key)
    return int(place.name) if place.kind is kinds.DAMAGE else 0


def look(archive: Archive, key: str) -> Problem | None:
    """Check an object against its records and seals, and read every byte; None if it is whole; blocks.

    Raises:
        StoreCold: its bytes must be restored before they can be read.
        StoreError: the store does not answer.
    """
    place = kinds.place_of(key)
    is_of_recording = place.recording_id != ""
    stored = archive.store.stat(key)
    if stored is not None and stored.state != "readable":
        raise StoreCold(key, stored.storage_class or "", is_restoring=stored.state == "restoring")
    if stored is None and not (is_of_recording and _is_gone_on_record(archive, place.folder, key)):
        return Problem("missing", key, "not there")
    if is_of_recording:
        for deep in (False, True):  # the cheap check first
            if found := _about(key, check_folder(archive, place.folder, deep=deep)):
                return found
    elif found := _about(key, check_root(archive)):
        return found
    day = place.day or date.min
    is_deep = not is_of_recording and day != date.min
    state = verify_seals(archive, Verified(), since=day, until=day, deep=is_deep)
    return _about(key, state.problems)


def _is_gone_on_record(archive: Archive, folder: str, key: str) -> bool:
    """Whether a recording has a valid erasure record, or a valid record of the disposal of this object."""
    keys = archive.keys_of(folder)
    gone = Erasures(archive, known_identity(archive), None).read(folder, keys)
    return (layout.erasure_key(folder) in keys or key in gone.hashes) and not gone.problems


def _about(key: str, problems: list[Problem]) -> Problem | None:
    return next((problem for problem in problems if problem.key == key), None)
