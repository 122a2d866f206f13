"""`callvault telnyx FAMILY OPERATION …`: every operation of the Telnyx API as a command, JSON out.

Arguments come from the table of operations: path parameters are arguments, fields of body and query are options.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cli.help import write_commands
from cli.options import option, settings_of
from cli.usage import Group, group
from telnyx_api.operations import FAMILIES, all_operations
from text.errors import UsedWrongly

if TYPE_CHECKING:
    from telnyx_api.operation import Operation


# Families whose answers have recordings, transcriptions, or links that let whoever has them hear one.
_SHOWS_RECORDINGS = frozenset({"recordings", "recording-transcriptions", "webhook-deliveries"})


class _Families(Group):
    """The families; their help lists all operations."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write all operations."""
        rows = [(f"{row.family} {command_name(row)}", row.summary) for row in all_operations()]
        write_commands(formatter, "Commands", rows)


def _build() -> typer.Typer:
    """The commands of all families."""
    rows = all_operations()
    app = group(
        "Call any operation of the Telnyx API.\n\nThe answer is printed as JSON: one document, or one line per item of a list. "
        "`--json FILE` of an operation is the body of its request.\n\n"
        "Example: callvault telnyx recordings list --filter created_at.gte=2026-11-25",
        _Families,
    )
    for family in FAMILIES:
        sub = group((family.__doc__ or "").strip().splitlines()[0])
        for row in rows:
            if row.family == family.name:
                sub.command(command_name(row), help=_help(row))(_command(row))
        app.add_typer(sub, name=family.name)
    return app


def command_name(row: Operation[Any]) -> str:
    """How the command line calls an operation."""
    return row.name.replace("_", "-")


def _help(row: Operation[Any]) -> str:
    arguments = " ".join(name.upper() for name in row.path_parameters)
    required = [n for n in row.body_parameters if row.parameters[n].default is inspect.Parameter.empty]
    options = " ".join(f"{option(name)} VALUE" for name in required)
    if "filter" in row.query_parameters:
        options = "--filter NAME=VALUE"
    words = ["callvault telnyx", row.family, command_name(row), arguments, options]
    return f"{row.summary}\n\n{row.method} {row.path}\n\nExample: {' '.join(word for word in words if word)}"


def _command(row: Operation[Any]) -> Callable[..., None]:
    """A function with the signature that Typer reads."""

    def command(**given: Any) -> None:
        arguments = {name: given[name] for name in row.path_parameters}
        if row.body_parameters:
            arguments |= _body(row, given)
        if "filter" in row.query_parameters and given["filter"]:
            arguments["filter"] = _filter(given["filter"])
        for name in ("page_number", "page_size"):
            if given.get(name) is not None:
                arguments[name] = given[name]
        asyncio.run(_run(row, arguments, given.get("limit"), given.get("why")))

    parameters = [_parameter(name, str, typer.Argument(show_default=False)) for name in row.path_parameters]
    for name in row.body_parameters:
        field = typer.Option(option(name), metavar="VALUE", help="Text or JSON.", show_default=False)
        parameters.append(_parameter(name, str | None, field, None))
    if row.body_parameters:
        body_option = typer.Option("--json", metavar="FILE", help="Body as JSON from FILE, or - for standard input.")
        parameters.append(_parameter("json", str | None, body_option, None))
    if "filter" in row.query_parameters:
        help_text = "Filter, such as created_at.gte=2026-11-25; repeatable."
        condition = typer.Option("--filter", metavar="NAME=VALUE", help=help_text)
        parameters.append(_parameter("filter", list[str], condition, []))
    if row.is_paged:
        most = typer.Option(metavar="N", help="Most items; 0: all. [default: all]", min=0, max=10**9)
        parameters.append(_parameter("limit", int | None, most, None))
    if row.is_paged and "page_size" in row.parameters:
        first = typer.Option(metavar="N", help="First page.", min=1)
        parameters.append(_parameter("page_number", int | None, first, None))
        size = typer.Option(metavar="N", help="Items per page; all pages are fetched.", min=1, max=250)
        parameters.append(_parameter("page_size", int | None, size, None))
    if _is_logged(row):
        reason = typer.Option(
            "--why", metavar="TEXT", help="Reason for the access log; CALLVAULT_ASK_WHY may require one."
        )
        parameters.append(_parameter("why", str | None, reason, None))
    made: Any = command  # a function's type does not allow to set its signature
    made.__signature__ = inspect.Signature(parameters)
    made.__annotations__ = {p.name: p.annotation for p in parameters}
    return cast(Callable[..., None], made)


