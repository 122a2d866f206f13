"""Read the history of a recording from its folder in the archive."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from archive import kinds, layout
from archive.archive import Archive
from archive.decision_records import AnyDecision, Decision
from archive.erasures import rule_of
from archive.folder import Folder, read_folder
from archive.kinds import Kind
from archive.proof import Damaged, Missing
from archive.readers import ANY_RECORD, COMMIT_RECORD, DECISION, DISPOSAL, ERASURE, GONE, RECEIPT, TRANSCRIPTION
from archive.records import ArchivedObject, DeletionReceipt, UnreadableRecord, WrongObject
from service.ops.moments import Mark
from text.counts import many

_DECIDED = {"hold": "held", "release": "released", "approve": "approved"}


class Step(msgspec.Struct, frozen=True):
    """An event in the life of a recording; `at` is ISO 8601, UTC, or None if unknown."""

    at: str | None
    what: str
    detail: str = ""


class Said(msgspec.Struct, frozen=True):
    """A transcription: its id, its text, and the places in it that were searched for."""

    id: str
    text: str
    marks: list[Mark] = []


@dataclass
class Life:
    """What the objects of a folder record.

    Attributes:
        folder: its objects, readable or not.
        record: the commit record as it lies there, and objects: the audio that it names.
        said: the transcriptions.
        steps: what happened, in the order of the keys of its objects.
        proven: when all of its audio was last proven, and how; None where that is not known.
        decisions: by name.
        disposed: the objects that were disposed of under a retention rule, by key: what was done, and why.
        seen: what is wrong with it.
    """

    folder: Folder
    record: dict[str, Any] | None = None
    objects: list[ArchivedObject] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    proven: Step | None = None
    decisions: dict[str, AnyDecision] = field(default_factory=dict)
    disposed: dict[str, str] = field(default_factory=dict)
    seen: list[WrongObject] = field(default_factory=list)


def read_life(archive: Archive, folder: str) -> Life:
    """Read a recording's folder; blocks.

    Raises:
        StoreError: the archive cannot be read now.
    """
    life = Life(read_folder(archive.store, folder))
    for key, place in life.folder.places.items():
        if place.kind not in _READERS:
            continue
        try:
            _READERS[place.kind](life, key, archive.read_small(key) or b"")
        except UnreadableRecord as error:
            life.seen.append(error)
            life.steps.append(Step(None, "unreadable", f"{error}; run `callvault verify`"))
    if not life.folder.has(kinds.COMMIT, kinds.ERASURE):
        life.seen.append(Missing(layout.commit_key(folder), "gone from the archive"))
    return life


def _read_commit(life: Life, key: str, data: bytes) -> None:
    commit = COMMIT_RECORD.read(data, key)
    life.record, life.objects = ANY_RECORD.read(data, key), commit.objects
    proofs = _proofs(commit.objects)
    life.steps.append(Step(commit.archived_at, "archived and proven", f"{proofs}; found by {commit.found_by}"))
    life.proven = life.proven or Step(commit.archived_at, proofs, "when it was archived")
    left = [one for one in commit.objects if one.key not in life.disposed or one.key in life.folder.objects]
    life.seen += _missing(left, life.folder)


def _read_version(life: Life, key: str, data: bytes) -> None:
    """A version has different audio, or the same audio with different details from Telnyx."""
    version = COMMIT_RECORD.read(data, key)
    if {o.sha256 for o in version.objects} <= {o.sha256 for o in life.objects}:
        step = Step(version.archived_at, "details changed at Telnyx", f"the audio is the same; {key}")
    else:
        detail = f"{key}; Callvault keeps the original until you approve"
        step = Step(version.archived_at, "different audio archived as a new version", detail)
    life.steps.append(step)


def _read_transcription(life: Life, key: str, data: bytes) -> None:
    words = TRANSCRIPTION.read(data, key).transcription
    life.said.append(Said(str(words.get("id")), str(words.get("transcription_text") or "")))
    life.steps.append(Step(words.get("created_at"), "transcribed"))


def _read_receipt(life: Life, key: str, data: bytes) -> None:
    receipt = RECEIPT.read(data, key)
    life.steps.append(Step(receipt.confirmed_gone_at, "original deleted at Telnyx", "confirmed gone"))
    at = receipt.seen_at if isinstance(receipt, DeletionReceipt) else receipt.confirmed_gone_at
    life.proven = Step(at, _proofs(receipt.objects), "before its original was deleted")


def _read_decision(life: Life, key: str, data: bytes) -> None:
    decision = life.decisions[layout.name_of(key)] = DECISION.read(data, key)
    by = f" (by {decision.by})" if isinstance(decision, Decision) else ""
    life.steps.append(Step(decision.at, _DECIDED[decision.decision], decision.why + by))


def _read_gone(life: Life, key: str, data: bytes) -> None:
    life.steps.append(Step(GONE.read(data, key).found_gone_at, "gone at Telnyx", "not deleted by Callvault"))


def _read_erasure(life: Life, key: str, data: bytes) -> None:
    erased = ERASURE.read(data, key)
    what, detail = "erased", erased.why
    if (under := rule_of(erased)) is not None:
        is_done = all(one.key not in life.folder.objects for one in erased.objects)
        what = "disposed of, but for hashes" if is_done else _NOT_DONE
        detail = _under(under.rule, under.rules_number, erased.why)
    life.steps.append(Step(erased.erased_at, what, f"{detail} (by {erased.by})"))


def _read_disposal(life: Life, key: str, data: bytes) -> None:
    """Keys are read in order, so this comes before the commit record."""
    record = DISPOSAL.read(data, key)
    parts = {kinds.TRANSCRIPTION: "transcript", kinds.AUDIO: "audio", kinds.VERSION_AUDIO: "audio"}
    left = [kinds.kind_of(one.key) for one in record.objects if one.key not in life.folder.objects]
    gone = dict.fromkeys(parts[kind] for kind in left if kind in parts)
    what = f"{' and '.join(gone)} disposed of" if gone else _NOT_DONE
    detail = _under(record.rule, record.rules_number, record.why)
    life.steps.append(Step(record.disposed_at, what, detail))
    life.disposed |= {one.key: detail for one in record.objects}


_NOT_DONE = "to be disposed of, and still there"  # a hold came after the record, or the store refuses


def _under(rule: str, rules_number: int, why: str) -> str:
    return f"under rule {rule} of applied rules {rules_number}: {why}"


_READERS: dict[Kind | None, Callable[[Life, str, bytes], None]] = {
    kinds.COMMIT: _read_commit,
    kinds.VERSION: _read_version,
    kinds.TRANSCRIPTION: _read_transcription,
    kinds.RECEIPT: _read_receipt,
    kinds.DECISION_COPY: _read_decision,
    kinds.GONE: _read_gone,
    kinds.ERASURE: _read_erasure,
    kinds.DISPOSAL: _read_disposal,
}


def _proofs(objects: Sequence[ArchivedObject]) -> str:
    return f"by {', '.join(sorted({o.proof.by for o in objects}))}"


def _missing(objects: Sequence[ArchivedObject], folder: Folder) -> list[WrongObject]:
    """Audio that a listing of the folder shows to be missing or damaged; adopted audio lies elsewhere."""
    found: list[WrongObject] = []
    for known in objects:
        there = folder.objects.get(known.key)
        if known.is_adopted or (there is not None and there.size == known.size):
            continue
        if there is None:
            found.append(Missing(known.key, "gone from the archive"))
        else:
            what = f"{many(there.size, 'byte')} in the store, {known.size} in its commit record"
            found.append(Damaged(known.key, what))
    return found
