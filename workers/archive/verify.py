"""`callvault verify`: the archive against its own commit records, by the same ladder that proved it.

It asks nobody but the store, so it works with Redis and Telnyx gone. Cost: a listing, and for each recording its record
and one question for each object; with `deep` every byte is read.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import msgspec

from config.times import format_instant, utc_now
from workers.archive import layout
from workers.archive.ahead import ahead
from workers.archive.archive import Archive
from workers.archive.erasures import Erasures
from workers.archive.identity import NoArchive, read_identity
from workers.archive.marks import ProvenMarks
from workers.archive.problems import Problem, wrong
from workers.archive.proof import Damaged, hash_object
from workers.archive.readers import (
    COMMIT_RECORD,
    DAMAGE,
    DECISION,
    DUTIES,
    GONE,
    IDENTITY,
    NOT_ARCHIVED,
    RECEIPT,
    TRANSCRIBING,
    TRANSCRIPTION,
    TRANSCRIPTION_NOT_ARCHIVED,
    RecordReader,
)
from workers.archive.records import ArchivedObject, CommitRecord, Decision, Identity, UnreadableRecord
from workers.archive.stores.store import StoredObject

# What may lie beside a commit record: the first part of its name, and how it is read.
_BESIDE: dict[str, RecordReader[Any]] = {
    "deleted.json": RECEIPT,
    "gone.json": GONE,
    "not-archived.json": NOT_ARCHIVED,
    "transcriptions": TRANSCRIPTION,
    "transcriptions-not-archived": TRANSCRIPTION_NOT_ARCHIVED,
    "decisions": DECISION,
}
_AT_ROOT: dict[str, RecordReader[Any]] = {
    layout.DECISIONS: DECISION,
    layout.DUTIES: DUTIES,
    layout.DAMAGE: DAMAGE,
    layout.TRANSCRIBING: TRANSCRIBING,
    layout.IDENTITY_KEY: IDENTITY,
}


class Earlier(msgspec.Struct, frozen=True):
    """What an earlier run saw that was stopped, and this one did not look at again.

    Attributes:
        begun_at: when that run began; ISO 8601, UTC.
        stopped_at: when it came to the end of the last day that it saw.
        through: that day.
    """

    recordings: int
    objects: int
    bytes: int
    begun_at: str
    stopped_at: str
    through: str


class Verified(msgspec.Struct):
    """What a verification found so far; also what it resumes from.

    Attributes:
        checked_by: how many of the objects, by what held them: a rung of the proof's ladder, or `mark`: the store's mark,
            under which an earlier run on this machine read the same bytes.
        sealed_objects: listed by seals; of recordings, media and log messages.
        erased: of them, erased on record.
        erased_recordings: of the recordings, those that were erased, on record.
        not_archived: recordings that are on record as not archived, and are not in the archive.
        waiting: objects that came after the seal of their day, for its next one.
        unsealed_objects: objects of days that have no seal yet.
        void: seals whose number is passed over.
        unsigned: seals without a signature.
        signed_by: how many seals, by the fingerprint of the key that signed them.
        stamped: seals with a time stamp.
        head: the number of the seal that was asked for by its hash; None if it is not in the chain, or was not asked for.
        seals_after_head: how many seals came after it.
        through: the last day that is done, ISO 8601; empty at the start.
        begun_at, saved_at: instants, ISO 8601.
        earlier: of an earlier run, that this one resumed.
    """

    recordings: int = 0
    objects: int = 0
    bytes: int = 0
    checked_by: dict[str, int] = {}
    seals: int = 0
    sealed_objects: int = 0
    erased: int = 0
    erased_recordings: int = 0
    not_archived: int = 0
    waiting: int = 0
    unsealed_objects: int = 0
    void: int = 0
    unsigned: int = 0
    signed_by: dict[str, int] = {}
    stamped: int = 0
    head: int | None = None
    seals_after_head: int = 0
    problems: list[Problem] = []
    through: str = ""
    begun_at: str = ""
    saved_at: str = ""
    earlier: Earlier | None = None

    def resume(self) -> Verified:
        """This state as a further run begins with it."""
        counts = (self.recordings, self.objects, self.bytes)
        self.earlier = Earlier(*counts, self.begun_at, self.saved_at, self.through)
        return self


@dataclass(frozen=True)
class Checks:
    """How objects are looked at.

    Attributes:
        archive: the archive, which knows what counts as proof.
        erasures: what they excuse.
        deep: read and hash every object, whatever proved it.
        marks: what was proven by reading before; None: what needs reading is read.
    """

    archive: Archive
    erasures: Erasures
    deep: bool = False
    marks: ProvenMarks | None = None

    def check(self, known: ArchivedObject) -> str:
        """Look at an object; returns what held it, as `Verified.checked_by` names it.

        Raises:
            Damaged: it is not the object of its record.
            KeyError: it is not there.
            StoreError: the store cannot be asked now.
        """
        store = self.archive.store
        if self.deep:
            if (found := hash_object(store, known.key)) != known.sha256:
                raise Damaged(known.key, f"reads back with SHA-256 {found}, not {known.sha256}")
            return "read-back"
        if self.marks is not None and (mark := self.marks.of(known)) is not None:
            stored = store.stat(known.key)
            if stored is not None and (stored.version, stored.size) == (mark, known.size):
                return "mark"
        proven = self.archive.prove_again(known)
        is_new_mark = proven.proof.version not in (None, known.proof.version)
        if self.marks is not None and is_new_mark and proven.proof.by == "read-back":
            self.marks.remember(proven)
        return proven.proof.by


@dataclass
class _Folder:
    prefix: str
    day: date
    found: dict[str, StoredObject] = field(default_factory=dict)


def count_recordings(archive: Archive, since: date | None, until: date | None) -> int:
    """How many folders of recordings there are, by a listing alone."""
    return sum(1 for _ in _folders(archive, since, until))


def verify(
    archive: Archive,
    state: Verified,
    *,
    since: date | None = None,
    until: date | None = None,
    deep: bool = False,
    trusted: Collection[bytes] | None = None,
    marks: ProvenMarks | None = None,
    show: Callable[[Verified], None] = lambda _: None,
    save: Callable[[Verified], None] = lambda _: None,
) -> Verified:
    """Verify a span of days, both inclusive; None is the archive's own end. Then what lies at the archive's root.

    Args:
        archive: the archive.
        state: where to begin; a new one for all of it.
        since: first day.
        until: last day.
        deep: read and hash every object, whatever proved it.
        trusted: raw public keys of which one must have signed each erasure; None: signatures are held to themselves.
        marks: see `Checks`.
        show: called after each recording.
        save: called after each day, with a state to resume from.

    Raises:
        StoreError: the store cannot be asked now; what was saved resumes it.
    """
    checks = Checks(archive, Erasures(archive, known_identity(archive), trusted), deep, marks)
    begin = date.fromisoformat(state.through) if state.through else None
    days = itertools.groupby(_folders(archive, since, until), key=lambda folder: folder.day)
    for day, folders in days:
        if begin is not None and day <= begin:
            deque(folders, maxlen=0)
            continue
        for found in ahead(folders, lambda f: _check(checks, f)):
            state.recordings += not found.is_not_archived
            state.not_archived += found.is_not_archived
            state.erased_recordings += found.is_erased
            state.problems += found.problems
            state.objects += len(found.sizes)
            state.bytes += sum(found.sizes)
            for how in found.checked_by:
                state.checked_by[how] = state.checked_by.get(how, 0) + 1
            show(state)
        state.through, state.saved_at = day.isoformat(), format_instant(utc_now())
        save(state)
    state.problems += check_root(archive)
    return state


def check_folder(archive: Archive, prefix: str, *, deep: bool = False) -> list[Problem]:
    """What is wrong in the folder of one recording.

    Args:
        archive: the archive.
        prefix: of the folder, with the slash at its end.
        deep: read and hash every object, whatever proved it.

    Raises:
        StoreError: the store cannot be asked now.
    """
    day = layout.day_of(f"{prefix}recording.json") or date.min
    folder = _Folder(prefix, day, {stored.key: stored for stored in archive.store.list(prefix)})
    checks = Checks(archive, Erasures(archive, known_identity(archive), None), deep)
    return _check(checks, folder).problems


def known_identity(archive: Archive) -> Identity | None:
    """Which archive it is; None where that is not known, which `verify` says of a record that cannot be read."""
    try:
        return read_identity(archive.store)
    except NoArchive:
        return None


def _folders(archive: Archive, since: date | None, until: date | None) -> Iterator[_Folder]:
    """The recordings' folders, in order, each with what a listing found in it."""
    current: _Folder | None = None
    for stored in archive.store.list("recordings/"):
        place = layout.recording_of(stored.key)
        if place is None:
            day, prefix = date.min, stored.key
        else:
            day, prefix = place[0], stored.key.removesuffix(place[2])
            if (since and day < since) or (until and day > until):
                continue
        if current is None or current.prefix != prefix:
            if current is not None:
                yield current
            current = _Folder(prefix, day)
        current.found[stored.key] = stored
    if current is not None:
        yield current


