"""Delete originals at Telnyx in bulk: ask the rule before each request, then confirm that they are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from archive.records import DeletionReceipt
from process.logs import get_logger
from telnyx_api.client import asking
from telnyx_api.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound
from text.times import format_instant, utc_now
from workers.deletion.may_delete import (
    Kept,
    Stopped,
    Withheld,
    ask_anew,
    assert_fresh,
    moment,
)
from workers.deletion.originals import Proven
from workers.deletion.outcomes import Away, all_later, back_off, keep, not_deleted, postpone_for, write_receipt
from workers.deletion.schedule import Leaving
from workers.runtime import Runtime

log = get_logger()

_CONFIRM_WAITS_SECONDS = (0.0, 0.2, 1.0)


async def delete_at_telnyx(runtime: Runtime, token: str, proven: Sequence[Proven]) -> None:
    """Delete what is proven. What fails half-way is tried again soon; an original gone by then only gets its receipt."""
    if not proven:
        return
    batch = _Batch(runtime, token, proven)
    await batch.begin()
    outcomes = await asyncio.gather(*(_delete_transcriptions(runtime, batch, one) for one in proven))
    await back_off(runtime, outcomes)
    error: Exception | None = None
    try:
        await _delete_in_bulk(runtime, batch, list(batch.rows))
    except Stopped as stopped:
        await all_later(runtime, [one.folder for one in batch.rows.values()], stopped)
        await batch.drop(list(batch.rows))
    except Exception as failed:  # some may be gone anyway; the confirmation finds out
        error = failed
        log.warning("bulk deletion failed", error=f"{type(error).__name__}: {error}")
    await back_off(
        runtime, await asyncio.gather(*(_confirm(runtime, batch, one, error) for one in batch.rows.values()))
    )


class _Batch:
    """The originals that are deleted together, while they may be."""

    def __init__(self, runtime: Runtime, token: str, proven: Sequence[Proven]) -> None:
        self._runtime, self._token = runtime, token
        self.refused: dict[str, str] = {}  # by recording: why Telnyx refuses to delete it
        self.rows: dict[str, Proven] = {one.recording_id: one for one in proven}
        self.asked_at: dict[str, str] = {}

    async def begin(self) -> None:
        """Announce in Redis that these are about to be deleted, before the last questions are asked."""
        await self._runtime.leaving.put({id_: self._row(id_) for id_ in self.rows})

    async def ask(self, recording_ids: Sequence[str]) -> None:
        """Ask the rule before a request that deletes some of them, and record that it leaves; raises what `ask_anew` does."""
        began = moment()
        await self._ask(recording_ids)
        at, before = format_instant(utc_now()), dict(self.asked_at)
        self.asked_at |= {id_: at for id_ in recording_ids if id_ not in self.asked_at}
        await self._runtime.leaving.put({id_: self._row(id_) for id_ in recording_ids})
        try:
            assert_fresh(began)
        except Stopped:
            self.asked_at = before
            raise

    async def ask_of_transcription(self, recording_id: str) -> None:
        """The same before a request that deletes a transcription; the recording itself is not marked yet."""
        began = moment()
        await self._ask([recording_id])
        await self._runtime.leaving.transcription_leaves(recording_id, self.rows[recording_id].folder)
        assert_fresh(began)

    async def _ask(self, recording_ids: Sequence[str]) -> None:
        rows = {id_: self.rows[id_] for id_ in recording_ids}
        await ask_anew(self._runtime, {id_: (one.record, one.decisions, one.findings) for id_, one in rows.items()})

    async def over(self, recording_id: str) -> None:
        """Record that a deletion ended without deleting, so that nobody waits for it any longer."""
        await self._runtime.leaving.put({recording_id: msgspec.structs.replace(self._row(recording_id), is_over=True)})

    async def withhold(self, kept: Mapping[str, Kept]) -> None:
        """Remove those that may not be deleted after all."""
        for id_, why in kept.items():
            if id_ in self.rows:
                await keep(self._runtime, self.rows[id_].folder, why)
        await self.drop(kept)

    async def drop(self, recording_ids: Sequence[str] | Mapping[str, Kept]) -> None:
        """Remove some from the batch."""
        for id_ in recording_ids:
            self.rows.pop(id_, None)
        await self._runtime.leaving.take_away([id_ for id_ in recording_ids if id_ not in self.asked_at])

    def _row(self, recording_id: str) -> Leaving:
        one = self.rows[recording_id]
        key = self._runtime.account.key_fingerprint
        return Leaving(one.folder, self._token, one.seen_at, self.asked_at.get(recording_id), key=key)


async def _delete_transcriptions(runtime: Runtime, batch: _Batch, one: Proven) -> Away | None:
    """Delete transcriptions first, one by one: Telnyx has no bulk call, and does not say whether a recording takes them along."""
    try:
        async with runtime.deletion_gate:
            for transcription in one.transcriptions:
                with suppress(NotFound), asking(lambda: batch.ask_of_transcription(one.recording_id)):
                    await runtime.telnyx.recording_transcriptions.delete(str(transcription.id))
    except Withheld as withheld:
        await batch.withhold(withheld.kept)
    except Stopped as stopped:
        await batch.drop([one.recording_id])
        await all_later(runtime, [one.folder], stopped)
    except (BadRequest, Invalid, Conflict, Forbidden) as error:
        await batch.drop([one.recording_id])
        await not_deleted(runtime, one.folder, one.recording_id, f"its transcription cannot be deleted: {error}")
    except Exception as error:
        await batch.drop([one.recording_id])
        return await postpone_for(runtime, one.folder, error)
    return None


async def _delete_in_bulk(runtime: Runtime, batch: _Batch, recording_ids: Sequence[str]) -> None:
    """Delete recordings at Telnyx. A refused batch is halved, down to single recordings; withheld ones are left out."""
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
        if len(recording_ids) > 1:  # Telnyx does not document a 404 where only some are gone
            await _delete_halves(runtime, batch, recording_ids)
    except (BadRequest, Invalid, Conflict, Forbidden) as error:
        if len(recording_ids) == 1:
            log.error("Telnyx refuses a deletion", recording_id=recording_ids[0], error=str(error))
            batch.refused[recording_ids[0]] = str(error)
            return
        await _delete_halves(runtime, batch, recording_ids)


async def _delete_halves(runtime: Runtime, batch: _Batch, recording_ids: Sequence[str]) -> None:
    middle = len(recording_ids) // 2
    await _delete_in_bulk(runtime, batch, recording_ids[:middle])
    await _delete_in_bulk(runtime, batch, recording_ids[middle:])


async def _confirm(runtime: Runtime, batch: _Batch, one: Proven, failed: Exception | None) -> Away | None:
    """Confirm that an original is gone, then write its receipt; what cannot be done now is tried again."""
    asked_at = batch.asked_at.get(one.recording_id)
    try:
        async with runtime.deletion_gate:
            if asked_at is None:  # no request named it
                await runtime.leaving.take_away([one.recording_id])
                return await postpone_for(runtime, one.folder, failed or RuntimeError("no request was sent"))
            if not await _is_gone(runtime, one.recording_id):
                await batch.over(one.recording_id)
                log.warning("deleted but still there", recording_id=one.recording_id)
                await not_deleted(
                    runtime,
                    one.folder,
                    one.recording_id,
                    f"{batch.refused.get(one.recording_id) or failed or 'Telnyx accepted the request and still has it'}",
                )
                return None
            receipt = DeletionReceipt(
                recording_id=one.recording_id,
                objects=one.objects,
                transcription_ids=[str(transcription.id) for transcription in one.transcriptions],
                seen_at=one.seen_at,
                asked_at=asked_at,
                confirmed_gone_at=format_instant(utc_now()),
            )
            await write_receipt(runtime, one.folder, receipt)
    except Exception as error:
        return await postpone_for(runtime, one.folder, error)
    return None


async def _is_gone(runtime: Runtime, recording_id: str) -> bool:
    for wait in _CONFIRM_WAITS_SECONDS:
        await asyncio.sleep(wait)
        try:
            await runtime.telnyx.recordings.retrieve(recording_id)
        except NotFound:
            return True
    return False
