"""`callvault access-log`: who looked at, heard, exported or decided what."""

from __future__ import annotations

import asyncio
import sys
from datetime import tzinfo
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from cli.console import bold, count_line, in_columns, most_rows
from cli.options import DataFolder, Limit, SinceTime, UntilTime, Utc, by_option, settings_of, zone_of
from text.counts import many
from text.printable import printable
from text.sizes import format_size
from text.times import first_instant, format_column, format_duration

if TYPE_CHECKING:
    from archive.archive import Archive
    from config.settings import Settings
    from workers.access.index import AccessIndex, Entry

_HEAD = ("who", "how", "from", "what", "about")


def command(
    since: SinceTime = None,
    until: UntilTime = None,
    who: Annotated[str | None, typer.Option(metavar="NAME", help="Only this person or program.")] = None,
    recording: Annotated[str | None, typer.Option(metavar="ID", help="Only this recording.")] = None,
    limit: Limit = None,
    utc: Utc = False,
    data: DataFolder = None,
    json: Annotated[bool, typer.Option("--json", help="Print the lines as the archive holds them, in order.")] = False,
) -> int:
    """List who looked at, heard or changed what.

    Newest last; --limit keeps the newest. Days and times without a zone are local, unless you give --utc. With
    --json, each line is a document as docs/archive-format.md describes it, for a SIEM. Exit status 0 even if
    nothing matches. docs/access-log.md says what is logged.

    Example: callvault access-log --recording ID --since 30d
    """
    from workers.access.index import AccessIndex
    from workers.access.query import read_access_query
    from workers.catalogue.query import BadQuery
    from workers.opening import open_archive

    zone = zone_of(utc)
    try:
        query = read_access_query({"since": since, "until": until, "who": who, "recording": recording}, zone)
    except BadQuery as error:
        raise by_option(error) from None
    settings = settings_of(data)
    index = AccessIndex(settings.data_folder)
    if (note := asyncio.run(_bring_up_to_date(settings, index, open_archive(settings)))) is not None:
        sys.stderr.write(f"callvault: {note}\n")
    most = most_rows(limit, is_table=not json)
    if json:
        sys.stdout.writelines(line.decode() + "\n" for line in index.lines(query, most))
        return 0
    shown = 0
    for entries in index.in_order(query, most):
        _write_table(entries, zone, has_head=not shown)
        shown += len(entries)
    total = shown if most is None or shown < most else index.count(query)
    sys.stdout.write(f"{count_line(shown, total, 'line')}\n")
    return 0


async def _bring_up_to_date(settings: Settings, index: AccessIndex, archive: Archive) -> str | None:
    from workers.access.reading import bring_up_to_date
    from workers.queue.connect import connect_receiver
    from workers.queue.embedded import running_redis_of

    if (url := running_redis_of(settings)) is None:
        return await bring_up_to_date(index, archive, None)
    redis = connect_receiver(url)  # gives up within seconds, since a person waits
    try:
        return await bring_up_to_date(index, archive, redis)
    finally:
        await redis.aclose()


def _write_table(entries: list[Entry], zone: tzinfo | None, *, has_head: bool) -> None:
    zone_name, times = format_column([first_instant(entry.line.at) for entry in entries], zone)
    rows = [(time, *_cells(entry)) for time, entry in zip(times, entries, strict=True)]
    lines = [*([(f"when ({zone_name})", *_HEAD)] if has_head else []), *rows]
    for number, text in enumerate(in_columns(lines)):
        sys.stdout.write((bold(text) if has_head and not number else text) + "\n")


def _cells(entry: Entry) -> tuple[str, ...]:
    line = entry.line
    given = [*line.recordings, *(text for text in (line.about, line.query) if text is not msgspec.UNSET)]
    parts = [" ".join(given)]
    if line.found is not msgspec.UNSET:
        parts.append(many(line.found, "row") if line.what == "list" else f"{many(line.found, 'recording')} found")
    if line.why is not msgspec.UNSET:
        parts.append(f"why: {line.why}")
    if line.by is not msgspec.UNSET:
        parts.append(f"as {line.by}")
    if entry.bytes is not None:
        length = "" if entry.seconds is None else f", {format_duration(entry.seconds)}"
        parts.append(f"{format_size(entry.bytes)}{length} sent")
    if entry.error is not None:
        parts.append(f"failed: {entry.error}")
    about = "; ".join(part for part in parts if part)
    return tuple(map(printable, (line.who, line.how, line.address, line.what, about)))