@dataclass
class _Found:
    """What was found in a folder: what is wrong, the sizes of the objects that records name, and what held them.

    Attributes:
        is_not_archived: whether it only says that its recording is not archived, and why.
        is_erased: whether its recording was erased, on record.
    """

    problems: list[Problem] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    checked_by: list[str] = field(default_factory=list)
    is_not_archived: bool = False
    is_erased: bool = False


def _check(checks: Checks, folder: _Folder) -> _Found:
    """One folder: its records, every object that they name, and everything else that lies there."""
    found = _Found()
    if folder.day == date.min:
        found.problems = [Problem("unknown", key, "not a key of the archive format") for key in folder.found]
        return found
    found.is_not_archived = is_not_archived(folder.prefix, folder.found)
    left = dict(folder.found)
    erased, found.problems = checks.erasures.read(folder.prefix, left)
    commit_key = layout.commit_key(folder.prefix)
    found.is_erased = commit_key in erased and commit_key not in left
    left.pop(layout.erasure_key(folder.prefix), None)
    left.pop(layout.erasure_signature_key(folder.prefix), None)
    committed = set[str]()
    for key in commit_keys(folder.prefix, folder.found):
        del left[key]
        place = key.removesuffix("recording.json")
        try:
            record = COMMIT_RECORD.read(checks.archive.read_small(key), key)
        except UnreadableRecord as error:
            found.problems.append(wrong(error))
            for audio in [other for other in left if other.startswith(f"{place}audio.")]:
                del left[audio]  # it was committed: what its record says of it cannot be read, and that is said
            continue
        committed.add(place)
        _check_objects(checks, folder, record, erased, found)
        for known in record.objects:
            left.pop(known.key, None)
    found.problems += missing_record(folder.prefix, folder.found, erased)
    for key in sorted(left):
        found.problems += _check_other(checks.archive, folder, key, committed)
    return found


