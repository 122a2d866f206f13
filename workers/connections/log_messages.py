"""Mirror the log messages of external connections: archive and alert, and dismiss them if the user wants that.

A documented message has no id, time or severity (developers.telnyx.com, "List all log messages"); a live one may carry an
`id`. So its identity is the id, else a fingerprint of its contents, and Callvault sets the times. Telnyx has no filter by date,
so every poll reads every page. Redis keeps the state of the polls; if it is lost, the archive's keys restore it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import suppress
from datetime import date, timedelta
from functools import partial
from typing import Literal

import msgspec

from archive import kinds, layout
from archive.archive import Archive
from archive.readers import LOG_MESSAGE
from archive.records import LogMessageRecord, UnreadableRecord
from process.logs import get_logger
from telnyx_api.errors import NotFound
from telnyx_api.models import LogMessage
from telnyx_api.pages import LARGEST_PAGE, read_all
from text.times import format_instant, parse_instant, utc_now
from workers.engine.one_by_one import OneByOne
from workers.keys import LOG_MESSAGES, LOG_NO_ID_ALERTED
from workers.queue.script import AsyncRedis, server_now, write_when_full
from workers.queue.state import read_state
from workers.reconcile.unreadable import alert_unreadable
from workers.recordings.requests import MirrorRequest
from workers.runtime import Runtime

log = get_logger()

_DAYS_READ_BACK = 30
_DAYS_TO_ARCHIVE = 2  # a message may be archived some polls after it was first seen, past midnight


class Seen(msgspec.Struct):
    """The state of one message.

    Attributes:
        first_seen_at: ISO 8601, UTC; of this occurrence. Likewise the next.
        occurrence: 1, or how often it has come back after it was gone.
        count: how many equal messages the last poll saw.
        is_present: whether the last poll saw it.
        is_archived: whether the archive has it.
    """

    first_seen_at: str
    last_seen_at: str
    occurrence: int = 1
    count: int = 1
    is_present: bool = True
    is_archived: bool = False


def identify(message: LogMessage) -> tuple[str, Literal["id", "fingerprint"]]:
    """The identity of a message."""
    if message.id:
        return message.id, "id"
    meta, source = message.meta, message.source
    parts = [message.code, message.title, message.detail, source.pointer if source else None]
    parts += [meta.external_connection_id, meta.telephone_number, meta.ticket_id] if meta else [None] * 3
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest(), "fingerprint"


async def mirror_log_messages(runtime: Runtime, _: MirrorRequest | None = None) -> None:
    """One poll: read every page, archive new messages, alert once a group, dismiss what is safely archived.

    Raises:
        Exception: the first error of a message that could not be archived or dismissed, after all others were.
        TelnyxError, StoreError: Telnyx or the store is away; the next poll sees the same messages again.
    """
    if runtime.settings.log_messages == "off":
        return
    now = format_instant(await server_now(runtime.redis))
    messages: dict[str, LogMessage] = {}
    counts: Counter[str] = Counter()
    rows, unreadable = await read_all(runtime.telnyx.log_messages.list(page_size=LARGEST_PAGE))
    if unreadable is not None:
        await alert_unreadable(runtime, unreadable)
    for message in rows:
        identity, _by = identify(message)
        messages[identity] = message
        counts[identity] += 1
    seen = await _seen(runtime, is_anything=bool(messages))
    new = []
    for identity in messages:
        state = seen.get(identity)
        if state is None:
            seen[identity] = Seen(first_seen_at=now, last_seen_at=now, count=counts[identity])
            new.append(identity)
        else:
            if not state.is_present:  # dismissed or expired, and back
                state.occurrence += 1
                state.first_seen_at, state.is_archived = now, False
                new.append(identity)
            elif not state.is_archived:
                new.append(identity)
            state.is_present, state.last_seen_at, state.count = True, now, counts[identity]
    there = {*messages, *(row.id for row in unreadable.rows if row.id)} if unreadable is not None else messages.keys()
    for identity, state in seen.items():
        state.is_present = identity in there
    alone = OneByOne(Exception, answers=partial(_answers, runtime))
    try:
        for identity in new:
            async with alone.of("log message", identity):
                await _archive(runtime, identity, messages[identity], seen[identity])
    finally:
        await _remember(runtime, seen)
        await _alert_new(runtime, [messages[identity] for identity in new if seen[identity].is_archived])
    if runtime.settings.log_messages == "mirror-and-dismiss":
        await _dismiss(runtime, alone, messages, seen)
    alone.raise_the_first()


async def _answers(runtime: Runtime, kind: str) -> None:
    """Check that the archive and Redis answer, and for a dismissal Telnyx too."""
    await runtime.assert_bound()
    await runtime.in_thread(runtime.archive.assert_identity)
    if kind == "dismissal":
        await runtime.telnyx.count(runtime.telnyx.log_messages.list)


async def _archive(runtime: Runtime, identity: str, message: LogMessage, state: Seen) -> None:
    day = (await server_now(runtime.redis)).date()
    name = _name(identity, state)
    record = LogMessageRecord(
        message=message.as_returned(),
        identified_by=identify(message)[1],
        occurrence=state.occurrence,
        first_seen_at=state.first_seen_at,
    )
    key = layout.log_message_key(day, name)
    await runtime.in_thread(runtime.archive.put_once, key, record)
    await runtime.announce(key, record)
    state.is_archived = True


async def _alert_new(runtime: Runtime, new: list[LogMessage]) -> None:
    """Send one alert per code and connection, however many messages there are."""
    groups: dict[tuple[str, str], list[LogMessage]] = {}
    for message in new:
        meta = message.meta
        groups.setdefault((str(message.code), str(meta.external_connection_id if meta else None)), []).append(message)
    for (code, connection_id), messages in groups.items():
        first = messages[0]
        number = first.meta.telephone_number if first.meta else None
        text = f"Connection {connection_id}: {code} {first.title}: {first.detail}"
        text += f" (number {number})" if number else ""
        text += f"; and {len(messages) - 1} more" if len(messages) > 1 else ""
        advice = f"See `callvault logs list --connection {connection_id}`."
        await runtime.alerts.send("log-message", f"{code} {connection_id}", text, advice)
    if new:
        log.info("log messages mirrored", new=len(new))


async def _dismiss(runtime: Runtime, alone: OneByOne, messages: dict[str, LogMessage], seen: dict[str, Seen]) -> None:
    """Dismiss the messages at Telnyx that the archive holds word for word. One without an id stays, which is logged once.

    The state in Redis is no proof, so each message is read from the archive again.
    """
    for identity, message in messages.items():
        if not seen[identity].is_archived:
            continue
        if not message.id:
            (is_first,) = await write_when_full(runtime.redis, ("SET", LOG_NO_ID_ALERTED, "1", "NX"))
            if is_first is not None:
                log.warning("log messages cannot be dismissed: Telnyx sends them without an id")
            continue
        async with alone.of("dismissal", identity):
            if await runtime.in_thread(_is_in_archive, runtime.archive, identity, message, seen[identity]):
                with suppress(NotFound):
                    await runtime.telnyx.log_messages.dismiss(message.id)
            else:
                seen[identity].is_archived = False
                seen[identity].first_seen_at = format_instant(await server_now(runtime.redis))
                await _remember(runtime, {identity: seen[identity]})


def _is_in_archive(archive: Archive, identity: str, message: LogMessage, state: Seen) -> bool:
    """Whether the archive has a message as Telnyx shows it: under the day when it was first seen, or one of the next two."""
    name = _name(identity, state)
    first = parse_instant(state.first_seen_at).date()
    for days in range(_DAYS_TO_ARCHIVE + 1):
        key = layout.log_message_key(first + timedelta(days=days), name)
        try:
            if LOG_MESSAGE.read(archive.read_small(key), key).message == message.as_returned():
                return True
        except UnreadableRecord:
            continue
    return False


def _name(identity: str, state: Seen) -> str:
    return identity if state.occurrence == 1 else f"{identity}+{state.occurrence}"


async def _seen(runtime: Runtime, *, is_anything: bool) -> dict[str, Seen]:
    seen = await read_state(runtime.redis, LOG_MESSAGES, Seen)
    if seen or not is_anything:  # without messages, the archive need not be listed every minute
        return seen
    return await runtime.in_thread(_read_back, runtime, (await server_now(runtime.redis)).date())


def _read_back(runtime: Runtime, today: date) -> dict[str, Seen]:
    """Restore the state from the archive's keys of the last month: the messages, and how often each came back."""
    seen: dict[str, Seen] = {}
    for days in range(_DAYS_READ_BACK, -1, -1):
        day = today - timedelta(days=days)
        for stored in runtime.archive.store.list(layout.day_prefix(day, "log-messages")):
            place = kinds.place_of(stored.key)
            if place.kind is not kinds.LOG_MESSAGE:
                continue
            identity, _, occurrence = place.name.partition("+")
            at = f"{day.isoformat()}T00:00:00.000000Z"
            number = int(occurrence) if occurrence.isdecimal() else 1
            seen[identity] = Seen(first_seen_at=at, last_seen_at=at, occurrence=number, is_archived=True)
    return seen


