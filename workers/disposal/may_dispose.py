"""THE rule: may a recording, or a part of it, be disposed of? Asked anew for each recording, just before its record is written.

Every answer comes from the archive (applied rules, commit record, holds, cases, receipts, damage, pause) or from that moment
(the clocks of this machine, of Redis and of Telnyx). No catalogue, list or cache can dispose of anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from archive import kinds, layout
from archive.archive import Archive
from archive.cases import Case, open_cases, why_held_by_cases
from archive.decision_records import AppliedRules
from archive.decisions import all_holds
from archive.dispose import original_gone, records_as_sealed
from archive.folder import Folder, read_folder
from archive.records import CommitRecord, UnreadableRecord
from archive.register import read_register
from archive.retention import Term, read_applied, terms_of
from archive.stores.store import StoreError
from text.errors import UserError
from text.times import format_duration, utc_now
from workers.catalogue.rows import row_of_commit
from workers.deletion.duties import effective_duties
from workers.deletion.erase import Target, refuse_if_held
from workers.deletion.may_delete import Stopped as TooSlow
from workers.deletion.may_delete import assert_fresh, moment, pause_of
from workers.engine.clocks import clocks_agree
from workers.engine.telnyx_clock import MOST_APART_SECONDS, NoTime, TelnyxClock
from workers.queue.script import server_seconds
from workers.retention.watch import why_missing
from workers.runtime import Runtime


class Stopped(Exception):
    """Nothing may be disposed of now; the text says why."""


class NotNow(Stopped):
    """The same, and nothing is wrong: outside its hours, while deletion is paused, or before the first seal."""


class Kept(Exception):
    """A recording stays; the text says why.

    Attributes:
        kind: `held`, `original`, `custom-storage`, `damaged`, `rules`, `locked`, `not-sealed`, `undone` or `busy`.
    """

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


async def ask_of_all(runtime: Runtime, telnyx_clock: TelnyxClock) -> tuple[list[AppliedRules], float]:
    """Ask everything that applies to every recording.

    Returns:
        The rules that people applied, and the time by the clock that is behind, in seconds since the epoch.

    Raises:
        Stopped: nothing may be disposed of now.
        StoreError, redis.exceptions.RedisError: one of them does not answer, or belongs to another archive now.
    """
    if not await clocks_agree(runtime):
        raise Stopped("the clocks of this machine and of Redis differ")
    now = min(await server_seconds(runtime.redis), utc_now().timestamp())
    try:
        apart = await telnyx_clock.seconds_apart(runtime.settings.telnyx_base_url, now)
    except NoTime as error:
        raise Stopped(str(error)) from None
    if apart > MOST_APART_SECONDS:
        raise Stopped(f"the clocks of this machine and of Telnyx differ by {format_duration(apart)}")
    await runtime.in_thread(runtime.archive.assert_identity)
    await runtime.assert_bound()
    applied = await runtime.in_thread(_of_the_archive, runtime.archive)
    if (why := await why_missing(runtime.redis, len(applied))) is not None:
        raise Stopped(f"the last retention rules are gone: {why}")
    return applied, now


def _of_the_archive(archive: Archive) -> list[AppliedRules]:
    if (pause := pause_of(archive)) is not None:
        raise NotNow(f"deletion is paused: {pause}")
    try:
        return read_applied(archive)
    except UnreadableRecord as error:
        raise Stopped(f"the applied retention rules cannot be read: {error}; run `callvault verify`") from None


def due_of(
    records: Sequence[CommitRecord], applied: Sequence[AppliedRules], now: float
) -> tuple[list[Term], float | None]:
    """What of a recording is past its term, in the order in which it goes, and when its next term ends.

    Args:
        records: the commit record, then those of its versions.
        applied: the rules that people applied.
        now: seconds since the epoch.

    Returns:
        The terms that have ended; and the end of the next term, in seconds since the epoch, None if there is no other.
    """
    terms = terms_of(records, applied)
    ended = [term for term in terms if term.ends_at.timestamp() <= now]
    later = [term.ends_at.timestamp() for term in terms if term.ends_at.timestamp() > now]
    return ended, min(later, default=None)


@dataclass(frozen=True)
class Standing:
    """What keeps recordings, as it was at the beginning of a run: for counting alone. Each is asked about anew before it goes.

    Attributes:
        recordings: ids on hold, and connections: likewise.
        cases: those that are open.
        damaged: folders with known damage.
    """

    recordings: frozenset[str]
    connections: frozenset[str]
    cases: Sequence[Case]
    damaged: frozenset[str]

    def keeps(self, folder: Folder, records: Sequence[CommitRecord]) -> bool:
        """Whether something keeps a recording, as far as this shows."""
        record = records[0]
        return (
            not folder.has(kinds.RECEIPT, kinds.GONE)
            or folder.recording_id in self.recordings
            or str(record.recording.get("connection_id")) in self.connections
            or folder.prefix in self.damaged
            or any(one.is_in_custom_storage for one in records)
            or why_held_by_cases(self.cases, record) is not None
        )


def read_standing(archive: Archive, held_by_setting: Iterable[str]) -> Standing:
    """What keeps recordings now; blocks.

    Raises:
        StoreError: the store does not answer.
    """
    holds = [(scope, subject) for scope, subject, _ in all_holds(archive)]
    connections = {subject for scope, subject in holds if scope == "connection"} | {*held_by_setting}
    places = (kinds.place_of(key) for key, row in read_register(archive).items() if row.state != "whole")
    return Standing(
        frozenset(subject for scope, subject in holds if scope == "recording"),
        frozenset(connections),
        open_cases(archive),
        frozenset(place.folder for place in places),
    )


class _Asked(NamedTuple):
    """What was asked of all: the applied rules, the time, and the connections that settings hold."""

    applied: Sequence[AppliedRules]
    now: float
    held: Collection[str]


async def ask_anew(
    runtime: Runtime, telnyx_clock: TelnyxClock, folder: str, wanted: Term, sealed: Mapping[str, str]
) -> None:
    """Ask everything about one recording in the last moment.

    Args:
        runtime: the worker's parts.
        telnyx_clock: the clock that is not ours.
        folder: of the recording.
        wanted: what is to go.
        sealed: the SHA-256 of each object of its day that seals list, by key.

    Raises:
        Stopped: nothing may be disposed of now.
        Kept: this recording stays.
        Damaged, NotSealed: likewise, because of a commit record.
        StoreError, redis.exceptions.RedisError: a question has no answer.
    """
    applied, now = await ask_of_all(runtime, telnyx_clock)
    asked = _Asked(applied, now, frozenset(await held_by_settings(runtime)))
    await runtime.in_thread(_ask, runtime, folder, wanted, asked, sealed)


def last_question(
    runtime: Runtime, telnyx_clock: TelnyxClock, folder: str, wanted: Term, sealed: Mapping[str, str]
) -> Callable[[], None]:
    """What a thread calls just before each change: it asks everything anew, unless its last answers are seconds old.

    Hashing may take minutes before the first change, and a process may be suspended before any other.

    Args:
        runtime, telnyx_clock, folder, wanted, sealed: as for `ask_anew`.

    Returns:
        A function that raises as `ask_anew`, and `Stopped` if the answers take too long.
    """
    loop, asked = asyncio.get_running_loop(), list[tuple[float, float]]()

    def ask() -> None:
        with suppress(IndexError, TooSlow):
            assert_fresh(asked[-1])
            return
        began = moment()
        asking = ask_anew(runtime, telnyx_clock, folder, wanted, sealed)
        asyncio.run_coroutine_threadsafe(asking, loop).result()
        try:
            assert_fresh(began)
        except TooSlow as slow:
            raise Stopped(str(slow).replace("deletion", "disposal")) from None
        asked.append(began)

    return ask


async def held_by_settings(runtime: Runtime) -> list[str]:
    """The connections that a setting of any worker holds.

    Raises:
        Stopped: that cannot be read.
        StoreError, redis.exceptions.RedisError: one of them does not answer.
    """
    try:
        return (await effective_duties(runtime)).hold_connections
    except UnreadableRecord as error:
        raise Stopped(f"what other workers hold cannot be read: {error}; run `callvault verify`") from None


def _ask(runtime: Runtime, prefix: str, wanted: Term, asked: _Asked, sealed: Mapping[str, str]) -> None:
    archive = runtime.archive
    folder = read_folder(archive.store, prefix)
    try:
        records = records_as_sealed(archive, folder, sealed)
        original = original_gone(archive, folder)
    except UnreadableRecord as error:
        raise Kept("damaged", str(error)) from None
    due, _ = due_of(records, asked.applied, asked.now)
    if wanted not in due:
        raise Kept("rules", "the rules that apply now give it another term")
    if any(one.is_in_custom_storage for one in records):
        raise Kept("custom-storage", "its audio lies in custom storage, where Callvault deletes nothing")
    if original is None:
        raise Kept("original", "no record says that its original is gone at Telnyx (CALLVAULT_DELETE_ORIGINALS)")
    if (damage := _damage_of(archive, prefix)) is not None:
        raise Kept("damaged", damage)
    _refuse_held(runtime, prefix, records[0], asked.held)


def _damage_of(archive: Archive, prefix: str) -> str | None:
    """What the register says is wrong with a recording: it may be evidence, so a person must look first."""
    for key, row in read_register(archive).items():
        place = kinds.place_of(key)
        about = place.names[0] if place.kind is kinds.DAMAGE else key  # a row that cannot be read is damage itself
        if about.startswith(prefix) and row.state != "whole":
            return f"{key}: {row.what}; run `callvault status`"
    return None


def _refuse_held(runtime: Runtime, prefix: str, record: CommitRecord, held: Collection[str]) -> None:
    day = layout.day_of(layout.commit_key(prefix))
    row = row_of_commit(layout.recording_id_of(prefix), "" if day is None else day.isoformat(), record)
    if row.connection_id in held:
        raise Kept("held", f"its connection {row.connection_id} is on hold (CALLVAULT_HOLD_CONNECTIONS)")
    try:
        refuse_if_held(runtime.settings, Target(runtime.archive, prefix, row))
    except StoreError:
        raise
    except UserError as error:
        raise Kept("held", str(error)) from None
