"""`delete_originals`: take what is due, prove it again, delete it at Telnyx in bulk, confirm, write receipts.

Nothing is deleted whose commit record and objects are not found whole in the store in this very run.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from config.logs import get_logger
from config.settings import Settings
from config.times import format_instant, parse_instant, utc_now
from workers.archive import layout
from workers.archive.proof import Damaged
from workers.archive.records import (
    TRANSCRIPTION,
    AnyDecision,
    ArchivedObject,
    CommitRecord,
    EarlierReceipt,
    UnreadableRecord,
)
from workers.jobs.payloads import VERSION, TranscriptionRequest, transcription_job
from workers.keys import TRANSCRIBING
from workers.queue.accept import enqueue
from workers.queue.jobs import Job
from workers.runtime import Runtime
from workers.telnyx.client import LARGEST_PAGE
from workers.telnyx.errors import BadRequest, Conflict, Invalid, NotFound
from workers.telnyx.models import RecordingTranscription

log = get_logger()

_MOST_TURNS = 4  # of all workers together, and short: a long list keeps no webhook's job from running
_TURN_SECONDS = 10
_LEAST_FAILURES = 3
_WAIT_FOR_TRANSCRIPTION_SECONDS = 30
_STILL_THERE_SECONDS = 30
_BACK_OFF_SECONDS = 10
_CONFIRM_WAITS_SECONDS = (0.0, 0.2, 1.0)


@dataclass(frozen=True)
class _Proven:
    """A recording whose original may be deleted now."""

    folder: str
    recording_id: str
    objects: list[ArchivedObject]
    transcriptions: list[RecordingTranscription]


class _Failed:
    """A recording whose archive is not whole."""


@dataclass(frozen=True)
class _Away:
    """A recording that could not be looked at, mostly since Telnyx or the store does not answer."""

    error: str


class DeletionTurn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Delete what is due."""

    v: int = VERSION


