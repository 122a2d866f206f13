"""What one person sees of the recordings: each page, export and change asks here, and nothing else here asks the catalogue.

The door (`site.py`) makes one for each request, of the grants whose role the row names. Outside their scopes a recording does
not exist, and numbers are masked where a grant says so.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs
from starlette.requests import Request

from archive import layout
from archive.cases import Case
from archive.records import UnreadableRecord
from service.ops.masking import with_masked_numbers
from service.ops.person import Refused
from text.errors import UserError
from text.numbers import wanted_number
from workers.catalogue import search as catalogue
from workers.catalogue.file import CatalogueBusy, reading
from workers.catalogue.in_cases import CaseCounts, count_case, read_cases_of
from workers.catalogue.lookup import day_at_telnyx
from workers.catalogue.query import BadQuery, Query
from workers.catalogue.reach import Reach
from workers.catalogue.rows import Row, row_of_commit
from workers.catalogue.search import Chosen, Hit

if TYPE_CHECKING:
    from service.ops.parts import Ops

_AT_ONCE = 8
_FEWEST_DIGITS = 8  # of a whole number, with or without its country


def view_of(request: Request) -> View:
    """What the person who sends a request sees by the row that it asks for; the door has set it."""
    view: View = request.state.view
    return view


class View:
    """What a person sees. Each method raises as `FollowedCatalogue.ask`.

    Args:
        ops: the parts of the pages.
        reach: of the grants of the person that count.
    """

    def __init__(self, ops: Ops, reach: Reach) -> None:
        self._ops = ops
        self.reach = replace(reach, whole_numbers=ops.settings.ops_mask_numbers or reach.masks_some)

    @property
    def is_whole(self) -> bool:
        """Whether the person sees all recordings."""
        return self.reach.is_whole

    @property
    def masks_all(self) -> bool:
        """Whether numbers are masked that belong to no recording that is known."""
        return self._ops.settings.ops_mask_numbers or self.reach.masks_all

    def masks(self, row: Row) -> bool:
        """Whether the numbers of a recording are masked. The row must have them in full."""
        return self._ops.settings.ops_mask_numbers or self.reach.masks(row)

    async def search(self, query: Query, limit: int, after: str | None = None) -> list[Hit]:
        """The recordings that match, the latest first.

        Args:
            query: the search.
            limit: the most.
            after: continue after the hit of this `place`.

        Raises:
            UserError: `after` is not the `place` of a hit that this person sees.
            BadQuery: a part of a number is searched for, and numbers are masked.
        """
        self.assert_searchable(query)
        place = after
        if after is not None and not self.is_whole:
            known = await self._ops.catalogue.ask(lambda path: catalogue.search_ids(path, [after], self.reach))
            place = known[after].place if after in known else ""
        if place is not None and not re.fullmatch(r"[0-9TZ:.+-]*~\d{1,18}", place):
            raise UserError("after: not a value that a previous page returned")
        found = await self._ops.catalogue.ask(lambda path: catalogue.search(path, query, self.reach, limit, place))
        return [self._shown(hit) for hit in found]

    async def count(self, query: Query) -> int:
        """How many recordings match, on all pages; `MOST_COUNTED + 1` if there are more than that. Raises as `search`."""
        self.assert_searchable(query)
        return await self._ops.catalogue.ask(lambda path: catalogue.count(path, query, self.reach))

    def all(self, query: Query) -> Iterator[Hit]:
        """All recordings that match, the latest first, read a page at a time; blocks. Raises as `search`."""
        self.assert_searchable(query)
        return map(self._shown, catalogue.search_all(self._ops.catalogue.path, query, self.reach))

    async def choose(self, query: Query) -> list[Chosen]:
        """The places of all recordings that match, oldest first, for a bundle, in which nothing can be cut or masked.

        Raises:
            Refused: the person does not see all recordings in full.
        """
        self.assert_bundles()
        return await self._ops.catalogue.ask(lambda path: catalogue.choose_all(path, query))

    def assert_bundles(self) -> None:
        """Check that the person may have bundles.

        Raises:
            Refused: the person does not see all recordings in full.
        """
        if not self.is_whole or self.masks_all:
            raise Refused(
                403,
                "a bundle has whole records and manifests, in which nothing can be masked or left out, and you see numbers "
                "masked or a part of the recordings; ask somebody who sees all, or run `callvault export`",
            )

    async def of_ids(self, recording_ids: Sequence[str]) -> dict[str, Hit]:
        """What the catalogue knows of some recordings, by id."""
        found = await self._ops.catalogue.ask(lambda path: catalogue.search_ids(path, recording_ids, self.reach))
        return {recording_id: self._shown(hit) for recording_id, hit in found.items()}

    async def case_names(self, ids: Collection[str]) -> dict[str, str]:
        """The names of some cases by their ids, as far as the catalogue knows them."""
        if not ids:
            return {}

        def read(path: Path) -> dict[str, str]:
            with reading(path) as db:
                return {case.id: case.name for case in read_cases_of(db) if case.id in ids}

        with suppress(CatalogueBusy):
            return await self._ops.catalogue.ask(read)
        return {}

    async def counts_of(self, cases: Sequence[Case]) -> dict[str, CaseCounts]:
        """How many recordings each of some cases holds, by its id; nothing for a person with a scope."""

        def count_each(path: Path) -> dict[str, CaseCounts]:
            return {case.id: count_case(path, case) for case in cases}

        return await self._ops.catalogue.ask(count_each) if cases and self.is_whole else {}

    async def find(self, recording_id: str) -> Hit | None:
        """A recording as the catalogue has it, or else the archive itself; None if neither has it.

        With a scope, the archive itself is not searched: that would take longer for an unknown recording than for one
        outside the scope, and so tell them apart.
        """
        query = Query(id=recording_id)
        hits = await self.search(query, 1)
        if not hits and self.is_whole and await self._take(recording_id):
            hits = await self.search(query, 1)
        return hits[0] if hits else None

    async def sees(self, recording_id: str) -> bool:
        """Whether this recording exists for the person, as `those_seen`."""
        return bool(await self.those_seen([recording_id]))

    async def those_seen(self, recording_ids: Sequence[str]) -> list[str]:
        """Those of some recordings that exist for the person, in their order; asked anew for each request.

        The catalogue is asked first, so that a recording outside costs what an unknown one does. Then its commit record in
        the archive decides: a catalogue may be old, or of another version.

        Raises:
            StoreError: the archive cannot be asked now.
        """
        if self.is_whole:
            return [*recording_ids]
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def is_within(row: Row) -> bool:
            async with at_once:
                recorded = await self.recorded(row)
            return recorded is not None and self.reach.covers(recorded)

        rows = {recording_id: hit.row for recording_id, hit in (await self.of_ids(recording_ids)).items()}
        within = dict(zip(rows, await asyncio.gather(*map(is_within, rows.values())), strict=True))
        return [recording_id for recording_id in recording_ids if within.get(recording_id)]

    async def recorded(self, row: Row) -> Row | None:
        """A recording as its commit record in the archive says, with its numbers; None if there is no such record.

        Raises:
            StoreError: the archive cannot be asked now.
        """
        folder = layout.recording_folder(row.date, row.recording_id)
        try:
            record = await asyncio.to_thread(self._ops.runtime.archive.commit_record, folder)
        except UnreadableRecord:
            return None
        return None if record is None else row_of_commit(row.recording_id, row.day, record)

    def assert_searchable(self, query: Query) -> None:
        """Check that a search, or a case that asks for the same, does not find out masked numbers digit by digit.

        Raises:
            BadQuery: it does.
        """
        if query.number is None or not self.reach.whole_numbers:
            return
        wanted = wanted_number(query.number)
        is_shown = wanted.how == "address" and wanted.text.startswith("@")  # a host
        if not is_shown and (wanted.how == "address" or len(wanted.text) < _FEWEST_DIGITS):
            raise BadQuery(
                f"numbers are masked for you, so give a whole one, {_FEWEST_DIGITS} digits at least, or the host of a SIP "
                "address as @example.com",
                "number",
            )

    async def _take(self, recording_id: str) -> bool:
        """Look for a recording in the archive itself, first under the day that Telnyx reports."""
        near = await day_at_telnyx(self._ops.runtime.telnyx, recording_id)
        return await self._ops.catalogue.take_from_archive(recording_id, near)

    def _shown(self, hit: Hit) -> Hit:
        """A hit, with masked numbers if the person gets them so. Its place in the catalogue tells how many there are."""
        row = with_masked_numbers(hit.row) if self.masks(hit.row) else hit.row
        return structs.replace(hit, row=row, place=hit.place if self.is_whole else hit.row.recording_id)
