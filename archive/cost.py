"""What an archive costs a month, by a listing of all of it: the listing names size and storage class of each object.

It counts what the bytes cost where they lie. It does not count requests, reads, restores, transfer, minimum durations, older
versions, unfinished uploads, and objects outside the archive's prefix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date

from archive import kinds
from archive.prices import GIB, Prices
from archive.stores.store import Store, StoredObject

_AUDIO = (kinds.AUDIO, kinds.VERSION_AUDIO)
_SHOWN_OBJECTS = 1000


@dataclass(frozen=True)
class Move:
    """Audio that would lie in another class.

    Attributes:
        storage_class: where it would lie.
        before: the day of its call is before this one.
        least_bytes: the smallest that a rule takes.
    """

    storage_class: str
    before: date
    least_bytes: int = 0


@dataclass
class Lying:
    """What lies in one storage class.

    Attributes:
        objects, size_bytes: of it.
        audio_objects, audio_bytes: the part of it that is audio of recordings.
        month: what it costs a month; None: the table has no price.
    """

    objects: int = 0
    size_bytes: int = 0
    audio_objects: int = 0
    audio_bytes: int = 0
    month: float | None = 0.0


@dataclass
class Moved:
    """What a move would change.

    Attributes:
        objects, size_bytes: that would go.
        month_before, month_after: what these cost a month; None: a price is unknown.
        once: what the requests cost that move them; None: the price is unknown.
        read_once: what reading or restoring all of them once would cost there.
    """

    objects: int = 0
    size_bytes: int = 0
    month_before: float | None = 0.0
    month_after: float | None = 0.0
    once: float | None = 0.0
    read_once: float | None = 0.0


@dataclass
class Cost:
    """What an archive costs.

    Attributes:
        classes: what lies in each storage class, by its name; an empty name: the store has no classes.
        moved: what a move would change; None without one.
    """

    classes: dict[str, Lying] = field(default_factory=dict)
    moved: Moved | None = None

    @property
    def month(self) -> float | None:
        """What all of it costs a month; None: a price is unknown."""
        total: float | None = 0.0
        for lying in self.classes.values():
            total = _plus(total, lying.month)
        return total

    @property
    def known_month(self) -> float:
        """What the part of it costs a month of which the price is known."""
        return sum(lying.month or 0.0 for lying in self.classes.values())


def cost_of(
    store: Store, prices: Prices, move: Move | None = None, show: Callable[[int, int], None] = lambda *_: None
) -> Cost:
    """List an archive and add up what it costs; blocks.

    Args:
        store: of the archive.
        prices: of its store.
        move: what would be moved.
        show: called now and then with the objects and bytes so far.

    Raises:
        StoreError: the store does not answer.
    """
    found = Cost(moved=Moved() if move else None)
    objects = size_bytes = 0
    for stored in store.list(""):
        objects, size_bytes = objects + 1, size_bytes + stored.size
        place = kinds.place_of(stored.key)
        is_audio = place.kind in _AUDIO
        month = prices.month(stored.storage_class, stored.size)
        _add(found.classes.setdefault(stored.storage_class or "", Lying()), stored, month, is_audio=is_audio)
        if move and found.moved and is_audio and place.day and place.day < move.before:
            _consider(found.moved, stored, move, prices)
        if objects % _SHOWN_OBJECTS == 0:
            show(objects, size_bytes)
    return found


def _add(lying: Lying, stored: StoredObject, month: float | None, *, is_audio: bool) -> None:
    lying.objects += 1
    lying.size_bytes += stored.size
    lying.audio_objects += is_audio
    lying.audio_bytes += stored.size if is_audio else 0
    lying.month = _plus(lying.month, month)


def _consider(moved: Moved, stored: StoredObject, move: Move, prices: Prices) -> None:
    """Add audio to what would be moved, unless it lies there already, is too small, or lies somewhere cheaper.

    It counts where the price is the same: INTELLIGENT_TIERING begins as dear as STANDARD, and S3 moves audio there.
    """
    if stored.size < move.least_bytes or stored.storage_class == move.storage_class:
        return
    here, there = prices.classes.get(stored.storage_class or prices.default), prices.classes.get(move.storage_class)
    if here is not None and there is not None and here.gib_month < there.gib_month:
        return
    moved.objects += 1
    moved.size_bytes += stored.size
    moved.month_before = _plus(moved.month_before, prices.month(stored.storage_class, stored.size))
    moved.month_after = _plus(moved.month_after, prices.month(move.storage_class, stored.size))
    moved.once = _plus(moved.once, None if there is None else there.move_1000 / 1000)
    moved.read_once = _plus(moved.read_once, None if there is None else stored.size / GIB * there.read_gib)


def _plus(one: float | None, other: float | None) -> float | None:
    """The sum; what is unknown stays unknown."""
    return None if one is None or other is None else one + other
