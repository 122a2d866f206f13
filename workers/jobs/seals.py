"""`seal_day`: compare a closed day with Telnyx, list what it holds, and add its seal to the chain.

Which days wait is told by whoever writes into the archive (`workers/queue/written.py`); after a lost Redis it is found
from the archive once. A day that cannot be sealed is tried again later, and keeps no other from anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from datetime import date, timedelta
from typing import TYPE_CHECKING

import msgspec
from redis.exceptions import RedisError

from config.errors import UserError
from config.logs import get_logger
from config.settings import Settings
from config.tasks import end_tasks
from config.times import format_instant, parse_instant, utc_now
from workers.archive import layout
from workers.archive.records import UnreadableRecord
from workers.archive.seals import (
    CannotSeal,
    Chain,
    Link,
    Manifest,
    SealedMeanwhile,
    Unfinished,
    append,
    folders_of_day,
    present_seals,
    put_beside,
    put_file,
    read_manifest,
    sealed_keys,
)
from workers.catalogue.parquet import RowsFile
from workers.catalogue.rows import row_of
from workers.jobs.chain import read_chain, remember_chain
from workers.jobs.payloads import VERSION
from workers.jobs.reconcile import missing_of
from workers.keys import BULK_QUEUE, COMPLETED, SEALING, UNSEALED_KNOWN
from workers.queue.accept import enqueue
from workers.queue.jobs import Job
from workers.queue.script import server_seconds
from workers.queue.written import UnsealedDays
from workers.runtime import Runtime, sealable_at

if TYPE_CHECKING:
    from workers.archive.signatures import SealKeys

log = get_logger()

_AT_ONCE = 20
_LATER_EVERY = timedelta(days=1)  # a sealed day gets one further seal a day at most
_RETRY_SECONDS = 10.0
_RETRY_FACTOR = 5  # a day that waits is compared with Telnyx for a sixth of the time at most
_LONGEST_RETRY_SECONDS = 3600.0
_LOCK_SECONDS = 15
_LOCK_WAIT_SECONDS = 600
_COMPLETE_EVERY_SECONDS = 600
_STAMPS_A_TURN = 20


class SealRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which day to seal, ISO 8601."""

    v: int = VERSION
    day: str


class FindUnsealedRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Find the days that hold something no seal lists."""

    v: int = VERSION


async def start_seals(runtime: Runtime) -> None:
    """Enqueue a job for each day whose time has come; after a lost Redis, first one that finds them."""
    if not await runtime.redis.exists(UNSEALED_KNOWN):
        await enqueue(runtime.redis, Job("find_unsealed", FindUnsealedRequest(), "find_unsealed", BULK_QUEUE))
    for day in await UnsealedDays(runtime.redis).due(await server_seconds(runtime.redis), _AT_ONCE):
        request = SealRequest(day=day.isoformat())
        await enqueue(runtime.redis, Job("seal_day", request, f"seal_day:{day}", BULK_QUEUE))
    await _complete_seals(runtime)


async def find_unsealed(runtime: Runtime, _: FindUnsealedRequest) -> None:
    """The job after a lost Redis: list the archive, and put every day on the list that holds something no seal lists.

    Raises:
        StoreError: the store cannot be listed now.
    """
    days = UnsealedDays(runtime.redis)
    try:
        chain = await read_chain(runtime)
    except UnreadableRecord:  # every day is put on the list, and each says then why it cannot be sealed
        chain = Chain(runtime.archive)
    for day in await runtime.in_thread(_unsealed_days, runtime, chain):
        await days.add(day, sealable_at(runtime.settings, day))
    await runtime.redis.set(UNSEALED_KNOWN, format_instant(utc_now()))


def _unsealed_days(runtime: Runtime, chain: Chain) -> list[date]:
    """Days of the archive with a key that no manifest lists; one listing of everything, and every manifest."""
    archive, found = runtime.archive, set[date]()
    listed: dict[date, tuple[int, int]] = {}
    for kind in layout.KINDS:
        for stored in archive.store.list(f"{kind}/"):
            if (day := layout.day_of(stored.key)) is not None and day not in found:
                if not chain.of_day(day):
                    found.add(day)
                else:
                    count, total = listed.get(day, (0, 0))
                    listed[day] = (count + 1, total ^ hash(stored.key))
    for day, known in listed.items():
        count, total = 0, 0
        with suppress(UnreadableRecord):  # what was counted until then differs
            for key in sealed_keys(archive, chain.of_day(day)):
                count, total = count + 1, total ^ hash(key)
        if (count, total) != known:
            found.add(day)
    return sorted(found)


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
    """Seal what a closed day holds that no seal lists, and keep the list of unsealed days true.

    Args:
        runtime: the worker's parts.
        day: UTC.
        by_hand: a person asks, so it need not wait for a day since the last seal of this day.

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
    return outcome


