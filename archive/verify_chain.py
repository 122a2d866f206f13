"""Checks the chain of seals for `callvault verify --seals`: each seal, its manifest, link, signature and time stamp."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec

from archive import layout
from archive.archive import Archive
from archive.problems import Problem
from archive.proof import hash_object
from archive.records import Identity, UnreadableRecord
from archive.seals import Link, read_link
from archive.signers import check_signature, packages_of_seals
from archive.verify import Verified
from text.times import parse_instant

_LOOKS, _LOOK_SECONDS = 6, 0.5  # for the last seal, while only its manifest is there
_CLOCKS_APART = timedelta(hours=1)  # the identity and the seals are written by different machines


@dataclass(frozen=True)
class Trust:
    """What the chain is compared with.

    Attributes:
        keys: raw public keys, one of which must have signed each seal; None to check signatures alone.
        authorities: see `timestamps.verify_timestamp`.
        head: the SHA-256 of a seal's JSON that must be in the chain; None for none.
        identity: the identity of the archive; None if unknown.
    """

    keys: Collection[bytes] | None = None
    authorities: Path | None = None
    head: str | None = None
    identity: Identity | None = None


def walk_chain(archive: Archive, state: Verified, trust: Trust, show: Callable[[Verified], None]) -> list[Link]:
    """Check the whole chain and add its problems to the state.

    Returns:
        The seals with a valid manifest, without void seals.
    """
    good: list[Link] = []
    hashes: dict[int, str] = {}
    before: str | None = None
    expected = 1
    present = _present(archive, state)
    for sequence, names in sorted(present.items()):
        if sequence > expected:
            state.problems.append(_gap(expected, sequence - 1))
            before = None
        expected = sequence + 1
        key = layout.seal_key(sequence)
        if "json" not in names and sequence == max(present):
            names |= _wait_for_last_seal(archive, sequence)
        if "json" not in names:
            left = ", ".join(sorted(names))
            state.problems.append(Problem("gap", key, f"seal {sequence} is missing; these of its files exist: {left}"))
            before = None
            continue
        data = archive.read_small(key) or b""
        state.seals += 1
        link, problems = _check_seal(archive, key, data, names, before if sequence > 1 else "")
        problems += _check_signature(archive, state, sequence, data, names, trust.keys)
        problems += _check_stamp(archive, state, sequence, data, names, trust.authorities)
        state.problems += problems
        before = hashes[sequence] = hashlib.sha256(data).hexdigest()
        if before == trust.head:
            state.head = sequence
        if link is not None and link.seal.void is not msgspec.UNSET:
            state.void += 1
        elif link is not None:
            good.append(link)
        show(state)
    state.seals_after_head = sum(sequence > (state.head or 0) for sequence in hashes)
    if trust.head is not None and state.head is None:
        state.problems.append(Problem("head", "seals/", f"no seal in the chain has the SHA-256 {trust.head}"))
    if trust.identity is not None:
        state.problems += _check_adopted(trust.identity, expected, hashes, good)
    return good


def _present(archive: Archive, state: Verified) -> dict[int, set[str]]:
    """The suffixes of the objects of each number."""
    present: dict[int, set[str]] = {}
    for stored in archive.store.list("seals/"):
        place = layout.seal_of(stored.key)
        if place is None:
            state.problems.append(Problem("unlisted", stored.key, "not a key of the archive format"))
        else:
            present.setdefault(place[0], set()).add(place[1])
    # The rows of a seal show that it existed, even if it was cut off the end of the chain.
    for stored in archive.store.list("catalogue/"):
        number = stored.key.rpartition("/")[2].partition(".")[0]
        if number.isascii() and number.isdigit():
            present.setdefault(int(number), set()).add("parquet")
    return present


def _wait_for_last_seal(archive: Archive, sequence: int) -> set[str]:
    """Wait three seconds for the last seal: a worker may be writing it, and writes the manifest first.

    Returns:
        The suffixes of the objects of its number; empty if the seal did not appear.
    """
    for _ in range(_LOOKS):
        time.sleep(_LOOK_SECONDS)
        if archive.store.stat(layout.seal_key(sequence)) is not None:
            under_it = archive.store.list(layout.seal_key(sequence).removesuffix("json"))
            return {place[1] for stored in under_it if (place := layout.seal_of(stored.key))}
    return set()


def _gap(first: int, last: int) -> Problem:
    """Missing seals, as one problem: an object's name may claim any number."""
    which = f"seal {first} is" if first == last else f"seals {first} to {last} are"
    return Problem("gap", layout.seal_key(first), f"{which} missing")


