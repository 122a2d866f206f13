"""`callvault verify --seals`: checks the chain of seals, and each sealed day against its seals.

It needs the store alone. It reads and hashes JSON objects. For audio it compares the hash in the commit record, which
`verify` proves; with `deep` it reads the audio too.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from archive import kinds, layout
from archive.ahead import ahead
from archive.archive import Archive
from archive.checks import Checks, check_cold
from archive.erasures import Erasures, Removed
from archive.folder import by_folder, commit_keys, less_now
from archive.kinds import Place
from archive.marks import ProvenMarks
from archive.problems import Problem, cold, wrong
from archive.proof import Damaged, hash_object
from archive.readers import ANY_RECORD, COMMIT_RECORD, MEDIA
from archive.records import ArchivedObject, Identity, UnreadableRecord
from archive.seals import Link, lines_of, objects_of_day, present_seals
from archive.stores.store import StoreCold, StoredObject
from archive.verify import Verified, is_within, known_identity, missing_record, other_hash
from archive.verify_chain import Trust, walk_chain
from text.times import parse_instant, utc_now

_SEALED_WITHIN = timedelta(days=2)  # a running worker writes a further seal within a day
_ON_ITS_WAY = timedelta(
    hours=1
)  # a record may be in the store so long after the time in it; the store's retries included
UNSEALED_SLACK = timedelta(
    hours=24
)  # how much later than CALLVAULT_SEAL_AFTER a day's seal may come: Telnyx may be away
_LONG_AGO = datetime(1900, 1, 1, tzinfo=UTC)


@dataclass
class _Folder:
    place: Place
    listed: dict[str, str] = field(default_factory=dict)
    present: dict[str, StoredObject] = field(default_factory=dict)


def count_seals(archive: Archive) -> int:
    """The number of seals, by a listing."""
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
    head: str | None = None,
    seal_after: timedelta = timedelta(days=2),
    marks: ProvenMarks | None = None,
    show: Callable[[Verified], None] = lambda _: None,
) -> Verified:
    """Check the whole chain, the sealed days of a span, both ends inclusive, and look for days without a seal.

    Args:
        archive: the archive.
        state: the result so far, to which counts and problems are added.
        since: the first day.
        until: the last day.
        deep: read and hash every listed object.
        trusted: raw public keys, one of which must have signed each seal and erasure; None to check signatures alone.
        authorities: see `timestamps.verify_timestamp`.
        head: the SHA-256 of a seal's JSON that must be in the chain.
        seal_after: see `CALLVAULT_SEAL_AFTER`.
        marks: see `Checks`.
        show: called after each seal and each folder.

    Raises:
        StoreError: the store does not answer.
    """
    identity = known_identity(archive)
    chain = walk_chain(archive, state, Trust(trusted, authorities, head, identity), show)
    checks = Checks(archive, Erasures(archive, identity, trusted), deep, marks)
    days = itertools.groupby(sorted(chain, key=lambda link: link.seal.day), key=lambda link: link.seal.day)
    sealed = set[date]()
    for text, links in days:
        day = date.fromisoformat(text)
        sealed.add(day)
        if is_within(day, since, until):
            _check_day(checks, state, day, list(links), show)
    state.problems += _unsealed(archive, state, sealed, _span(identity, since, until, seal_after))
    once: dict[tuple[str, str], Problem] = {}  # `verify` may have reported the same problem
    for problem in state.problems:
        once.setdefault((problem.kind, problem.key), problem)
    state.problems = list(once.values())
    return state


def _check_day(checks: Checks, state: Verified, day: date, links: list[Link], show: Callable[[Verified], None]) -> None:
    reconciled = max(parse_instant(link.seal.reconciled_at) for link in links)
    folders = _folders(checks.archive, day, links)
    try:
        for found in ahead(folders, lambda f: _check_folder(checks, f, reconciled)):
            state.problems += found.problems
            state.cold += found.cold
            state.sealed_objects += found.listed
            state.erased += found.erased
            state.sealed_disposed += found.disposed
            state.waiting += found.waiting
            show(state)
    except UnreadableRecord as error:
        state.problems.append(Problem("seal-altered", error.key, error.what))


def _folders(archive: Archive, day: date, links: list[Link]) -> Iterator[_Folder]:
    """The folders of a day, with the objects that seals list and those that exist, in the order of keys."""
    manifests = [((key, sha256) for sha256, key in lines_of(archive, link)) for link in links]
    listed: Iterator[tuple[str, Any]] = heapq.merge(*manifests)
    present: Iterator[tuple[str, Any]] = ((stored.key, stored) for stored in objects_of_day(archive, day))
    both = heapq.merge(listed, present, key=lambda pair: pair[0])
    for rows in by_folder(both, lambda pair: pair[0]):
        folder = _Folder(rows[0][1])
        for (key, value), _ in rows:
            if isinstance(value, StoredObject):
                folder.present[key] = value
            else:
                folder.listed[key] = value
        yield folder


@dataclass
class _Found:
    """The result for one folder: its problems, and how many objects are listed, erased, disposed of, wait for a seal, and are
    cold: their bytes should have been read and cannot be now."""

    problems: list[Problem]
    listed: int = 0
    erased: int = 0
    disposed: int = 0
    waiting: int = 0
    cold: int = 0


def _check_folder(checks: Checks, folder: _Folder, reconciled: datetime) -> _Found:
    """Check one folder; a record that cannot be read now is a problem of its own."""
    try:
        found = _check_readable(checks, folder, reconciled)
        now = less_now(checks.archive.store, folder.place.folder, folder.present) if found.problems else None
        return found if now is None else _check_readable(checks, replace(folder, present=now.objects), reconciled)
    except StoreCold as error:
        return _Found([cold(error)])


def _check_readable(checks: Checks, folder: _Folder, reconciled: datetime) -> _Found:
    archive, present, prefix = checks.archive, folder.present, folder.place.folder
    is_recording = folder.place.recording_id != ""
    removed = checks.erasures.read(prefix, present) if is_recording else Removed()
    found, erased = _Found([*removed.problems], len(folder.listed)), removed.hashes
    records = (key for key in present if (kind := kinds.kind_of(key)) is not None and kind.reader is not None)
    bytes_of = {key: archive.read_small(key) or b"" for key in records}
    named = _objects_of_records(prefix, bytes_of)
    found.problems += checks.erasures.problems_of_ends(prefix, bytes_of)
    for key, sha256 in folder.listed.items():
        if key in present:
            try:
                found.problems += _check_listed(checks, key, sha256, bytes_of, named)
            except StoreCold:
                found.cold += not is_recording  # `verify` counts audio
                found.problems += _check_unread(checks, key, sha256, named)
        elif key not in erased:
            found.problems.append(Problem("missing", key, "listed by a seal, and not there"))
        elif erased[key] != sha256:
            found.problems.append(other_hash(removed, key, "seal"))
        elif key in removed.under:
            found.disposed += 1
        else:
            found.erased += 1
    found.problems += missing_record(prefix, present, erased) if is_recording else []
    unlisted = [key for key in present if key not in folder.listed]
    waiting = _waiting(prefix, unlisted, bytes_of, reconciled)
    found.waiting = len(waiting)
    what = "its day is sealed, and no seal lists it"
    found.problems += [Problem("unlisted", key, what) for key in unlisted if key not in waiting]
    return found


def _check_listed(
    checks: Checks, key: str, sha256: str, bytes_of: dict[str, bytes], named: dict[str, ArchivedObject]
) -> list[Problem]:
    """Check an object that a seal lists: a record by its bytes, any other object by the record that names it."""
    store = checks.archive.store
    try:
        if key in bytes_of:
            found = hashlib.sha256(bytes_of[key]).hexdigest()
        elif checks.deep or key not in named:
            found = hash_object(store, key)
        else:
            found = named[key].sha256
            if kinds.kind_of(key) is kinds.MEDIUM:  # `verify` proves recordings
                checks.check(named[key])
    except KeyError:
        return [Problem("missing", key, "listed, and then not there")]
    except Damaged as error:
        return [wrong(error)]
    if found != sha256:
        return [Problem("damaged", key, f"has SHA-256 {found}, its seal says {sha256}")]
    return []


def _check_unread(checks: Checks, key: str, sha256: str, named: dict[str, ArchivedObject]) -> list[Problem]:
    """Check an object whose bytes cannot be read now, by the record that names it."""
    if key not in named:
        return [Problem("cold", key, "it must be restored before it can be read, and no record names its hash")]
    if named[key].sha256 != sha256:
        return [Problem("damaged", key, f"its record says SHA-256 {named[key].sha256}, its seal {sha256}")]
    return check_cold(checks, named[key])


def _objects_of_records(prefix: str, bytes_of: dict[str, bytes]) -> dict[str, ArchivedObject]:
    """Audio and media as their records name them, by key."""
    named: dict[str, ArchivedObject] = {}
    for key in reversed(commit_keys(bytes_of)):  # the recording's own record last, so it wins
        try:
            named |= {o.key: o for o in COMMIT_RECORD.read(bytes_of[key], key).objects}
        except UnreadableRecord:
            pass  # its hash shows the damage
    try:
        if (key := layout.media_key(prefix)) in bytes_of:
            known = MEDIA.read(bytes_of[key], key).object
            named[known.key] = known
    except UnreadableRecord:
        pass
    return named


def _waiting(prefix: str, unlisted: list[str], bytes_of: dict[str, bytes], reconciled: datetime) -> set[str]:
    """Objects too recent for a seal: recent records, the objects that they name, and signatures beside records."""
    if not unlisted:
        return set()
    waiting = {key for key in unlisted if _is_recent(key, bytes_of.get(key, b""), reconciled)}
    records = {key: bytes_of[key] for key in waiting if key in bytes_of}
    waiting |= {key for key in _objects_of_records(prefix, records) if key in unlisted}
    removals = (key for key in bytes_of if kinds.kind_of(key) in kinds.REMOVALS)
    # A signature is checked, whenever it was made.
    return waiting.union(set(unlisted).intersection(map(layout.signature_key, removals)))


def _is_recent(key: str, data: bytes, reconciled: datetime) -> bool:
    """Whether a record is too recent for a seal: written within two days, and after its day was reconciled."""
    try:
        written = parse_instant(_written_at(key, data))
    except (UnreadableRecord, ValueError, TypeError, KeyError, AttributeError):
        return False
    return written >= reconciled - _ON_ITS_WAY and abs(utc_now() - written) < _SEALED_WITHIN


def _written_at(key: str, data: bytes) -> str:
    """When a record was written, by its key or its JSON; empty if neither says so."""
    place = kinds.place_of(key)
    if place.kind is None or place.kind.written_at is None:
        return place.names[0] if place.kind is not None and place.kind.is_named_by_instant else ""
    return place.kind.written_at(ANY_RECORD.read(data, key))


@dataclass(frozen=True)
class _Span:
    """The days to check, and which of them must have a seal.

    Attributes:
        first, last: the days to check; None for no end.
        required_from: every day from here on must have a seal; None for only the days that hold something.
        required_to: the last day that must have one.
    """

    first: date | None
    last: date | None
    required_from: date | None
    required_to: date

    def holds(self, day: date) -> bool:
        """Whether a day is in the span."""
        return is_within(day, self.first, self.last)


def _span(identity: Identity | None, since: date | None, until: date | None, seal_after: timedelta) -> _Span:
    required_from = None
    if identity is not None:
        try:
            required_from = parse_instant(identity.created_at).date()
        except ValueError:
            pass  # `walk_chain` reports it
    return _Span(since, until, required_from, (utc_now() - seal_after - UNSEALED_SLACK).date() - timedelta(days=1))


def _unsealed(archive: Archive, state: Verified, sealed: set[date], span: _Span) -> list[Problem]:
    """The days that must have a seal by now and have none, as after seals were cut off the end of the chain.

    From the day of the archive's identity, every day must have one. Before, only days with objects that are not recent:
    older versions sealed no empty days, and a backfilled day waits for its first seal.
    """
    missing = set[date]()
    if span.required_from is not None:
        count = (span.required_to - span.required_from).days + 1
        missing = {span.required_from + timedelta(days=n) for n in range(count)} - sealed
    for folder in layout.DAY_FOLDERS:
        days = itertools.groupby(archive.store.list(f"{folder}/"), key=lambda stored: layout.day_of(stored.key))
        for day, objects in days:
            if day is None or day in sealed or not span.holds(day):
                continue
            keys = [stored.key for stored in objects]
            state.unsealed_objects += len(keys)
            if day <= span.required_to and day not in missing and not _came_lately(archive, keys):
                missing.add(day)
    return [_unsealed_problem(*ends) for ends in _runs(sorted(day for day in missing if span.holds(day)))]


def _came_lately(archive: Archive, keys: list[str]) -> bool:
    records = (key for key in keys if key.endswith(".json"))
    return all(_is_recent(key, archive.read_small(key) or b"", _LONG_AGO) for key in records)


def _runs(days: list[date]) -> Iterator[tuple[date, date]]:
    """Group sorted days into spans of consecutive days."""
    for _, run in itertools.groupby(enumerate(days), key=lambda pair: pair[1].toordinal() - pair[0]):
        span = [day for _, day in run]
        yield span[0], span[-1]


def _unsealed_problem(first: date, last: date) -> Problem:
    which = f"{first} has" if first == last else f"{first} to {last} have"
    return Problem(
        "unsealed", layout.day_prefix(first), f"{which} no seal; one was due by now (void seals do not count)"
    )
