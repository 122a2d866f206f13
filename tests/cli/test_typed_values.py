"""What is typed for an option is read as Typer reads it, also where our own reading takes its place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from cli.usage import UsageError, explain, group

TEXTS = ("", "a", " a ", "-1", "0", "00", "1", "+1", "7", "8", "1.0", "1_0", "1e1", "٣", "9" * 15, "9" * 16, "9" * 40)
PLACES = (".", "..", "/", "~", "/nonexistent", "/etc/hostname", "-")
ODD = ("ä", "\udcff", "a\nb", "true")


def of_every_kind(app: typer.Typer) -> list[Any]:
    """Add a command with an option of every kind that Callvault has; returns what its next run is given."""
    given: list[Any] = []

    @app.command("read")
    def read(
        text: Annotated[str | None, typer.Option()] = None,
        texts: Annotated[list[str] | None, typer.Option()] = None,
        number: Annotated[int | None, typer.Option(min=0, max=7)] = None,
        least: Annotated[int, typer.Option(min=1)] = 1,
        path: Annotated[Path | None, typer.Option()] = None,
        file: Annotated[Path | None, typer.Option(exists=True, dir_okay=False)] = None,
        folder: Annotated[Path | None, typer.Option(exists=True, file_okay=False)] = None,
        flag: Annotated[bool, typer.Option("--flag")] = False,
        rest: Annotated[list[str] | None, typer.Argument()] = None,
    ) -> None:
        """Read."""
        given[:] = [text, texts, number, least, path, file, folder, flag, rest]

    @app.command("other")
    def other() -> None:
        """Make the app a group."""

    return given


def read_by(app: typer.Typer, given: list[Any], words: list[str]) -> object:
    """What a command is given, or the sentence about what it refuses."""
    given[:] = []
    try:
        app(["read", *words], standalone_mode=False)
    except UsageError as error:
        return explain(error)
    return [*given]


CASES = [
    [f"--{name}", value] for name in ("text", "texts", "number", "least") for value in (*TEXTS, *ODD) if value.strip()
]
CASES += [[f"--{name}", value] for name in ("path", "file", "folder") for value in (*PLACES, *ODD)]
CASES += [
    ["--texts", "a", "--texts", "b"],
    ["--text", "a", "--text", "b"],
    ["--flag"],
    ["--flag=x"],
    ["a", "b"],
    ["--", "-a"],
    [],
]


@pytest.mark.parametrize("words", CASES, ids=repr)
def test_a_typed_value_is_read_or_refused_as_typer_does(words: list[str]) -> None:
    ours, theirs = group("Ours."), typer.Typer()
    assert read_by(ours, of_every_kind(ours), words) == read_by(theirs, of_every_kind(theirs), words)


def test_the_cases_are_read_and_refused() -> None:
    app = group("Ours.")
    given = of_every_kind(app)
    found = [type(read_by(app, given, words)) for words in CASES]
    assert found.count(list) > 60 and found.count(str) > 30
    assert CliRunner().invoke(app, ["read", "--number", "7"]).exit_code == 0
