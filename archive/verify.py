"""`callvault verify`: checks the archive against its commit records, with the same proofs as the archiving worker.

It needs the store alone, so it works without Redis and Telnyx. It costs one listing, a read of each record, and one request
for each object that a record names; with `deep` it reads every byte.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Collection, Container, Iterator
from dataclasses import dataclass, field
from datetime import date

import msgspec

from archive import kinds, layout
from archive.ahead import ahead
from archive.archive import Archive
from archive.checks import Checks, check_cold
from archive.decision_records import Decision
from archive.erasures import Erasures, Removed, UnderRule
from archive.folder import Folder, commit_keys, folders_in, is_not_archived, less_now, read_folder
from archive.identity import NoArchive, read_identity
from archive.marks import ProvenMarks
from archive.problems import Problem, cold, wrong
from archive.proof import Damaged
from archive.readers import COMMIT_RECORD
from archive.records import CommitRecord, Identity, UnreadableRecord
from archive.retention import missing_rules
from archive.stores.store import StoreCold
from text.times import format_instant, utc_now


class Earlier(msgspec.Struct, frozen=True):
    """What an interrupted run checked, which this run does not check again.

    Attributes:
        begun_at: when that run began; ISO 8601, UTC.
        stopped_at: when it finished its last day.
        through: that day.
    """

    recordings: int
    objects: int
    bytes: int
    begun_at: str
    stopped_at: str
    through: str


class Disposed(msgspec.Struct):
    """What one retention rule disposed of on one day.

    Attributes:
        under: the rule and the day.
        recordings: of which it disposed, whole or in part; `objects`: how many of their objects.
    """

    under: UnderRule
    recordings: int = 0
    objects: int = 0


class Verified(msgspec.Struct):
    """The result of a verification so far, from which a later run can resume.

    Attributes:
        checked_by: the number of objects by proof level, or by `mark`: an earlier run on this machine read the same bytes
            under the store's present mark.
        cold: objects whose bytes should have been read and cannot be now, since they must be restored first. Their size,
            and what else the store shows of them, was checked.
        sealed_objects: objects that seals list, of recordings, media and log messages.
        erased: sealed objects that the record of an erasure names.
        sealed_disposed: sealed objects that the record of a disposal names.
        erased_recordings: recordings that a person had erased, with a record of it.
        disposed_recordings: recordings of which a retention rule disposed, whole or in part, with a record of it.
        disposed: the same by rule and day.
        not_archived: recordings with a record that they are not archived, and no commit record.
        waiting: objects that came after the seal of their day and wait for the next one.
        unsealed_objects: objects of days without a seal.
        void: void seals.
        unsigned: seals without a signature.
        signed_by: the number of seals by the fingerprint of the key that signed them.
        stamped: seals with a time stamp.
        head: the number of the seal given by its hash; None if none was given or the chain does not have it.
        seals_after_head: the number of seals after that one.
        through: the last finished day, ISO 8601; empty at the start.
        begun_at, saved_at: instants, ISO 8601.
        earlier: the interrupted run that this one resumed.
    """

    recordings: int = 0
    objects: int = 0
    bytes: int = 0
    checked_by: dict[str, int] = {}
    cold: int = 0
    seals: int = 0
    sealed_objects: int = 0
    erased: int = 0
    sealed_disposed: int = 0
    erased_recordings: int = 0
    disposed_recordings: int = 0
    disposed: list[Disposed] = []
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

    def count_disposed(self, removed: Removed, present: Container[str]) -> None:
        """Count what rules disposed of in one folder; what is still there is not counted."""
        gone = Counter(under for key, under in removed.under.items() if key not in present)
        self.disposed_recordings += bool(gone)
        for under, objects in gone.items():
            found = next((one for one in reversed(self.disposed) if one.under == under), None)  # mostly one of the last
            if found is None:
                self.disposed.append(found := Disposed(under))
            found.recordings += 1
            found.objects += objects

    def resume(self) -> Verified:
        """The state with which the next run begins."""
        counts = (self.recordings, self.objects, self.bytes)
        self.earlier = Earlier(*counts, self.begun_at, self.saved_at, self.through)
        return self


def count_recordings(archive: Archive, since: date | None, until: date | None) -> int:
    """The number of recordings in a span of days, by a listing."""
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
    """Verify the recordings of a span of days, both ends inclusive, then the records at the archive's root.

    Args:
        archive: the archive.
        state: the state to resume from; a new one to verify everything.
        since: the first day; None for the first of the archive.
        until: the last day; None for the last of the archive.
        deep: read and hash every object.
        trusted: raw public keys, one of which must have signed each erasure; None to check signatures alone.
        marks: see `Checks`.
        show: called after each recording.
        save: called after each day, with a state to resume from.

    Raises:
        StoreError: the store does not answer; a later run can resume from the saved state.
    """
    checks = Checks(archive, Erasures(archive, known_identity(archive), trusted), deep, marks)
    begin = date.fromisoformat(state.through) if state.through else None
    last = date.min

    def day_of(folder: Folder) -> date:
        """The day of a folder. A key of no recording counts with the day before it, so that a resumed run skips neither."""
        nonlocal last
        last = folder.day or last
        return last

    for day, folders in itertools.groupby(_folders(archive, since, until), key=day_of):
        if begin is not None and day <= begin:
            deque(folders, maxlen=0)
            continue
        for found in ahead(folders, lambda f: _check(checks, f)):
            state.recordings += not found.is_not_archived
            state.not_archived += found.is_not_archived
            state.erased_recordings += found.is_erased
            state.count_disposed(found.removed, found.present)
            state.problems += found.problems
            state.cold += found.cold
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
    """The problems in the folder of one recording.

    Args:
        archive: the archive.
        prefix: the prefix of the folder, with the slash at its end.
        deep: read and hash every object.

    Raises:
        StoreCold: one of its records must be restored before it can be read.
        StoreError: the store does not answer.
    """
    folder = read_folder(archive.store, prefix)
    checks = Checks(archive, Erasures(archive, known_identity(archive), None), deep)
    return _check_readable(checks, folder).problems


def known_identity(archive: Archive) -> Identity | None:
    """The identity of the archive; None if it has none or its record is damaged, which `check_root` reports."""
    try:
        return read_identity(archive.store)
    except NoArchive:
        return None


def _folders(archive: Archive, since: date | None, until: date | None) -> Iterator[Folder]:
    """The recordings of a span of days, and every key under `recordings/` that is not of a recording."""
    for folder in folders_in(archive.store.list("recordings/")):
        if folder.day is None or is_within(folder.day, since, until):
            yield folder


def is_within(day: date, since: date | None, until: date | None) -> bool:
    """Whether a day lies in a span, both ends inclusive; None is no end."""
    return (since is None or since <= day) and (until is None or day <= until)


@dataclass
class _Found:
    """The result for one folder: its problems, the sizes of the objects that records name, and what proved them."""

    problems: list[Problem] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    checked_by: list[str] = field(default_factory=list)
    removed: Removed = field(default_factory=Removed)
    present: Collection[str] = ()
    is_not_archived: bool = False
    is_erased: bool = False
    cold: int = 0


def _check(checks: Checks, folder: Folder) -> _Found:
    """Check one folder; a record that cannot be read now is a problem of its own."""
    try:
        found = _check_readable(checks, folder)
        now = less_now(checks.archive.store, folder.prefix, folder.objects) if found.problems else None
        return found if now is None else _check_readable(checks, now)
    except StoreCold as error:
        return _Found([cold(error)])


def _check_readable(checks: Checks, folder: Folder) -> _Found:
    """Check one folder: its records, every object that they name, and everything else in it.

    Raises:
        StoreCold: a record must be restored before it can be read.
    """
    if not folder.recording_id:
        return _Found([Problem("unknown", key, "not a key of the archive format") for key in folder.objects])
    found = _Found(present=folder.objects, is_not_archived=is_not_archived(folder.prefix, folder.objects))
    left = dict(folder.objects)
    found.removed = checks.erasures.read(folder.prefix, left)
    found.problems += found.removed.problems
    erased, commit_key = found.removed.hashes, layout.commit_key(folder.prefix)
    found.is_erased = commit_key in erased and not (commit_key in left or commit_key in found.removed.under)
    for key in folder.keys_of(*kinds.REMOVALS, *kinds.REMOVAL_SIGNATURES):
        del left[key]
    committed = set[str]()
    for key in commit_keys(folder.objects):
        del left[key]
        place = key.removesuffix("recording.json")
        try:
            record = COMMIT_RECORD.read(checks.archive.read_small(key), key)
        except UnreadableRecord as error:
            found.problems.append(wrong(error))
            for audio_format in ("wav", "mp3"):  # its damaged commit record is the problem, not the audio
                left.pop(layout.audio_key(place, audio_format), None)
            continue
        committed.add(place)
        _check_objects(checks, folder, record, found)
        for known in record.objects:
            left.pop(known.key, None)
    found.problems += missing_record(folder.prefix, folder.objects, erased)
    for key in sorted(left):
        found.problems += _check_other(checks.archive, folder, key, committed)
    return found


def missing_record(prefix: str, present: Collection[str], erased: Container[str]) -> list[Problem]:
    """A missing commit record: other objects show that it was written, and no erasure names it."""
    key = layout.commit_key(prefix)
    if key in present or key in erased:
        return []
    witnesses = [layout.receipt_key(prefix), layout.gone_key(prefix), *commit_keys(present)]
    for witness in (witness for witness in witnesses if witness in present):
        name = witness.removeprefix(prefix)
        return [Problem("missing", key, f"{name} says that the recording was archived; its commit record is not there")]
    return []


def _check_objects(checks: Checks, folder: Folder, record: CommitRecord, found: _Found) -> None:
    erased = found.removed.hashes
    for known in record.objects:
        found.sizes.append(known.size)
        is_there = known.key in folder.objects or known.is_adopted
        if not is_there and known.key in erased:
            if erased[known.key] != known.sha256:
                found.problems.append(other_hash(found.removed, known.key, "commit record"))
            continue
        if not is_there:
            found.problems.append(Problem("missing", known.key, "named in the commit record, and not there"))
            continue
        try:
            found.checked_by.append(checks.check(known))
        except StoreCold:
            found.cold += 1
            found.problems += check_cold(checks, known)
        except KeyError:
            found.problems.append(Problem("missing", known.key, "listed, and then not there"))
        except Damaged as error:
            found.problems.append(wrong(error))
        except ValueError as error:  # a key that no store can have
            found.problems.append(Problem("damaged", known.key, str(error)))


def other_hash(removed: Removed, key: str, record: str) -> Problem:
    """The problem of a record of an erasure or a disposal that names another hash."""
    what = f"names another SHA-256 for {key} than its {record} does"
    return Problem("erasure", removed.says[key], what)


def _check_other(archive: Archive, folder: Folder, key: str, committed: Container[str]) -> list[Problem]:
    """Check an object that no commit record names. `committed`: the folders whose commit record could be read."""
    kind = folder.places[key].kind
    if kind in (kinds.AUDIO, kinds.VERSION_AUDIO) and f"{key.rpartition('/')[0]}/" not in committed:
        return [Problem("uncommitted", key, "the audio has no commit record")]
    if kind is None or kind.reader is None:
        return [Problem("unknown", key, "no commit record lists it")]
    data = archive.read_small(key)
    try:
        record = kind.read(data, key)
    except UnreadableRecord as error:
        return [wrong(error)]
    recording_id = getattr(record, "recording_id", None)
    if recording_id is not None and not folder.prefix.endswith(f"/{layout.encode_name(recording_id)}/"):
        return [Problem("damaged", key, f"names another recording, {recording_id}")]
    return _check_copy(archive, key, data, record) if isinstance(record, Decision) else []


def _check_copy(archive: Archive, key: str, copy: bytes | None, decision: Decision) -> list[Problem]:
    """Compare the copy of a decision in a recording's folder, which seals list, with the decision at the root."""
    root = layout.decision_key(decision.scope, decision.subject, decision.id)
    data = archive.read_small(root)
    if data is None:
        return [Problem("missing", root, f"the decision is missing, but its copy exists ({key})")]
    if data != copy:
        return [Problem("damaged", root, f"the decision differs from its copy ({key})")]
    return []


def check_root(archive: Archive) -> list[Problem]:
    """The problems of the records at the archive's root: decisions, duties, API tokens, the register
    of damage, the identity.

    Raises:
        StoreError: the store does not answer.
    """
    problems = []
    for kind in kinds.AT_THE_ROOT:
        for stored in archive.store.list(kind.prefix):
            if kinds.kind_of(stored.key) is not kind:
                if kind is not kinds.IDENTITY:  # a neighbour of it, such as archive.json.bak, is nobody's concern
                    problems.append(Problem("unknown", stored.key, "not a key of the archive format"))
                continue
            try:
                record = kind.read(archive.read_small(stored.key), stored.key)
            except UnreadableRecord as error:
                problems.append(wrong(error))
                continue
            except StoreCold as error:
                problems.append(cold(error))
                continue
            if isinstance(record, Decision) and not stored.key.endswith(f"/{layout.encode_name(record.id)}.json"):
                problems.append(Problem("damaged", stored.key, f"names another decision, {record.id}"))
    rules = (stored.key for stored in archive.store.list(layout.RETENTION))
    problems += [Problem("missing", key, "later retention rules exist") for key in missing_rules(rules)]
    return problems
