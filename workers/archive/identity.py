"""Which archive this is: `archive.json` at its root, written once and on purpose, never by accident.

Redis, the catalogue and saved states remember the id in it, so that nothing takes one archive for another, nor an empty folder
for an archive. All of this blocks.
"""

from __future__ import annotations

import getpass
import hashlib
import secrets

from config.times import format_instant, utc_now
from workers.archive import layout
from workers.archive.readers import IDENTITY
from workers.archive.records import Identity, UnreadableRecord, encode_record
from workers.archive.source import Source
from workers.archive.stores.store import KeyExists, Store, StoreError, StoreMissing, StoreRefused

_LARGEST_BYTES = 64 * 1024


class NoArchive(StoreRefused):
    """There is no archive there, or one whose identity cannot be read."""


def read_identity(store: Store) -> Identity | None:
    """Read the identity that lies in a store now, from the store itself; None if nothing lies there.

    Raises:
        StoreMissing: the place itself is not there.
        NoArchive: what lies under its key is no identity.
        StoreError: the store does not answer.
    """
    try:
        data = b"".join(store.read(layout.IDENTITY_KEY, 0, _LARGEST_BYTES))
    except KeyError:
        return None
    try:
        return IDENTITY.read(data, layout.IDENTITY_KEY)
    except UnreadableRecord as error:
        raise NoArchive(f"{store.url}: {error}; restore it from a copy. Callvault writes nothing until then") from None


def open_identity(store: Store) -> Identity:
    """The identity of an archive that must have one.

    Raises:
        NoArchive: it has no identity; the line says what to do.
        StoreError: the store does not answer.
    """
    try:
        found = read_identity(store)
    except StoreMissing:
        found = None
    if found is None:
        raise NoArchive(
            f"{store.url} is not a Callvault archive. Check the address, and that its disk is mounted. "
            "Run `callvault init` to make a new archive, `callvault init --adopt` to adopt what an earlier version wrote"
        )
    return found


def assert_same(store: Store, expected: Identity) -> None:
    """Read the identity anew and hold it against the one that this process opened.

    Raises:
        StoreError: it is another, or gone, or cannot be read now. Nothing may be written or deleted.
    """
    found = read_identity(store)
    if found is None:
        raise StoreError(f"{store.url}: {layout.IDENTITY_KEY} is gone; check that the archive's disk is still mounted")
    if found.id != expected.id:
        raise StoreError(
            f"{store.url} now holds another archive ({found.id}; this process opened {expected.id}); restart Callvault"
        )


def make_identity(store: Store, *, adopt: bool = False, by: str | None = None) -> Identity:
    """Give a store its identity; of two at once one wins, and both return the winner's.

    Args:
        store: without an identity.
        adopt: whether it holds objects already; the end of their chain of seals is remembered.
        by: who did it; None: the system's user.

    Raises:
        StoreError: the store did not take it.
    """
    seals, head = _end_of_chain(store) if adopt else (0, None)
    identity = Identity(
        id=secrets.token_hex(16),
        created_at=format_instant(utc_now()),
        by=by or getpass.getuser(),
        adopted=adopt,
        adopted_seals=seals,
        adopted_head=head,
    )
    try:
        store.put(layout.IDENTITY_KEY, Source(encode_record(identity)), "application/json", {})
    except KeyExists:
        pass  # somebody was faster
    found = read_identity(store)
    if found is None:
        raise StoreError(f"{store.url}: {layout.IDENTITY_KEY} disappeared after it was written; try again")
    return found


def _end_of_chain(store: Store) -> tuple[int, str | None]:
    """How many seals there are, and the SHA-256 of the last; whether they are whole `callvault verify --seals` says."""
    last = None
    for stored in store.list("seals/"):
        place = layout.seal_of(stored.key)
        if place is not None and place[1] == "json":
            last = (place[0], stored.key)
    if last is None:
        return 0, None
    return last[0], hashlib.sha256(b"".join(store.read(last[1]))).hexdigest()