async def _remember(runtime: Runtime, seen: dict[str, Seen]) -> None:
    """Store the state. A message that has been gone for a month is dropped, so that the state stays bounded."""
    oldest = format_instant(await server_now(runtime.redis) - timedelta(days=_DAYS_READ_BACK))
    kept = {i: msgspec.json.encode(s) for i, s in seen.items() if s.is_present or s.last_seen_at >= oldest}
    puts = (("HSET", LOG_MESSAGES, identity, row) for identity, row in kept.items())
    forgets = (("HDEL", LOG_MESSAGES, identity) for identity in seen if identity not in kept)
    await write_when_full(runtime.redis, *forgets, *puts)


async def still_there(redis: AsyncRedis) -> set[str] | None:
    """The identities of the messages that the last poll saw at Telnyx; None: no poll has run since Redis was empty.

    Raises:
        redis.exceptions.RedisError: Redis is away.
    """
    seen = await read_state(redis, LOG_MESSAGES, Seen)
    return {identity for identity, state in seen.items() if state.is_present} if seen else None


def read_log_messages(
    archive: Archive, since: date, connection: str | None = None, code: str | None = None
) -> list[LogMessageRecord]:
    """The archived messages since a UTC day, latest last; only those of a connection or code, if given. Blocks.

    An unreadable message is logged, and the others are returned.

    Raises:
        StoreError: the store cannot be read now.
    """
    found = []
    for days in range((utc_now().date() - since).days + 1):
        for stored in archive.store.list(layout.day_prefix(since + timedelta(days=days), "log-messages")):
            try:
                row = LOG_MESSAGE.read(archive.read_small(stored.key), stored.key)
            except UnreadableRecord as error:
                log.warning("a log message cannot be read; run `callvault verify --seals`", error=str(error))
                continue
            meta = row.message.get("meta") or {}
            is_of_it = connection is None or meta.get("external_connection_id") == connection
            if is_of_it and (code is None or row.message.get("code") == code):
                found.append(row)
    return sorted(found, key=lambda row: row.first_seen_at)
