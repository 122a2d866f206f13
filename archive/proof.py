"""Proves that the store holds an object whole: observed for each object, never assumed.

The proof levels, strongest first; the commit record names the one that succeeded:

1. `checksum`: the store computed or checked a checksum of all bytes, and it equals ours.
2. `etag`: the ETag is the MD5 of the body or of its parts, and equals ours.
3. `read-back`: the object is read from the store and hashed.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from archive.records import ArchivedObject, Proof, WrongObject
from archive.stores.store import Store, StoredObject, Written
from text.counts import many

ProofMode = Literal["store", "read-back"]


class Damaged(WrongObject):
    """An object in the archive is damaged or missing. Its original must not be deleted."""


class Missing(Damaged):
    """An object is missing from the archive."""


def prove(store: Store, written: Written, sha256: str, size: int, mode: ProofMode = "store") -> Proof:
    """Prove that the store holds exactly the bytes that we hashed.

    Args:
        store: the store.
        written: the store's description of the object, and our values to compare with it.
        sha256: our SHA-256, hexadecimal.
        size: our size in bytes.
        mode: `read-back` always reads the object.

    Raises:
        Damaged: the stored object differs.
        StoreError: the store does not answer.
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
        # A different ETag need not be an MD5, so it proves no damage.
        if stored.etag and stored.etag in written.etags:
            return Proof("etag", "md5", stored.etag, stored.version)
    return _read_back(store, stored, sha256)


def prove_again(store: Store, known: ArchivedObject, mode: ProofMode = "store") -> ArchivedObject:
    """Prove an archived object again: by its mark and checksum if the store shows them, else by reading it.

    A mark names one write, not the bytes: an object that was restored from a copy, or an archive that was moved or
    mirrored, has other marks for the same bytes. Such an object is read once; other bytes are damage.

    Returns:
        The object with its present proof; with another mark, the proof is a read-back and names the new mark.

    Raises:
        Damaged: the object is missing or differs from its commit record.
        StoreError: the store does not answer.
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
    """Whether the store's mark differs from the commit record, so its checksum proves nothing."""
    return known.proof.version is not None and stored.version != known.proof.version


def _prove_another_mark(store: Store, stored: StoredObject, known: ArchivedObject) -> ArchivedObject:
    """Read an object with another mark, and check that the mark did not change meanwhile."""
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
    """Read an object and return its SHA-256, hexadecimal.

    Raises:
        KeyError: the key is not in use.
        StoreError: the store does not answer.
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
