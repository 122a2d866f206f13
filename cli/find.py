"""`callvault find`: a search of the catalogue, as a table, JSON lines or CSV."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Mapping

from cli.catalogue import opened, searched, take, up_to_date
from cli.console import bold
from cli.options import option
from config.counts import many
from config.errors import UsedWrongly
from config.settings import Settings
from config.times import format_duration
from workers.catalogue.inventory import csv_lines, described
from workers.catalogue.query import BadQuery, read_query
from workers.catalogue.search import Hit, search_all
from workers.catalogue.words import pieces

_ON_A_TERMINAL = 50
_HEAD = ("started (UTC)", "from", "to", "length", "state", "seal", "recording")


def run(settings: Settings, words: Mapping[str, str | None], *, limit: int | None, as_csv: bool, as_json: bool) -> int:
    """Search; returns the exit status: 0 also when nothing was found.

    Raises:
        UsedWrongly: the search cannot be.
    """
    try:
        query = read_query(words)
    except BadQuery as error:
        raise UsedWrongly(f"{option(error.field)}: {error.why}") from None
    is_table = not as_csv and not as_json
    most = limit or (_ON_A_TERMINAL if is_table and sys.stdout.isatty() else None)
    with opened(settings) as (catalogue, archive):
        up_to_date(settings, catalogue, archive)
        # The first hit tells whether the file can be read at all; then the rest comes page by page.
        first = searched(settings, catalogue, archive, query)
        if not first and query.id is not None and take(settings, catalogue, archive, query.id):
            first = searched(settings, catalogue, archive, query)
        hits: Iterable[Hit] = itertools.islice(search_all(catalogue.path, query), most) if first else ()
        if as_json:
            for hit in hits:
                sys.stdout.write(json.dumps(described(hit)) + "\n")
        elif as_csv:
            sys.stdout.writelines(csv_lines(hits))
        else:
            write_table(list(hits), most)
    return 0


def write_table(hits: list[Hit], most: int | None) -> None:
    """A line a hit, and what was said below it: a column for that would leave the others no room."""
    lines = [_HEAD, *map(_cells, hits)] if hits else []
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line, hit in zip(lines, [None, *hits], strict=False):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        sys.stdout.write((bold(text) if hit is None else text) + "\n")
        if hit is not None and hit.words is not None:
            sys.stdout.write(f"    {_marked(hit.words)}\n")
    more = " (there may be more: --limit)" if most is not None and len(hits) >= most else ""
    sys.stdout.write(f"{many(len(hits), 'recording')}{more}\n")


def _cells(hit: Hit) -> tuple[str, ...]:
    row = hit.row
    started = (row.started_at or "").replace("T", " ")[:19]
    length = "" if row.duration_ms is None else format_duration(row.duration_ms / 1000)
    state = hit.state + (f" ({', '.join(row.findings)})" if row.findings else "")
    seal = "" if row.seal is None else str(row.seal)
    return tuple(
        map(_shown, (started, row.from_number or "", row.to_number or "", length, state, seal, row.recording_id))
    )


def _shown(text: str) -> str:
    """Without what a terminal would obey: parties and words come from outside."""
    return "".join(c if c.isprintable() else " " for c in text)


def _marked(words: str) -> str:
    return "".join(
        bold(_shown(piece), is_reversed=True) if is_hit else _shown(piece) for piece, is_hit in pieces(words)
    )