def is_not_archived(prefix: str, present: Collection[str]) -> bool:
    """Whether a recording's folder says that it is not archived, and it has not come since."""
    others = (layout.commit_key(prefix), layout.erasure_key(prefix))
    return layout.not_archived_key(prefix) in present and not any(key in present for key in others)


def commit_keys(prefix: str, present: Iterable[str]) -> list[str]:
    """The keys of the commit records in a recording's folder: its own first, then its versions'."""
    own = layout.commit_key(prefix)
    keys = [key for key in present if key == own or layout.is_version(key.removeprefix(prefix))]
    return sorted(keys, key=lambda key: (key != own, key))


def missing_record(prefix: str, present: Collection[str], erased: Container[str]) -> list[Problem]:
    """A commit record that must have been there, is not, and was not erased."""
    key = layout.commit_key(prefix)
    if key in present or key in erased:
        return []
    witnesses = [layout.receipt_key(prefix), layout.gone_key(prefix), *commit_keys(prefix, present)]
    for witness in (witness for witness in witnesses if witness in present):
        name = witness.removeprefix(prefix)
        return [Problem("missing", key, f"{name} says that the recording was archived; its commit record is not there")]
    return []


def _check_objects(
    checks: Checks, folder: _Folder, record: CommitRecord, erased: Mapping[str, str], found: _Found
) -> None:
    for known in record.objects:
        found.sizes.append(known.size)
        is_there = known.key in folder.found or known.is_adopted
        if not is_there and known.key in erased:
            if erased[known.key] != known.sha256:
                found.problems.append(other_hash(folder.prefix, known.key, "commit record"))
            continue
        if not is_there:
            found.problems.append(Problem("missing", known.key, "named in the commit record, and not there"))
            continue
        try:
            found.checked_by.append(checks.check(known))
        except KeyError:
            found.problems.append(Problem("missing", known.key, "listed, and then not there"))
        except Damaged as error:
            found.problems.append(wrong(error))
        except ValueError as error:  # a key that no store has
            found.problems.append(Problem("damaged", known.key, str(error)))