async def _seal(runtime: Runtime, day: date, by_hand: bool) -> Link | Waits | None:
    now = await server_seconds(runtime.redis)
    if now < (until := sealable_at(runtime.settings, day)):
        return Waits("the day is not over for long enough (CALLVAULT_SEAL_AFTER)", until)
    try:
        chain = await read_chain(runtime)
    except UnreadableRecord as error:
        return await _damaged(runtime, day, error)
    if (links := chain.of_day(day)) and not by_hand:
        again = (parse_instant(links[-1].seal.sealed_at) + _LATER_EVERY).timestamp()
        if now < again:
            return Waits("sealed within the last day; what has come since gets a further seal", again)
    missing = await missing_of(runtime, day)
    if missing:
        return Waits(f"{missing} recordings or transcriptions are not archived yet")
    reconciled_at = format_instant(utc_now())
    try:
        while True:
            try:
                return await _seal_reconciled(runtime, chain, day, reconciled_at)
            except SealedMeanwhile:
                continue
            except Unfinished as unfinished:
                with suppress(SealedMeanwhile):
                    if not await _finish(runtime, chain, unfinished.sequence):
                        return Waits(str(unfinished))
    except (CannotSeal, UnreadableRecord) as error:
        return await _damaged(runtime, day, error)


async def _damaged(runtime: Runtime, day: date, error: Exception) -> Waits:
    text, advice = f"{day} cannot be sealed: {error}.", "Run `callvault verify --seals`."
    await runtime.alerts.send("archive-damaged", day.isoformat(), text, advice)
    return Waits(str(error))


async def _seal_reconciled(runtime: Runtime, chain: Chain, day: date, reconciled_at: str) -> Link | None:
    with _Unsealed(runtime, chain, day) as unsealed:
        await unsealed.list()
        return await unsealed.append(reconciled_at) if unsealed.manifest.objects else None


class _Unsealed:
    """What a day holds that no seal lists, for its manifest and for query engines. A context manager."""

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
        """List it; with `only`, of it no other keys than these."""
        await self._runtime.in_thread(self._list, None if only is None else only.__contains__)

    def _list(self, chosen: Callable[[str], bool] | None) -> None:
        for folder in folders_of_day(self._runtime.archive, self._day, self._chain.of_day(self._day), chosen):
            self.manifest.add(folder)
            if (row := row_of(folder.records)) is not None:
                self._rows.add(row)

    async def append(self, reconciled_at: str, only: int | None = None) -> Link:
        """Add its seal to the chain; with `only`, under this number alone. Raises what `archive.seals.append` does."""
        runtime, chain = self._runtime, self._chain
        arguments = (runtime.archive, chain, self._day, self.manifest, reconciled_at, self._put_rows, only)
        async with _alone(runtime):
            known = len(chain.links)
            link = await runtime.in_thread(append, *arguments)
            await remember_chain(runtime, chain, known)
        seal = link.seal
        counts = {"objects": self.manifest.objects, "recordings": seal.recordings}
        log.info("day sealed", day=seal.day, sequence=seal.sequence, **counts)
        await runtime.redis.delete(COMPLETED)
        await runtime.announce(layout.seal_key(seal.sequence), seal)
        return link

    def _put_rows(self, sequence: int) -> None:
        if (path := self._rows.finish(sequence)) is not None:
            put_file(self._runtime.archive, layout.parquet_key(self._day, sequence), path)


