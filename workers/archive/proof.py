"""What counts as proof that an object lies whole in the store: observed for each object, never assumed.

The ladder, strongest first; the commit record says which rung held:

1. `checksum`: the store made or checked a checksum of all the bytes, and it equals ours.
2. `etag`: an ETag that is the MD5 of the body, or of its parts, and equals ours.
3. `read-back`: the object is read from the store again and hashed.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from config.counts import many
from workers.archive.records import ArchivedObject, Proof, WrongObject
from workers.archive.stores.store import Store, StoredObject, Written

ProofMode = Literal["store", "read-back"]


class Damaged(WrongObject):
    """An object in the archive is not what it must be, or not there. Its original must not be deleted."""


class Missing(Damaged):
    """An object is gone from the archive; nothing else lies in its place."""


def prove(store: Store, written: Written, sha256: str, size: int, mode: ProofMode = "store") -> Proof:
    """Prove that the store holds exactly the bytes that we hashed.

    Args:
        store: the store.
        written: what the store said of the object after it took it, and what we computed to compare that with.
        sha256: ours, hexadecimal.
        size: ours, bytes.
        mode: `read-back` demands the last rung always.

    Raises:
        Damaged: it holds something else.
        StoreError: it cannot be asked now.
    """
    stored = written.stored
    if stored.size != size:
        raise Damaged(stored.key, f"{many(stored.size, 'byte')} in the store, {size} were sent")
    if mode == "store":
        ours = {"sha256": sha256, **written.checksums}
        for algorithm, theirs in stored.checksums.items():
            if algorithm not in ours:
                continue
            if theirs != ours[algorithm]:
                raise Damaged(stored.key, f"the store's {algorithm} is {theirs}, ours {ours[algorithm]}")
            return Proof("checksum", algorithm, theirs, stored.version)
        # An ETag that differs need not be an MD5 at all, so it only ever proves, and never accuses.
        if stored.etag and stored.etag in written.etags:
            return Proof("etag", "md5", stored.etag, stored.version)
    return _read_back(store, stored, sha256)


def prove_again(store: Store, known: ArchivedObject, mode: ProofMode = "store") -> ArchivedObject:
    """Prove an archived object anew: the same mark and checksum where the store gives one, else by reading it.

    A store's mark names one writing, not the bytes: an object that a person put back from a copy, or an archive that was
    moved or mirrored, has other marks over the same bytes. Such an object is read once; other bytes are damage.

    Returns:
        The object with the proof of this moment: by read-back and with the new mark, where the mark is another.

    Raises:
        Damaged: it is gone, or not the object of the commit record.
        StoreError: the store cannot be asked now.
    """
    stored = store.stat(known.key)
    if stored is None:
        raise Missing(known.key, "gone from the archive")
    if has_another_mark(stored, known):
        return _prove_another_mark(store, stored, known)
    checksums = {known.proof.algorithm: known.proof.value} if known.proof.by == "checksum" else {}
    etags = (known.proof.value,) if known.proof.by == "etag" else ()
    proof = prove(store, Written(stored, checksums, etags), known.sha256, known.size, mode)
    return ArchivedObject(known.key, known.size, known.sha256, known.content_type, proof)


def has_another_mark(stored: StoredObject, known: ArchivedObject) -> bool:
    """Whether the store's mark is another than the one in the commit record, so that its checksum proves nothing."""
    return known.proof.version is not None and stored.version != known.proof.version


def _prove_another_mark(store: Store, stored: StoredObject, known: ArchivedObject) -> ArchivedObject:
    """Read an object whose mark is another, and hold its mark to the bytes that were read."""
    if stored.size != known.size:
        raise Damaged(
            known.key, f"replaced; {many(stored.size, 'byte')} in the store, {known.size} in the commit record"
        )
    proof = _read_back(store, stored, known.sha256)
    after = store.stat(known.key)
    if after is None or after.version != stored.version:
        raise Damaged(known.key, "replaced while it was read; run it again")
    return ArchivedObject(known.key, known.size, known.sha256, known.content_type, proof)


def hash_object(store: Store, key: str) -> str:
    """Hexadecimal SHA-256 of what the store gives back.

    Raises:
        KeyError: there is no such object.
        StoreError: the store cannot be read now.
    """
    digest = hashlib.sha256()
    for chunk in store.read(key):
        digest.update(chunk)
    return digest.hexdigest()


def _read_back(store: Store, stored: StoredObject, sha256: str) -> Proof:
    try:
        found = hash_object(store, stored.key)
    except KeyError:
        raise Missing(stored.key, "gone from the archive") from None
    if found != sha256:
        raise Damaged(stored.key, f"reads back with SHA-256 {found}, not {sha256}")
    return Proof("read-back", "sha256", found, stored.version)
