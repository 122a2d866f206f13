"""`callvault verify --seals`: the chain of seals, and each sealed day against what its seals list.

It asks nobody but the store. JSON objects are read and hashed; audio is held to the hash in its commit record, whose own
proof `verify` asks for, and with `deep` it is read too.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from config.times import parse_instant, utc_now
from workers.archive import layout
from workers.archive.ahead import ahead
from workers.archive.archive import Archive
from workers.archive.proof import hash_object
from workers.archive.records import ANY_RECORD, COMMIT_RECORD, MEDIA, UnreadableRecord
from workers.archive.seals import Link, folder_of, objects_of_day, present_seals, read_link, read_manifest
from workers.archive.stores.store import StoredObject
from workers.archive.verify import Problem, Verified, erased_keys

_SEALED_WITHIN = timedelta(days=2)  # a sealed day gets a further seal a day later at most, if a worker runs

# When an object says that it was written, by its name or the name of its folder.
_WRITTEN_AT = {
    "recording.json": "archived_at",
    "deleted.json": "confirmed_gone_at",
    "erased.json": "erased_at",
    "decisions": "at",
    "log-messages": "first_seen_at",
}


@dataclass
class _Folder:
    listed: dict[str, str] = field(default_factory=dict)
    present: dict[str, StoredObject] = field(default_factory=dict)


def count_seals(archive: Archive) -> int:
    """How many seals there are, by a listing alone."""
    return sum("json" in names for names in present_seals(archive).values())


def verify_seals(
    archive: Archive,
    state: Verified,
    *,
    since: date | None = None,
    until: date | None = None,
    deep: bool = False,
    trusted: Collection[bytes] | None = None,
    authorities: Path | None = None,
    show: Callable[[Verified], None] = lambda _: None,
) -> Verified:
    """Walk the whole chain, then the sealed days of a span, both ends inclusive.

    Args:
        archive: the archive.
        state: counted on, and what is wrong is added to it.
        since: first day.
        until: last day.
        deep: read and hash every listed object.
        trusted: raw public keys of which one must have signed each seal; None: signatures are held to themselves.
        authorities: see `timestamps.verify_timestamp`.
        show: called after each seal and each folder.

    Raises:
        StoreError: the store cannot be asked now.
    """
    chain = _walk(archive, state, trusted, authorities, show)
    days = itertools.groupby(sorted(chain, key=lambda link: link.seal.day), key=lambda link: link.seal.day)
    for text, links in days:
        day = date.fromisoformat(text)
        if (since and day < since) or (until and day > until):
            continue
        _check_day(archive, state, day, list(links), deep, show)
    return state


def _walk(
    archive: Archive,
    state: Verified,
    trusted: Collection[bytes] | None,
    authorities: Path | None,
    show: Callable[[Verified], None],
) -> list[Link]:
    """The chain itself; returns the seals whose manifests can be believed."""
    present: dict[int, set[str]] = {}
    for stored in archive.store.list("seals/"):
        place = layout.seal_of(stored.key)
        if place is None:
            state.problems.append(Problem("unlisted", stored.key, "not a key of the archive's layout"))
        else:
            present.setdefault(place[0], set()).add(place[1])
    # The rows of a seal tell of it, should it be cut off the chain's end.
    for stored in archive.store.list("catalogue/"):
        number = stored.key.rpartition("/")[2].partition(".")[0]
        if number.isascii() and number.isdigit():
            present.setdefault(int(number), set()).add("parquet")
    good: list[Link] = []
    before: str | None = None
    expected = 1
    for sequence, names in sorted(present.items()):
        if sequence > expected:  # one line for all, since a name may claim any number
            which = f"seal {expected} is" if sequence == expected + 1 else f"seals {expected} to {sequence - 1} are"
            text = f"{which} missing; there is nothing of {'it' if sequence == expected + 1 else 'them'}"
            state.problems.append(Problem("gap", layout.seal_key(expected), text))
            before = None
        expected = sequence + 1
        key = layout.seal_key(sequence)
        if "json" not in names:
            left = ", ".join(sorted(names))
            state.problems.append(Problem("gap", key, f"seal {sequence} is missing; there is {left} of it"))
            before = None
            continue
        data = archive.read_small(key) or b""
        state.seals += 1
        link, problems = _check_seal(archive, key, data, names, before if sequence > 1 else "")
        problems += _check_signature(archive, sequence, data, names, trusted)
        problems += _check_stamp(archive, sequence, data, names, authorities)
        state.problems += problems
        before = hashlib.sha256(data).hexdigest()
        if link is not None:
            good.append(link)
        show(state)
    return good


def _check_seal(
    archive: Archive, key: str, data: bytes, names: set[str], before: str | None
) -> tuple[Link | None, list[Problem]]:
    """A seal against the one before and its manifest.

    Args:
        archive: the archive.
        key: of the seal.
        data: its bytes.
        names: what lies under its number.
        before: SHA-256 of the seal before; empty for the first of all, None where that is missing.
    """
    try:
        link = read_link(data, key)
    except UnreadableRecord as error:
        return None, [Problem("seal-altered", key, str(error))]
    problems = []
    if before is not None and (link.seal.previous_sha256 or "") != before:
        problems.append(Problem("seal-altered", key, "does not tell the hash of the seal before it"))
    manifest = layout.seal_key(link.seal.sequence, "sha256")
    if "sha256" not in names:
        return None, [*problems, Problem("gap", manifest, "the manifest of a seal is missing")]
    if hash_object(archive.store, manifest) != link.seal.manifest_sha256:
        return None, [*problems, Problem("seal-altered", manifest, "is not the manifest that its seal tells of")]
    return link, problems


def _check_signature(
    archive: Archive, sequence: int, data: bytes, names: set[str], trusted: Collection[bytes] | None
) -> list[Problem]:
    key = layout.seal_key(sequence, "sig")
    if "sig" not in names:
        what = "a seal without a signature, though CALLVAULT_SEAL_KEY is set"
        return [Problem("signature", key, what)] if trusted is not None else []
    from workers.archive.signatures import BadSignature, fingerprint, signer_of

    try:
        signer = signer_of(archive.read_small(key) or b"", data)
    except BadSignature as error:
        return [Problem("signature", key, str(error))]
    if trusted is not None and signer not in trusted:
        return [Problem("signature", key, f"signed by {fingerprint(signer)}, which CALLVAULT_SEAL_KEY does not name")]
    return []


def _check_stamp(
    archive: Archive, sequence: int, data: bytes, names: set[str], authorities: Path | None
) -> list[Problem]:
    if "tsr" not in names:
        return []
    from workers.archive.timestamps import BadTimestamp, verify_timestamp

    key = layout.seal_key(sequence, "tsr")
    try:
        verify_timestamp(archive.read_small(key) or b"", data, authorities)
    except BadTimestamp as error:
        return [Problem("time-stamp", key, str(error))]
    return []


def _check_day(
    archive: Archive, state: Verified, day: date, links: list[Link], deep: bool, show: Callable[[Verified], None]
) -> None:
    reconciled = max(link.seal.reconciled_at for link in links)
    folders = _folders(archive, day, links)
    try:
        for problems, listed, erased, waiting in ahead(folders, lambda f: _check_folder(archive, f, reconciled, deep)):
            state.problems += problems
            state.sealed_objects += listed
            state.erased += erased
            state.waiting += waiting
            show(state)
    except UnreadableRecord as error:
        state.problems.append(Problem("seal-altered", str(error).partition(":")[0], str(error)))


def _folders(archive: Archive, day: date, links: list[Link]) -> Iterator[_Folder]:
    """What is listed and what is present, side by side, in the order of keys."""
    manifests = [((key, sha256) for sha256, key in read_manifest(archive, link.seal.sequence)) for link in links]
    listed: Iterator[tuple[str, Any]] = heapq.merge(*manifests)
    present: Iterator[tuple[str, Any]] = ((stored.key, stored) for stored in objects_of_day(archive, day))
    both = heapq.merge(listed, present, key=lambda pair: pair[0])
    for _, pairs in itertools.groupby(both, key=lambda pair: folder_of(pair[0])):
        folder = _Folder()
        for key, value in pairs:
            if isinstance(value, StoredObject):
                folder.present[key] = value
            else:
                folder.listed[key] = value
        yield folder


def _check_folder(
    archive: Archive, folder: _Folder, reconciled: str, deep: bool
) -> tuple[list[Problem], int, int, int]:
    """What is wrong with a folder; how much of it is listed, erased on record, and waiting for a seal."""
    problems: list[Problem] = []
    prefix = folder_of(next(iter(folder.listed or folder.present)))
    erased = erased_keys(archive, prefix, folder.present)
    bytes_of = {key: archive.read_small(key) or b"" for key in folder.present if key.endswith(".json")}
    told = _told_hashes(prefix, bytes_of)
    gone = 0
    for key, sha256 in folder.listed.items():
        if key not in folder.present:
            gone += key in erased
            if key not in erased:
                problems.append(Problem("missing", key, "listed by a seal, and not there"))
            continue
        if key in bytes_of:
            found = hashlib.sha256(bytes_of[key]).hexdigest()
        elif deep or key not in told:
            found = hash_object(archive.store, key)
        else:
            found = told[key]
        if found != sha256:
            problems.append(Problem("damaged", key, f"has SHA-256 {found}, its seal says {sha256}"))
    unlisted = [key for key in folder.present if key not in folder.listed]
    waiting = {key for key in unlisted if key in bytes_of and _is_recent(key, bytes_of[key], reconciled)}
    if layout.commit_key(prefix) in waiting:
        waiting |= {key for key in unlisted if key in told}
    problems += [
        Problem("unlisted", key, "lies under a sealed day, and no seal lists it")
        for key in unlisted
        if key not in waiting
    ]
    return problems, len(folder.listed), gone, len(waiting)


def _told_hashes(prefix: str, bytes_of: dict[str, bytes]) -> dict[str, str]:
    """The hashes of audio and media, as their own records tell them."""
    try:
        if (key := layout.commit_key(prefix)) in bytes_of:
            return {o.key: o.sha256 for o in COMMIT_RECORD.read(bytes_of[key], key).objects}
        if (key := layout.media_key(prefix)) in bytes_of:
            known = MEDIA.read(bytes_of[key], key).object
            return {known.key: known.sha256}
    except UnreadableRecord:
        pass  # its own hash tells that it is damaged
    return {}


def _is_recent(key: str, data: bytes, reconciled: str) -> bool:
    """Whether an object says that it came after its day was compared, and lately, so that its seal may be to come."""
    name = key.rpartition("/")[2]
    kind = next((part for part in (name, *key.split("/")) if part in _WRITTEN_AT), None)
    try:
        said = ANY_RECORD.read(data, key)
        if "/transcriptions/" in key:
            at = said["transcription"].get("updated_at") or said["transcription"]["created_at"]
        else:
            at = said[_WRITTEN_AT[kind or ""]]
        written = parse_instant(at)
    except (UnreadableRecord, ValueError, TypeError, KeyError, AttributeError):
        return False
    return written >= parse_instant(reconciled) and abs(utc_now() - written) < _SEALED_WITHIN
