"""The page of deletions: the schedule, holds and kept originals; pause, resume, hold, release and approve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import msgspec
from starlette.requests import Request

from archive.decision_records import Duties
from archive.hold import Hold
from archive.layout import recording_id_of
from archive.records import UnreadableRecord
from archive.stores.store import StoreError
from service.ops.bulk import change_each
from service.ops.may import HEAR
from service.ops.originals import MOST, Known, Original, Wanted, as_table, in_state, read_wanted, scheduled
from service.ops.originals_after import After, next_after, read_after
from service.ops.parts import Ops
from service.ops.recordings import instant_of
from service.ops.view import View, view_of
from workers.catalogue.search import Hit
from workers.deletion import decisions
from workers.deletion.decided import NO_REASON, to_know
from workers.deletion.duties import workers_duties
from workers.deletion.kept import Holding, standing, what_keeps_each
from workers.deletion.may_delete import pause_of
from workers.deletion.schedule import DueDeletion
from workers.running import Running, read_running

_MOST_PAGES = 5  # read for one answer
_STOPPED_EARLY = (
    f"The next {_MOST_PAGES * MOST:,} of the schedule were looked at for originals in this state; "
    "see the next page for those after them."
)


class Due(msgspec.Struct, frozen=True):
    """An original on the deletion schedule, and when it is due (ISO 8601, UTC).

    Attributes:
        recording_id: of its recording.
        folder: of its recording in the archive.
        kept: why Callvault would not delete it, as of now; None: it would.
    """

    recording_id: str
    folder: str
    due_at: str
    kept: str | None


class Deletions(msgspec.Struct, frozen=True):
    """Deletion of originals.

    Attributes:
        mode: how the workers are set, `never` or `verified`; `unknown` while the archive does not answer.
        sealed_first: whether an original stays until its day is sealed; None while the archive does not answer.
        paused: the reason of a pause; None: deletion is not paused.
        paused_by: who paused it; paused_at: since when; None if unknown.
        due: number of originals on the schedule, also of those that something keeps; `first`: the next 100, or with a state
            those of the next page that has one in it.
        holds: the current holds, at most 100; None: the archive does not answer.
        held: recordings on hold, at most 100; kept: originals kept because of findings in their audio, at most 100.
        originals: all of these in one table, each once. One that is on the schedule and on hold or kept may come on two pages.
        is_cut: whether there are more than the table has.
        after: pass it to get the next of `first`, `held` and `kept`; None at the end, or if no further original is in `state`.
        note: a warning about the table, such as that the catalogue is still being read, or that it looked at the latest calls.
        workers: the workers that live, with the settings of each; None for a role with a scope.
    """

    mode: str
    sealed_first: bool | None
    paused: str | None
    paused_by: str | None
    paused_at: str | None
    due: int
    first: list[Due]
    holds: list[Holding] | None
    held: list[Hit]
    kept: list[Hit]
    originals: list[Original]
    is_cut: bool
    after: str | None
    note: str | None
    workers: list[Running] | None


async def look(ops: Ops, request: Request) -> Deletions:
    """Deletion; `state`, `connection` and `day` of the query filter the originals.

    Raises:
        BadQuery: a filter is not valid.
        UserError: `after` is no value of a previous page.
        redis.exceptions.RedisError: Redis is away.
    """
    wanted, view = read_wanted(request.query_params), view_of(request)
    lists = _Lists(ops, view, View(ops, request.state.person.reach(HEAR)), wanted)
    page, pause, duties, holds = await asyncio.gather(  # an archive that is away is waited for once
        lists.read(read_after(request.query_params.get("after"))), _pause(ops), _duties(ops), _holds(ops, view)
    )
    sealed_first = None if duties is None else duties.sealed_first

    def table(page: _Page) -> list[Original]:
        known = Known(page.kept_by, holds or [], sealed_first)
        return as_table(wanted, page.entries, page.calls, [*page.held, *page.kept], known)

    page, next_page, why_fewer = await _with_rows(lists, page, table, is_answering=holds is not None)
    notes = (await ops.catalogue.note(), page.why_few, why_fewer)
    return Deletions(
        mode="unknown" if duties is None else duties.delete_originals,
        sealed_first=sealed_first,
        paused=None if pause is None else pause.why,
        paused_by=None if pause is None else pause.by or None,
        paused_at=None if pause is None else pause.at or None,
        due=page.due,
        first=[
            Due(recording_id_of(entry.folder), entry.folder, instant_of(entry.due_at), page.kept_by.get(entry.folder))
            for entry in page.entries
        ],
        holds=None if holds is None else holds[:MOST],
        held=page.held,
        kept=page.kept,
        originals=table(page),
        is_cut=next_page is not None,
        after=next_page,
        note=" ".join(filter(None, notes)) or None,
        workers=[one for one in await read_running(ops.redis) if one.kind == "worker"] if view.is_whole else None,
    )


@dataclass(frozen=True)
class _Page:
    """A page of the schedule and of both lists of recordings, before a state is filtered.

    Attributes:
        entries: of the schedule; due: how many there are; why_few: why some may be missing.
        calls: what the catalogue knows of them, by id.
        kept_by: why Callvault would not delete some of them, by folder.
        held, kept: the recordings in these states.
        after: where the next page begins; None: nothing is left.
    """

    entries: list[DueDeletion]
    due: int
    why_few: str | None
    calls: dict[str, Hit]
    kept_by: dict[str, str]
    held: list[Hit]
    kept: list[Hit]
    after: str | None


@dataclass(frozen=True)
class _Lists:
    """Reads pages of originals: `view` is what the person sees, `reader` what the person may read."""

    ops: Ops
    view: View
    reader: View
    wanted: Wanted

    async def read(self, after: After) -> _Page:
        """The page that begins there."""
        entries, due, why_few = await scheduled(self.ops, self.view, self.wanted, after)
        entries, is_more = entries[:MOST], len(entries) > MOST
        folders = [entry.folder for entry in entries]
        kept_by = await _kept(self.ops, folders)
        held, kept = [await in_state(self.view, state, self.wanted, self.reader, after) for state in ("held", "kept")]
        # What a list cannot have, nobody needs to look for on its next page.
        places = [_last_of(held, self.wanted.state != "due"), _last_of(kept, self.wanted.state != "due")]
        next_page = next_after((entries[-1] if entries else None, is_more), *places)
        calls = await self.view.of_ids([recording_id_of(folder) for folder in folders])
        return _Page(entries, due, why_few, calls, kept_by, held[:MOST], kept[:MOST], next_page)


async def _with_rows(
    lists: _Lists, page: _Page, table: Callable[[_Page], list[Original]], *, is_answering: bool
) -> tuple[_Page, str | None, str | None]:
    """The first page from here on with an original in the wanted state, so that no link leads to an empty table.

    Returns:
        The page, where the next one begins (None: no further original is in that state), and a note if the search for one
        stopped early. While the archive does not answer, nothing is searched.
    """
    after = page.after
    if lists.wanted.state is None or not is_answering:
        return page, after, None
    is_found = bool(table(page))
    for _ in range(_MOST_PAGES):
        if after is None:
            return page, None, None
        following = await lists.read(read_after(after))
        if table(following):
            if is_found:
                return page, after, None
            page, is_found = following, True
        after = following.after
    return page, after, None if after is None else _STOPPED_EARLY


def _last_of(hits: Sequence[Hit], may_have_more: bool) -> tuple[str, bool]:
    """The place of the last hit of a page, and whether there are more."""
    return (hits[:MOST][-1].place if hits else ""), may_have_more and len(hits) > MOST


async def _pause(ops: Ops) -> Hold | None:
    """The pause as the archive records it; as Redis has it while the archive does not answer."""
    try:
        return await ops.runtime.in_thread(pause_of, ops.runtime.archive)
    except (StoreError, UnreadableRecord):
        return await ops.runtime.schedule.pause()


async def _holds(ops: Ops, view: View) -> list[Holding] | None:
    try:
        found = await ops.runtime.in_thread(standing, ops.runtime.archive)
    except (StoreError, UnreadableRecord):
        return None
    if view.is_whole:
        return found
    seen = await view.of_ids([one.subject for one in found if one.scope == "recording"])
    known: dict[str, Container[str]] = {"recording": seen, "connection": view.reach.connections, "everything": ("",)}
    return [one for one in found if one.subject in known.get(one.scope, ())]


async def _kept(ops: Ops, folders: list[str]) -> dict[str, str]:
    try:
        return await what_keeps_each(ops.runtime, folders)
    except (StoreError, UnreadableRecord):
        return dict.fromkeys(folders, "the archive does not answer")


async def _duties(ops: Ops) -> Duties | None:
    try:
        return await workers_duties(ops.runtime)
    except (StoreError, UnreadableRecord):
        return None


async def pause(ops: Ops, form: dict[str, str]) -> str:
    """Pause deletion."""
    decided = await decisions.pause(ops.runtime, form.get("why", NO_REASON), form["by"])
    return f"deletion is paused{to_know(decided)}"


async def resume(ops: Ops, form: dict[str, str]) -> str:
    """Resume deletion."""
    was_paused = await decisions.resume(ops.runtime, form.get("why", NO_REASON), form["by"])
    return "deletion is resumed" if was_paused else "deletion was not paused"


async def hold(ops: Ops, form: dict[str, str]) -> str:
    """Put a recording on hold, so that nothing deletes its original."""
    note = await _hold(ops, form, form["id"])
    return f"recording {form['id']} is on hold{'; ' if note else ''}{note}"


async def release(ops: Ops, form: dict[str, str]) -> str:
    """Lift the holds of a recording."""
    return f"recording {form['id']} is released; {await _release(ops, form, form['id'])}"


async def approve(ops: Ops, form: dict[str, str]) -> str:
    """Allow the deletion of an original despite the findings."""
    return f"recording {form['id']}: {await _approve(ops, form, form['id'])}"


async def hold_many(ops: Ops, form: dict[str, str]) -> str:
    """Put several recordings on hold."""
    return await change_each(_ids(form), lambda one: _hold(ops, form, one), "recording", "on hold")


async def release_many(ops: Ops, form: dict[str, str]) -> str:
    """Lift the holds of several recordings."""
    return await change_each(_ids(form), lambda one: _release(ops, form, one), "recording", "released")


async def approve_many(ops: Ops, form: dict[str, str]) -> str:
    """Allow the deletion of several originals despite the findings."""
    return await change_each(_ids(form), lambda one: _approve(ops, form, one), "recording", "approved")


def _ids(form: dict[str, str]) -> list[str]:
    return list(dict.fromkeys(form["ids"].split()))


async def _hold(ops: Ops, form: dict[str, str], recording_id: str) -> str:
    return to_know(await decisions.hold(ops.runtime, recording_id, form["why"], form["by"])).removeprefix("; ")


async def _release(ops: Ops, form: dict[str, str], recording_id: str) -> str:
    return (await decisions.release(ops.runtime, recording_id, form["why"], form["by"])).follows


async def _approve(ops: Ops, form: dict[str, str], recording_id: str) -> str:
    findings, released = await decisions.approve(ops.runtime, recording_id, form["why"], form["by"])
    return f"approved {', '.join(findings)}; {released.follows}"