def other_hash(prefix: str, key: str, who: str) -> Problem:
    """An erasure that does not tell what was there."""
    what = f"says that {key} was erased, with another SHA-256 than its {who} has"
    return Problem("erasure", layout.erasure_key(prefix), what)


def _check_other(archive: Archive, folder: _Folder, key: str, committed: Container[str]) -> list[Problem]:
    """What no commit record names. `committed`: the folders whose commit record was read."""
    name = key.removeprefix(folder.prefix)
    place, _, last = key.rpartition("/")
    if last.startswith("audio.") and f"{place}/" not in committed and (name == last or name.startswith("versions/")):
        return [Problem("uncommitted", key, "the audio has no commit record")]
    reader = _BESIDE.get(name.partition("/")[0])
    if reader is None or not name.endswith(".json"):
        return [Problem("unknown", key, "no commit record lists it")]
    try:
        record = reader.read(archive.read_small(key), key)
    except UnreadableRecord as error:
        return [wrong(error)]
    recording_id = getattr(record, "recording_id", None)
    if recording_id is not None and not folder.prefix.endswith(f"/{layout.encode_name(recording_id)}/"):
        return [Problem("damaged", key, f"names another recording, {recording_id}")]
    return _check_copy(archive, key, record) if isinstance(record, Decision) else []


def _check_copy(archive: Archive, key: str, decision: Decision) -> list[Problem]:
    """A decision beside a recording is a copy, which is sealed; the one that counts lies at the root and says the same."""
    root = layout.decision_key(decision.scope, decision.subject, decision.id)
    data = archive.read_small(root)
    if data is None:
        return [Problem("missing", root, f"a decision is gone, and its copy is there ({key})")]
    if data != archive.read_small(key):
        return [Problem("damaged", root, f"a decision that says another thing than its copy ({key})")]
    return []


def check_root(archive: Archive) -> list[Problem]:
    """What is wrong with the records that belong to no day: decisions, duties, the register of damage, the archive's identity.

    Raises:
        StoreError: the store cannot be asked now.
    """
    problems = []
    for prefix, reader in _AT_ROOT.items():
        for stored in archive.store.list(prefix):
            try:
                record = reader.read(archive.read_small(stored.key), stored.key)
            except UnreadableRecord as error:
                problems.append(wrong(error))
                continue
            if isinstance(record, Decision) and not stored.key.endswith(f"/{layout.encode_name(record.id)}.json"):
                problems.append(Problem("damaged", stored.key, f"names another decision, {record.id}"))
    return problems