def _check_seal(
    archive: Archive, key: str, data: bytes, names: set[str], before: str | None
) -> tuple[Link | None, list[Problem]]:
    """Check a seal against the previous seal and its manifest.

    Args:
        archive: the archive.
        key: the key of the seal.
        data: its bytes.
        names: the suffixes of the objects of its number.
        before: the SHA-256 of the previous seal; empty for the first seal, None if the previous one is missing.
    """
    try:
        link = read_link(data, key)
        parse_instant(link.seal.reconciled_at)
    except UnreadableRecord as error:
        return None, [Problem("seal-altered", error.key, error.what)]
    except ValueError as error:
        return None, [Problem("seal-altered", key, f"reconciled_at cannot be read ({error})")]
    problems = []
    if before is not None and (link.seal.previous_sha256 or "") != before:
        problems.append(Problem("seal-altered", key, "does not contain the hash of the seal before it"))
    manifest = layout.seal_key(link.seal.sequence, "sha256")
    if "sha256" not in names:
        return None, [*problems, Problem("gap", manifest, "the manifest of a seal is missing")]
    if hash_object(archive.store, manifest) != link.seal.manifest_sha256:
        return None, [*problems, Problem("seal-altered", manifest, "does not match its seal")]
    return link, problems


def _check_signature(
    archive: Archive, state: Verified, sequence: int, data: bytes, names: set[str], trusted: Collection[bytes] | None
) -> list[Problem]:
    key = layout.seal_key(sequence, "sig")
    if "sig" not in names:
        state.unsigned += 1
        what = "a seal without a signature, though CALLVAULT_SEAL_KEY is set"
        return [Problem("signature", key, what)] if trusted is not None else []
    signer, problems = check_signature(archive, "signature", key, data, trusted)
    if signer is not None:
        state.signed_by[signer] = state.signed_by.get(signer, 0) + 1
    return problems


def _check_stamp(
    archive: Archive, state: Verified, sequence: int, data: bytes, names: set[str], authorities: Path | None
) -> list[Problem]:
    if "tsr" not in names:
        return []
    key = layout.seal_key(sequence, "tsr")
    with packages_of_seals(key):
        from archive.timestamps import BadTimestamp, verify_timestamp
    try:
        verify_timestamp(archive.read_small(key) or b"", data, authorities)
    except BadTimestamp as error:
        return [Problem("time-stamp", key, str(error))]
    state.stamped += 1
    return []


def _check_adopted(identity: Identity, after_last: int, hashes: dict[int, str], good: list[Link]) -> list[Problem]:
    """Compare the chain with the seals that the archive's identity names."""
    last = identity.adopted_seals
    if after_last <= last:
        return [_gap(after_last, last)]
    if last and hashes.get(last, identity.adopted_head) != identity.adopted_head:
        what = "is not the last seal that the archive had when it got its identity (archive.json)"
        return [Problem("seal-altered", layout.seal_key(last), what)]
    try:
        created = parse_instant(identity.created_at)
        later = [parse_instant(link.seal.sealed_at) for link in good if link.seal.sequence > last][:1]
    except ValueError as error:
        return [Problem("damaged", layout.IDENTITY_KEY, f"an instant that cannot be read ({error})")]
    if later and created > later[0] + _CLOCKS_APART:
        what = f"claims to be of {identity.created_at}, later than seals that were made after it"
        return [Problem("damaged", layout.IDENTITY_KEY, what)]
    return []
