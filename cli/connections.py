"""`callvault connections`: the account's configuration as code."""

from __future__ import annotations

import asyncio
import json as json_module
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import confirmed, open_console, print_json
from cli.interrupt import Interrupted
from cli.options import Json, WhyRead, Yes, settings_of
from cli.usage import group
from text.counts import many
from text.errors import UsedWrongly, UserError

if TYPE_CHECKING:
    from telnyx_api.client import TelnyxClient
    from workers.connections.plan import Change

command = group("Manage the account's configuration as code.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="TOML file.", show_default=False)]
Prune = Annotated[bool, typer.Option("--prune", help="Delete what Telnyx has but the file does not name.")]

_MOST_NAMED = 20
_COLOURS = {"create": "green", "update": "yellow", "delete": "red"}
_MARKS = {"create": "+", "update": "~", "delete": "-"}


def _on_telnyx(work: Callable[[TelnyxClient], Awaitable[Any]]) -> Any:
    from telnyx_api.account import Account
    from telnyx_api.client import TelnyxClient

    account = Account.from_settings(settings_of())

    async def run() -> Any:
        async with TelnyxClient(account) as client:
            return await work(client)

    return asyncio.run(run())


def _row(change: Change) -> dict[str, Any]:
    """A change as `--json` prints it."""
    return {
        "action": change.action,
        "family": change.family,
        "key": change.key,
        "fields": {d.path: {"before": d.shown()[0], "after": d.shown()[1]} for d in change.differences},
    }


def _show(changes: list[Change], as_json: bool) -> None:
    if as_json:
        print_json({"changes": [_row(change) for change in changes]})
        return
    console = open_console()
    for change in changes:
        line = f"{_MARKS[change.action]} {change.family}.{change.key}"
        console.print(line, style=_COLOURS[change.action])
        for difference in change.differences:
            before, after = difference.shown()
            line = f"    {difference.path}: {before} -> {after}"
            console.print(line)
    sys.stdout.write(f"{many(len(changes), 'difference')}\n" if changes else "no differences\n")


@command.command("plan")
def show_plan(file: File, prune: Prune = False, json: Json = False) -> int:
    """Show what `apply` would change.

    It changes nothing. Exit status 2: there are changes.

    Example: callvault connections plan telnyx.toml
    """
    from workers.connections.document import load
    from workers.connections.plan import plan

    document = load(file)
    changes = _on_telnyx(lambda client: plan(client, document, prune=prune))
    _show(changes, json)
    return 2 if changes else 0


@command.command("apply")
def apply_plan(
    file: File,
    prune: Prune = False,
    yes: Yes = False,
    why: WhyRead = None,
    json: Json = False,
) -> int:
    """Change the account to match the file.

    It asks first and stops at the first error; you can run it again. With --json it asks nothing and needs
    --yes; the document says of each change whether it was made. Exit status 1: you answered no, or a change
    failed.

    Example: callvault connections apply telnyx.toml
    """
    from cli.accessed import assert_reason
    from workers.connections.document import load

    document = load(file)
    assert_reason(settings_of(), "apply", why)

    async def work(client: TelnyxClient) -> int:
        from workers.connections.plan import plan

        changes = await plan(client, document, prune=prune, set_unreturned=True)
        return await _apply(client, changes, why, yes, json)

    return int(_on_telnyx(work))


async def _apply(client: TelnyxClient, changes: list[Change], why: str | None, yes: bool, as_json: bool) -> int:
    from telnyx_api.errors import TelnyxError
    from workers.connections.plan import apply

    if as_json and changes and not yes:
        raise UsedWrongly(f"--yes: missing; --json asks nobody, and {many(len(changes), 'change')} would be made")
    if not as_json:
        _show(changes, as_json=False)
    if changes and not yes and not confirmed("Make these changes?"):
        sys.stdout.write("nothing changed\n")
        return 1
    done, failure = 0, None
    try:
        async with _logged(changes, why):
            async for change in apply(client, changes):
                done += 1
                if not as_json:
                    sys.stdout.write(f"done: {change.action} {change.family}.{change.key}\n")
    except asyncio.CancelledError:
        next_one = changes[done]
        raise Interrupted(
            f"{done} of {many(len(changes), 'change')} made; {next_one.action} {next_one.family}.{next_one.key} may have "
            "been made, too. Run the same command again for the rest"
        ) from None
    except TelnyxError as error:
        failed = changes[done]
        failure = f"{failed.action} {failed.family}.{failed.key}: {error}; {done} of {len(changes)} made"
    if as_json:
        rows = [_row(change) | {"made": number < done} for number, change in enumerate(changes)]
        print_json({"changes": rows, "made": done, "error": failure})
    if failure is not None:
        raise UserError(f"{failure}; fix it and run the command again")
    return 0


@asynccontextmanager
async def _logged(changes: Sequence[Change], why: str | None) -> AsyncIterator[None]:
    """Write the changes into the access log before the block makes them."""
    from cli.accessed import logged_at_telnyx

    if not changes:
        yield
        return
    named = [f"{change.action} {change.family}.{change.key}" for change in changes]
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    about = f"connections {', '.join(named[:_MOST_NAMED])}{more}"
    async with logged_at_telnyx(settings_of(), "apply", about=about, why=why):
        yield


@command.command("drift")
def show_drift(file: File, json: Json = False) -> int:
    """Show changes that someone made outside of the file.

    Exit status 1: there are some, or something could not be compared.

    Example: callvault connections drift telnyx.toml
    """
    from workers.connections.document import load
    from workers.connections.plan import drift

    document = load(file)
    changes, unread = _on_telnyx(lambda client: drift(client, document))
    _show(changes, json)
    for one in unread:
        sys.stderr.write(f"callvault: {one.family}.{one.key} cannot be compared: {one.error}\n")
    return 1 if changes or unread else 0


@command.command("export")
def export_file(json: Json = False) -> None:
    """Print a file for the account as it is now.

    The file is TOML. With --json, its tables are printed as one JSON document, and beside them what could not
    be read.

    Example: callvault connections export > telnyx.toml
    """
    import tomllib

    from workers.connections.plan import export

    text = _on_telnyx(export)
    if json:
        unreadable = [line[2:] for line in text.splitlines() if line.startswith("# [")]
        text = json_module.dumps({"configuration": tomllib.loads(text), "unreadable": unreadable})
    sys.stdout.write(text + "\n")
