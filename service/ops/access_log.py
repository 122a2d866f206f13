"""The page of the access log: who looked at, heard, exported or decided what."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request

from archive.access import AccessLine
from service.ops.masking import masked_parties
from service.ops.may import PROVE
from service.ops.parts import Ops
from service.ops.view import View, view_of
from text.errors import UserError
from workers.access.index import Entry
from workers.access.query import FIELDS, AccessQuery, is_place, read_access_query
from workers.catalogue.query import BadQuery

PER_PAGE = 100
OF_ONE = 20

_NOT_FOR_ALL = "it was not done for each of several recordings"


class Accesses(msgspec.Struct, frozen=True):
    """A page of the access log.

    Attributes:
        query: the search as Callvault understood it.
        entries: the latest first.
        after: pass it to get the next page; None at the end.
        note: a warning that lines may be missing; None if none are.
    """

    query: AccessQuery
    entries: list[Entry]
    after: str | None
    note: str | None


async def look(ops: Ops, request: Request) -> Accesses:
    """The lines that match.

    Raises:
        BadQuery: the search is not valid, or a role with a scope asks for more than one recording.
        UserError: the index cannot be used now.
    """
    query = read_access_query({name: request.query_params.get(name) for name in FIELDS})
    after = request.query_params.get("after")
    if after is not None and not is_place(after):
        raise UserError("after: not a value that a previous page returned")
    view = view_of(request)
    if not view.is_whole:
        if query.recording is None:
            raise BadQuery("your role is limited to some recordings; give the ID of one of them", "recording")
        if not await view.sees(query.recording):
            return Accesses(query, [], None, None)
    found, note = await _found(ops, view, query, PER_PAGE + 1, after)
    is_more = len(found) > PER_PAGE
    return Accesses(query, found[:PER_PAGE], found[PER_PAGE - 1].place if is_more else None, note)


async def of_recording(ops: Ops, request: Request, recording_id: str) -> list[Entry] | None:
    """The latest lines about one recording, 20 at most; None for a person who may not see them, or if they cannot be read."""
    view = View(ops, request.state.person.reach(PROVE))
    if not await view.sees(recording_id):
        return None
    try:
        return (await _found(ops, view, AccessQuery(recording=recording_id), OF_ONE, None))[0]
    except UserError:
        return None  # the page of the access log says why


async def _found(
    ops: Ops, view: View, query: AccessQuery, most: int, after: str | None
) -> tuple[list[Entry], str | None]:
    reader = ops.access_reader
    note = await reader.bring_up_to_date(ops.runtime.archive, ops.redis)
    found = await asyncio.to_thread(reader.index.find, query, most, after)
    if not view.is_whole:
        found = [_about_one(entry, query.recording or "") for entry in found]
    return [_shown(entry) if view.masks_all else entry for entry in found], note


def _about_one(entry: Entry, recording_id: str) -> Entry:
    """An entry without what it says of other recordings. An error about several may name each of them."""
    about_it = {"recordings": [recording_id], "query": msgspec.UNSET, "found": msgspec.UNSET}
    error = entry.error if entry.error is None or len(entry.line.recordings) == 1 else _NOT_FOR_ALL
    return msgspec.structs.replace(entry, line=msgspec.structs.replace(entry.line, **about_it), error=error)


def _shown(entry: Entry) -> Entry:
    """An entry with the numbers of its search masked."""
    line: AccessLine = entry.line
    if line.query is msgspec.UNSET:
        return entry
    return msgspec.structs.replace(entry, line=msgspec.structs.replace(line, query=masked_parties(line.query)))
