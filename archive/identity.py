"""The identity of an archive: `archive.json` at its root, written once by `callvault init`.

Redis, the catalogue and saved states remember its id, so nothing confuses two archives or takes an empty folder for an
archive. Everything here blocks.
"""

from __future__ import annotations

import hashlib
import secrets

from archive import layout
from archive.readers import IDENTITY
from archive.records import Identity, UnreadableRecord, encode_record
from archive.source import Source
from archive.stores.store import KeyExists, Store, StoreError, StoreMissing, StoreRefused
from text.times import format_instant, utc_now
from text.user import user_name

_LARGEST_BYTES = 64 * 1024


class NoArchive(StoreRefused):
    """The store holds no archive, or one whose identity cannot be read."""


def read_identity(store: Store) -> Identity | None:
    """Read the identity from the store; None if it has none.

    Raises:
        StoreMissing: the archive's folder does not exist.
        NoArchive: `archive.json` cannot be read.
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
        NoArchive: it has none; the text says what to do.
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
    """Read the identity again and compare it with the one that this process opened.

    Raises:
        StoreError: it differs, is gone, or cannot be read now. Nothing may be written or deleted.
    """
    found = read_identity(store)
    if found is None:
        raise StoreError(f"{store.url}: {layout.IDENTITY_KEY} is gone; check that the archive's disk is still mounted")
    if found.id != expected.id:
        raise StoreError(
            f"{store.url} now holds another archive ({found.id}; this process opened {expected.id}); restart Callvault"
        )


def make_identity(store: Store, *, adopt: bool = False, by: str | None = None) -> Identity:
    """Give a store an identity. If two processes do so at once, both return the first one.

    Args:
        store: a store without an identity.
        adopt: whether it holds objects already; the identity then remembers the end of their chain of seals.
        by: the person; None for the system's user.

    Raises:
        StoreError: the store did not take it.
    """
    seals, head = _end_of_chain(store) if adopt else (0, None)
    identity = Identity(
        id=secrets.token_hex(16),
        created_at=format_instant(utc_now()),
        by=by or user_name(),
        adopted=adopt,
        adopted_seals=seals,
        adopted_head=head,
    )
    try:
        store.put(layout.IDENTITY_KEY, Source(encode_record(identity)), "application/json", {})
    except KeyExists:
        pass  # another process was faster
    found = read_identity(store)
    if found is None:
        raise StoreError(f"{store.url}: {layout.IDENTITY_KEY} disappeared after it was written; try again")
    return found


def _end_of_chain(store: Store) -> tuple[int, str | None]:
    """The number of seals and the SHA-256 of the last; `callvault verify --seals` checks the chain itself."""
    last = None
    for stored in store.list("seals/"):
        place = layout.seal_of(stored.key)
        if place is not None and place[1] == "json":
            last = (place[0], stored.key)
    if last is None:
        return 0, None
    return last[0], hashlib.sha256(b"".join(store.read(last[1]))).hexdigest()
