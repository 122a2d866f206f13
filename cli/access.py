"""`callvault access`: which roles the access file gives to whom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.console import print_result
from cli.options import Json, settings_of
from cli.usage import group
from text.counts import many
from text.errors import UsedWrongly

command = group("Check which roles a person gets.")


@command.callback()
def _about() -> None:
    pass


@command.command("check")
def check(
    who: Annotated[
        list[str] | None,
        typer.Option("--who", metavar="NAME", help="Verified e-mail address, or the provider's subject."),
    ] = None,
    groups: Annotated[
        list[str] | None, typer.Option("--group", metavar="NAME", help="Group of the person. Repeat it for several.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Access file. [default: CALLVAULT_ACCESS_FILE]")
    ] = None,
    json: Json = False,
) -> int:
    """Check the access file, and show which roles a person gets and why.

    Exit status 1: the person gets no role.

    Example: callvault access check --who ada@example.com --group "voice team" --file access.toml
    """
    from config.roles import ROLES
    from config.sign_in import read_access_file

    path = file or settings_of().access_file
    if path is None:
        raise UsedWrongly("--file: missing, and CALLVAULT_ACCESS_FILE is not set; give the path of an access file")
    found = read_access_file(path)
    if not who and not groups:
        line = (
            f"{path}: {many(len(found.groups), 'group')} and {many(len(found.people), 'person', 'people')}; no mistake"
        )
        print_result(line, {"groups": len(found.groups), "people": len(found.people)}, as_json=json)
        return 0
    grants = found.grants(who or (), groups or ())
    roles = [role for role in ROLES if any(role in given for _, given in grants)]
    lines = [f"{role}: {', '.join(why for why, given in grants if role in given)}" for role in roles]
    report = {"roles": roles, "because": [{"entry": why, "roles": sorted(given)} for why, given in grants]}
    print_result("\n".join(lines) or f"no role: no entry of {path} fits", report, as_json=json)
    return 0 if roles else 1
