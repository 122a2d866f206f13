"""`callvault tokens`: API tokens for the ops pages and `/api/`, each with a role and an end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import bold, count_line, in_columns, most_rows, print_json, print_result
from cli.options import By, DataFolder, Json, Limit, Utc, run_in_service, zone_of
from cli.usage import group
from text.errors import UsedWrongly
from text.printable import printable
from text.times import first_instant, format_column, format_moment
from text.user import user_name

if TYPE_CHECKING:
    from archive.decision_records import ApiToken
    from workers.runtime import Runtime

command = group("Make, list or revoke API tokens of the ops pages.")


def _report(row: ApiToken) -> dict[str, Any]:
    from workers.api_tokens import works

    state = row.state if row.state == "revoked" or works(row) else "ended"
    shown = {"id": row.id, "name": row.name, "role": row.role, "state": state, "ends_at": row.ends_at}
    scope = {"connections": row.connections or [], "numbers": row.numbers or [], "mask": row.mask is True}
    return shown | scope | {"by": row.by, "at": row.at}


def _limits(row: dict[str, Any]) -> str:
    """What limits an API token besides its role, in words; empty if nothing does."""
    from config.scopes import Scope

    scope = str(Scope(tuple(row["connections"]), tuple(row["numbers"])))
    return f"{f' for {scope}' if scope else ''}{', numbers masked' * row['mask']}"


@command.command("create")
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What or whom it is for.", show_default=False)],
    role: Annotated[str, typer.Option(metavar="ROLE", help="listener, operator, officer, auditor or admin.")],
    lasts: Annotated[
        str, typer.Option("--for", metavar="DURATION", help="How long it works, such as 30d; at most 366d.")
    ] = "90d",
    connections: Annotated[
        list[str] | None,
        typer.Option("--connection", metavar="ID", help="Only recordings of this connection. Repeat it for several."),
    ] = None,
    numbers: Annotated[
        list[str] | None,
        typer.Option(
            "--number",
            metavar="PREFIX",
            help="Only with a party whose number begins so, such as +49. Repeat it for several.",
        ),
    ] = None,
    mask: Annotated[bool, typer.Option("--mask", help="Mask numbers.")] = False,
    by: By = None,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Make an API token, and print it once.

    The token is the only line on standard output. Callvault keeps only its hash, so store it now. docs/access.md
    says what each role may do. With both --connection and --number, a recording must meet both.

    Example: callvault tokens create "call center export" --role listener --for 30d --number +49 --mask
    """
    from cli.accessed import logged_change
    from config.roles import role_of
    from config.scopes import scoped_grant
    from text.times import parse_duration
    from workers.api_tokens import LONGEST, SHORTEST, create_token

    try:
        wanted = role_of(role)
    except ValueError as error:
        raise UsedWrongly(f"--role: {error}") from None
    try:
        grant = scoped_grant(wanted, connections or None, numbers or None, mask=mask)
    except ValueError as error:
        name, _, why = str(error).partition(": ")
        options = {"connections": "--connection", "numbers": "--number"}
        raise UsedWrongly(f"{options[name]}: {why}" if name in options else f"--role: {error}") from None
    try:
        time = parse_duration(lasts)
    except ValueError as error:
        raise UsedWrongly(f"--for: {error}") from None
    if not SHORTEST <= time <= LONGEST:
        raise UsedWrongly(f"--for: expected 1m to 366d, not {lasts}")

    async def work(runtime: Runtime) -> tuple[ApiToken, str]:
        about = f"{name}, role {wanted}, for {lasts}"
        async with logged_change(runtime, "create-token", about=about, by=by):
            return await create_token(runtime.archive, runtime.redis, name, grant, time, by or user_name())

    row, token = run_in_service(data, work, needs_redis=False)
    if json:
        print_result("", _report(row) | {"token": token}, as_json=True)
        return
    what = f"API token {row.id} for {row.name}, role {row.role}{_limits(_report(row))}"
    sys.stderr.write(f"{what}, works until {format_moment(row.ends_at, None)}.\n")
    sys.stderr.write("Store it now; Callvault shows it only once.\n")
    sys.stdout.write(f"{token}\n")


@command.command("list")
def list_tokens(limit: Limit = None, utc: Utc = False, data: DataFolder = None, json: Json = False) -> None:
    """List the API tokens.

    It shows the ID, role, end and name of each, and what limits it; never the token itself.

    Example: callvault tokens list
    """
    from workers.api_tokens import read_tokens

    tokens = run_in_service(data, lambda runtime: runtime.in_thread(read_tokens, runtime.archive), needs_redis=False)
    found = [*map(_report, tokens)]
    rows = found[: most_rows(limit, is_table=not json)]
    if json:
        print_json({"tokens": rows, "count": len(found)})
        return
    ends = [one["at"] if one["state"] == "revoked" else one["ends_at"] for one in rows]
    zone_name, times = format_column([first_instant(end) for end in ends], zone_of(utc))
    lines = [("id", "role", f"ends ({zone_name})", "", "name")] if rows else []
    for one, time in zip(rows, times, strict=True):
        state = f"revoked by {one['by']}" if one["state"] == "revoked" else "ended" if one["state"] == "ended" else ""
        lines.append(
            (
                one["id"],
                one["role"],
                time,
                printable(state),
                printable(one["name"] + (f" ({limits})" if (limits := _limits(one).strip(" ,")) else "")),
            )
        )
    for number, text in enumerate(in_columns(lines)):
        sys.stdout.write((text if number else bold(text)) + "\n")
    sys.stdout.write(f"{count_line(len(rows), len(found), 'API token')}\n")


@command.command("revoke")
def revoke(
    token_id: Annotated[
        str, typer.Argument(metavar="ID", help="ID of the API token, as `tokens list` shows it.", show_default=False)
    ],
    by: By = None,
    data: DataFolder = None,
    json: Json = False,
) -> None:
    """Revoke an API token.

    All receivers refuse it at once, and end what was signed in with it.

    Example: callvault tokens revoke ID
    """
    from cli.accessed import logged_change
    from workers.api_tokens import revoke_token

    async def work(runtime: Runtime) -> tuple[ApiToken, bool]:
        async with logged_change(runtime, "revoke-token", about=token_id, by=by):
            return await revoke_token(runtime.archive, runtime.redis, token_id, by or user_name())

    row, is_announced = run_in_service(data, work, needs_redis=False)
    late = "" if is_announced else "; Redis does not answer, so receivers refuse it within a minute"
    print_result(f"API token {row.id} ({row.name}) is revoked{late}", _report(row), as_json=json)
