"""Recordings: searched through the catalogue, one seen whole from the archive, its audio with seeking."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from config.counts import many
from config.errors import UserError
from config.times import format_instant, parse_day, parse_instant
from service.ops.access import Refused
from service.ops.parts import Ops
from workers.archive import layout
from workers.archive.problems import how_to_mend
from workers.archive.proof import Damaged, Missing
from workers.archive.records import (
    ANY_RECORD,
    COMMIT_RECORD,
    DECISION,
    ERASURE,
    GONE,
    RECEIPT,
    SEAL,
    TRANSCRIPTION,
    AnyDecision,
    ArchivedObject,
    CommitRecord,
    Decision,
    DeletionReceipt,
    UnreadableRecord,
    WrongObject,
)
from workers.catalogue.inventory import bracketed, csv_lines
from workers.catalogue.lookup import day_at_telnyx
from workers.catalogue.query import FIELDS, Query, join, read_box, read_query
from workers.catalogue.rows import Row
from workers.catalogue.search import Hit, search, search_all, state_of
from workers.jobs.damage import known_damage, tell_wrong
from workers.jobs.holds import Holding, holds_on
from workers.jobs.kept import what_keeps
from workers.keys import ARQ_JOB, DELETIONS_DUE
from workers.queue.damaged import KnownDamage

PER_PAGE = 50


_DECIDED = {"hold": "held", "release": "released", "approve": "approved"}


class Found(msgspec.Struct, frozen=True):
    """A page of recordings.

    Attributes:
        query: what was understood of the search.
        hits: the latest first.
        after: the place to ask for the next page from; None at the end.
        note: what a person must know of the answer, such as that more is being read.
    """

    query: Query
    hits: list[Hit]
    after: str | None
    note: str | None


class Step(msgspec.Struct, frozen=True):
    """Something that happened to a recording; `at` is ISO 8601, UTC, None where nobody knows."""

    at: str | None
    what: str
    detail: str = ""


class Said(msgspec.Struct, frozen=True):
    """A transcription: its id and its text."""

    id: str
    text: str


class Detail(msgspec.Struct, frozen=True):
    """One recording.

    Attributes:
        state: as in a search, by what is seen now; `received` while its job waits or runs.
        damage: what is known to be wrong with its objects, a line each.
        how_to_mend: what to do about that, a line for each object.
        proven: when all of its audio was last proven, and how; None where that is not known.
        row: as the catalogue has it; None while it is not archived.
        objects: its audio.
        transcriptions: what was said.
        history: its life, the earliest first.
        deletion_due_at: ISO 8601, UTC, if its original is on the list and nothing keeps it then.
        kept: what keeps its original, as things stand; None: nothing but its time, or it is gone.
        holds: the holds that stand on it, its own and those of its connection.
        record: the commit record, as it lies in the archive.
    """

    recording_id: str
    state: str
    damage: list[str]
    how_to_mend: list[str]
    proven: Step | None
    row: Row | None
    objects: list[ArchivedObject]
    transcriptions: list[Said]
    history: list[Step]
    deletion_due_at: str | None
    kept: str | None
    holds: list[Holding]
    record: dict[str, Any] | None


async def look(ops: Ops, request: Request) -> Found:
    """Search.

    Raises:
        BadQuery: the search cannot be.
    """
    given = {name: request.query_params.get(name) for name in FIELDS}
    query = read_query(join(given, read_box(request.query_params.get("q", ""))))
    after = request.query_params.get("after")
    if after is not None and not re.fullmatch(r"[0-9TZ:.+-]*~\d{1,18}", after):
        raise UserError("after: not a place that a page before this one gave")
    hits = await ops.catalogue.ask(lambda path: search(path, query, PER_PAGE + 1, after))
    if not hits and query.id is not None and after is None and await _take(ops, query.id):
        hits = await ops.catalogue.ask(lambda path: search(path, query, PER_PAGE + 1))
    note = await ops.catalogue.note()
    is_more = len(hits) > PER_PAGE
    return Found(
        query, [shown(ops, hit) for hit in hits[:PER_PAGE]], hits[PER_PAGE - 1].place if is_more else None, note
    )


def told(found: Found) -> Found:
    """A page of recordings as the API tells it: the words looked for in brackets, as in `callvault find --json`."""
    hits = [msgspec.structs.replace(hit, words=bracketed(hit.words)) for hit in found.hits]
    return msgspec.structs.replace(found, hits=hits)


async def look_at_one(ops: Ops, request: Request) -> Detail:
    """One recording, from the archive itself.

    Raises:
        Refused: no recording has that id.
        StoreError: the archive cannot be read now.
    """
    recording_id = request.path_params["recording_id"]
    hit = await hit_of(ops, recording_id)
    waits = due_at = None
    try:
        waits = await ops.redis.exists(f"{ARQ_JOB}archive_recording:{recording_id}")
        if hit is not None:
            folder = layout.recording_folder(hit.row.date, recording_id)
            score = await ops.redis.zscore(DELETIONS_DUE, folder)
            due_at = None if score is None else instant_of(score)
    except (RedisError, OSError):
        pass  # the archive alone tells the rest
    if hit is None:
        if waits:
            steps = [Step(None, "received", "its job waits or runs")]
            return Detail(recording_id, "received", [], [], None, None, [], [], steps, None, None, [], None)
        raise Refused(404, f"recording {recording_id} is not in the archive")
    folder = layout.recording_folder(hit.row.date, recording_id)
    told = {key: found for key, found in (await known_damage(ops.runtime)).items() if key.startswith(folder)}
    kept = await what_keeps(ops.runtime, folder)
    holds = await ops.runtime.in_thread(holds_on, ops.runtime.archive, folder, hit.row.connection_id)
    detail, seen = await asyncio.to_thread(_read, ops, hit, due_at, kept, holds, told)
    await tell_seen(ops, seen)
    return detail


def _read(
    ops: Ops,
    hit: Hit,
    due_at: str | None,
    kept: str | None,
    holds: list[Holding],
    told: Mapping[str, KnownDamage],
) -> tuple[Detail, list[WrongObject]]:
    """The recording, and what is seen to be wrong with it though nobody has told of it."""
    archive, row = ops.runtime.archive, hit.row
    folder = layout.recording_folder(row.date, row.recording_id)
    objects: list[ArchivedObject] = []
    said: list[Said] = []
    steps = [Step(row.started_at, "call began"), Step(row.ended_at, "call ended")]
    record, proven, is_deleted, is_erased, is_gone = None, None, False, False, False
    decisions: dict[str, AnyDecision] = {}
    seen: list[WrongObject] = []
    sizes = {stored.key: stored.size for stored in archive.store.list(folder)}
    for key in sizes:
        name = key.removeprefix(folder)
        if not name.endswith(".json"):
            continue
        data = archive.read_small(key) or b""
        try:
            if name == "recording.json":
                commit = COMMIT_RECORD.read(data, key)
                record, objects = ANY_RECORD.read(data, key), commit.objects
                proofs = ", ".join(sorted({o.proof.by for o in objects}))
                steps.append(
                    Step(commit.archived_at, "archived and proven", f"by {proofs}; found by {commit.found_by}")
                )
                proven = proven or Step(commit.archived_at, f"by {proofs}", "when it was archived")
                seen += _missing(objects, sizes)
            elif layout.is_version(name):
                steps.append(_changed(COMMIT_RECORD.read(data, key), objects, key))
            elif name.startswith("transcriptions/"):
                words = TRANSCRIPTION.read(data, key).transcription
                said.append(Said(str(words.get("id")), str(words.get("transcription_text") or "")))
                steps.append(Step(words.get("created_at"), "transcribed"))
            elif name == "deleted.json":
                is_deleted = True
                receipt = RECEIPT.read(data, key)
                steps.append(Step(receipt.confirmed_gone_at, "original deleted at Telnyx", "confirmed gone"))
                proofs = ", ".join(sorted({o.proof.by for o in receipt.objects}))
                at = receipt.seen_at if isinstance(receipt, DeletionReceipt) else receipt.confirmed_gone_at
                proven = Step(at, f"by {proofs}", "before its original was deleted")
            elif name.startswith("decisions/"):
                decision = decisions[layout.name_of(key)] = DECISION.read(data, key)
                by = f" (by {decision.by})" if isinstance(decision, Decision) else ""
                steps.append(Step(decision.at, _DECIDED[decision.decision], decision.why + by))
            elif name == "gone.json":
                is_gone = True
                steps.append(
                    Step(GONE.read(data, key).found_gone_at, "gone at Telnyx", "before we asked for its deletion")
                )
            elif name == "erased.json":
                is_erased = True
                erased = ERASURE.read(data, key)
                steps.append(Step(erased.erased_at, "erased", f"{erased.why} (by {erased.by})"))
        except UnreadableRecord as error:
            seen.append(error)
            steps.append(Step(None, "unreadable", f"{error}; run `callvault verify`"))
    if layout.commit_key(folder) not in sizes and not is_erased:
        seen.append(Missing(layout.commit_key(folder), "gone from the archive"))
    if row.seal is not None:
        steps.append(Step(_sealed_at(ops, row.seal), "sealed", f"seal {row.seal}"))
    damage = [
        f"{key}: {found.what} (found by {found.found_by}, {found.at[:19]}Z)" for key, found in sorted(told.items())
    ]
    seen = [wrong for wrong in seen if wrong.key not in told]
    damage += [f"{wrong} (seen now)" for wrong in seen]
    wrong_as = {key: found.state for key, found in told.items()}
    wrong_as |= {wrong.key: "missing" if isinstance(wrong, Missing) else "damaged" for wrong in seen}
    mend = list(
        dict.fromkeys(how_to_mend(key, how, ops.settings.archive_address) for key, how in sorted(wrong_as.items()))
    )
    state = state_of(row.findings, decisions, is_deleted=is_deleted, is_erased=is_erased, is_held=bool(holds))
    if damage and not is_erased:
        state = "damaged"
        kept = kept or f"damaged: {damage[0]}"
    if is_deleted or is_erased or is_gone:
        kept = None
    if is_deleted or is_erased or kept is not None:
        due_at = None
    if kept is not None:
        steps.append(Step(None, "its original stays", kept))
    if due_at is not None:
        steps.append(Step(due_at, "deletion of the original is due"))
    steps = sorted((s for s in steps if s.at or s.detail), key=lambda step: _sort_key(step.at))
    row = shown(ops, hit).row
    if record is not None:
        numbers = record["recording"]
        numbers |= {"from": row.from_number, "to": row.to_number} if ops.settings.ops_mask_numbers else {}
    about = (row, objects, said, steps, due_at, kept, holds, record)
    return Detail(row.recording_id, state, damage, mend, proven, *about), seen


def _changed(version: CommitRecord, first: Sequence[ArchivedObject], key: str) -> Step:
    """What a version says: other audio, which keeps the original until a person approves, or other words about the same."""
    if {o.sha256 for o in version.objects} <= {o.sha256 for o in first}:
        return Step(version.archived_at, "Telnyx tells it otherwise now", f"the audio is the same; {key}")
    return Step(
        version.archived_at, "other audio archived beside it", f"{key}; its original stays until that is approved"
    )


def _missing(objects: Sequence[ArchivedObject], sizes: Mapping[str, int]) -> list[WrongObject]:
    """What a listing of its folder shows to be wrong with a recording's audio; custom storage's lies elsewhere."""
    found: list[WrongObject] = []
    for known in objects:
        if known.key.startswith("/") or sizes.get(known.key) == known.size:
            continue
        if known.key not in sizes:
            found.append(Missing(known.key, "gone from the archive"))
        else:
            found.append(
                Damaged(known.key, f"{many(sizes[known.key], 'byte')} in the store, {known.size} in its commit record")
            )
    return found


async def tell_seen(ops: Ops, seen: Iterable[WrongObject]) -> None:
    """Have the register know what a person has just seen; with Redis away, the person has seen it all the same."""
    with suppress(RedisError, OSError):
        for wrong in seen:
            await tell_wrong(ops.redis, wrong, "page")


def _sealed_at(ops: Ops, sequence: int) -> str | None:
    key = layout.seal_key(sequence)
    try:
        return SEAL.read(ops.runtime.archive.read_small(key), key).sealed_at
    except UnreadableRecord:
        return None  # the page of seals says so


def _sort_key(at: str | None) -> float:
    try:
        return parse_instant(at).timestamp() if at else float("inf")
    except ValueError:
        return float("inf")


def instant_of(seconds: float) -> str:
    """ISO 8601, UTC, of seconds since the epoch."""
    return format_instant(datetime.fromtimestamp(seconds, UTC))


async def hit_of(ops: Ops, recording_id: str) -> Hit | None:
    """A recording as the catalogue has it, or else the archive itself; None if neither has it."""

    def of_id(path: Path) -> list[Hit]:
        return search(path, Query(id=recording_id), 1)

    hits = await ops.catalogue.ask(of_id)
    if not hits and await _take(ops, recording_id):
        hits = await ops.catalogue.ask(of_id)
    return hits[0] if hits else None


async def _take(ops: Ops, recording_id: str) -> bool:
    """Look for a recording in the archive itself, first under the day that Telnyx tells."""
    near = await day_at_telnyx(ops.runtime.telnyx, recording_id)
    return await ops.catalogue.take_from_archive(recording_id, near)


async def inventory(ops: Ops, request: Request) -> Response:
    """All recordings of a day as CSV, as `callvault find --csv` writes it.

    Raises:
        Refused: it is no day.
    """
    try:
        day = parse_day(request.path_params["day"])
    except ValueError as error:
        raise Refused(404, str(error)) from None
    query = read_query({"since": day.isoformat(), "until": day.isoformat()})
    await ops.catalogue.ask(lambda path: search(path, query, 1))

    def lines() -> Iterator[str]:
        yield from csv_lines(shown(ops, hit) for hit in search_all(ops.catalogue.path, query))

    headers = {"Content-Disposition": f'attachment; filename="recordings-{day}.csv"'}
    return StreamingResponse(lines(), 200, headers, "text/csv")  # Starlette draws the lines in a thread


def shown(ops: Ops, hit: Hit) -> Hit:
    """A hit as it may be shown: with its numbers masked, if that is set."""
    if not ops.settings.ops_mask_numbers:
        return hit
    row = msgspec.structs.replace(
        hit.row, from_number=_masked(hit.row.from_number), to_number=_masked(hit.row.to_number)
    )
    return msgspec.structs.replace(hit, row=row)


def _masked(number: str | None) -> str | None:
    """The country's digits and the last two of a number; of a SIP address its host."""
    if number is None:
        return None
    if "@" in number:
        return "***@" + number.partition("@")[2]
    return number[:3] + "*" * max(3, len(number) - 5) + number[-2:] if len(number) > 5 else "***"
