"""Duties: what workers may do with originals. They belong to the archive, and the strictest applies.

Several units (the workers on one Redis) may serve one archive, and a worker may run on last week's settings. So each unit states
its settings in the archive, each worker publishes them in its Redis while it lives, and a worker that deletes obeys the strictest
of all of these and of its own settings, read again at that moment.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import msgspec
from redis.exceptions import RedisError

from archive import kinds, layout
from archive.archive import Archive, ArchiveConflict
from archive.decision_records import Duties
from archive.readers import DUTIES
from archive.records import UnreadableRecord
from archive.stores.store import StoreError
from config.settings import Settings
from config.values import TranscriptionPolicy, read_transcriptions
from process.logs import get_logger
from text.errors import UserError
from text.times import format_duration, format_instant, utc_now
from workers.keys import LIVE_DUTIES
from workers.queue.embedded import socket_url
from workers.queue.script import server_seconds, write_when_full
from workers.runtime import Runtime

log = get_logger()

_PUBLISH_SECONDS = 3
_A_DAY = timedelta(days=1)  # which must be over before it is sealed
_LIVE_SECONDS = 9
_FORGOTTEN_SECONDS = 60
_TRIES = 50
_STRICTNESS = ("ignore", "wait", "require")


def unit_of(settings: Settings) -> str:
    """The unit of a process, named by the address of its Redis without credentials; for a local Redis, by the machine too."""
    url = settings.redis_url.get_secret_value() if settings.redis_url else socket_url(settings.data_folder)
    parts = urlsplit(url)
    database = "".join(values[-1] for name, values in parse_qs(parts.query).items() if name == "db")
    path = f"{parts.path.rstrip('/')}{f'/{database}' if database else ''}".removesuffix("/0")
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
    host = parts.hostname if parts.scheme != "unix" else None
    if host in (None, "localhost", "127.0.0.1", "::1"):
        place = f"{socket.gethostname()} {place}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]


def own_duties(settings: Settings) -> Duties:
    """The duties of the settings of this process; `state_duties` numbers them."""
    return Duties(
        unit=unit_of(settings),
        number=0,
        delete_originals=settings.delete_originals,
        delete_after_seconds=settings.delete_after.total_seconds(),
        hold_connections=sorted(settings.hold_connections),
        transcriptions=str(settings.transcriptions),
        sealed_first=is_sealed_first(settings),
        by=f"worker on {socket.gethostname()}",
        at=format_instant(utc_now()),
    )


def is_sealed_first(settings: Settings) -> bool:
    """Whether an original stays until its day is sealed: always, unless a person has set a shorter grace period."""
    return "delete_after" not in settings.given or settings.delete_after >= settings.seal_after + _A_DAY


def strictest(all_of_them: Iterable[Duties]) -> Duties:
    """The strictest of some duties, point by point; at least one."""
    rows = [one for one in all_of_them if not one.retired]
    policies = [policy_of(one) for one in rows]
    return msgspec.structs.replace(
        rows[0],
        delete_originals="never" if any(one.delete_originals == "never" for one in rows) else "verified",
        delete_after_seconds=max(one.delete_after_seconds for one in rows),
        hold_connections=sorted({held for one in rows for held in one.hold_connections}),
        transcriptions=str(max(policies, key=lambda policy: (_STRICTNESS.index(policy.kind), policy.wait))),
        sealed_first=any(one.sealed_first for one in rows),
    )


def policy_of(duties: Duties) -> TranscriptionPolicy:
    """The policy about transcriptions; an unreadable one means `require`."""
    try:
        policy = read_transcriptions(duties.transcriptions)
    except ValueError:
        policy = None
    return policy if isinstance(policy, TranscriptionPolicy) else TranscriptionPolicy("require", timedelta(0))


def stated_duties(archive: Archive) -> dict[str, Duties]:
    """The last statement of each unit; blocks.

    Raises:
        UnreadableRecord: a statement cannot be read, so what it forbids is unknown.
        StoreError: the store cannot be asked now.
    """
    last = kinds.last_of_each(kinds.DUTIES, archive.keys_of(layout.DUTIES))
    return {unit: DUTIES.read(archive.read_once(key), key) for unit, key in last.items()}


async def other_units(runtime: Runtime) -> list[str]:
    """The other units that have stated duties in this archive.

    Raises:
        UnreadableRecord, StoreError: as `stated_duties`.
    """
    stated = await runtime.in_thread(stated_duties, runtime.archive)
    return [unit for unit, one in stated.items() if unit != unit_of(runtime.settings) and not one.retired]


def state_duties(archive: Archive, duties: Duties) -> Duties:
    """State a unit's duties in the archive under its next number, unless the last statement is the same; blocks.

    Raises:
        UnreadableRecord, StoreError: as `stated_duties`.
    """
    for _ in range(_TRIES):
        last = stated_duties(archive).get(duties.unit)
        if last is not None and _same(last, duties):
            return last
        duties = msgspec.structs.replace(duties, number=1 if last is None else last.number + 1)
        try:
            archive.put_record(layout.duties_key(duties.unit, duties.number), duties)
        except ArchiveConflict:
            continue  # another worker of the unit has just taken the number
        return duties
    raise StoreError(
        f"{layout.DUTIES}{duties.unit}: other workers keep stating other duties; give all workers of this unit the same settings"
    )


def retire_unit(archive: Archive, unit: str, by: str) -> None:
    """Record that a unit is gone for good, so that its duties no longer apply; blocks.

    Raises:
        UserError: no unit of this name has stated anything.
        UnreadableRecord, StoreError: as `stated_duties`.
    """
    last = stated_duties(archive).get(unit)
    if last is None:
        raise UserError(f"no unit {unit} has stated its duties; `callvault deletions duties` lists those that have")
    now = format_instant(utc_now())
    state_duties(archive, msgspec.structs.replace(last, number=0, by=by, at=now, retired=True))


def _same(one: Duties, other: Duties) -> bool:
    blank = {"number": 0, "by": "", "at": ""}
    return msgspec.structs.replace(one, **blank) == msgspec.structs.replace(other, **blank)


async def effective_duties(runtime: Runtime) -> Duties:
    """The strictest of the duties in the archive, those of the workers on this Redis, and this process's own.

    Raises:
        UnreadableRecord, StoreError: as `stated_duties`.
        redis.exceptions.RedisError: Redis is away.
    """
    stated = await runtime.in_thread(stated_duties, runtime.archive)
    return strictest([own_duties(runtime.settings), *stated.values(), *await _live(runtime)])


async def workers_duties(runtime: Runtime) -> Duties:
    """What applies to the workers: the strictest of the duties in the archive and those that workers on this Redis publish.

    For display: it works without Redis too, and the settings of the calling process apply only if no worker has published any.

    Raises:
        UnreadableRecord, StoreError: as `stated_duties`.
    """
    stated = await runtime.in_thread(stated_duties, runtime.archive)
    live: list[Duties] = []
    with suppress(RedisError, OSError):
        live = await _live(runtime)
    rows = [one for one in [*stated.values(), *live] if not one.retired]
    return strictest(rows or [own_duties(runtime.settings)])


async def _live(runtime: Runtime) -> list[Duties]:
    """The duties that living workers on this Redis publish.

    A worker is gone if this process has not seen its row change for a while. The time in a row proves nothing: after an outage
    of Redis, or a failover to an older replica, all rows are old.
    """
    now, found = time.monotonic(), []
    rows = await runtime.redis.hgetall(LIVE_DUTIES)
    for worker in runtime.duties_seen.keys() - rows.keys():
        del runtime.duties_seen[worker]
    for worker, data in rows.items():
        before, since = runtime.duties_seen.get(worker, (b"", now))
        if before != data:
            runtime.duties_seen[worker] = (data, since := now)
        try:
            _, duties = msgspec.json.decode(data, type=tuple[float, Duties])
        except msgspec.MsgspecError:
            continue  # of another version; its unit's statement counts all the same
        if now - since <= _LIVE_SECONDS:
            found.append(duties)
        elif now - since > _FORGOTTEN_SECONDS:
            await runtime.redis.hdel(LIVE_DUTIES, worker)
    return found


async def publish_own_duties(runtime: Runtime, worker_id: str) -> None:
    """Publish the duties of a worker in Redis once; from then on `living_workers` counts it.

    Raises:
        RedisError, OSError: Redis does not answer.
    """
    row = msgspec.json.encode((await server_seconds(runtime.redis), own_duties(runtime.settings)))
    await write_when_full(runtime.redis, ("HSET", LIVE_DUTIES, worker_id, row))


async def publish_duties(runtime: Runtime, worker_id: str) -> None:
    """Publish the duties of a worker in Redis while it lives, and state them in the archive once that answers."""
    is_stated = False
    try:
        while True:
            try:
                await publish_own_duties(runtime, worker_id)
                if not is_stated:
                    await state_own_duties(runtime)
                    is_stated = True
            except (RedisError, OSError, StoreError, UnreadableRecord) as error:
                log.warning("duties not published yet", error=f"{type(error).__name__}: {error}")
            await asyncio.sleep(_PUBLISH_SECONDS)
    finally:
        with suppress(RedisError, OSError):
            await runtime.redis.hdel(LIVE_DUTIES, worker_id)


async def state_own_duties(runtime: Runtime) -> None:
    """State this worker's duties in the archive, and log where stricter ones of others apply.

    Raises:
        UnreadableRecord, StoreError: as `stated_duties`.
        redis.exceptions.RedisError: Redis is away.
    """
    own = await runtime.in_thread(state_duties, runtime.archive, own_duties(runtime.settings))
    effective = await effective_duties(runtime)
    if not _same(own, effective):
        log.warning("stricter duties of other workers apply", **differences(own, effective))


def differences(own: Duties, effective: Duties) -> dict[str, str]:
    """Where duties differ from stricter ones, by name."""
    found: dict[str, str] = {}
    if own.delete_originals != effective.delete_originals:
        found["delete_originals"] = effective.delete_originals
    if own.delete_after_seconds != effective.delete_after_seconds:
        found["delete_after"] = format_duration(effective.delete_after_seconds)
    if own.hold_connections != effective.hold_connections:
        found["hold_connections"] = ", ".join(effective.hold_connections)
    if own.transcriptions != effective.transcriptions:
        found["transcriptions"] = effective.transcriptions
    if own.sealed_first != effective.sealed_first:
        found["sealed_first"] = "yes"
    return found
