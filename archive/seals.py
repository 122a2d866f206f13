"""Seals: the objects of a closed day, listed in a manifest, and chained. They prove that no object has disappeared.

A manifest is in the format of `sha256sum`, sorted by key. It is written first, and claims the next sequence number;
then the seal, which contains its hash and the hash of the seal before. A worker that dies in between leaves a manifest
without a seal; the next worker finishes it, or passes it over by a void seal. All of this blocks and runs in worker
threads.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date, timedelta
from typing import IO

import msgspec

from archive import kinds, layout
from archive.ahead import ahead
from archive.archive import Archive
from archive.folder import folders_in, less_now
from archive.kinds import Place
from archive.proof import hash_object
from archive.readers import COMMIT_RECORD, DISPOSAL, MEDIA, SEAL
from archive.records import CommitRecord, Identity, Seal, UnreadableRecord, WrongObject
from archive.stores.store import StoredObject
from text.counts import many
from text.times import parse_instant

_COPY_BYTES = 256 * 1024
_FOLDERS_AT_ONCE = 128  # of all threads: giving a thread one folder costs as much as hashing it


class CannotSeal(WrongObject):
    """A day that is not whole; the text has the reason."""


class Link(msgspec.Struct, frozen=True):
    """A seal and the SHA-256 of its JSON, which the next seal contains."""

    seal: Seal
    sha256: str


class Chain:
    """The seals of an archive as far as they have been read.

    Args:
        archive: the archive.
        links: the known seals, in order, from the first.
    """

    def __init__(self, archive: Archive, links: list[Link] | None = None) -> None:
        self._archive = archive
        self.links: list[Link] = []
        self._by_day: dict[date, tuple[Link, ...]] = {}
        for link in links or ():
            if link.seal.sequence == len(self.links) + 1:
                self._add(link)

    def refresh(self) -> list[Link]:
        """Read the new seals; returns them.

        Raises:
            UnreadableRecord: one cannot be read.
            StoreError: the store cannot be read now.
        """
        known = len(self.links)
        if not known:  # many at once
            sealed = (sequence for sequence, names in present_seals(self._archive).items() if "json" in names)
            for link in ahead(sealed, self._read):
                if link is None or link.seal.sequence != len(self.links) + 1:
                    break
                self._add(link)
        while (link := self._read(len(self.links) + 1)) is not None:
            self._add(link)
        return self.links[known:]

    def copy(self) -> Chain:
        """An independent copy of the chain."""
        copy = Chain(self._archive)
        copy.become(self)
        return copy

    def become(self, other: Chain) -> None:
        """Take over the seals of another chain."""
        self.links, self._by_day = other.links.copy(), other._by_day.copy()

    def of_day(self, day: date) -> tuple[Link, ...]:
        """The seals of a day that count, in order; void ones do not."""
        return self._by_day.get(day, ())

    @property
    def days(self) -> set[date]:
        """The days that have a seal that counts."""
        return set(self._by_day)

    def _add(self, link: Link) -> None:
        self.links.append(link)
        if link.seal.void is msgspec.UNSET:
            day = date.fromisoformat(link.seal.day)
            self._by_day[day] = (*self.of_day(day), link)

    def _read(self, sequence: int) -> Link | None:
        data = self._archive.read_small(layout.seal_key(sequence))
        return None if data is None else read_link(data, layout.seal_key(sequence))


def present_seals(archive: Archive) -> dict[int, set[str]]:
    """The files of each sequence number, in order (`json`, `sha256`, `sig`, `tsr`), from a listing alone."""
    present: dict[int, set[str]] = {}
    for stored in archive.store.list("seals/"):
        if (place := layout.seal_of(stored.key)) is not None:
            present.setdefault(place[0], set()).add(place[1])
    return present


def read_link(data: bytes, key: str) -> Link:
    """Read a seal.

    Raises:
        UnreadableRecord: it is not a seal, or belongs under another key; the text names the key.
    """
    try:
        seal = SEAL.read(data, key)
        date.fromisoformat(seal.day)
    except ValueError as error:
        raise UnreadableRecord(key, f"not a seal ({error})") from None
    if layout.seal_key(seal.sequence) != key:
        raise UnreadableRecord(key, f"says that it is seal {seal.sequence}")
    return Link(seal, hashlib.sha256(data).hexdigest())


class SealedFolder(msgspec.Struct):
    """The new objects of one recording, medium or log message since the last seal of its day.

    Attributes:
        prefix: the start of its keys.
        present: all of its objects, by key.
        places: what each of these keys says.
        new: the keys that no seal lists yet, sorted.
        records: the bytes of the JSON objects that were read, by key.
        commit: the commit record of a recording, read.
        lines: a line of the manifest for each new key.
        bytes: of all new objects.
    """

    prefix: str
    present: dict[str, StoredObject] = {}
    places: dict[str, Place] = {}
    new: list[str] = []
    records: dict[str, bytes] = {}
    commit: CommitRecord | None = None
    lines: list[str] = []
    bytes: int = 0

    def place_of(self, key: str) -> Place:
        """What one of its keys says."""
        return self.places.get(key) or kinds.place_of(key)


class Manifest:
    """A manifest in a temporary file, with the counts for its seal. A context manager, which deletes the file."""

    def __init__(self) -> None:
        self.recordings = self.transcriptions = self.not_archived = self.bytes = self.objects = 0
        self._digest = hashlib.sha256()
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    @property
    def sha256(self) -> str:
        """The hash of all its bytes, hexadecimal."""
        return self._digest.hexdigest()

    def add(self, folder: SealedFolder) -> None:
        """Add the lines of a folder; they come in the order of their keys."""
        data = "".join(folder.lines).encode()
        self._file.write(data)
        self._digest.update(data)
        self.bytes += folder.bytes
        self.objects += len(folder.new)
        for key in folder.new:
            kind = folder.place_of(key).kind
            self.recordings += kind is kinds.COMMIT
            self.transcriptions += kind is kinds.TRANSCRIPTION
            self.not_archived += kind is kinds.NOT_ARCHIVED

    def chunks(self) -> Iterator[bytes]:
        """Its bytes from the start."""
        self._file.seek(0)
        while chunk := self._file.read(_COPY_BYTES):
            yield chunk


def days_to_seal(identity: Identity, last: date) -> list[date]:
    """The days that must have a seal, empty days too: from the day the archive got its identity to the last closed day.

    Args:
        identity: of the archive.
        last: the last day that can be sealed.
    """
    first = parse_instant(identity.created_at).date()
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def objects_of_day(archive: Archive, day: date) -> Iterator[StoredObject]:
    """All objects of a day, of every kind, in the order of their keys."""
    for folder in layout.DAY_FOLDERS:
        yield from archive.store.list(layout.day_prefix(day, folder))


def sealed_keys(archive: Archive, links: Sequence[Link]) -> Iterator[str]:
    """The keys that the manifests of some seals list, in order.

    Raises:
        UnreadableRecord: a manifest is unreadable, or not the one of its seal; raised after its last line.
    """
    return heapq.merge(*((key for _, key in lines_of(archive, link)) for link in links))


def lines_of(archive: Archive, link: Link) -> Iterator[tuple[str, str]]:
    """SHA-256 and key of each line of the manifest of a seal, checked against the hash in the seal.

    Raises:
        UnreadableRecord: as `read_manifest`, or it is not the manifest of the seal; raised after its last line.
    """
    return read_manifest(archive, link.seal.sequence, link.seal.manifest_sha256)


def read_manifest(archive: Archive, sequence: int, expected: str | None = None) -> Iterator[tuple[str, str]]:
    """SHA-256 and key of each line of a manifest.

    Args:
        archive: the archive.
        sequence: its number.
        expected: the SHA-256 that all its bytes must have, hexadecimal; None: any.

    Raises:
        UnreadableRecord: it is missing, not in the format of `sha256sum`, or has another hash.
    """
    key = layout.seal_key(sequence, "sha256")
    digest = hashlib.sha256()
    rest = b""
    try:
        for chunk in itertools.chain(archive.store.read(key), (None,)):
            digest.update(chunk or b"")
            lines = (rest + (chunk or b"")).split(b"\n")
            rest = lines.pop()
            for line in lines:
                sha256, gap, name = line.partition(b"  ")
                if len(sha256) != 64 or not gap or not name:
                    raise UnreadableRecord(key, "a line that `sha256sum` did not write")
                yield sha256.decode("ascii", "replace"), name.decode("utf-8", "replace")
    except KeyError:
        raise UnreadableRecord(key, "not there") from None
    if rest:
        raise UnreadableRecord(key, "ends within a line")
    if expected not in (None, digest.hexdigest()):
        raise UnreadableRecord(key, f"not the manifest of seal {sequence}")


def folders_of_day(
    archive: Archive, day: date, links: Sequence[Link], only: Callable[[str], bool] | None = None
) -> Iterator[SealedFolder]:
    """The folders of a day with objects that no seal lists yet, hashed, in the order of their keys.

    Args:
        archive: the archive.
        day: UTC.
        links: the seals that the day has.
        only: selects new keys; None for all.

    Raises:
        CannotSeal: a folder is not whole.
        StoreError: the store cannot be read now.
    """
    folders = _new_folders(archive, day, links, only)
    threads = archive.store.small_at_once
    some = iter(lambda: list(itertools.islice(folders, _FOLDERS_AT_ONCE // threads)), [])
    for few in ahead(some, lambda few: _hash_folders(archive, few), threads):
        yield from few


def _new_folders(
    archive: Archive, day: date, links: Sequence[Link], only: Callable[[str], bool] | None
) -> Iterator[SealedFolder]:
    sealed = sealed_keys(archive, links)
    listed = next(sealed, None)
    for found in folders_in(objects_of_day(archive, day)):
        folder = SealedFolder(found.prefix, found.objects, found.places)
        for key in found.objects:
            while listed is not None and listed < key:
                listed = next(sealed, None)
            if key != listed and (only is None or only(key)):
                folder.new.append(key)
        try:
            _look_for_a_lost_commit(folder)
        except CannotSeal:
            if not archive.is_erased(folder.prefix):  # since this part of the listing
                raise
        if folder.new:
            yield folder


def _look_for_a_lost_commit(folder: SealedFolder) -> None:
    """Check for a receipt without a commit record: a receipt is written after it, so a recording has been lost.

    Raises:
        CannotSeal: a commit record is gone.
    """
    commit = layout.commit_key(folder.prefix)
    if commit in folder.present or layout.erasure_key(folder.prefix) in folder.present:
        return
    for key in (layout.receipt_key(folder.prefix), layout.gone_key(folder.prefix)):
        if key in folder.present:
            raise CannotSeal(commit, f"gone, though {key} is there; run `callvault verify`")


def _hash_folders(archive: Archive, folders: Sequence[SealedFolder]) -> Sequence[SealedFolder]:
    """Hash the new objects of some folders, whose records are read together."""
    records = archive.read_records([key for folder in folders for key in _records_in(folder.places)])
    for folder in folders:
        folder.records = {key: records[key] for key in folder.places if key in records}
        try:
            _hash_folder(archive, folder)
        except CannotSeal:
            if not _look_again(archive, folder):
                raise
            _hash_folder(archive, folder)
    return folders


def _records_in(places: Mapping[str, Place]) -> list[str]:
    return [key for key, place in places.items() if place.kind is not None and place.kind.reader is not None]


def _look_again(archive: Archive, folder: SealedFolder) -> bool:
    """Whether something of a folder went by a record since it was listed; it is then as it is now."""
    if (now := less_now(archive.store, folder.prefix, folder.present)) is None:
        return False
    folder.present, folder.places = now.objects, now.places
    folder.new = [key for key in folder.new if key in now.objects]
    folder.records = archive.read_records(_records_in(now.places))
    folder.lines, folder.bytes, folder.commit = [], 0, None
    return True


def _hash_folder(archive: Archive, folder: SealedFolder) -> None:
    """Hash the new objects: those that a record names by its proven hash, the others by reading them."""
    known: dict[str, tuple[int, str]] = {}
    try:
        if (key := layout.commit_key(folder.prefix)) in folder.present:
            folder.commit = COMMIT_RECORD.read(folder.records.get(key), key)
            known = {o.key: (o.size, o.sha256) for o in folder.commit.objects if not o.is_adopted}
        elif (key := layout.media_key(folder.prefix)) in folder.present:
            o = MEDIA.read(folder.records.get(key), key).object
            known = {o.key: (o.size, o.sha256)}
    except UnreadableRecord as error:
        raise CannotSeal(key, f"unreadable ({error}); run `callvault verify`") from None
    if layout.erasure_key(folder.prefix) not in folder.present:
        disposed = _disposed_of(folder)
        for key, (size, _) in known.items():
            if key in disposed and key not in folder.present:
                continue
            there = folder.present.get(key)
            if there is None or there.size != size:
                what = "gone" if there is None else f"{many(there.size, 'byte')}, {size} in its record"
                raise CannotSeal(key, f"{what}; run `callvault verify`")
    folder.new = [key for key in folder.new if _add_line(archive, folder, key, known)]


def _disposed_of(folder: SealedFolder) -> set[str]:
    """The keys of a folder that records of disposals name; an unreadable record names none."""
    found: set[str] = set()
    for key, place in folder.places.items():
        if place.kind is kinds.DISPOSAL:
            with suppress(UnreadableRecord):
                found |= {one.key for one in DISPOSAL.read(folder.records.get(key), key).objects}
    return found


def _hash_whole(archive: Archive, there: StoredObject) -> str:
    """Read an object and return its SHA-256.

    Raises:
        CannotSeal: not as many bytes came as the listing says.
        KeyError: it is gone.
    """
    digest, size = hashlib.sha256(), 0
    for chunk in archive.store.read(there.key):
        digest.update(chunk)
        size += len(chunk)
    if size != there.size:
        raise CannotSeal(there.key, f"{many(size, 'byte')} could be read of {there.size}; run `callvault verify`")
    return digest.hexdigest()


def _add_line(archive: Archive, folder: SealedFolder, key: str, known: dict[str, tuple[int, str]]) -> bool:
    """Add the line of an object; False for an unknown object that no line can name, which `verify` reports as unlisted.

    Raises:
        CannotSeal: the object is gone.
    """
    is_unknown = folder.place_of(key).kind is None
    if is_unknown and "\n" in key:
        return False
    try:
        if key in known:
            sha256 = known[key][1]
        elif len(data := folder.records.get(key, b"")) == folder.present[key].size:
            sha256 = hashlib.sha256(data).hexdigest()
        elif is_unknown:
            sha256 = hash_object(archive.store, key)
        else:
            sha256 = _hash_whole(archive, folder.present[key])  # audio without a record, or a record that is very large
    except (KeyError, ValueError):  # gone; or a name that is no key, such as of a file that is not UTF-8
        if is_unknown:
            return False
        raise CannotSeal(key, "listed, and then not there; run `callvault verify`") from None
    folder.lines.append(f"{sha256}  {key}\n")
    folder.bytes += folder.present[key].size
    return True
