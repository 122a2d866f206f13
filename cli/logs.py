"""`callvault logs`: log messages of external connections, from the archive; dismissal at Telnyx."""

from __future__ import annotations

import asyncio
import json as json_module
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from cli.console import print_result
from cli.options import DataFolder, Json, Since, day_of, settings_of
from cli.usage import group
from text.counts import many
from text.errors import UserError
from text.times import utc_now

if TYPE_CHECKING:
    from config.settings import Settings

command = group("List or dismiss log messages of connections.")

_DAYS = 30


@command.command("list")
def list_logs(
    connection: Annotated[str | None, typer.Option(metavar="ID", help="Only this connection.")] = None,
    code: Annotated[str | None, typer.Option(metavar="CODE", help="Only this code.")] = None,
    since: Since = None,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """List archived log messages of the last 30 days.

    Newest last. Use --since to start on another day.

    Example: callvault logs list --code 10015
    """
    from workers.connections.log_messages import read_log_messages
    from workers.runtime import open_archive

    settings = settings_of(data)
    first = day_of(since, "--since") if since else utc_now().date() - timedelta(days=_DAYS)
    rows = read_log_messages(open_archive(settings), first, connection, code)
    if json:
        sys.stdout.write(json_module.dumps({"log_messages": msgspec.to_builtins(rows)}) + "\n")
        return
    for row in rows:
        message = row.message
        meta = message.get("meta") or {}
        about = " ".join(str(meta[n]) for n in ("external_connection_id", "telephone_number") if meta.get(n))
        again = f" (reappeared, seen {many(row.occurrence, 'time')})" if row.occurrence > 1 else ""
        title = f"{message.get('code')} {message.get('title')}: {message.get('detail')}"
        sys.stdout.write(f"{row.first_seen_at}  {about}\n  {title}{again}\n  id {message.get('id') or 'none'}\n")
    sys.stdout.write(f"{many(len(rows), 'log message')}\n")


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
    from telnyx_api.account import Account
    from telnyx_api.client import TelnyxClient
    from telnyx_api.errors import NotFound

    async with TelnyxClient(Account.from_settings(settings)) as client:
        try:
            await client.log_messages.dismiss(message_id)
        except NotFound:
            raise UserError(f"Telnyx has no log message {message_id}; `callvault logs list` shows the IDs") from None
