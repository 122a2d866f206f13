"""`callvault logs`: log messages of external connections, from the archive; dismissal at Telnyx."""

from __future__ import annotations

import asyncio
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from cli.console import count_line, most_rows, print_json, print_result
from cli.options import DataFolder, Json, Limit, Since, Utc, first_day, refuse_future, settings_of, zone_of
from cli.usage import group
from text.counts import many
from text.errors import UserError
from text.printable import printable
from text.times import first_instant, format_column, utc_now

if TYPE_CHECKING:
    from config.settings import Settings

command = group("List or dismiss log messages of connections.")

_DAYS = 30


@command.command("list")
def list_logs(
    connection: Annotated[str | None, typer.Option(metavar="ID", help="Only this connection.")] = None,
    code: Annotated[str | None, typer.Option(metavar="CODE", help="Only this code.")] = None,
    since: Since = None,
    limit: Limit = None,
    utc: Utc = False,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """List archived log messages of the last 30 days.

    Newest last; --limit keeps the newest. Use --since to start on another day.

    Example: callvault logs list --code 10015
    """
    from workers.connections.log_messages import read_log_messages
    from workers.opening import open_archive

    today = utc_now().date()
    first = first_day(since) or today - timedelta(days=_DAYS)
    refuse_future(first, today)
    settings = settings_of(data)
    found = read_log_messages(open_archive(settings), first, connection, code)
    rows = found[-(most_rows(limit, is_table=not json) or len(found)) :]
    if json:
        report = {"log_messages": msgspec.to_builtins(rows), "count": len(found)}
        print_json(report)
        return
    zone_name, times = format_column([first_instant(row.first_seen_at) for row in rows], zone_of(utc))
    if rows:
        sys.stdout.write(f"first seen ({zone_name})\n")
    for seen, row in zip(times, rows, strict=True):
        message = row.message
        meta = message.get("meta") or {}
        about = " ".join(str(meta[n]) for n in ("external_connection_id", "telephone_number") if meta.get(n))
        again = f" (reappeared, seen {many(row.occurrence, 'time')})" if row.occurrence > 1 else ""
        title = f"{message.get('code')} {message.get('title')}: {message.get('detail')}"
        lines = (f"{seen}  {about}", f"  {title}{again}", f"  id {message.get('id') or 'none'}")
        sys.stdout.writelines(f"{printable(line)}\n" for line in lines)
    sys.stdout.write(f"{count_line(len(rows), len(found), 'log message')}\n")


@command.command("dismiss")
def dismiss(
    message_id: Annotated[
        str, typer.Argument(metavar="ID", help="ID of the message, as `logs list` shows it.", show_default=False)
    ],
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Dismiss a message at Telnyx; the archive keeps it.

    Example: callvault logs dismiss ID
    """
    asyncio.run(_dismiss(settings_of(data), message_id))
    print_result("dismissed", {"dismissed": message_id}, as_json=json)


async def _dismiss(settings: Settings, message_id: str) -> None:
    from cli.accessed import logged_at_telnyx
    from telnyx_api.account import Account
    from telnyx_api.client import TelnyxClient
    from telnyx_api.errors import NotFound

    dismissal = logged_at_telnyx(settings, "dismiss", about=f"connections {message_id}")
    async with dismissal, TelnyxClient(Account.from_settings(settings)) as client:
        try:
            await client.log_messages.dismiss(message_id)
        except NotFound:
            raise UserError(f"Telnyx has no log message {message_id}; `callvault logs list` shows the IDs") from None