async def start_deletions(runtime: Runtime) -> None:
    """Enqueue a job for each batch that is due, four at most at once, and a quarter of a worker's room."""
    if runtime.settings.delete_originals != "verified" or not await runtime.due.may_go_on():
        return
    batches = math.ceil(await runtime.due.count_due() / runtime.settings.delete_batch)
    for turn in range(min(batches, _MOST_TURNS, max(1, runtime.settings.concurrency // 4))):
        await enqueue(runtime.redis, Job("delete_originals", DeletionTurn(), f"delete_originals:{turn}"))


async def delete_originals(runtime: Runtime, _: DeletionTurn) -> None:
    """The job: delete the originals that are due, batch by batch, until none is, deletion is paused, or its turn ends."""
    if runtime.settings.delete_originals != "verified":
        return
    ends_at = time.monotonic() + _TURN_SECONDS
    while time.monotonic() < ends_at and await runtime.due.may_go_on():
        folders = await runtime.due.claim(runtime.settings.delete_batch)
        if not folders:
            return
        async with runtime.due.kept(folders):
            await _delete_batch(runtime, folders)


async def _delete_batch(runtime: Runtime, folders: Sequence[str]) -> None:
    judged = await asyncio.gather(*(_judge(runtime, folder) for folder in folders))
    await _back_off(runtime, judged)
    failures = sum(isinstance(one, _Failed) for one in judged)
    if failures >= _LEAST_FAILURES and failures * 100 > runtime.settings.delete_stop_percent * len(folders):
        await _stop(runtime, folders, failures)
    else:
        await _delete(runtime, [one for one in judged if isinstance(one, _Proven)])


async def _back_off(runtime: Runtime, outcomes: Sequence[object]) -> None:
    """Say in one line what could not be looked at; if that is half of it, no batch is begun for a while."""
    away = [one for one in outcomes if isinstance(one, _Away)]
    if not away:
        return
    log.warning("deletions postponed", recordings=len(away), of=len(outcomes), error=away[0].error)
    if 2 * len(away) >= len(outcomes):  # fewer may be the recordings' own fault, which must keep no other waiting
        await runtime.due.back_off(_BACK_OFF_SECONDS)


async def _stop(runtime: Runtime, folders: Sequence[str], failures: int) -> None:
    """The safety stop: so many damaged at once is not bad luck but a bucket that changed under us."""
    why = f"{failures} of {len(folders)} recordings of a batch failed their proof"
    await runtime.due.pause(why)
    for folder in folders:
        await runtime.due.postpone(folder, 0)
    advice = "Run `callvault verify`, mend the archive, then `callvault deletions resume`."
    await runtime.alerts.send("deletion-stopped", "all", f"Deletion has paused itself: {why}.", advice)


async def _judge(runtime: Runtime, folder: str) -> _Proven | _Failed | _Away | None:
    """Prove a recording again; None if its original stays for now, which has been said and scheduled then."""
    async with runtime.deletion_gate:
        try:
            record = await runtime.in_thread(runtime.archive.commit_record, folder)
            if record is None:
                raise Damaged(f"{folder}recording.json: gone from the archive")
            archived, decision = await runtime.in_thread(runtime.archive.beside, folder)
            if (kept := why_kept(runtime.settings, record, decision)) is not None:
                log.info("original kept", folder=folder, why=kept)
                await runtime.due.done(folder)
                return None
            objects = [await runtime.in_thread(runtime.archive.prove_again, known) for known in record.objects]
            transcriptions = await _transcriptions(runtime, folder, record, archived)
        except (Damaged, UnreadableRecord) as error:
            log.error("deletion blocked: the archive is damaged", folder=folder, error=str(error))
            advice = f"Run `callvault verify`; the original of {folder} is kept."
            await runtime.alerts.send("archive-damaged", "recordings", str(error), advice)
            await runtime.due.done(folder)
            return _Failed()
        except Exception as error:  # Telnyx or the store is away: the original stays, and its turn comes again
            return await _postponed(runtime, folder, error)
        if transcriptions is None:
            await runtime.due.postpone(folder, _WAIT_FOR_TRANSCRIPTION_SECONDS)
            return None
        return _Proven(folder, str(record.recording["id"]), objects, transcriptions)


def why_kept(settings: Settings, record: CommitRecord, decision: AnyDecision | None) -> str | None:
    """Why an original is never deleted as things stand; None if it may be."""
    if decision is not None and decision.decision == "hold":
        return f"held: {decision.why}"
    if record.recording.get("connection_id") in settings.hold_connections:
        return "its connection is on hold"
    if any(o.key.startswith("/") for o in record.objects):
        return "custom storage: the original is the archive"
    if record.audio.findings and decision is None:
        return "found in its audio: " + ", ".join(record.audio.findings)
    return None


async def _transcriptions(
    runtime: Runtime, folder: str, record: CommitRecord, archived: set[str]
) -> list[RecordingTranscription] | None:
    """The transcriptions that Telnyx has of a recording, if all that are to come are in the archive; else None.

    Raises:
        Damaged: one in the archive does not say what Telnyx says.
    """
    recording_id, policy = str(record.recording["id"]), runtime.settings.transcriptions
    listed = runtime.telnyx.recording_transcriptions.list(filter={"recording_id": recording_id}, page_size=LARGEST_PAGE)
    found = [transcription async for transcription in listed if transcription.recording_id == recording_id]
    missing = [transcription for transcription in found if transcription.id not in archived]
    if policy.kind == "ignore":
        missing = [transcription for transcription in missing if transcription.status == "completed"]
    for transcription in missing:
        request = TranscriptionRequest(transcription_id=str(transcription.id), recording_id=recording_id)
        await enqueue(runtime.redis, transcription_job(request))
    if missing:
        return None
    if not found and not archived and policy.kind != "ignore":
        connection_id = record.recording.get("connection_id") or ""
        if await runtime.redis.sismember(TRANSCRIBING, connection_id):
            age = utc_now() - parse_instant(record.archived_at)
            if policy.kind == "require" or age < policy.wait:
                return None
    for transcription in found:
        if transcription.status == "completed":
            await _prove_transcription(runtime, folder, transcription)
    return found


async def _prove_transcription(runtime: Runtime, folder: str, transcription: RecordingTranscription) -> None:
    """Read a transcription from the archive and hold it against Telnyx's own words."""
    if transcription.transcription_text is None:  # a list need not carry the text
        transcription = await runtime.telnyx.recording_transcriptions.retrieve(str(transcription.id))
    key = layout.transcription_key(folder, str(transcription.id))
    record = TRANSCRIPTION.read(await runtime.in_thread(runtime.archive.read_small, key), key)
    if record.transcription.get("transcription_text") != transcription.transcription_text:
        raise Damaged(f"{key}: does not say what Telnyx says")


async def _delete(runtime: Runtime, proven: Sequence[_Proven]) -> None:
    """Delete what is proven. What fails half-way comes back soon: what is gone by then only gets its receipt."""
    outcomes = await asyncio.gather(*(_delete_transcriptions(runtime, one) for one in proven))
    await _back_off(runtime, outcomes)
    ready = [one for one, away in zip(proven, outcomes, strict=True) if away is None]
    try:
        await _delete_in_bulk(runtime, [one.recording_id for one in ready])
    except Exception as error:  # some may be gone all the same, which the confirmation finds out
        log.warning("bulk deletion failed", error=f"{type(error).__name__}: {error}")
    await _back_off(runtime, await asyncio.gather(*(_confirm(runtime, one) for one in ready)))


async def _delete_transcriptions(runtime: Runtime, one: _Proven) -> _Away | None:
    """They go first, one by one: they have no bulk call, and whether a recording takes them along is not documented."""
    try:
        async with runtime.deletion_gate:
            for transcription in one.transcriptions:
                with suppress(NotFound):
                    await runtime.telnyx.recording_transcriptions.delete(str(transcription.id))
    except Exception as error:
        return await _postponed(runtime, one.folder, error)
    return None


async def _delete_in_bulk(runtime: Runtime, recording_ids: Sequence[str]) -> None:
    """Delete recordings at Telnyx; a batch that is refused is halved, down to single ones."""
    if not recording_ids:
        return
    try:
        if len(recording_ids) == 1:
            await runtime.telnyx.recordings.delete(recording_ids[0])
        else:
            await runtime.telnyx.recordings.bulk_delete(ids=list(recording_ids))
    except NotFound:
        if len(recording_ids) > 1:  # what a 404 means when only some are gone is not documented
            await _delete_halves(runtime, recording_ids)
    except (BadRequest, Invalid, Conflict) as error:
        if len(recording_ids) == 1:
            log.error("Telnyx refuses a deletion", recording_id=recording_ids[0], error=str(error))
            return
        await _delete_halves(runtime, recording_ids)


async def _delete_halves(runtime: Runtime, recording_ids: Sequence[str]) -> None:
    middle = len(recording_ids) // 2
    await _delete_in_bulk(runtime, recording_ids[:middle])
    await _delete_in_bulk(runtime, recording_ids[middle:])


async def _confirm(runtime: Runtime, one: _Proven) -> _Away | None:
    """See that an original is gone, then write its receipt; if either cannot be done now, its turn comes again."""
    try:
        async with runtime.deletion_gate:
            await _write_receipt(runtime, one)
    except Exception as error:
        return await _postponed(runtime, one.folder, error)
    return None


async def _postponed(runtime: Runtime, folder: str, error: Exception) -> _Away:
    await runtime.due.postpone(folder, _STILL_THERE_SECONDS)
    return _Away(f"{type(error).__name__}: {error}")


async def _write_receipt(runtime: Runtime, one: _Proven) -> None:
    if not await _is_gone(runtime, one.recording_id):
        log.warning("deleted but still there", recording_id=one.recording_id)
        await runtime.due.postpone(one.folder, _STILL_THERE_SECONDS)
        return
    receipt = EarlierReceipt(
        recording_id=one.recording_id,
        objects=one.objects,
        transcription_ids=[str(transcription.id) for transcription in one.transcriptions],
        confirmed_gone_at=format_instant(utc_now()),
    )
    await runtime.in_thread(runtime.archive.put_receipt, one.folder, receipt)
    await runtime.announce(layout.receipt_key(one.folder), receipt)
    await runtime.due.done(one.folder)
    runtime.history.add("deleted")
    runtime.history.add("deleted_bytes", sum(o.size for o in one.objects))
    log.info("original deleted", recording_id=one.recording_id)


async def _is_gone(runtime: Runtime, recording_id: str) -> bool:
    for wait in _CONFIRM_WAITS_SECONDS:
        await asyncio.sleep(wait)
        try:
            await runtime.telnyx.recordings.retrieve(recording_id)
        except NotFound:
            return True
    return False
