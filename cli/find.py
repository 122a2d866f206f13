"""`callvault find`: search the catalogue; print a table, JSON lines or CSV."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import tzinfo
from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import bold, count_line, in_columns, most_rows, print_json
from cli.options import (
    Connection,
    DataFolder,
    Leg,
    Limit,
    Number,
    OfCase,
    Recording,
    Session,
    SinceTime,
    UntilTime,
    Utc,
    WhyRead,
    Words,
    by_option,
    settings_of,
    zone_of,
)
from text.errors import UsedWrongly
from text.printable import printable
from text.times import first_instant, format_column, format_duration
from workers.catalogue.words import pieces

if TYPE_CHECKING:
    from workers.catalogue.search import Hit

_HEAD = ("from", "to", "length", "state", "seal", "recording")


def command(
    query: Words = None,
    number: Number = None,
    since: SinceTime = None,
    until: UntilTime = None,
    utc: Utc = False,
    connection: Connection = None,
    session: Session = None,
    leg: Leg = None,
    id: Recording = None,
    text: Annotated[
        str | None, typer.Option(metavar="WORDS", help='Words in the transcript: all words, "a phrase", prefix*.')
    ] = None,
    min_duration: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Minimum length, such as 30s or 5m.")
    ] = None,
    max_duration: Annotated[str | None, typer.Option(metavar="DURATION", help="Maximum length, such as 10m.")] = None,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="archived, kept, held, deleted, disposed, erased or damaged.")
    ] = None,
    findings: Annotated[bool, typer.Option("--findings", help="Only recordings with findings in the audio.")] = False,
    case: OfCase = None,
    limit: Limit = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header, for an inventory.")] = False,
    why: WhyRead = None,
    data: DataFolder = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON lines, one per recording.")] = False,
) -> int:
    """Find recordings by number, time or spoken words.

    Newest first. Days and times without a zone are local, unless you give --utc; JSON and CSV are in UTC.
    Exit status 0 even if nothing matches.

    Examples: callvault find 'refund state:kept since:7d'
    callvault find --number "+49 30 1234567" --since "last week" --text 'refund "account number"'
    """
    from msgspec import structs

    from cli.accessed import assert_reason, log_reading
    from cli.catalogue import opened, searched, take, up_to_date
    from cli.ids import whole_id
    from workers.catalogue.inventory import csv_lines, described
    from workers.catalogue.query import BadQuery, join, read_box, read_query, write_box
    from workers.catalogue.reach import EVERYTHING
    from workers.catalogue.search import count, search_all

    options = {
        "number": number,
        "since": since,
        "until": until,
        "connection": connection,
        "session": session,
        "leg": leg,
        "id": id,
        "text": text,
        "min_duration": min_duration,
        "max_duration": max_duration,
        "state": state,
        "findings": "1" if findings else None,
        "case": case,
    }
    box = " ".join(query or ())
    if query and not box.strip():  # an unset variable of a script would otherwise ask for everything
        raise UsedWrongly("WORDS: is empty; leave it out, or give what to find")
    if csv and json:
        raise UsedWrongly("--csv and --json exclude each other")
    settings, zone, act = settings_of(data), zone_of(utc), "export" if csv else "find"
    assert_reason(settings, act, why)
    try:
        wanted = read_query(join(options, read_box(box)), zone)
    except BadQuery as error:
        raise by_option(error) from None
    most = most_rows(limit, is_table=not csv and not json)
    with opened(settings) as (catalogue, archive):
        up_to_date(settings, catalogue, archive)
        # `searched` rebuilds a corrupt file; `search_all` then reads the results page by page.
        first = searched(settings, catalogue, archive, wanted)
        if not first and wanted.id is not None:
            wanted = structs.replace(wanted, id=whole_id(settings, catalogue, archive, wanted.id))
            first = searched(settings, catalogue, archive, wanted)
        if not first and wanted.id is not None and take(settings, catalogue, archive, wanted.id):
            first = searched(settings, catalogue, archive, wanted)
        if first:
            asked = " ".join(filter(None, (box, write_box({n: v for n, v in options.items() if v is not None}))))
            log_reading(settings, archive, act, query=asked, found=count(catalogue.path, wanted, EVERYTHING), why=why)
        hits: Iterable[Hit] = search_all(catalogue.path, wanted, EVERYTHING, most) if first else ()
        if json:
            for hit in hits:
                print_json(described(hit))
        elif csv:
            sys.stdout.writelines(csv_lines(hits))
        else:
            shown = list(hits)
            write_table(shown, zone)
            sys.stdout.write(f"{_count_line(len(shown), most, lambda: count(catalogue.path, wanted, EVERYTHING))}\n")
    return 0


def write_table(hits: list[Hit], zone: tzinfo | None) -> None:
    """Print a line per result, with the matching words below it."""
    zone_name, times = format_column([first_instant(hit.row.started_at) for hit in hits], zone)
    rows = [(time, *_cells(hit)) for time, hit in zip(times, hits, strict=True)]
    lines = [(f"started ({zone_name})", *_HEAD), *rows] if hits else []
    for text, hit in zip(in_columns(lines), [None, *hits], strict=False):
        sys.stdout.write((bold(text) if hit is None else text) + "\n")
        if hit is not None and hit.words is not None:
            sys.stdout.write(f"    {_marked(hit.words)}\n")


def _count_line(shown: int, most: int | None, count_all: Callable[[], int]) -> str:
    """The last line of a table. The search counts no further than `MOST_COUNTED`."""
    from workers.catalogue.search import MOST_COUNTED

    total = shown if most is None or shown < most else count_all()
    if total > MOST_COUNTED:
        return f"{shown} of more than {MOST_COUNTED} recordings; use --limit 0 for all"
    return count_line(shown, total, "recording")


def _cells(hit: Hit) -> tuple[str, ...]:
    row = hit.row
    length = "" if row.duration_ms is None else format_duration(row.duration_ms / 1000)
    state = hit.state + (f" ({', '.join(row.findings)})" if row.findings else "")
    seal = "" if row.seal is None else str(row.seal)
    return tuple(map(printable, (row.from_number or "", row.to_number or "", length, state, seal, row.recording_id)))


def _marked(words: str) -> str:
    return "".join(
        bold(printable(piece), is_reversed=True) if is_hit else printable(piece) for piece, is_hit in pieces(words)
    )
