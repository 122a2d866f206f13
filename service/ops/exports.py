"""The page of exports: ask for a bundle of a search or of selected recordings, follow it, share it, remove it.

A worker makes it (`workers/export/make.py`). A bundle has whole records and manifests, so only who sees all recordings in full
may ask for one or get one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import msgspec
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from service.ops.accesses import Said, line_of
from service.ops.bulk import assert_few
from service.ops.forms import LONGEST_FIELD, LONGEST_IDS, read_change
from service.ops.masking import masked_parties
from service.ops.parts import Ops
from service.ops.person import Refused
from service.ops.reasons import LONGEST as LONGEST_WHY
from service.ops.reasons import assert_given
from service.ops.view import view_of
from text.counts import many
from text.errors import UserError
from text.sizes import format_size
from text.times import format_instant, utc_now
from workers.catalogue.query import BadQuery, read_box, read_query
from workers.catalogue.search import Chosen
from workers.export.encryption import read_recipients, recipients_of_lines
from workers.export.make import Progress, read_progress
from workers.export.place import (
    MOST_BYTES,
    MOST_HOURS,
    MOST_RECORDINGS,
    SHOWN_AFTER_FAILING,
    End,
    Export,
    Exports,
    new_id,
)
from workers.export.place import (
    Request as Asked,
)
from workers.queue.jobs import enqueue
from workers.recordings.requests import export_job
from workers.running import PUBLISH_SECONDS, read_running

HOURS = (24, 72, MOST_HOURS)
_MOST_WAITING = 20
_STARTED_SECONDS = PUBLISH_SECONDS + 2.0  # in which a worker that has started says which place it sees
_ASK_AGAIN_SECONDS = 0.2
_LONGEST = {
    "search": LONGEST_FIELD,
    "ids": LONGEST_IDS,
    "recipients": 20_000,
    "hours": LONGEST_FIELD,
    "why": LONGEST_WHY,
}


class ShownExport(msgspec.Struct, frozen=True):
    """An export as the page shows it.

    Attributes:
        id: its id.
        state: `waiting` for a worker, `working`, or how it ended.
        at: when it was asked for: ISO 8601, UTC; likewise all instants.
        by: who asked for it.
        query: the search; empty: the recordings were selected one by one.
        case: the name of the case that it searches for; None if it searches for none, or the catalogue does not know it.
        recordings: how many were asked for; size_bytes: of their audio, then of the bundle.
        recipients: for how many it is encrypted; 0: it is not.
        done: how many recordings a worker has written.
        ends_at: when it is removed; None: not while it is made.
        sha256: of the bundle.
        unsealed: recordings that no seal lists yet; problems: what it lacks.
        why: why it failed, or who cancelled it.
    """

    id: str
    state: Literal["waiting", "working", "ready", "failed", "cancelled"]
    at: str
    by: str
    query: str
    recordings: int
    size_bytes: int
    recipients: int
    case: str | None = None
    done: int = 0
    ends_at: str | None = None
    sha256: str | None = None
    unsealed: int = 0
    problems: int = 0
    why: str | None = None


class ShownExports(msgspec.Struct, frozen=True):
    """The page of exports.

    Attributes:
        exports: those that are not over, the latest first.
        is_busy: whether one of them is not ready yet.
    """

    exports: list[ShownExport]
    is_busy: bool


async def look(ops: Ops, request: Request) -> ShownExports:
    """The exports.

    Raises:
        StoreError: the place of exports cannot be read now.
    """
    exports = await ops.exports()
    found = [one for one in await asyncio.to_thread(exports.all) if not one.is_over]
    shown = [
        _shown(one, one.request, None if one.end else await read_progress(ops.redis, one.id))
        for one in found
        if one.request is not None  # else its removal has begun
    ]
    cases = {one.id: case_of_search(one.query) for one in shown}
    names = await view_of(request).case_names({case_id for case_id in cases.values() if case_id})
    shown = [msgspec.structs.replace(one, case=names.get(cases[one.id])) for one in shown]
    if view_of(request).masks_all:
        shown = [msgspec.structs.replace(one, query=masked_parties(one.query)) for one in shown]
    return ShownExports(shown, any(one.state in ("waiting", "working") for one in shown))


def case_of_search(text: str) -> str:
    """The id of the case that a search asks for; empty if it asks for none."""
    try:
        return read_query(read_box(text)).case or ""
    except BadQuery:  # of an older version
        return ""


def _shown(export: Export, asked_for: Asked, progress: Progress | None) -> ShownExport:
    end = export.end
    about = ShownExport(
        id=export.id,
        state="waiting" if progress is None else "working",
        at=asked_for.at,
        by=asked_for.by,
        query=asked_for.query,
        recordings=asked_for.recordings,
        size_bytes=asked_for.size_bytes,
        recipients=len(asked_for.recipients),
        done=0 if progress is None else progress.recordings,
    )
    if end is None:
        return about
    return msgspec.structs.replace(
        about,
        state=end.state,
        size_bytes=end.size_bytes or about.size_bytes,
        done=end.recordings,
        ends_at=end.ends_at,
        sha256=end.sha256 or None,
        unsealed=end.unsealed,
        problems=end.problems,
        why=end.why or None,
    )


async def ask(ops: Ops, request: Request) -> Response:
    """Ask for an export. The access log has it before a worker can begin.

    Raises:
        Refused, UserError: it cannot be made.
        ReasonWanted: a reason has to be given.
        NotWritten: the access log cannot be written.
        StoreError: the archive or the place of exports does not answer.
    """
    person = request.state.person
    form = await read_change(ops, request, _LONGEST)
    hours = _hours_of(form.get("hours", str(HOURS[0])))
    assert_given(ops, "export", form.get("why", ""))
    recipients = recipients_of_lines(form.get("recipients", ""))
    if recipients:
        await asyncio.to_thread(read_recipients, recipients)
    chosen = await choose(ops, request, form)
    exports = await usable(ops)
    waiting = [one for one in await asyncio.to_thread(exports.all) if one.end is None and not one.revoked]
    if len(waiting) >= _MOST_WAITING:
        raise UserError(f"{many(len(waiting), 'export')} wait already; try again when one has ended")
    now = utc_now()
    asked_for = Asked(
        id=new_id(now),
        archive_id=exports.archive_id,
        at=format_instant(now),
        by=person.name,
        query=form.get("search", "").strip(),
        recordings=len(chosen),
        size_bytes=sum(one.size_bytes for one in chosen),
        recipients=recipients,
        hours=hours,
    )
    ids = [] if asked_for.query else [one.recording_id for one in chosen]
    about = f"export {asked_for.id}" + (f", encrypted for {many(len(recipients), 'recipient')}" if recipients else "")
    said = Said("export", ids, asked_for.query, len(chosen), about, form.get("why", "").strip())
    await ops.accesses.write(line_of(request, person, said, bytes=asked_for.size_bytes))
    await asyncio.to_thread(exports.ask, asked_for, chosen)
    with suppress(RedisError, OSError):  # a worker finds it within a minute
        await enqueue(ops.redis, export_job(asked_for.id, exports.known_id()))
    return RedirectResponse("/ops/exports", 303)


def _hours_of(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_HOURS:
        return int(text)
    raise Refused(400, f"hours: expected a number from 1 to {MOST_HOURS}")


async def choose(ops: Ops, request: Request, form: dict[str, str]) -> Sequence[Chosen]:
    """The recordings that a form names by a search or by ids, oldest first.

    Raises:
        BadQuery: the search is not valid.
        Refused: it names none, the archive does not have one, or the person may not have bundles.
        UserError: they are too many, or the catalogue is not complete.
    """
    view = view_of(request)
    view.assert_bundles()
    search, ids = form.get("search", "").strip(), list(dict.fromkeys(form.get("ids", "").split()))
    if bool(search) == bool(ids):
        raise Refused(
            400, "search for something or select recordings first; to export everything, run `callvault export --all`"
        )
    if ids:
        assert_few(ids, "recording")
        known = await view.of_ids(ids)
        hits = [known.get(one) or await view.find(one) for one in ids]
        if missing := [one for one, hit in zip(ids, hits, strict=True) if hit is None]:
            raise Refused(404, f"not in the archive: {', '.join(missing)}")
        found = [hit for hit in hits if hit is not None]
        found.sort(key=lambda hit: (hit.row.started_at or hit.row.day, hit.row.recording_id))
        return [*map(Chosen.of, found)]
    chosen = await view.choose(read_query(read_box(search)))
    if (lacks := await ops.catalogue.incomplete()) is not None:
        raise Refused(503, f"{lacks}. An export of a search has to be whole")
    if not chosen:
        raise Refused(404, "no recording matches this search")
    size = sum(one.size_bytes for one in chosen)
    if len(chosen) > MOST_RECORDINGS or size > MOST_BYTES:
        raise UserError(
            f"{many(len(chosen), 'recording')}, {format_size(size)}: one export from the pages has {MOST_RECORDINGS} recordings "
            f"and {format_size(MOST_BYTES)} at most; search for less, or run `callvault export`"
        )
    return chosen


async def usable(ops: Ops) -> Exports:
    """The place of exports, if a worker sees it too, or no worker is alive to be asked.

    A worker that has just started publishes which place it sees some seconds after itself; this waits for that.

    Raises:
        Refused: the workers see another place, or have not said which.
    """
    exports = await ops.exports()
    place = await asyncio.to_thread(exports.known_id)
    url, until = exports.store.url, time.monotonic() + _STARTED_SECONDS
    while True:
        seen = {one.exports_place for one in await read_running(ops.redis) if one.kind == "worker"}
        if not seen or place in seen:
            return exports
        if None not in seen:
            raise Refused(
                503,
                f"no worker sees the place of exports of this receiver, {url}; if they run on other machines, set "
                "CALLVAULT_EXPORTS_URL to the same bucket for receivers and workers",
            )
        if time.monotonic() > until:
            raise Refused(
                503, f"no worker has reached the place of exports yet, {url}; their logs say why if this stays"
            )
        await asyncio.sleep(_ASK_AGAIN_SECONDS)


async def cancel(ops: Ops, form: dict[str, str]) -> str:
    """Cancel an export that is not ready.

    Raises:
        UserError: it has ended, or there is no such export.
        StoreError: the place of exports does not answer.
    """
    exports = await ops.exports()
    if await asyncio.to_thread(exports.read, form["id"]) is None:
        raise UserError(f"export {form['id']} is not there")
    now = utc_now()
    end = End("cancelled", format_instant(now), format_instant(now + SHOWN_AFTER_FAILING), why=f"by {form['by']}")
    if not await asyncio.to_thread(exports.end, form["id"], end):
        raise UserError(f"export {form['id']} has ended already")
    return f"Export {form['id']} is cancelled"


async def remove(ops: Ops, form: dict[str, str]) -> str:
    """Have an export removed before its end. Nobody gets it any more; a worker removes it within a minute.

    Raises:
        UserError: there is no such export.
        StoreError: the place of exports does not answer.
    """
    exports = await ops.exports()
    if await asyncio.to_thread(exports.read, form["id"]) is None:
        raise UserError(f"export {form['id']} is not there")
    await asyncio.to_thread(exports.revoke, form["id"], form["by"])  # whoever makes it stops too
    return f"Export {form['id']} is removed, and its addresses have ended"
