"""One recording on its way into a bundle: its records as the archive has them, what they say of it, and its audio."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from archive import kinds, layout
from archive.archive import Archive
from archive.cases import Case, facts_of, facts_without_record, holding
from archive.decision_records import AnyDecision
from archive.erasures import read_removal, rule_of
from archive.problems import Problem, cold
from archive.proof import Damaged, Missing
from archive.readers import COMMIT_RECORD, DECISION
from archive.records import ArchivedObject, UnreadableRecord
from archive.removal_records import Removal
from archive.retention import PARTS, part_of
from archive.seals import SealedFolder
from archive.stores.store import StoreCold
from text.times import first_instant, format_moment
from workers.catalogue.rows import Row, row_of, row_of_commit, transcript_of
from workers.catalogue.search import Chosen, Hit, state_of
from workers.export.target import BundleFile, Piece, piece_of

_LONGEST_PARTY = 40
_LONGEST_ID = 64

Fetch = Callable[[str, ArchivedObject], Piece]


@dataclass(frozen=True)
class Holds:
    """What holds recordings beside the decisions about each.

    Attributes:
        connections: those on hold.
        cases: all cases, as the archive has them.
    """

    connections: Collection[str]
    cases: Sequence[Case]


@dataclass
class Exported:
    """One recording of a bundle.

    Attributes:
        hit: what its records say of it.
        folder: its folder in the archive.
        records: its records, under `proof/`.
        audio: its audio files.
        transcript: its transcript as text; None without one.
        gone: the keys of what its records say is gone, by an erasure or a retention rule.
        removed: a sentence for each record that says so.
        problems: why the bundle is without a part of it.
    """

    hit: Hit
    folder: str
    records: list[Piece] = field(default_factory=list)
    audio: list[Piece] = field(default_factory=list)
    transcript: Piece | None = None
    gone: set[str] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def compare(self, listed: Iterable[str]) -> None:
        """Note what seals list of it and the archive no longer has, though no record says that it is gone.

        Args:
            listed: the keys in its folder that seals list.
        """
        known = {*(file.key for file in self.files), *(problem.key for problem in self.problems), *self.gone}
        self.problems += [Problem("missing", key, "gone from the archive") for key in listed if key not in known]
        if any(problem.kind != "cold" for problem in self.problems) and self.hit.state != "erased":
            self.hit.state = "damaged"

    @property
    def pieces(self) -> list[Piece]:
        """Its files, in the order of the bundle."""
        return [*self.records, *self.audio, *([self.transcript] if self.transcript else [])]

    @property
    def files(self) -> list[BundleFile]:
        """Those that come from the archive."""
        return [piece.file for piece in (*self.records, *self.audio)]

    @property
    def is_committed(self) -> bool:
        """Whether the bundle has its commit record; an erased recording has none."""
        return any(piece.file.key == layout.commit_key(self.folder) for piece in self.records)


def export_one(archive: Archive, fetch: Fetch, held: Holds, chosen: Chosen) -> Exported:
    """Read everything of one recording; several threads call it.

    Args:
        archive: the archive.
        fetch: fetches audio for the bundle.
        held: what holds recordings.
        chosen: the recording.

    Raises:
        StoreError: the archive does not answer.
        OSError: the bundle cannot be written.
    """
    folder = layout.recording_folder(chosen.date, chosen.recording_id)
    problems: list[Problem] = []
    present = archive.keys_of(folder)
    records = _records_of(archive, present, problems)
    removals = _removals_of(records)
    named = {known.key for removal in removals for known in removal.objects}
    gone = named.difference(present)  # a hold may have come after the record, before the deletion
    one = Exported(_hit_of(folder, chosen, records, held, gone), folder, gone=gone, problems=problems)
    one.removed = [said for removal in removals if (said := _said_of(removal, gone)) is not None]
    one.records = [piece_of(f"proof/{key}", key, data) for key, data in records.items()]
    name = _file_name(one.hit)
    for stem, known in _audio_of(records, name, problems):
        suffix = "mp3" if known.content_type == "audio/mpeg" else "wav"
        if known.key in gone:
            continue  # also what an interrupted export has of it; the record of the disposal is in the bundle
        try:
            one.audio.append(fetch(f"audio/{stem}.{suffix}", known))
        except KeyError:
            problems.append(Problem("missing", known.key, "gone from the archive"))
        except StoreCold as error:
            problems.append(cold(error))
        except Damaged as damage:
            kind = "missing" if isinstance(damage, Missing) else "damaged"
            problems.append(Problem(kind, damage.key, damage.what))
    if texts := _texts_of(records, problems):
        one.transcript = piece_of(f"transcripts/{name}.txt", "", "\n\n".join(texts).encode() + b"\n")
    if not records:
        problems.append(Problem("missing", layout.commit_key(folder), "gone from the archive"))
    return one


def _records_of(archive: Archive, present: Iterable[str], problems: list[Problem]) -> dict[str, bytes]:
    """All records of a recording, by key; those of its versions last."""
    found: dict[str, bytes] = {}
    for key in sorted(present, key=lambda key: ("/versions/" in key, key)):
        kind = kinds.kind_of(key)
        if kind is None:
            problems.append(Problem("unknown", key, "not a key of the archive format; not copied"))
        elif kind not in (kinds.AUDIO, kinds.VERSION_AUDIO):  # what a commit record names is copied
            data = archive.read_small(key)
            if data is None:
                problems.append(Problem("missing", key, "gone from the archive"))
            else:
                found[key] = data
    return found


def _audio_of(records: Mapping[str, bytes], name: str, problems: list[Problem]) -> list[tuple[str, ArchivedObject]]:
    """The audio objects that the commit records name, each once, with the name of its file."""
    found: dict[str, tuple[str, ArchivedObject]] = {}
    version = 0
    for key, data in records.items():
        kind = kinds.kind_of(key)
        if kind not in (kinds.COMMIT, kinds.VERSION):
            continue
        version += kind is kinds.VERSION
        stem = f"{name} version {version}" if kind is kinds.VERSION else name
        try:
            for known in COMMIT_RECORD.read(data, key).objects:
                found.setdefault(known.key, (stem, known))
        except UnreadableRecord as error:
            problems.append(Problem("damaged", key, error.what))
    return list(found.values())


def _texts_of(records: Mapping[str, bytes], problems: list[Problem]) -> list[str]:
    """The texts of the transcriptions."""
    found: list[str] = []
    for key, data in records.items():
        if kinds.kind_of(key) is kinds.TRANSCRIPTION:
            try:
                found.append(transcript_of(data, key))
            except UnreadableRecord as error:
                problems.append(Problem("damaged", key, error.what))
    return found


def _hit_of(folder: str, chosen: Chosen, records: Mapping[str, bytes], held: Holds, gone: Collection[str]) -> Hit:
    """A recording as the catalogue would have it, from its records."""
    row: Row | None = None
    facts = facts_without_record(folder)
    commit_key = layout.commit_key(folder)
    if commit_key in records:
        try:
            commit = COMMIT_RECORD.read(records[commit_key], commit_key)
            facts = facts_of(commit)
            row = row_of_commit(chosen.recording_id, chosen.day, commit)
            row = row_of(SealedFolder(folder, records=dict(records), commit=commit))
        except UnreadableRecord:
            pass  # the row of the commit record alone, if that can be read
    cases = [case.id for case in holding(held.cases, facts)]
    row = row or Row(recording_id=chosen.recording_id, day=chosen.day)
    state = state_of(
        row.findings,
        _decisions_of(records),
        is_deleted=row.deleted_at is not None,
        is_erased=layout.erasure_key(folder) in records,
        is_disposed=any(kinds.kind_of(key) is kinds.AUDIO for key in gone),
        is_held=bool(cases) or row.connection_id in held.connections,
    )
    return Hit(row=row, state=state, cases=cases)


def _removals_of(records: Mapping[str, bytes]) -> list[Removal]:
    """The records of what was erased, or disposed of under retention rules; an unreadable one is left out."""
    found: list[Removal] = []
    for key, data in records.items():
        if kinds.kind_of(key) in kinds.REMOVALS:
            with suppress(UnreadableRecord):
                found.append(read_removal(data, key))
    return found


def _said_of(removal: Removal, gone: Collection[str]) -> str | None:
    """What a record of a removal says, for whoever reads the bundle; None if nothing that it names is gone."""
    kinds_gone = {kinds.kind_of(known.key) for known in removal.objects if known.key in gone}
    if not kinds_gone:
        return None
    at = format_moment(removal.at)
    if (under := rule_of(removal)) is None:
        return f"Erased at {at} by {removal.by}: {removal.why}"
    parts = {part_of(kind) for kind in kinds_gone}
    what = "Everything" if kinds.COMMIT in kinds_gone else " and ".join(part for part in PARTS if part in parts)
    return f"{what.capitalize()} disposed of at {at} under retention rule {under.rule}: {removal.why}"


def _decisions_of(records: Mapping[str, bytes]) -> dict[str, AnyDecision | None]:
    found: dict[str, AnyDecision | None] = {}
    for key, data in records.items():
        if kinds.kind_of(key) is kinds.DECISION_COPY:
            try:
                found[layout.name_of(key)] = DECISION.read(data, key)
            except UnreadableRecord:
                found[layout.name_of(key)] = None
    return found


def _file_name(hit: Hit) -> str:
    """A name that sorts by time, that people can read, and that every file system takes."""
    started = first_instant(hit.row.started_at)
    when = f"{started:%Y-%m-%d %H.%M.%SZ}" if started else hit.row.day
    parties = [
        re.sub(r"[^0-9A-Za-z+@._-]", "_", party)[:_LONGEST_PARTY].strip(".")
        for party in (hit.row.from_number, hit.row.to_number)
        if party
    ]
    parts = (when, " to ".join(parties), layout.encode_name(hit.row.recording_id)[-_LONGEST_ID:])
    return " ".join(part for part in parts if part)
