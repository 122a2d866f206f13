"""`delete_originals`: take what is due, prove it again, ask everything anew, delete it in bulk, confirm, write receipts.

Nothing is deleted unless this very turn finds its commit record and objects whole in the store, and Telnyx shows it as it was
archived. Whether it may go is `may_delete.py`, asked in the moment before each request leaves.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from config.logs import get_logger
from config.times import format_instant, parse_instant, utc_now
from workers.archive import layout
from workers.archive.decisions import Decisions, decisions_about, read_decisions
from workers.archive.proof import Damaged, Missing
from workers.archive.records import (
    TRANSCRIPTION,
    ArchivedObject,
    CommitRecord,
    DeletionReceipt,
    Gone,
    UnreadableRecord,
)
from workers.archive.sameness import difference
from workers.jobs.causes import CAUSES
from workers.jobs.decisions import findings_of, pause
from workers.jobs.may_delete import (
    Kept,
    Rules,
    Stopped,
    Withheld,
    ask_anew,
    assert_fresh,
    moment,
    read_rules,
    why_kept,
    why_paused,
    why_unsealed,
)
from workers.jobs.payloads import (
    VERSION,
    RecordingRequest,
    TranscriptionRequest,
    recording_job,
    repair_job,
    transcription_job,
)
from workers.keys import DEAD_LETTERS, MAIN_QUEUE, TOLD_GONE, TRANSCRIBING
from workers.queue.accept import enqueue
from workers.queue.attempts import DeadLetter
from workers.queue.jobs import Job
from workers.queue.leaving import Leaving
from workers.runtime import Runtime
from workers.source_mark import SourceMark
from workers.telnyx.client import LARGEST_PAGE, asking
from workers.telnyx.downloads import AddressAway, DownloadFailed
from workers.telnyx.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound
from workers.telnyx.models import Recording, RecordingTranscription

log = get_logger()

_MOST_TURNS = 4  # of all workers together, and short: a long list keeps no webhook's job from running
_TURN_SECONDS = 10
_LEAST_FAILURES = 3
_WAIT_FOR_TRANSCRIPTION_SECONDS = 30
_AWAY_SECONDS = 30
_TOLD_AFTER = 2
_BACK_OFF_SECONDS = 10
_CONFIRM_WAITS_SECONDS = (0.0, 0.2, 1.0)
_PAUSE_LOOK_SECONDS = 30.0


@dataclass(frozen=True)
class _Proven:
    """A recording whose original may be deleted now, as far as is known.

    Attributes:
        decisions: those that lie in its folder.
        findings: what keeps it without a person's approval.
        seen_at: when Telnyx showed it as it was archived.
    """

    folder: str
    recording_id: str
    record: CommitRecord
    decisions: Decisions
    findings: Sequence[str]
    objects: list[ArchivedObject]
    transcriptions: list[RecordingTranscription]
    seen_at: str


@dataclass(frozen=True)
class _GoneBefore:
    """A recording whose original Telnyx does not have, though nobody here has deleted it."""

    folder: str
    recording_id: str
    objects: list[ArchivedObject]


class _Failed:
    """A recording whose archive is not whole."""


@dataclass(frozen=True)
class _Away:
    """A recording that could not be looked at, mostly since Telnyx or the store does not answer."""

    error: str


class DeletionTurn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Delete what is due."""

    v: int = VERSION


class DeletionRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Put an original back on the list whose deletion was given up."""

    v: int = VERSION
    folder: str


async def start_deletions(runtime: Runtime) -> None:
    """Enqueue a job for each batch that is due, four at most at once, and a quarter of a worker's room."""
    if runtime.settings.delete_originals != "verified":
        return
    await _show_pause(runtime)
    if not await runtime.due.may_go_on():
        return
    batches = math.ceil(await runtime.due.count_due() / runtime.settings.delete_batch)
    for turn in range(min(batches, _MOST_TURNS, max(1, runtime.settings.concurrency // 4))):
        await enqueue(runtime.redis, Job("delete_originals", DeletionTurn(), f"delete_originals:{turn}"))


async def _show_pause(runtime: Runtime) -> None:
    """Have Redis, which status and pages read, tell of a pause what the archive says: a pause may be lost, or made elsewhere."""
    if await runtime.due.is_time_to_look(_PAUSE_LOOK_SECONDS):
        await runtime.due.show_pause(await runtime.in_thread(why_paused, runtime.archive))


async def delete_originals(runtime: Runtime, _: DeletionTurn) -> None:
    """The job: delete the originals that are due, batch by batch, until none is, deletion is paused, or its turn ends."""
    if runtime.settings.delete_originals != "verified":
        return
    ends_at = time.monotonic() + _TURN_SECONDS
    async with runtime.leaving.turn() as token:
        while time.monotonic() < ends_at and await runtime.due.may_go_on():
            folders = await runtime.due.claim(runtime.settings.delete_batch)
            if not folders:
                return
            async with runtime.due.kept(folders):
                await _delete_batch(runtime, token, folders)


async def schedule_again(runtime: Runtime, request: DeletionRequest) -> None:
    """The job of a retried dead letter: put an original back on the list."""
    await runtime.due.schedule(request.folder, 0)


async def _delete_batch(runtime: Runtime, token: str, folders: Sequence[str]) -> None:
    try:
        rules = await read_rules(runtime)
    except Stopped as stopped:
        await _all_later(runtime, folders, stopped)
        return
    except Exception as error:  # Redis, the store or what lies there cannot be asked: everything stays
        await _back_off(runtime, [await _postponed(runtime, folder, error) for folder in folders])
        return
    judged = await asyncio.gather(*(_judge(runtime, rules, folder) for folder in folders))
    await _back_off(runtime, judged)
    proven = [one for one in judged if isinstance(one, _Proven)]
    gone = [one for one in judged if isinstance(one, _GoneBefore)]
    if proven:  # they are there, so what a person went on about is no longer so
        await runtime.redis.hdel(TOLD_GONE, *(one.recording_id for one in proven))
    told = await runtime.redis.hmget(TOLD_GONE, [one.recording_id for one in gone]) if gone else []
    unknown = [one for one, known in zip(gone, told, strict=True) if known is None]
    if _are_many(runtime, sum(isinstance(one, _Failed) for one in judged), folders):
        failures = sum(isinstance(one, _Failed) for one in judged)
        advice = "Run `callvault verify`, mend the archive, then `callvault deletions resume`."
        await _stop(runtime, folders, f"{failures} of {len(folders)} recordings of a batch failed their proof", advice)
    elif _are_many(runtime, len(unknown), folders):
        await runtime.redis.hset(TOLD_GONE, mapping=dict.fromkeys([one.recording_id for one in unknown], "1"))
        advice = (
            "Check that TELNYX_API_KEY is of the account that made the recordings. If somebody else deleted them there, "
            "`callvault deletions resume` goes on and writes that down."
        )
        why = f"Telnyx has {len(unknown)} of {len(folders)} originals of a batch no more, and we did not delete them"
        await _stop(runtime, folders, why, advice)
    else:
        await _settle_gone(runtime, [one for one in gone if one not in unknown or proven], gone)
        await _delete(runtime, token, proven)


def _are_many(runtime: Runtime, count: int, folders: Sequence[str]) -> bool:
    return count >= _LEAST_FAILURES and count * 100 > runtime.settings.delete_stop_percent * len(folders)


async def _all_later(runtime: Runtime, folders: Sequence[str], stopped: Stopped) -> None:
    log.info("originals kept for now", recordings=len(folders), why=str(stopped))
    for folder in folders:
        await runtime.due.postpone(folder, stopped.seconds)
    await runtime.due.back_off(stopped.seconds)


async def _back_off(runtime: Runtime, outcomes: Sequence[object]) -> None:
    """Say in one line what could not be looked at; if that is half of it, no batch is begun for a while."""
    away = [one for one in outcomes if isinstance(one, _Away)]
    if not away:
        return
    log.warning("deletions postponed", recordings=len(away), of=len(outcomes), error=away[0].error)
    if 2 * len(away) >= len(outcomes):  # fewer may be the recordings' own fault, which must keep no other waiting
        await runtime.due.back_off(_BACK_OFF_SECONDS)


async def _stop(runtime: Runtime, folders: Sequence[str], why: str, advice: str) -> None:
    """The safety stop: so many at once is not bad luck but a bucket that changed under us, or another account."""
    await pause(runtime, why, "callvault")
    for folder in folders:
        await runtime.due.postpone(folder, 0)
    await runtime.alerts.send("deletion-stopped", "all", f"Deletion has paused itself: {why}.", advice)


async def _judge(runtime: Runtime, rules: Rules, folder: str) -> _Proven | _GoneBefore | _Failed | _Away | None:
    """Prove a recording again; None if its original stays for now, which has been said and scheduled then."""
    async with runtime.deletion_gate:
        try:
            return await _look(runtime, rules, folder)
        except (Damaged, UnreadableRecord) as error:
            log.error("deletion blocked: the archive is damaged", folder=folder, error=str(error))
            advice = f"Run `callvault verify`; the original of {folder} is kept."
            await runtime.alerts.send("archive-damaged", "recordings", str(error), advice)
            await runtime.due.done(folder)
            if isinstance(error, Missing):  # where other bytes lie, a person must look
                await enqueue(runtime.redis, repair_job(folder))
            return _Failed()
        except AddressAway as error:
            return await _postponed(runtime, folder, error)
        except DownloadFailed as error:
            await _not_deleted(
                runtime, folder, layout.recording_id_of(folder), f"its audio cannot be looked at: {error}"
            )
            return None
        except Exception as error:  # Telnyx or the store is away: the original stays, and its turn comes again
            return await _postponed(runtime, folder, error)


async def _look(runtime: Runtime, rules: Rules, folder: str) -> _Proven | _GoneBefore | None:
    """Look at a recording in the archive and at Telnyx.

    Raises:
        Damaged, UnreadableRecord: the archive is not whole.
        DownloadFailed: its audio cannot be looked at now.
    """
    keys = await runtime.in_thread(runtime.archive.keys_of, folder)
    if layout.erasure_key(folder) in keys or layout.receipt_key(folder) in keys:
        await runtime.due.done(folder)
        return None
    record = await runtime.in_thread(runtime.archive.commit_record, folder)
    if record is None:
        raise Damaged(f"{layout.commit_key(folder)}: gone from the archive")
    recording_id = str(record.recording["id"])
    if await runtime.redis.hexists(DEAD_LETTERS, letter_id(recording_id)):
        await runtime.due.done(folder)
        return None
    has_versions = any(layout.is_version(key.removeprefix(folder)) for key in keys)
    versions = await runtime.in_thread(runtime.archive.versions, folder) if has_versions else []
    findings = findings_of(versions, record)
    decisions = await _decisions(runtime, folder, keys, recording_id, findings)
    kept = why_kept(rules, record, decisions, findings) or await why_unsealed(runtime, rules, folder)
    if kept is not None:
        await _keep(runtime, folder, kept)
        return None
    known = {
        o.key: o for one in (*versions, record) for o in one.objects
    }  # a version of the same bytes names the first's
    objects = [await runtime.in_thread(runtime.archive.prove_again, o) for o in known.values()]
    archived = {layout.transcription_of(key) for key in keys if key.startswith(f"{folder}transcriptions/")}
    transcriptions = await _transcriptions(runtime, rules, folder, record, archived)
    if transcriptions is None:
        await runtime.due.postpone(folder, _WAIT_FOR_TRANSCRIPTION_SECONDS)
        return None
    try:
        recording = await runtime.telnyx.recordings.retrieve(recording_id)
    except NotFound:
        return await _not_there(runtime, folder, recording_id, objects)
    seen_at = format_instant(utc_now())
    changed = await _difference(runtime, recording, [record, *versions])
    if changed is not None:
        await _content_changed(runtime, folder, recording_id, changed)
        return None
    return _Proven(folder, recording_id, record, decisions, findings, objects, transcriptions, seen_at)


async def _decisions(
    runtime: Runtime, folder: str, keys: Sequence[str], recording_id: str, findings: Sequence[str]
) -> Decisions:
    """The decisions in a recording's folder; where one is needed or there are any, all that are about it."""
    beside = [key for key in keys if key.startswith(f"{folder}decisions/")]
    decisions = await runtime.in_thread(read_decisions, runtime.archive, beside)
    if not findings and not decisions:
        return decisions  # those under its id are read in the last moment
    return {**decisions, **await runtime.in_thread(decisions_about, runtime.archive, "recording", recording_id)}


async def _keep(runtime: Runtime, folder: str, kept: Kept) -> None:
    log.info("original kept", folder=folder, why=kept.why)
    if kept.seconds is None:
        await runtime.due.done(folder)
    else:
        await runtime.due.postpone(folder, kept.seconds)


async def _difference(runtime: Runtime, recording: Recording, known: Sequence[CommitRecord]) -> str | None:
    """How what Telnyx shows now differs from all that is archived of it; None if one of them is it.

    Raises:
        DownloadFailed: its audio cannot be looked at now, which says nothing of what it is.
    """
    told = recording.as_returned()
    marks: dict[str, SourceMark] = {}
    for audio_format in ("wav", "mp3"):
        url = getattr(recording.download_urls, audio_format, None)
        if url and any(o.key.endswith(f"audio.{audio_format}") for record in known for o in record.objects):
            marks[audio_format] = await runtime.in_thread(runtime.downloads.look, url)
    found = [difference(record, told, marks) for record in known]
    return None if None in found else found[-1]


async def _content_changed(runtime: Runtime, folder: str, recording_id: str, changed: str) -> None:
    """What Telnyx has is not what the archive has: it stays, and is fetched beside what is there."""
    log.error("original kept: changed at Telnyx", recording_id=recording_id, difference=changed)
    day = layout.day_of(layout.commit_key(folder))  # where it lies, whatever Telnyx says now of when it began
    request = RecordingRequest(
        recording_id=recording_id, started_at=f"{day}T00:00:00Z", found_by="reconcile", look_again=True
    )
    await enqueue(runtime.redis, recording_job(request))
    await runtime.alerts.send(
        "content-changed",
        recording_id,
        f"Recording {recording_id} is not at Telnyx as it was archived: {changed}. Its original is kept.",
        "What Telnyx has now is archived beside it; see docs/runbook.md.",
    )
    await _ask_later(runtime, folder, recording_id, "changed", changed)


async def _not_there(
    runtime: Runtime, folder: str, recording_id: str, objects: list[ArchivedObject]
) -> _GoneBefore | None:
    """Telnyx answers 404: deleted by an earlier turn of ours that could not write its receipt, or gone before we asked.

    Under another API key than the one that had it, a 404 may only mean another account, so it ends no deletion of ours.
    """
    left = await runtime.leaving.of(recording_id)
    if left is None or left.asked_at is None or left.key not in ("", runtime.account.key_fingerprint):
        return _GoneBefore(folder, recording_id, objects)
    await _write_receipt(runtime, folder, recording_id, objects, [], left.seen_at, left.asked_at)
    return None


async def _settle_gone(runtime: Runtime, settled: Sequence[_GoneBefore], gone: Sequence[_GoneBefore]) -> None:
    """Write down what was gone before we asked, where this key sees other originals or a person went on; the rest waits."""
    for one in gone:
        if one not in settled:
            log.warning("original not at Telnyx; asked again later", recording_id=one.recording_id)
            await _ask_later(runtime, one.folder, one.recording_id, "gone", "Telnyx answers 404")
            continue
        record = Gone(recording_id=one.recording_id, objects=one.objects, found_gone_at=format_instant(utc_now()))
        await runtime.in_thread(runtime.archive.put_gone, one.folder, record)
        await runtime.announce(layout.gone_key(one.folder), record)
        await runtime.redis.hdel(TOLD_GONE, one.recording_id)
        await runtime.leaving.take_away([one.recording_id])
        await runtime.due.done(one.folder)
        log.warning("original was gone before we asked", recording_id=one.recording_id)


async def _ask_later(runtime: Runtime, folder: str, recording_id: str, name: str, said: str) -> None:
    """Have an original come back later and later while the same is true: soon at first, since a wrong key is soon mended."""
    attempts = await runtime.attempts.record(letter_id(recording_id), name, said)
    times = sum(attempt.cause == name for attempt in attempts)
    await runtime.due.postpone(folder, CAUSES["not-deleted"].wait_seconds(times))


async def _transcriptions(
    runtime: Runtime, rules: Rules, folder: str, record: CommitRecord, archived: set[str]
) -> list[RecordingTranscription] | None:
    """The transcriptions that Telnyx has of a recording, if all that are to come are in the archive; else None.

    Raises:
        Damaged: one in the archive does not say what Telnyx says.
    """
    recording_id, policy = str(record.recording["id"]), rules.transcriptions
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
        connection_id = str(record.recording.get("connection_id") or "")
        if await _is_transcribing(runtime, rules, connection_id):
            age = utc_now() - parse_instant(record.archived_at)
            if policy.kind == "require" or age < policy.wait:
                return None
    for transcription in found:
        if transcription.status == "completed":
            await _prove_transcription(runtime, folder, transcription)
    return found


async def _is_transcribing(runtime: Runtime, rules: Rules, connection_id: str) -> bool:
    """Whether transcriptions of a connection are awaited; what only Redis knows of, from an earlier version, is written down."""
    if connection_id in rules.transcribing:
        return True
    if not connection_id or not await runtime.redis.sismember(TRANSCRIBING, connection_id):
        return False
    await runtime.in_thread(runtime.archive.put_transcribing, connection_id)
    return True


async def _prove_transcription(runtime: Runtime, folder: str, transcription: RecordingTranscription) -> None:
    """Read a transcription from the archive and hold it against Telnyx's own words."""
    if transcription.transcription_text is None:  # a list need not carry the text
        transcription = await runtime.telnyx.recording_transcriptions.retrieve(str(transcription.id))
    key = layout.transcription_key(folder, str(transcription.id))
    record = TRANSCRIPTION.read(await runtime.in_thread(runtime.archive.read_small, key), key)
    if record.transcription.get("transcription_text") != transcription.transcription_text:
        raise Damaged(f"{key}: does not say what Telnyx says")


async def _delete(runtime: Runtime, token: str, proven: Sequence[_Proven]) -> None:
    """Delete what is proven. What fails half-way comes back soon: what is gone by then only gets its receipt."""
    if not proven:
        return
    batch = _Batch(runtime, token, proven)
    await batch.begin()
    outcomes = await asyncio.gather(*(_delete_transcriptions(runtime, batch, one) for one in proven))
    await _back_off(runtime, outcomes)
    error: Exception | None = None
    try:
        await _delete_in_bulk(runtime, batch, list(batch.rows))
    except Stopped as stopped:
        await _all_later(runtime, [one.folder for one in batch.rows.values()], stopped)
        await batch.drop(list(batch.rows))
    except Exception as failed:  # some may be gone all the same, which the confirmation finds out
        error = failed
        log.warning("bulk deletion failed", error=f"{type(error).__name__}: {error}")
    await _back_off(
        runtime, await asyncio.gather(*(_confirm(runtime, batch, one, error) for one in batch.rows.values()))
    )


class _Batch:
    """The originals that are being deleted together, as long as they may be."""

    def __init__(self, runtime: Runtime, token: str, proven: Sequence[_Proven]) -> None:
        self._runtime, self._token = runtime, token
        self.rows: dict[str, _Proven] = {one.recording_id: one for one in proven}
        self.asked_at: dict[str, str] = {}

    async def begin(self) -> None:
        """Tell that these are about to leave; only then is anything asked for the last time."""
        await self._runtime.leaving.put({id_: self._row(id_) for id_ in self.rows})

    async def ask(self, recording_ids: Sequence[str]) -> None:
        """The question before a request that deletes some of them, which says so once it may leave; raises as `ask_only`."""
        began = moment()
        await self.ask_only(recording_ids)
        at, before = format_instant(utc_now()), dict(self.asked_at)
        self.asked_at |= {id_: at for id_ in recording_ids if id_ not in self.asked_at}
        await self._runtime.leaving.put({id_: self._row(id_) for id_ in recording_ids})
        try:
            assert_fresh(began)
        except Stopped:
            self.asked_at = before
            raise

    async def ask_only(self, recording_ids: Sequence[str]) -> None:
        """The same before a request that deletes only what belongs to them; raises what `ask_anew` does."""
        began = moment()
        rows = {id_: self.rows[id_] for id_ in recording_ids}
        asked = {id_: (one.record, one.decisions, one.findings) for id_, one in rows.items()}
        await ask_anew(self._runtime, asked)
        assert_fresh(began)

    async def over(self, recording_id: str) -> None:
        """The end of a deletion that did not delete is known, for now: whoever waits for it need wait no more."""
        await self._runtime.leaving.put({recording_id: msgspec.structs.replace(self._row(recording_id), is_over=True)})

    async def withhold(self, kept: Mapping[str, Kept]) -> None:
        """Take those out that may not be deleted after all."""
        for id_, why in kept.items():
            if id_ in self.rows:
                await _keep(self._runtime, self.rows[id_].folder, why)
        await self.drop(kept)

    async def drop(self, recording_ids: Sequence[str] | Mapping[str, Kept]) -> None:
        """Take some out: nothing more is done about them now."""
        for id_ in recording_ids:
            self.rows.pop(id_, None)
        await self._runtime.leaving.take_away([id_ for id_ in recording_ids if id_ not in self.asked_at])

    def _row(self, recording_id: str) -> Leaving:
        one = self.rows[recording_id]
        key = self._runtime.account.key_fingerprint
        return Leaving(one.folder, self._token, one.seen_at, self.asked_at.get(recording_id), key=key)


async def _delete_transcriptions(runtime: Runtime, batch: _Batch, one: _Proven) -> _Away | None:
    """They go first, one by one: they have no bulk call, and whether a recording takes them along is not documented."""
    try:
        async with runtime.deletion_gate:
            for transcription in one.transcriptions:
                with suppress(NotFound), asking(lambda: batch.ask_only([one.recording_id])):
                    await runtime.telnyx.recording_transcriptions.delete(str(transcription.id))
    except Withheld as withheld:
        await batch.withhold(withheld.kept)
    except Stopped as stopped:
        await batch.drop([one.recording_id])
        await _all_later(runtime, [one.folder], stopped)
    except (BadRequest, Invalid, Conflict, Forbidden) as error:
        await batch.drop([one.recording_id])
        await _not_deleted(runtime, one.folder, one.recording_id, f"its transcription cannot be deleted: {error}")
    except Exception as error:
        await batch.drop([one.recording_id])
        return await _postponed(runtime, one.folder, error)
    return None


async def _delete_in_bulk(runtime: Runtime, batch: _Batch, recording_ids: Sequence[str]) -> None:
    """Delete recordings at Telnyx; a batch that is refused is halved, down to single ones; what is withheld is left out."""
    recording_ids = [id_ for id_ in recording_ids if id_ in batch.rows]
    if not recording_ids:
        return
    try:
        with asking(lambda: batch.ask(recording_ids)):
            if len(recording_ids) == 1:
                await runtime.telnyx.recordings.delete(recording_ids[0])
            else:
                await runtime.telnyx.recordings.bulk_delete(ids=list(recording_ids))
    except Withheld as withheld:
        await batch.withhold(withheld.kept)
        await _delete_in_bulk(runtime, batch, recording_ids)
    except NotFound:
        if len(recording_ids) > 1:  # what a 404 means when only some are gone is not documented
            await _delete_halves(runtime, batch, recording_ids)
    except (BadRequest, Invalid, Conflict) as error:
        if len(recording_ids) == 1:
            log.error("Telnyx refuses a deletion", recording_id=recording_ids[0], error=str(error))
            return
        await _delete_halves(runtime, batch, recording_ids)


async def _delete_halves(runtime: Runtime, batch: _Batch, recording_ids: Sequence[str]) -> None:
    middle = len(recording_ids) // 2
    await _delete_in_bulk(runtime, batch, recording_ids[:middle])
    await _delete_in_bulk(runtime, batch, recording_ids[middle:])


async def _confirm(runtime: Runtime, batch: _Batch, one: _Proven, failed: Exception | None) -> _Away | None:
    """See that an original is gone, then write its receipt; if either cannot be done now, its turn comes again."""
    asked_at = batch.asked_at.get(one.recording_id)
    try:
        async with runtime.deletion_gate:
            if asked_at is None:  # nothing was sent about it
                await runtime.leaving.take_away([one.recording_id])
                return await _postponed(runtime, one.folder, failed or RuntimeError("no request was sent"))
            if not await _is_gone(runtime, one.recording_id):
                await batch.over(one.recording_id)
                log.warning("deleted but still there", recording_id=one.recording_id)
                await _not_deleted(
                    runtime,
                    one.folder,
                    one.recording_id,
                    f"{failed}" if failed else "Telnyx took the request, and still has it",
                )
                return None
            ids = [str(transcription.id) for transcription in one.transcriptions]
            await _write_receipt(runtime, one.folder, one.recording_id, one.objects, ids, one.seen_at, asked_at)
    except Exception as error:
        return await _postponed(runtime, one.folder, error)
    return None


async def _not_deleted(runtime: Runtime, folder: str, recording_id: str, error: str) -> None:
    """Telnyx does not delete or show an original: back off, tell a person, and give it up in the end."""
    cause, job_id = CAUSES["not-deleted"], letter_id(recording_id)
    attempts = await runtime.attempts.record(job_id, cause.name, error)
    same = [attempt for attempt in attempts if attempt.cause == cause.name]
    since = (parse_instant(same[-1].at) - parse_instant(same[0].at)).total_seconds()
    if cause.is_final(same, since):
        payload = msgspec.to_builtins(DeletionRequest(folder=folder))
        letter = DeadLetter(job_id, "schedule_again", payload, MAIN_QUEUE, cause.name, error, same[-1].at, attempts)
        await runtime.attempts.bury(letter)
        await runtime.due.done(folder)
        await runtime.leaving.take_away([recording_id])
        text = f"The deletion of {recording_id} was given up after {len(attempts)} attempts: {error} (job {job_id})"
        await runtime.alerts.send("dead-letter", cause.name, text, f"{cause.advice} See `callvault dead-letters list`.")
        return
    await runtime.due.postpone(folder, cause.wait_seconds(len(same)))
    if len(same) >= _TOLD_AFTER:
        text = f"Telnyx has not deleted {recording_id} in {len(same)} attempts: {error}."
        await runtime.alerts.send("deletion-refused", "telnyx", text, cause.advice)


def letter_id(recording_id: str) -> str:
    """What the deletion of an original is called among attempts and dead letters."""
    return f"delete_original:{recording_id}"


async def _postponed(runtime: Runtime, folder: str, error: Exception) -> _Away:
    await runtime.due.postpone(folder, _AWAY_SECONDS)
    return _Away(f"{type(error).__name__}: {error}")


async def _write_receipt(
    runtime: Runtime,
    folder: str,
    recording_id: str,
    objects: list[ArchivedObject],
    transcription_ids: list[str],
    seen_at: str,
    asked_at: str,
) -> None:
    receipt = DeletionReceipt(
        recording_id=recording_id,
        objects=objects,
        transcription_ids=transcription_ids,
        seen_at=seen_at,
        asked_at=asked_at,
        confirmed_gone_at=format_instant(utc_now()),
    )
    await runtime.in_thread(runtime.archive.put_receipt, folder, receipt)
    await runtime.announce(layout.receipt_key(folder), receipt)
    await runtime.due.done(folder)
    await runtime.leaving.has_left(recording_id, folder)
    await runtime.attempts.forget(letter_id(recording_id))
    runtime.history.add("deleted")
    runtime.history.add("deleted_bytes", sum(o.size for o in objects))
    log.info("original deleted", recording_id=recording_id)


async def _is_gone(runtime: Runtime, recording_id: str) -> bool:
    for wait in _CONFIRM_WAITS_SECONDS:
        await asyncio.sleep(wait)
        try:
            await runtime.telnyx.recordings.retrieve(recording_id)
        except NotFound:
            return True
    return False
