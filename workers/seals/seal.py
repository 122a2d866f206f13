"""`seal_day`: compare a closed day with Telnyx, list what it holds, and add its seal to the chain.

`unsealed.py` finds the days that wait. A day that cannot be sealed is tried again later, and blocks no other day.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import date, timedelta

from redis.exceptions import RedisError

from archive import layout
from archive.append import SealedMeanwhile, Unfinished, append, append_void, put_file
from archive.records import UnreadableRecord, WrongObject
from archive.seals import (
    CannotSeal,
    Chain,
    Link,
    Manifest,
    days_to_seal,
    folders_of_day,
    read_manifest,
)
from process.logs import get_logger
from telnyx_api.errors import Inconclusive
from text.counts import many
from text.times import format_instant, parse_instant, utc_now
from workers.catalogue.parquet import RowsFile
from workers.catalogue.rows import row_of
from workers.damage.damage import report_wrong
from workers.engine.clocks import clocks_agree
from workers.engine.lease import held
from workers.keys import COMPLETED, SEALING
from workers.queue.script import server_seconds
from workers.reconcile.not_archived import accept_in_time, forget_waiting
from workers.reconcile.not_transcribed import accept_transcriptions_in_time
from workers.reconcile.reconcile import missing_of
from workers.recordings.requests import SealRequest
from workers.runtime import Runtime, sealable_at
from workers.seals.chain import read_chain, remember_chain
from workers.seals.signing import making_of
from workers.seals.waiting import UnsealedDays

log = get_logger()

_LATER_EVERY = timedelta(days=1)  # a sealed day gets one further seal a day at most
_RETRY_SECONDS = 10.0
_RETRY_FACTOR = 5  # a day that waits is compared with Telnyx for a sixth of the time at most
_LONGEST_RETRY_SECONDS = 3600.0
_WAIT_FOR_OTHERS_SECONDS = 600


async def seal_day(runtime: Runtime, request: SealRequest) -> None:
    """The job: seal a day, or put it back on the list with the reason why it waits.

    Raises:
        TelnyxError, StoreError: one of them is away; the job runs again.
    """
    outcome = await seal(runtime, date.fromisoformat(request.day))
    if isinstance(outcome, Waits):
        log.info("day not sealed yet", day=request.day, why=outcome.why)


class Waits:
    """Why a day cannot be sealed yet.

    Attributes:
        why: one line.
        until: when it can be, if that is known: seconds since the epoch.
    """

    def __init__(self, why: str, until: float | None = None) -> None:
        self.why = why
        self.until = until


async def seal(runtime: Runtime, day: date, *, by_hand: bool = False) -> Link | Waits | None:
    """Seal the objects of a closed day that no seal lists, and update the list of unsealed days.

    Args:
        runtime: the worker's parts.
        day: UTC.
        by_hand: a person asks, so it does not wait for a day since the last seal of this day.

    Returns:
        The new seal; why it waits; or None if there is nothing to seal.

    Raises:
        TelnyxError, StoreError: one of them is away.
    """
    days = UnsealedDays(runtime.redis)
    await days.take(day)  # before it is listed: what is written from here on puts it back
    started = time.monotonic()
    try:
        outcome = await _seal(runtime, day, by_hand)
    except BaseException:
        with suppress(RedisError, OSError):
            await days.add(day, await server_seconds(runtime.redis) + _LONGEST_RETRY_SECONDS)
        raise
    if isinstance(outcome, Waits):
        wait = _RETRY_SECONDS + _RETRY_FACTOR * (time.monotonic() - started)
        at = outcome.until or await server_seconds(runtime.redis) + min(wait, _LONGEST_RETRY_SECONDS)
        await days.add(day, at, None if outcome.until else outcome.why)
    else:
        await days.sealed(day)
        await forget_waiting(runtime, day)
    return outcome


async def _seal(runtime: Runtime, day: date, by_hand: bool) -> Link | Waits | None:
    if not await clocks_agree(runtime):
        return Waits("the clocks of this machine and of the Redis server differ")
    now = min(await server_seconds(runtime.redis), utc_now().timestamp())
    if now < (until := sealable_at(runtime.settings, day)):
        return Waits("the day has not been over for CALLVAULT_SEAL_AFTER yet", until)
    try:
        chain = await read_chain(runtime)
    except UnreadableRecord as error:
        return await _damaged(runtime, day, error)
    if (links := chain.of_day(day)) and not by_hand:
        again = (parse_instant(links[-1].seal.sealed_at) + _LATER_EVERY).timestamp()
        if now < again:
            return Waits("sealed within the last day; what has come since gets a further seal", again)
    try:
        missing = await missing_of(runtime, day)
    except Inconclusive as error:
        return Waits(str(error))
    if missing.count:
        await accept_in_time(runtime, day, missing.recordings)
        await accept_transcriptions_in_time(runtime, day, missing.transcriptions)
        return Waits(f"{_of_either(missing.count)} not archived yet")
    reconciled_at = format_instant(utc_now())
    try:
        while True:
            try:
                return await _seal_reconciled(runtime, chain, day, reconciled_at)
            except SealedMeanwhile:
                continue
            except Unfinished as unfinished:
                with suppress(SealedMeanwhile):
                    await _finish_or_void(runtime, chain, unfinished.sequence, day)
    except WrongObject as error:
        return await _damaged(runtime, day, error)


async def _damaged(runtime: Runtime, day: date, error: WrongObject) -> Waits:
    await report_wrong(runtime.redis, error, "seal")
    text, advice = f"{day} cannot be sealed: {error}.", "Run `callvault verify --seals`."
    await runtime.alerts.send("archive-damaged", day.isoformat(), text, advice)
    return Waits(str(error))


async def _seal_reconciled(runtime: Runtime, chain: Chain, day: date, reconciled_at: str) -> Link | None:
    """Seal the new objects of a day; a day that must have a seal gets one even if it is empty."""
    with _Unsealed(runtime, chain, day) as unsealed:
        await unsealed.list()
        if unsealed.manifest.objects or (not chain.of_day(day) and await _must_be_sealed(runtime, day)):
            return await unsealed.append(reconciled_at)
        return None


async def _must_be_sealed(runtime: Runtime, day: date) -> bool:
    return day in days_to_seal(await runtime.in_thread(lambda: runtime.archive.identity), day)


class _Unsealed:
    """The objects of a day that no seal lists, for its manifest and for query engines. A context manager."""

    def __init__(self, runtime: Runtime, chain: Chain, day: date) -> None:
        self._runtime, self._chain, self._day = runtime, chain, day
        self._files = ExitStack()
        self.manifest = self._files.enter_context(Manifest())
        self._rows = self._files.enter_context(RowsFile())

    def __enter__(self) -> _Unsealed:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    async def list(self, only: set[str] | None = None) -> None:
        """List the objects; with `only`, only these keys."""
        await self._runtime.in_thread(self._list, None if only is None else only.__contains__)

    def _list(self, chosen: Callable[[str], bool] | None) -> None:
        for folder in folders_of_day(self._runtime.archive, self._day, self._chain.of_day(self._day), chosen):
            self.manifest.add(folder)
            if (row := row_of(folder)) is not None:
                self._rows.add(row)

    async def append(self, reconciled_at: str, only: int | None = None) -> Link:
        """Add the seal to the chain; with `only`, under this number alone. Raises what `append` of the archive does."""
        making = making_of(self._runtime, self._put_rows)
        link = await _added(self._runtime, self._chain, append, self._day, self.manifest, reconciled_at, making, only)
        counts: dict[str, object] = {"objects": self.manifest.objects, "recordings": link.seal.recordings}
        log.info("day sealed", day=link.seal.day, sequence=link.seal.sequence, **counts)
        return link

    def _put_rows(self, sequence: int) -> None:
        if (path := self._rows.finish(sequence)) is not None:
            put_file(self._runtime.archive, layout.parquet_key(self._day, sequence), path)


async def _added(runtime: Runtime, chain: Chain, add: Callable[..., Link], *arguments: object) -> Link:
    """Extend the chain, one worker at a time, and announce the new seal."""
    # A lease, since some stores ignore the condition of a create-only write.
    async with held(runtime.redis, SEALING, "the chain of seals", _WAIT_FOR_OTHERS_SECONDS):
        await runtime.assert_bound()
        await runtime.in_thread(runtime.archive.assert_identity)
        known = len(chain.links)
        link = await runtime.in_thread(add, runtime.archive, chain, *arguments)
        await remember_chain(runtime, chain, known)
    await runtime.redis.delete(COMPLETED)
    await runtime.announce(layout.seal_key(link.seal.sequence), link.seal)
    return link


async def _finish_or_void(runtime: Runtime, chain: Chain, sequence: int, day: date) -> None:
    """Finish the seal of a manifest that a dead worker left, or pass its number over by a void seal.

    A manifest is never changed. One that no longer matches the archive, such as after an erasure, would block every later
    seal.

    Args:
        runtime: the worker's parts.
        chain: as the caller knows it.
        sequence: the number of the manifest.
        day: the day that the caller seals; the caller lists it again after this.

    Raises:
        SealedMeanwhile: another worker was faster.
        TelnyxError, StoreError: one of them is away.
    """
    manifest, theirs = layout.seal_key(sequence, "sha256"), day
    try:
        lines = await runtime.in_thread(lambda: list(read_manifest(runtime.archive, sequence)))
        listed = {key: sha256 for sha256, key in lines}
        about = next((about for key in listed if (about := layout.day_of(key)) is not None), None)
        if about is None:
            raise CannotSeal(manifest, "lists no object of any day")
        theirs = about
        if count := (await missing_of(runtime, theirs)).count:
            raise CannotSeal(manifest, f"{theirs}: {_of_either(count)} not archived yet")
        await _finish(runtime, chain, sequence, theirs, listed)
    except (CannotSeal, UnreadableRecord, Inconclusive) as error:
        why = f"the worker that made its manifest ended, and it cannot be finished ({error})"
        await _added(runtime, chain, append_void, sequence, theirs, why, making_of(runtime, lambda _: None))
        log.warning("a seal's number is passed over", sequence=sequence, day=theirs.isoformat(), why=str(error))
        if theirs != day:
            await UnsealedDays(runtime.redis).add(theirs, await server_seconds(runtime.redis))


async def _finish(runtime: Runtime, chain: Chain, sequence: int, day: date, listed: dict[str, str]) -> None:
    """Write the seal of an existing manifest, if the archive still holds what it lists.

    Raises:
        CannotSeal: it does not.
    """
    with _Unsealed(runtime, chain, day) as unsealed:
        await unsealed.list(set(listed))
        theirs = "".join(f"{sha256}  {key}\n" for key, sha256 in listed.items()).encode()
        if b"".join(unsealed.manifest.chunks()) != theirs:
            raise CannotSeal(layout.seal_key(sequence, "sha256"), f"does not tell what {day} holds")
        await unsealed.append(format_instant(utc_now()), sequence)
    log.info("unfinished seal finished", sequence=sequence, day=day.isoformat())


def _of_either(count: int) -> str:
    return many(count, "recording or transcription is", "recordings or transcriptions are")