async def _finish(runtime: Runtime, chain: Chain, sequence: int) -> bool:
    """Finish the seal of a manifest that a dead worker left; False if its day is not whole at Telnyx's word now.

    Raises:
        CannotSeal: the manifest does not tell what the archive holds.
    """
    listed = dict(
        await runtime.in_thread(lambda: [(key, sha) for sha, key in read_manifest(runtime.archive, sequence)])
    )
    day = next((day for key in listed if (day := layout.day_of(key)) is not None), None)
    if day is None:
        raise CannotSeal(f"{layout.seal_key(sequence, 'sha256')}: lists no object of any day")
    if await missing_of(runtime, day):
        return False
    with _Unsealed(runtime, chain, day) as unsealed:
        await unsealed.list(set(listed))
        theirs = "".join(f"{sha256}  {key}\n" for key, sha256 in listed.items()).encode()
        if b"".join(unsealed.manifest.chunks()) != theirs:
            raise CannotSeal(f"{layout.seal_key(sequence, 'sha256')}: does not tell what {day} holds")
        await unsealed.append(format_instant(utc_now()), sequence)
    log.info("unfinished seal finished", sequence=sequence, day=day.isoformat())
    return True


@asynccontextmanager
async def _alone(runtime: Runtime) -> AsyncIterator[None]:
    """One worker at a time adds to the chain: some stores ignore the condition that would let one win."""
    lock = runtime.redis.lock(SEALING, timeout=_LOCK_SECONDS, blocking_timeout=_LOCK_WAIT_SECONDS)

    async def extend() -> None:
        while True:
            await asyncio.sleep(_LOCK_SECONDS / 3)
            await lock.reacquire()

    async with lock:
        extending = asyncio.create_task(extend())
        try:
            yield
        finally:
            await end_tasks([extending])


async def _complete_seals(runtime: Runtime) -> None:
    """Sign and stamp the seals that are not yet; an authority that is down delays its stamp, and nothing else."""
    settings = runtime.settings
    if settings.seal_key is None and settings.timestamp_url is None:
        return
    if not await runtime.redis.set(COMPLETED, "1", nx=True, ex=_COMPLETE_EVERY_SECONDS):
        return
    if failed := await runtime.in_thread(complete, runtime):
        advice = "The seals stand; their stamps follow when the authority answers. See CALLVAULT_TIMESTAMP_URL."
        await runtime.alerts.send("time-stamp", "authority", f"No time stamp: {failed}.", advice)


def complete(runtime: Runtime) -> str | None:
    """Sign and stamp what is not yet, the newest first: by the chain, a stamp covers all seals before it; blocks.

    Returns:
        Why a stamp could not be had; None if none was wanted or all were.
    """
    archive, settings = runtime.archive, runtime.settings
    present = present_seals(archive)
    sealed = [sequence for sequence, names in present.items() if "json" in names]
    if settings.seal_key is not None:
        keys = open_seal_keys(settings)
        for sequence in (sequence for sequence in sealed if "sig" not in present[sequence]):
            data = archive.read_small(layout.seal_key(sequence)) or b""
            put_beside(archive, sequence, "sig", keys.sign(data))
    if settings.timestamp_url is not None:
        from workers.archive.timestamps import BadTimestamp, request_timestamp

        unstamped = [sequence for sequence in sorted(sealed, reverse=True) if "tsr" not in present[sequence]]
        for sequence in unstamped[:_STAMPS_A_TURN]:
            data = archive.read_small(layout.seal_key(sequence)) or b""
            try:
                stamp = request_timestamp(settings.timestamp_url, data, settings.timestamp_ca)
            except BadTimestamp as error:
                log.warning("no time stamp", sequence=sequence, error=str(error))
                return str(error)
            put_beside(archive, sequence, "tsr", stamp)
    return None


def open_seal_keys(settings: Settings) -> SealKeys:
    """The keys of `CALLVAULT_SEAL_KEY`.

    Raises:
        UserError: it is not set, or cannot be used.
    """
    try:
        from workers.archive.signatures import BadKey, SealKeys
    except ImportError:
        raise UserError("CALLVAULT_SEAL_KEY: cryptography is missing; pip install 'callvault[seals]'") from None
    try:
        return SealKeys(settings.seal_key.get_secret_value() if settings.seal_key else "")
    except BadKey as error:
        raise UserError(f"CALLVAULT_SEAL_KEY: {error}") from None