def _parameter(name: str, kind: Any, info: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    annotation = Annotated[kind, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _body(row: Operation[Any], given: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if given["json"] is not None:
        body = _read_json(given["json"])
        if unknown := sorted(set(body) - set(row.body_parameters)):
            known = ", ".join(row.body_parameters)
            raise UsedWrongly(f"--json: unknown field {', '.join(unknown)}; {row.family} {row.name} has {known}")
    for name in row.body_parameters:
        if given[name] is not None:
            body[name] = _value(given[name], row.hints[name])
    empty = inspect.Parameter.empty
    if missing := [n for n in row.body_parameters if row.parameters[n].default is empty and n not in body]:
        raise UsedWrongly(f"{row.family} {row.name} needs {option(missing[0])}, as an option or in --json")
    return body


def _read_json(source: str) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
        body = json.loads(text)
    except OSError as error:
        raise UsedWrongly(f"--json: cannot read {source!r}: {error.strerror}") from None
    except ValueError as error:
        raise UsedWrongly(f"--json: {source!r} is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise UsedWrongly(f"--json: {source!r} must contain a JSON object")
    return body


def _value(text: str, hint: Any) -> Any:
    """Text for a text field, JSON for any other."""
    if "str" in str(hint).replace("dict[str", "").replace("list[str", ""):
        return None if text == "null" and "None" in str(hint) else text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _filter(pairs: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise UsedWrongly(f"--filter: cannot use {pair!r}; expected NAME=VALUE")
        *outer, last = name.split(".")
        place = found
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = value
    return found


def _is_logged(row: Operation[Any]) -> bool:
    """Whether an operation writes a line: all but a look at the account's configuration."""
    return row.method != "GET" or row.family in _SHOWS_RECORDINGS


async def _run(row: Operation[Any], arguments: dict[str, Any], limit: int | None, why: str | None) -> None:
    from cli.accessed import assert_reason, logged_at_telnyx
    from telnyx_api.account import Account
    from telnyx_api.client import TelnyxClient

    settings = settings_of()
    if _is_logged(row):
        assert_reason(settings, "telnyx", why)
    account = Account.from_settings(settings)
    try:
        async with AsyncExitStack() as stack:
            if _is_logged(row):
                names = [str(arguments[name]) for name in row.path_parameters]
                ids = [*arguments.get("ids", ()), *(names if row.path_parameters == ("recording_id",) else ())]
                about = " ".join([row.family, command_name(row), *names])
                must = row.method != "GET" and row.family in _SHOWS_RECORDINGS
                line = logged_at_telnyx(settings, "telnyx", ids, about=about, why=why, must=must)
                await stack.enter_async_context(line)
            client = await stack.enter_async_context(TelnyxClient(account))
            if row.is_paged:
                printed = 0
                async for item in client.pages(row, arguments):
                    sys.stdout.write(json.dumps(_plain(item), ensure_ascii=False) + "\n")
                    printed += 1
                    if printed == limit:
                        break
            else:
                _print(await client.call(row, arguments))
    except ValueError as error:
        raise UsedWrongly(str(error)) from None


def _plain(value: Any) -> Any:
    from telnyx_api.models import Model

    return value.as_returned() if isinstance(value, Model) else value


def _print(value: Any) -> None:
    if isinstance(value, bytes):
        sys.stdout.buffer.write(value)
    elif value is not None:
        sys.stdout.write(json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


command = _build()
