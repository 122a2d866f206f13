"""Commands start fast because each imports only what it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import COMMANDS, Command
from cli.supervisor import CALLVAULT
from lab.processes import Process, free_port, run_callvault, wait_for

_SLOW = {
    "apprise", "arq", "azure", "boto3", "botocore", "cryptography", "hiredis", "httpx", "jinja2", "nacl",
    "prometheus_client", "pydantic", "redis", "rich", "stamina", "starlette", "structlog", "uvicorn",
}  # fmt: skip

# Runs the commands one after the other, so that they share the start of the interpreter and the modules that all need.
_PROGRAM = """
import json, os, sys
import cli.main

cli.main.leave_soon = lambda status: None  # it ends a process that goes on after its command
told, known = os.dup(1), set()
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
for words in json.loads(sys.argv[1]):
    sys.argv = ["callvault", *words]
    try:
        cli.main.main()
    except SystemExit:
        pass
    packages = {name.partition(".")[0] for name, module in sys.modules.items() if module}
    packages |= {"telnyx_api.models"} & sys.modules.keys()
    os.write(told, json.dumps([" ".join(words), sorted(packages - known)]).encode() + b"\\n")
    known |= packages
os._exit(0)
"""


def imported_by_each(commands: list[list[str]], folder: Path) -> dict[str, set[str]]:
    """The packages that each command has imported when it ends, and none before it had."""
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        env={"CALLVAULT_DATA": str(folder)},
    )
    found = dict(json.loads(line) for line in ran.stdout.splitlines())
    assert len(found) == len(commands), ran.stderr
    return {words: set(packages) for words, packages in found.items()}


def imported_by(*words: str, folder: Path) -> set[str]:
    """The packages that one command has imported when it ends."""
    (found,) = imported_by_each([[*words]], folder).values()
    return found


def helps() -> Iterator[list[str]]:
    """Every way to ask for help: of Callvault, of each command, and of each command of a group."""

    def walk(words: list[str], command: Any) -> Iterator[list[str]]:
        yield [*words, "--help"]
        for name, one in getattr(command, "commands", {}).items():
            yield from walk([*words, name], one)

    yield from (["--help"], [])
    for row in [row for rows in COMMANDS.values() for row in rows]:
        command = import_module(row.module).command
        yield from walk([row.name], typer.main.get_group(command) if isinstance(command, typer.Typer) else command)


def test_no_help_imports_what_is_slow(tmp_path: Path) -> None:
    asked = [["nothing-of-the-kind"], *helps()]
    assert len(asked) > 100
    found = imported_by_each(asked, tmp_path)
    assert not {words: slow for words, packages in found.items() if (slow := packages & _SLOW)}


def test_a_search_and_a_status_import_no_client_and_no_store(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    subprocess.run(
        [*CALLVAULT, "init"],
        check=True,
        capture_output=True,
        env={"CALLVAULT_DATA": str(folder)},
    )
    needed = {"redis", "hiredis", "cryptography"}  # redis checks only whether the last is installed
    unneeded = _SLOW - needed | {"telnyx_api.models", "email", "zipfile", "zoneinfo"}
    words = ("--number", "+1312555", "--since", "7d", "--limit", "1", "--data", str(folder), "refund")
    found = imported_by("find", *words, folder=folder) & unneeded
    assert not found, found
    assert not imported_by("status", folder=folder) & (unneeded - {"arq"})


def test_the_version_of_a_package_is_read_from_the_name_of_its_folder() -> None:
    code = "import cli.main, redis, sys; from process.version import own_version; "
    code += "print(redis.__version__, own_version(), 'email' in sys.modules); from importlib import metadata; "
    code += "print(metadata.version('prometheus-client')); metadata.version('nothing')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    first = f"{version('redis')} {version('callvault')} False"
    assert ran.stdout == f"{first}\n{version('prometheus-client')}\n"
    assert "PackageNotFoundError" in ran.stderr


def test_a_command_whose_output_cannot_be_written_does_not_succeed() -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [*CALLVAULT, "--version"], env={}, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert ran.returncode != 0 and "No space left on device" in ran.stderr


def test_the_version_and_the_short_form_of_help_are_where_people_look() -> None:
    shown = run_callvault(["--version"])
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"callvault {version('callvault')}\n", "")
    for words in ([], ["find"], ["deletions"], ["deletions", "hold"]):
        assert run_callvault([*words, "-h"]).stdout == run_callvault([*words, "--help"]).stdout != ""


@pytest.mark.parametrize("words", ["status", "deletions", "deletions hold", "telnyx recordings list", "connections"])
def test_every_command_shows_the_version(words: str) -> None:
    shown = run_callvault([*words.split(), "--version"])
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"callvault {version('callvault')}\n", "")


def test_a_help_shows_numbers_arguments_and_examples_in_plain_words() -> None:
    shown = run_callvault(["serve", "--help"], {"COLUMNS": "80"}).stdout
    assert "Port to listen on. [default: 8080; 1 to 65535]" in shown
    assert shown.endswith("\nExample:\n  callvault serve --host 0.0.0.0 --processes 2\n")
    shown = run_callvault(["deletions", "hold", "--help"], {"COLUMNS": "80"}).stdout
    assert shown.startswith("Usage: callvault deletions hold --why TEXT [OPTIONS] [ID]\n") and "<str>" not in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_subcommands_and_options(shell: str) -> None:
    script = run_callvault([], {"_CALLVAULT_COMPLETE": f"source_{shell}"}).stdout
    assert f"_CALLVAULT_COMPLETE=complete_{shell}" in script
    for typed, expected in (("dea", "dead-letters"), ("deletions ho", "hold"), ("find --max", "--max-duration")):
        line = f"callvault {typed}"
        environment = {
            "_CALLVAULT_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split()) - 1),
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "_TYPER_COMPLETE_WORD_TO_COMPLETE": line.split()[-1],
        }
        done = run_callvault([], environment)
        assert (done.returncode, expected in done.stdout) == (0, True), done


@pytest.mark.parametrize("row", [row for rows in COMMANDS.values() for row in rows], ids=lambda row: row.name)
def test_the_table_has_the_summary_that_the_command_itself_shows(row: Command) -> None:
    command = import_module(row.module).command
    own = command.info.help if isinstance(command, typer.Typer) else command.__doc__
    assert isinstance(own, str) and own.splitlines()[0] == row.summary


def test_each_summary_fits_its_line(tmp_path: Path) -> None:
    """Also those of the commands of a group; a line that is cut ends with dots."""
    groups = ["deletions", "dead-letters", "logs", "connections", "telnyx", "telnyx recordings", "telnyx media"]
    for words in ([], *(group.split() for group in groups)):
        shown = run_callvault([*words, "--help"], {"COLUMNS": "80"}).stdout
        assert "..." not in shown.partition("\n\n")[2], shown
        assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    "words, ready, times",
    [
        ("up --sandbox --port {port}", "receiver  http://", 1),
        ("serve --processes 2 --port {port}", "Application startup complete", 2),
        ("worker --processes 2", "worker ready", 2),
    ],
)
def test_modules_in_the_current_folder_replace_none_of_ours(
    words: str, ready: str, times: int, environment: dict[str, str], tmp_path: Path
) -> None:
    (folder := tmp_path / "work").mkdir()
    for name in ("cli", "config", "service", "workers", "sandbox"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the current folder')\n")
    if words.startswith("up"):
        environment = {"CALLVAULT_DATA": str(tmp_path / "data")}
    command = ["callvault", *words.format(port=free_port()).split()]
    with Process(command, environment, cwd=folder) as running:
        wait_for(lambda: running.output.count(ready) == times or "of the current folder" in running.output)
        assert running.output.count(ready) == times, running.output
        assert running.stop() == 0
