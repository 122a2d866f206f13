"""Each command that prints a result prints it as one JSON document with `--json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import typer

from cli.main import COMMANDS
from lab.processes import run_callvault

WITHOUT = {
    "serve": "runs until it is stopped",
    "worker": "runs until it is stopped",
}


def commands() -> Iterator[tuple[str, Any]]:
    """Every command of the table and of its groups, except for the operations of Telnyx, which print JSON anyway."""

    def walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        below = getattr(command, "commands", None)
        if below is None:
            yield words, command
        for name, one in (below or {}).items():
            yield from walk(f"{words} {name}", one)

    for row in [row for rows in COMMANDS.values() for row in rows if row.name != "telnyx"]:
        command = import_module(row.module).command
        if not isinstance(command, typer.Typer):
            alone = typer.Typer(rich_markup_mode=None)
            alone.command(row.name)(command)
            yield row.name, typer.main.get_command(alone)
        else:
            yield from walk(row.name, typer.main.get_group(command))


def test_every_command_prints_json_or_has_a_reason_not_to() -> None:
    without = {words for words, one in commands() if not any("--json" in p.opts for p in one.params)}
    assert without == set(WITHOUT)


def document(environment: dict[str, str], *words: str, status: int = 0) -> Any:
    done = run_callvault([*words, "--json"], environment)
    assert done.returncode == status, done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    return json.loads(done.stdout)


@pytest.mark.usefixtures("redis")
def test_decisions_are_reported_as_one_document(environment: dict[str, str]) -> None:
    paused = document(environment, "deletions", "pause", "--why", "the bucket moves")
    assert (paused["paused"]["why"], paused["is_new"], paused["is_as_meant"]) == ("the bucket moves", True, True)
    assert document(environment, "deletions", "resume") == {"paused": None, "is_new": True}
    assert document(environment, "deletions", "resume") == {"paused": None, "is_new": False}
    held = document(environment, "deletions", "hold", "--connection", "17", "--why", "case 17")
    assert (held["connection_id"], held["recording_id"], held["is_held"]) == ("17", None, True)
    released = document(environment, "deletions", "release", "--connection", "17", "--why", "closed")
    assert released == {"recording_id": None, "connection_id": "17", "still_held": None}
    nowhere = document(environment, "deletions", "hold", "nobody", "--why", "case 17", status=1)
    assert nowhere["is_nowhere"] and not nowhere["is_as_meant"]
    assert document(environment, "dead-letters", "retry", "--all") == {"retried": 0}
    assert document(environment, "dead-letters", "discard", "--all") == {"discarded": 0}
    healthy = document(environment, "healthy", status=1)
    assert healthy == {"good": False, "processes": [], "killed": [], "missing": []}
