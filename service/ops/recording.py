"""The page of one recording, read from the archive itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import structs
from redis.exceptions import RedisError
from starlette.requests import Request

from archive import kinds, layout
from archive.archive import Archive
from archive.decisions import decisions_on, findings_of, is_approved
from archive.problems import advice_for
from archive.proof import Missing
from archive.readers import SEAL
from archive.records import ArchivedObject, UnreadableRecord, WrongObject
from archive.stores.store import StoreError
from service.ops.access_log import of_recording
from service.ops.life import Life, Said, Step, read_life
from service.ops.masking import mask_in
from service.ops.moments import marks_of
from service.ops.parts import Ops
from service.ops.person import Refused
from service.ops.recordings import instant_of
from service.ops.storage import Stored, read_storage
from service.ops.view import View, view_of
from text.times import format_moment, parse_instant
from workers.access.index import Entry
from workers.catalogue.query import Query, read_query
from workers.catalogue.rows import Row
from workers.catalogue.search import Hit, state_of
from workers.damage.damage import known_damage, report_wrong
from workers.damage.damaged import KnownDamage
from workers.deletion.duties import workers_duties
from workers.deletion.kept import Holding, holds_on, what_keeps
from workers.keys import ARQ_JOB, DELETIONS_DUE

_RELATED = 10


class Detail(msgspec.Struct, frozen=True):
    """One recording.

    Attributes:
        state: as in a search, but read now; `received` while its job is queued or running.
        damage: one line for each thing that is wrong with its objects.
        how_to_mend: one line for each object, with what to do.
        proven: the last recorded proof of all of its audio; None if unknown.
        row: as the catalogue has it; None while it is not archived.
        objects: its audio.
        storage: the storage class of its audio, and whether it can be heard now.
        transcriptions: their texts, with the words of the query's `text` marked.
        history: the earliest event first.
        related: other recordings of its session, the latest first, at most 10.
        sealed_at: ISO 8601, UTC; None while no seal lists it.
        deletion_due_at: ISO 8601, UTC, if its original is scheduled for deletion and nothing keeps it.
        kept: why Callvault keeps the original; None: only its time does, or the original is gone.
        needs_approval: whether its original stays until a person approves what was found in its audio.
        holds: the current holds on it, its own and those of its connection.
        record: the commit record as stored in the archive.
        accesses: who has looked at it or heard it, the latest first, at most 20; None if the role does not show it.
    """

    recording_id: str
    state: str
    damage: list[str]
    how_to_mend: list[str]
    proven: Step | None
    row: Row | None
    objects: list[ArchivedObject]
    storage: list[Stored]
    transcriptions: list[Said]
    history: list[Step]
    related: list[Hit]
    sealed_at: str | None
    deletion_due_at: str | None
    kept: str | None
    needs_approval: bool
    holds: list[Holding]
    record: dict[str, Any] | None
    accesses: list[Entry] | None = None


class ArchiveAway(StoreError):
    """A recording cannot be read now.

    Attributes:
        hits: the recording as the catalogue knows it.
    """

    def __init__(self, text: str, hits: list[Hit]) -> None:
        super().__init__(text)
        self.hits = hits


async def look_at_one(ops: Ops, request: Request) -> Detail:
    """One recording, from the archive itself.

    Raises:
        Refused: no recording has this id.
        BadQuery: `text` is no valid search.
        ArchiveAway: the archive cannot be read now; it has what the catalogue knows.
        StoreError: the same, and the catalogue does not know the recording.
    """
    recording_id = request.path_params["recording_id"]
    words = read_query({"text": request.query_params.get("text")}).text
    view = view_of(request)
    hit = await view.find(recording_id)
    waits = due_at = None
    try:
        waits = await ops.redis.exists(f"{ARQ_JOB}archive_recording:{recording_id}")
        if hit is not None:
            folder = layout.recording_folder(hit.row.date, recording_id)
            score = await ops.redis.zscore(DELETIONS_DUE, folder)
            due_at = None if score is None else instant_of(score)
    except (RedisError, OSError):
        pass  # the archive has the rest
    if hit is None:
        if waits:
            return Detail(
                recording_id=recording_id,
                state="received",
                damage=[],
                how_to_mend=[],
                proven=None,
                row=None,
                objects=[],
                storage=[],
                transcriptions=[],
                history=[Step(None, "received", "its job is queued or running")],
                related=[],
                sealed_at=None,
                deletion_due_at=None,
                kept=None,
                needs_approval=False,
                holds=[],
                record=None,
            )
        raise Refused(404, f"recording {recording_id} is not in the archive")
    try:
        detail, accesses = await asyncio.gather(
            _detail(ops, view, hit, due_at, words), of_recording(ops, request, recording_id)
        )
        if any(grant.scope is not None for grant in request.state.person.grants):
            request.state.about = await view.recorded(hit.row)  # what its page offers depends on its numbers in full
        return structs.replace(detail, accesses=accesses)
    except StoreError as error:
        raise ArchiveAway(str(error), [hit]) from None


@dataclass(frozen=True)
class _Around:
    """What is known of a recording besides what lies in its folder.

    Attributes:
        related: other recordings of its session.
        due_at: when its original is scheduled for deletion, ISO 8601, UTC.
        sealed_first: whether it also stays until its day is sealed.
        kept: why Callvault would not delete it then.
        holds: on it and on its connection.
        damage: of its objects, by key.
        storage: where its audio lies.
    """

    related: list[Hit]
    due_at: str | None
    sealed_first: bool
    kept: str | None
    holds: list[Holding]
    damage: Mapping[str, KnownDamage]
    storage: list[Stored]


async def _detail(ops: Ops, view: View, hit: Hit, due_at: str | None, words: str | None) -> Detail:
    folder = layout.recording_folder(hit.row.date, hit.row.recording_id)
    # Each lists folders of the archive, so they are read side by side.
    life, damage, duties, kept, holds, related = await asyncio.gather(
        asyncio.to_thread(read_life, ops.runtime.archive, folder),
        known_damage(ops.runtime),
        workers_duties(ops.runtime),
        what_keeps(ops.runtime, folder),
        ops.runtime.in_thread(holds_on, ops.runtime.archive, folder, hit.row.connection_id),
        _related(view, hit),
    )
    known = {key: found for key, found in damage.items() if key.startswith(folder)}
    storage = await asyncio.to_thread(read_storage, ops.runtime.archive, life.objects)
    around = _Around(related, due_at, duties.sealed_first, kept, holds, known, storage)
    detail, seen = await asyncio.to_thread(_read, ops, view, hit, life, around)
    await report_seen(ops, seen)
    if words is not None:
        length = hit.row.duration_ms
        said = [structs.replace(one, marks=marks_of(one.text, words, length)) for one in detail.transcriptions]
        detail = structs.replace(detail, transcriptions=said)
    return detail


async def _related(view: View, hit: Hit) -> list[Hit]:
    session = Query(session=hit.row.call_session_id)
    found = await view.search(session, _RELATED + 1) if session.session else []
    return [other for other in found if other.row.recording_id != hit.row.recording_id][:_RELATED]


def _read(ops: Ops, view: View, hit: Hit, life: Life, around: _Around) -> tuple[Detail, list[WrongObject]]:
    """The recording, and damage that nobody has reported yet."""
    row, known, due_at, kept, holds = hit.row, around.damage, around.due_at, around.kept, around.holds
    is_deleted, is_erased = life.folder.has(kinds.RECEIPT), life.folder.has(kinds.ERASURE)
    steps = [Step(row.started_at, "call began"), Step(row.ended_at, "call ended"), *life.steps]
    sealed_at = None if row.seal is None else _sealed_at(ops, row.seal)
    if row.seal is not None:
        steps.append(Step(sealed_at, "sealed", f"seal {row.seal}"))
    damage = [
        f"{key}: {found.what} (found by {found.found_by}, {format_moment(found.at)})"
        for key, found in sorted(known.items())
    ]
    seen = [wrong for wrong in life.seen if wrong.key not in known]
    damage += [f"{wrong} (seen now)" for wrong in seen]
    wrong_as = {key: found.state for key, found in known.items()}
    wrong_as |= {wrong.key: "missing" if isinstance(wrong, Missing) else "damaged" for wrong in seen}
    mend = list(
        dict.fromkeys(advice_for(key, how, ops.settings.archive_address) for key, how in sorted(wrong_as.items()))
    )
    is_disposed = any(one.key in life.disposed and one.key not in life.folder.objects for one in life.objects)
    state = state_of(
        row.findings,
        life.decisions,
        is_deleted=is_deleted,
        is_erased=is_erased,
        is_disposed=is_disposed,
        is_held=bool(holds),
    )
    if damage and not is_erased:
        state = "damaged"
        kept = kept or f"damaged: {damage[0]}"
    if is_deleted or is_erased or life.folder.has(kinds.GONE):
        kept = None
    if is_deleted or is_erased or kept is not None:
        due_at = None
    needs_approval = kept is not None and not holds and _needs_approval(ops.runtime.archive, life.folder.prefix)
    if kept is not None:
        steps.append(Step(None, "original kept", kept))
    if due_at is not None:
        needs_seal = around.sealed_first and row.seal is None
        steps.append(Step(due_at, "original due for deletion", "if its day is sealed by then" if needs_seal else ""))
    steps = sorted((s for s in steps if s.at or s.detail), key=lambda step: _sort_key(step.at))
    detail = Detail(
        recording_id=row.recording_id,
        state=state,
        damage=damage,
        how_to_mend=mend,
        proven=life.proven,
        row=row,
        objects=life.objects,
        storage=around.storage,
        transcriptions=life.said,
        history=steps,
        related=around.related,
        sealed_at=sealed_at,
        deletion_due_at=due_at,
        kept=kept,
        needs_approval=needs_approval,
        holds=holds,
        record=None if life.record is None else _record(view, row, life.record),
    )
    return detail, seen


def _record(view: View, row: Row, record: dict[str, Any]) -> dict[str, Any]:
    """The commit record, with its numbers masked if the person gets them so."""
    named = {name: record["recording"].get(name) for name in ("connection_id", "from", "to")}
    connection_id, *numbers = (None if value is None else str(value) for value in named.values())
    in_full = structs.replace(row, connection_id=connection_id, from_number=numbers[0], to_number=numbers[1])
    return dict(mask_in(record, {one for one in numbers if one})) if view.masks(in_full) else record


def _needs_approval(archive: Archive, folder: str) -> bool:
    try:
        record = archive.commit_record(folder)
        findings = [] if record is None else findings_of(archive.versions(folder), record)
        return bool(findings) and not is_approved(decisions_on(archive, folder), findings)
    except UnreadableRecord:
        return False


async def report_seen(ops: Ops, seen: Iterable[WrongObject]) -> None:
    """Report damage that this page has found to the register; while Redis is away, it is only shown."""
    with suppress(RedisError, OSError):
        for wrong in seen:
            await report_wrong(ops.redis, wrong, "page")


def _sealed_at(ops: Ops, sequence: int) -> str | None:
    key = layout.seal_key(sequence)
    try:
        return SEAL.read(ops.runtime.archive.read_small(key), key).sealed_at
    except UnreadableRecord:
        return None  # the evidence page reports it


def _sort_key(at: str | None) -> float:
    try:
        return parse_instant(at).timestamp() if at else float("inf")
    except ValueError:
        return float("inf")
